"""Columns of a text file whose lines are fields: read strictly line by line, or, where it is plain, all at once."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from harness.errors import DataError, StoreError

MAX_FILE_BYTES = 1 << 30
"""Files may come from strangers: reading stops here, counted after decompression."""
MAX_LINE_BYTES = 4096
BLOCK_BYTES = 1 << 16
# Larger files are read line by line, so that a small archive of a large one cannot fill the memory.
MAX_PLAIN_BYTES = 1 << 25
BLANK, NEWLINE, LAST_LETTER = 0x20, 0x0A, 0x7E


def read_columns(path: Path, count: int, max_bytes: int) -> list[list[str]] | None:
    """Return a plain file's columns, or None where it is not plain and only `read_fields` can say what it is.

    Plain is what we write: printable ASCII, `count` fields with one blank between two, a newline behind each line,
    no line longer than `MAX_LINE_BYTES`. Ten times faster than line by line.

    Args:
        path: the file, gzipped when its name ends in .gz.
        count: fields in a line.
        max_bytes: the most a file may have, after decompression.
    """
    limit = min(max_bytes, MAX_PLAIN_BYTES)
    try:
        with _open(path) as file:
            content = file.read(limit + 1)
    except (OSError, EOFError, zlib.error):
        return None
    if not content or len(content) > limit or not _is_plain(content, count):
        return None
    fields = content.decode("ascii").split()
    return [fields[column::count] for column in range(count)]


def _is_plain(content: bytes, count: int) -> bool:
    letters = np.frombuffer(content, dtype=np.uint8)
    ends = np.flatnonzero(letters <= BLANK)
    if letters.max() > LAST_LETTER or len(ends) % count or content[-1] != NEWLINE:
        return False
    separators = letters[ends].reshape(-1, count)
    one_between = ends[0] > 0 and bool((np.diff(ends) > 1).all())
    lines = np.diff(ends[count - 1 :: count], prepend=-1)
    return bool(
        one_between
        and (separators[:, :-1] == BLANK).all()
        and (separators[:, -1] == NEWLINE).all()
        and lines.max() <= MAX_LINE_BYTES
    )


def read_fields(path: Path, count: int, max_bytes: int) -> Iterator[tuple[int, list[str]]]:
    """Yield line numbers from 1 and exactly `count` fields, separated by white space.

    Args:
        path: the file, gzipped when its name ends in .gz.
        count: fields in a line.
        max_bytes: the most to read, after decompression.

    Raises:
        DataError: naming file and line, when the file cannot be read, is not UTF-8, is too big, holds a NUL, or a line
            is too long or has another number of fields.
    """
    number, total = 0, 0
    try:
        with _open(path) as file:
            for line in _read_lines(file):
                number += 1
                total += len(line)
                if len(line) > MAX_LINE_BYTES:
                    raise DataError(f"{path}, line {number}: longer than {MAX_LINE_BYTES} bytes")
                if total > max_bytes:
                    raise DataError(f"{path}, line {number}: the file is longer than {max_bytes} bytes")
                text = line.decode()
                fields = text.split()
                if len(fields) != count:
                    raise DataError(f"{path}, line {number}: {len(fields)} fields, expected {count}")
                if "\0" in text:
                    raise DataError(f"{path}, line {number}: holds a NUL")
                yield number, fields
    except UnicodeDecodeError as error:
        raise DataError(f"{path}, line {number}: not UTF-8: {error.reason}") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}, after line {number}: cannot be read: {error}") from error


def _open(path: Path) -> BinaryIO:
    return cast("BinaryIO", gzip.open(path, "rb") if path.name.endswith(".gz") else path.open("rb"))


def _read_lines(file: BinaryIO) -> Iterator[bytes]:
    """Yield lines with their ends, read in blocks, which is faster; one that is too long is yielded as far as read."""
    rest = b""
    while block := file.read(BLOCK_BYTES):
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            yield line + b"\n"
        if len(rest) > MAX_LINE_BYTES:
            break
    if rest:
        yield rest


def check_ids(ids: Iterable[str], place: str) -> None:
    """Refuse ids that white space would cut, a C reader would end at NUL, or UTF-8 cannot say.

    Raises:
        DataError: naming the first such id.
    """
    for value in ids:
        if value.split() != [value] or "\0" in value:
            raise DataError(f"{place} {value!r}: a TREC file needs an id without white space")
        try:
            size = len(value.encode())
        except UnicodeEncodeError as error:
            raise DataError(f"{place} {value!r}: cannot be written as UTF-8") from error
        if size > MAX_LINE_BYTES // 4:  # so that two ids, a score and a tag stay within a line
            raise DataError(f"{place}: {size} bytes long, at most {MAX_LINE_BYTES // 4} can be read back")


def write_lines(lines: list[str], path: Path) -> None:
    """Write lines that have their ends, gzipped when the name ends in .gz; the same lines give the same bytes.

    Raises:
        DataError: there is no line.
        StoreError: the file cannot be written.
    """
    if not lines:
        raise DataError(f"{path}: nothing to write")
    data = "".join(lines).encode()
    if path.name.endswith(".gz"):
        buffer = BytesIO()
        with gzip.GzipFile(filename="", mode="wb", fileobj=buffer, mtime=0) as file:
            file.write(data)
        data = buffer.getvalue()
    try:
        path.write_bytes(data)
    except OSError as error:
        raise StoreError(f"{path}: cannot be written: {error}") from error
