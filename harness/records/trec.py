"""TREC's text files, line by line: ids, fields, and the judgements of qrels."""

from __future__ import annotations

import gzip
import re
import sys
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, TypeAlias, cast

from harness.core.files import refuse_special
from harness.core.text import quote
from harness.errors import DataError, StoreError

Qrels: TypeAlias = Mapping[str, Mapping[str, int]]
MAX_FILE_BYTES = 1 << 30
"""Files may come from strangers: reading stops here, counted after decompression."""
MAX_LINE_BYTES = 4096


@dataclass(frozen=True)
class Limits:
    """How much is read of a file: bytes after decompression, lines, and queries, each of which takes room as a line."""

    bytes: int = MAX_FILE_BYTES
    lines: int = sys.maxsize
    queries: int = sys.maxsize


USUAL_LIMITS = Limits()
BLOCK_BYTES = 1 << 16


def read_fields(path: Path, count: int, limits: Limits) -> Iterator[tuple[int, list[str]]]:
    """Yield line numbers from 1 and exactly `count` fields, separated by white space.

    Args:
        path: the file, gzipped when its name ends in .gz.
        count: fields in a line.
        limits: the most to read.

    Raises:
        DataError: naming file and line, when the file cannot be read, is not UTF-8, is too big, holds a NUL, or a line
            is too long or has another number of fields.
    """
    number, total = 0, 0
    queries, last = 0, ""
    try:
        with _open(path) as file:
            for line in _read_lines(file):
                number += 1
                total += len(line)
                if len(line) > MAX_LINE_BYTES:
                    raise DataError(f"{path}, line {number}: longer than {MAX_LINE_BYTES} bytes")
                if total > limits.bytes:
                    raise DataError(f"{path}, line {number}: the file is longer than {limits.bytes} bytes")
                if number > limits.lines:
                    raise DataError(f"{path}: has more than {limits.lines} lines, the most that are read")
                text = line.decode()
                fields = text.split()
                if len(fields) != count:
                    raise DataError(f"{path}, line {number}: {len(fields)} fields, expected {count}")
                if "\0" in text:
                    raise DataError(f"{path}, line {number}: holds a NUL")
                # Each time that another query begins: what is in two places counts twice.
                queries, last = queries + (fields[0] != last), fields[0]
                if queries > limits.queries:
                    raise DataError(f"{path}: has more than {limits.queries} queries, the most that are read")
                yield number, fields
    except UnicodeDecodeError as error:
        raise DataError(f"{path}, line {number}: not UTF-8: {error.reason}") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}, after line {number}: cannot be read: {error}") from error


def _open(path: Path) -> BinaryIO:
    refuse_special(path)
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


"""Query id -> passage id -> relevance; 0 and less is not relevant."""

# trec_eval sets aside a place for every grade up to the highest: nine digits would take 8 GB.
GRADE = re.compile(r"-?[0-9]{1,6}")
GRADE_RULE = "expected a whole number of at most six digits"
_FIELDS = 4


def write_qrels(qrels: Qrels, path: Path) -> None:
    """Write judgements as TREC qrels: `query 0 passage relevance` per line, gzipped for .gz, byte-stable.

    Args:
        qrels: what to write, in its own order.
        path: the file, replaced if it exists.

    Raises:
        DataError: when an id cannot stand in a TREC file, or a query has no judgement.
        StoreError: when the file cannot be written.
    """
    check_ids(tuple(qrels), place=f"{path}: query id")
    lines = []
    for query_id, judgements in qrels.items():
        if not judgements:
            raise DataError(f"{path}: query {query_id!r} has no judgement, so qrels cannot hold it")
        check_ids(tuple(judgements), place=f"{path}: passage id of query {query_id!r}")
        for passage_id, relevance in judgements.items():
            if not GRADE.fullmatch(str(relevance)):
                raise DataError(f"{path}: relevance {relevance!r} of {passage_id!r}, {GRADE_RULE}")
            lines.append(f"{query_id} 0 {passage_id} {relevance}\n")
    write_lines(lines, path)


def read_qrels(path: Path, *, limits: Limits = USUAL_LIMITS) -> dict[str, dict[str, int]]:
    """Read TREC qrels, in the file's order.

    Args:
        path: the file, gzipped when its name ends in .gz.
        limits: the most to read.

    Returns:
        Query id -> passage id -> relevance.

    Raises:
        DataError: naming file and line, when the file cannot be read, is too big, or a line has not four
            fields, a relevance that is no whole number of at most six digits, or a judgement made before.
    """
    qrels: dict[str, dict[str, int]] = {}
    for number, (query_id, _, passage_id, relevance) in read_fields(path, _FIELDS, limits):
        judgements = qrels.setdefault(query_id, {})
        if passage_id in judgements:
            raise DataError(f"{path}, line {number}: {passage_id!r} is judged twice for query {query_id!r}")
        if not GRADE.fullmatch(relevance):
            raise DataError(f"{path}, line {number}: relevance {quote(relevance)}, {GRADE_RULE}")
        judgements[passage_id] = int(relevance)
    if not qrels:
        raise DataError(f"{path}: no line, expected a judgement in each")
    return qrels
