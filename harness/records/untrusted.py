"""Reads folders of records that a stranger may have written: nothing outside of them, of bounded size."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from harness.core.files import LINK
from harness.errors import RecordError
from harness.records.history import HISTORY_FILE
from harness.records.record import Record, parse_record

ENDING = ".json"
GOLDEN_FOLDER = "golden"  # of a reference: read by itself, see gate/golden.py
MOST_ENTRIES = 2000
# 100 times a record of 707 queries and 15 measures.
FILE_LIMIT_BYTES = 8 * 2**20
FOLDER_LIMIT_BYTES = 256 * 2**20
# What a whole folder may hold of what `parse_record` bounds in one record, so that it is read in 2 GiB.
MOST_FOLDER_VALUES = 2**25
# What is wrong with more files than these says nothing new, and each may take a second or two to find out.
MOST_BROKEN = 20
SHOWN_CHARACTERS = 500


@dataclass(frozen=True, slots=True)
class Intake:
    """The records that could be read, and what kept others from being read, each naming its file."""

    records: tuple[Record, ...]
    problems: tuple[str, ...]


def take_in(folder: Path, *, side: str) -> Intake:
    """Read every record of an experiment's folder, or of all experiments' folders in a folder.

    Only plain files in the folder and one level below it are opened: a symbolic link could show what lies
    elsewhere, a pipe would never end. The folder itself may be a link, since the user named it. What cannot be read
    is named and the rest read all the same. Files that start with a dot, and a reference's history, are no records.

    Args:
        folder: with ``*.json``, or with folders that have them.
        side: what problems call it, as ``candidate``.
    """
    records: list[Record] = []
    problems: list[str] = []
    room, values, broken = FOLDER_LIMIT_BYTES, MOST_FOLDER_VALUES, 0
    try:
        for place, experiment, content in _list_contents(folder):
            if broken == MOST_BROKEN:
                problems.append(f"{side}: {place}: not read, nor what follows: {MOST_BROKEN} files are broken already")
                break
            if isinstance(content, bytes):
                room, values = room - len(content), values - content.count(b",")
                if min(room, values) < 0:
                    limit = f"{FOLDER_LIMIT_BYTES} bytes or {MOST_FOLDER_VALUES} values"
                    problems.append(f"{side}: {place}: the records before it fill {limit}, the limit")
                    break
            found = f"{place}: {content}" if isinstance(content, str) else _parse(place, experiment, content)
            if isinstance(found, Record):
                records.append(found)
            else:
                broken += 1
                problems += [f"{side}: {line[:SHOWN_CHARACTERS]}" for line in found.splitlines()]
    except OSError as cause:
        problems.append(f"{side}: {folder}: cannot be read: {cause.strerror or cause}")
    if not records and not problems:
        inner = folder / "records"
        hint = f"; did you mean {inner}?" if inner.is_dir() else ""
        problems.append(f"{side}: {folder}: holds no records, neither itself nor in its folders{hint}")
    return Intake(tuple(records), tuple(problems))


def _parse(place: str, experiment: str | None, content: bytes) -> Record | str:
    """Return the record, or what is wrong with the file."""
    if len(content) > FILE_LIMIT_BYTES:
        return f"{place}: larger than {FILE_LIMIT_BYTES} bytes, the most a record may have"
    try:
        record = parse_record(content.decode("utf-8"), place=place)
    except UnicodeDecodeError as cause:
        return f"{place}: not UTF-8 text: {cause}"
    except RecordError as cause:
        return str(cause)
    expected = f"{record.trial.stem}{ENDING}"
    if place.rpartition("/")[2] != expected:
        return f"{place}: holds the record of {record.trial.id}, whose file is {expected}"
    if experiment not in (None, record.trial.experiment):
        return f"{place}: holds a record of {record.trial.experiment!r}, expected {experiment!r} as its folder says"
    return record


def _list_contents(folder: Path) -> Iterator[tuple[str, str | None, bytes | str]]:
    """Yield (place, experiment if a folder names it, content or what is wrong) for every file that may be a record.

    Everything is opened relative to the folder above it, so that nobody can put a link in its way meanwhile.
    """
    with _open_folder(str(folder), None) as root:
        folders = []
        for name, is_folder in _list_names(root):
            if is_folder:
                folders.append(name)
            elif name.endswith(ENDING):
                yield name, None, _read(name, root)
        for experiment in folders:
            try:
                with _open_folder(experiment, root) as inner:
                    for name, is_folder in _list_names(inner):
                        if name.endswith(ENDING) and not is_folder:
                            yield f"{experiment}/{name}", experiment, _read(name, inner)
            except OSError as cause:
                yield experiment, None, _explain(cause)


def _list_names(handle: int) -> list[tuple[str, bool]]:
    """Return (name, whether it is to be opened as a folder), sorted."""
    with os.scandir(handle) as entries:
        # A link to a folder is opened as one, and refused there by name.
        found = sorted((entry.name, entry.is_dir()) for entry in islice(entries, MOST_ENTRIES + 1))
    if len(found) > MOST_ENTRIES:
        raise OSError(errno.E2BIG, f"more than {MOST_ENTRIES} files, the most such a folder may have")
    apart = (HISTORY_FILE, GOLDEN_FOLDER)
    return [(name, is_folder) for name, is_folder in found if not name.startswith(".") and name not in apart]


def _read(name: str, folder: int) -> bytes | str:
    """Return a plain file's content, up to one byte more than a record may have, or what is wrong."""
    try:
        # Without O_NONBLOCK, opening a pipe would wait for its writer.
        handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError as cause:
        return _explain(cause)
    with os.fdopen(handle, "rb") as stream:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            return "not a plain file"
        try:
            return stream.read(FILE_LIMIT_BYTES + 1)
        except OSError as cause:
            return _explain(cause)


@contextmanager
def _open_folder(name: str, parent: int | None) -> Iterator[int]:
    follow = 0 if parent is None else os.O_NOFOLLOW
    handle = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | follow, dir_fd=parent)
    try:
        yield handle
    finally:
        os.close(handle)


def _explain(cause: OSError) -> str:
    # What O_NOFOLLOW finds is ELOOP for a file, ENOTDIR for a folder.
    if cause.errno in (errno.ELOOP, errno.ENOTDIR):
        return LINK
    return f"cannot be read: {cause.strerror or cause}"
