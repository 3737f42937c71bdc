"""Archives of unknown origin are unpacked by one function, which checks the names it writes and counts the bytes."""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from harness.core.files import ZIP_ERRORS
from harness.core.text import quote
from harness.errors import SourceError

CHUNK_BYTES = 2**20


@dataclass(frozen=True)
class Member:
    """A file of an archive: the name it is written under, its announced bytes, how to read it, and whose it is."""

    name: str
    size: int
    open: Callable[[], IO[bytes]]
    archive: str


@dataclass(frozen=True)
class Bounds:
    """How much is unpacked at most.

    ``sizes``, where a lock tells them, is path -> bytes of every file that may be there; None as bytes where only its
    hash is known.
    """

    files: int
    size: int
    sizes: Mapping[str, int | None] | None = None


def open_zip(path: Path, stack: ExitStack, *, archive: str) -> list[Member]:
    """List the files of a zip, to be read while ``stack`` is open; nothing is unpacked.

    Raises:
        SourceError: no whole zip, or one with a link or another special file in it.
    """
    try:
        opened = stack.enter_context(zipfile.ZipFile(path))
        infos = [info for info in opened.infolist() if not info.is_dir()]
    except ZIP_ERRORS as cause:
        raise SourceError(f"{archive}: not a whole zip: {cause}") from cause
    for info in infos:
        if stat.S_IFMT(info.external_attr >> 16) not in {0, stat.S_IFREG}:
            raise SourceError(f"{archive}: member {quote(info.filename)} is a link or another special file")
    return [Member(info.filename, info.file_size, _make_reader(opened, info), archive) for info in infos]


def unpack(members: Sequence[Member], target: Path, bounds: Bounds) -> None:
    """Write members below a folder, none of them before all names and announced sizes are found right.

    Args:
        members: what is unpacked, under the names that are written.
        target: a folder with none of these files; made if absent.
        bounds: what comes out is counted against them, whatever was announced.

    Raises:
        SourceError: a name that is not a plain relative path, or is there twice; more files or bytes than the bounds
            allow; a damaged archive.
        OSError: the disk refuses, or a file cannot be read.
    """
    if len(members) > bounds.files:
        raise SourceError(f"{members[0].archive}: holds {len(members)} files, at most {bounds.files} are unpacked")
    seen: set[str] = set()
    left = bounds.size
    for member in members:
        _check_name(member, seen)
        left -= _check_size(member, member.size, left, bounds)
    left = bounds.size
    for member in members:
        left -= write_member(member, target / member.name, left, bounds)


def write_member(member: Member, path: Path, left: int, bounds: Bounds) -> int:
    """Write one file piece by piece and return its size, which is counted, not believed.

    Raises:
        SourceError: it is larger than it may be, or damaged.
        OSError: the disk refuses, or the file cannot be read.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    size = 0
    try:
        with member.open() as source, path.open("xb") as stream:
            while chunk := source.read(CHUNK_BYTES):
                size += len(chunk)
                _check_size(member, size, left, bounds)
                stream.write(chunk)
    except ZIP_ERRORS as cause:
        raise SourceError(f"{member.archive}: not a whole zip: {cause}") from cause
    return size


def is_plain_path(name: str) -> bool:
    """Say whether a name is a relative path that stays in its folder on every system, spelt in one way only."""
    path = PurePosixPath(name)
    return (
        bool(name)
        and not path.is_absolute()
        and path.as_posix() == name
        and not any(part in {"..", "."} or ":" in part for part in path.parts)
        and "\\" not in name
        and name.isprintable()
    )


def _make_reader(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Callable[[], IO[bytes]]:
    return lambda: archive.open(info)


def _check_name(member: Member, seen: set[str]) -> None:
    name = member.name
    if not is_plain_path(name):
        raise SourceError(f"{member.archive}: member {quote(name)} would leave its folder or is no plain relative path")
    # Some file systems do not tell case apart: two such names would overwrite each other.
    if name.casefold() in seen:
        raise SourceError(f"{member.archive}: member {quote(name)} is there twice")
    seen.add(name.casefold())


def _check_size(member: Member, size: int, left: int, bounds: Bounds) -> int:
    if bounds.sizes is not None and member.name not in bounds.sizes:
        raise SourceError(f"{member.archive}: member {quote(member.name)} is not in the lock")
    locked = None if bounds.sizes is None else bounds.sizes[member.name]
    if locked is not None and size > locked:
        raise SourceError(
            f"{member.archive}: member {quote(member.name)} has {size} bytes or more, the lock says {locked}"
        )
    if size > left:
        raise SourceError(f"{member.archive}: holds more than {bounds.size} bytes, the most that is unpacked")
    return size
