"""Files are written whole or not at all, and known by their hashes."""

from __future__ import annotations

import errno
import glob
import hashlib
import lzma
import os
import re
import shutil
import stat
import struct
import tempfile
import time
import zipfile
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path

from harness.core.text import is_encodable, printable
from harness.errors import RecordError, SourceError

SUMS_FILE = "SHA256SUMS"
LINK = "a symbolic link, which could lead elsewhere; results are plain files and folders"
LEFTOVER_SECONDS = 86_400.0
TEMPORARY_ENDING = re.compile("[a-z0-9_]{8}")  # as tempfile ends its names
EVIDENCE = ("records", "runs", "reference", "stacks")
# Written by measurements and not from records of trials.
MEASURED = ("faults.json", "speed.md")
# All that zipfile raises on a damaged archive, of which one wrong bit is enough: another method of compression, a name
# that is not UTF-8 (a ValueError), a flag that says encrypted (a RuntimeError) or patched.
ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    OverflowError,
)


def refuse_special(path: Path) -> Path:
    """Return the path of what may be opened: a pipe would wait for its writer, and a device never end.

    Raises:
        OSError: it is a pipe, a device or a socket, or a link to one, or it is not there.
    """
    mode = path.stat().st_mode
    # A folder is refused where it is opened, by its name.
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return path


def refuse_links(path: Path, *, below: Path) -> Path:
    """Return the path of what is read of a results folder: a link in it would show, or replace, what lies elsewhere.

    Args:
        path: which need not be there.
        below: the folder that the path begins with; it may be a link itself, since the user named it.

    Raises:
        RecordError: a part of the path is a link; names it.
    """
    parts = path.relative_to(below).parts
    for number in range(1, len(parts) + 1):
        part = below.joinpath(*parts[:number])
        if part.is_symlink():
            raise RecordError(f"{part}: {LINK}")
    return path


def find_unfit(results: Path) -> Iterator[str]:
    """Name every link, and every name that is not UTF-8, among what is not made from other files; follow no link."""
    for name in (*EVIDENCE, *MEASURED):
        top = results / name
        if top.is_symlink():
            yield f"{top}: {LINK}"
        elif top.is_dir():
            for path in sorted(top.rglob("*")):
                if path.is_symlink():
                    yield f"{_show(path)}: {LINK}"
                elif not is_encodable(path.name):
                    yield f"{_show(path)}: its name is not UTF-8, so that no page and no list can name it"


def _show(path: Path) -> str:
    return printable(str(path), instead="?")


def list_folders(folder: Path) -> list[Path]:
    """List the folders in a folder, sorted by name, and its links, which whoever reads one refuses by its name."""
    return sorted(path for path in folder.glob("*") if path.is_symlink() or path.is_dir())


def hash_file(path: Path) -> str:
    """Return a file's SHA-256.

    Raises:
        SourceError: it cannot be read, or is no regular file.
    """
    try:
        with refuse_special(path).open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as cause:
        raise SourceError(f"{path}: cannot be read: {cause.strerror or cause}") from cause


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old one or the new one, never a part.

    Raises:
        OSError: the disk refuses, or there is a pipe or a device, or a link to one, which a file would replace;
            nothing is left behind.
    """
    if path.exists():
        refuse_special(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    clear_leftovers(path.parent, f".{path.name}.")
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def clear_leftovers(folder: Path, prefix: str) -> None:
    """Remove what killed writers left half-made: files and folders of a day ago and more, named so by tempfile.

    A day is far longer than any of our writers takes, so that none loses what it is writing.
    """
    for path in folder.glob(f"{glob.escape(prefix)}*"):
        try:
            # An editor's .NAME.swp, for one, is not ours to remove.
            if not is_leftover(path) or not TEMPORARY_ENDING.fullmatch(path.name.removeprefix(prefix)):
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        except OSError:
            continue  # another process was quicker, or it is not ours to remove


def is_leftover(path: Path) -> bool:
    """Say whether something temporary is so old that nobody can be at work on it.

    Raises:
        OSError: it is gone.
    """
    return time.time() - path.lstat().st_mtime >= LEFTOVER_SECONDS


def hash_tree(folder: Path, *, skip: Collection[str] = ()) -> dict[str, str]:
    """Return relative path -> SHA-256 of every file below a folder, sorted by path, save those in ``skip``.

    Raises:
        OSError: a file cannot be read.
    """
    files = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name not in skip:
            with path.open("rb") as stream:
                files[name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return files


def render_sums(results: Path) -> str:
    """List every file that is not made from others with its SHA-256, as ``sha256sum --check`` reads it.

    Names that are not UTF-8 are left out: nothing that counts has one, and `find_unfit` names them.

    Raises:
        SourceError: a file cannot be read.
    """
    paths = sorted(
        path
        for folder in EVIDENCE
        for path in (results / folder).rglob("*")
        if path.is_file() and not path.is_symlink() and not path.name.startswith(".")
        if is_encodable(str(path))
    )
    paths += [results / name for name in MEASURED if (results / name).is_file()]
    lines = (f"{hash_file(path)}  {path.relative_to(results).as_posix()}\n" for path in paths)
    return "".join(lines)
