"""Tables as they stand in files: a cell is the text written there, never a number, a date or a missing value."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from harness.core.files import refuse_special
from harness.core.text import clip
from harness.errors import DataError

KINDS = (".csv", ".tsv", ".jsonl", ".json", ".parquet")
SHOWN_CHARACTERS = 300
# Of one cell of CSV; the reader's own limit of 128 KiB is less than a long passage.
CELL_CHARACTERS = 2**30
# What comes out of a compressed table: a hundred times its own size, far more than texts give, or this.
MOST_TIMES = 100
MOST_BYTES = 2**28
CHUNK_BYTES = 2**18
# Of Parquet at once: a page may say one text any number of times.
BATCH_ROWS = 1024
READ_ERRORS = (OSError, EOFError, UnicodeDecodeError, zlib.error)


class Number(str):
    """A number as the file spells it: no text, but an id, a score or a label can be made of it."""

    __slots__ = ()

    def __repr__(self) -> str:
        """Show it without quotes, as it stands in the file."""
        return str(self)


@dataclass(frozen=True)
class Table:
    """The names of a file's columns, and its rows with those of its cells that were asked for.

    A cell of text is its text, and a number of JSON a `Number`. What is neither (null, true, a list, a date of Parquet)
    is kept as what it is, so that whoever wants text can say what was found.
    """

    names: tuple[str, ...]
    rows: list[dict[str, Any]]


def find_kind(name: str) -> str | None:
    """Return the kind of table that a file's name says, as ``.csv`` for ``x.csv`` and ``x.csv.gz``, or None."""
    ending = Path(name.removesuffix(".gz")).suffix
    return ending if ending in KINDS else None


def read_table(path: Path, columns: Sequence[str] | None = None) -> Table:
    """Read a table, by its name CSV, TSV, JSON, JSON lines or Parquet, each also compressed by gzip.

    Args:
        path: the file.
        columns: whose cells are wanted; None wants all.

    Raises:
        DataError: no table, or a broken one; names file and line.
    """
    read = {
        ".csv": _read_csv,
        ".tsv": _read_tsv,
        ".jsonl": _read_json_lines,
        ".json": _read_json,
        ".parquet": _read_parquet,
    }
    kind = find_kind(path.name)
    if kind is None:
        raise DataError(f"{path}: expected a table ({', '.join(KINDS)}, each also with .gz), found another file")
    try:
        return read[kind](path, columns)
    except READ_ERRORS as cause:
        raise DataError(f"{path}: cannot be read: {clip(str(cause), SHOWN_CHARACTERS)}") from cause


def read_json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, object) of a file of JSON lines, also compressed by gzip; numbers are their text.

    Raises:
        DataError: it cannot be read, or a line is no JSON object; names file and line.
    """
    try:
        with _open_text(path) as stream:
            for number, line in enumerate(stream, start=1):
                yield number, _parse_line(line, path, number)
    except READ_ERRORS as cause:
        raise DataError(f"{path}: cannot be read: {clip(str(cause), SHOWN_CHARACTERS)}") from cause


def read_delimited(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, cells) of every line of CSV or TSV that is not empty, the header too.

    Raises:
        DataError: quotes are broken, or a row has more or fewer cells than the first; names file and line.
    """
    width = 0
    try:
        with _open_text(path) as stream, _long_cells():
            # Strict: what is not closed would swallow rows.
            reader = csv.reader(stream, delimiter=delimiter, strict=True)
            for row in reader:
                width = width or len(row)
                if row and len(row) != width:
                    raise DataError(
                        f"{path}:{reader.line_num}: the row has {len(row)} cells, the header has {width} (a "
                        "delimiter inside of a text wants quotes around the text)"
                    )
                if row:
                    yield reader.line_num, row
    except csv.Error as cause:
        raise DataError(f"{path}:{reader.line_num}: broken quotes: {cause}") from cause
    except READ_ERRORS as cause:
        raise DataError(f"{path}: cannot be read: {clip(str(cause), SHOWN_CHARACTERS)}") from cause


def _read_csv(path: Path, columns: Sequence[str] | None, delimiter: str = ",") -> Table:
    lines = read_delimited(path, delimiter)
    _, header = next(lines, (0, []))
    repeated = next((name for name, count in Counter(header).items() if count > 1), None)
    if repeated is not None:
        raise DataError(f"{path}: two columns are called {clip(repr(repeated), SHOWN_CHARACTERS)}")
    wanted = [(place, name) for place, name in enumerate(header) if columns is None or name in columns]
    return Table(tuple(header), [{name: row[place] for place, name in wanted} for _, row in lines])


def _read_tsv(path: Path, columns: Sequence[str] | None) -> Table:
    return _read_csv(path, columns, "\t")


def _read_json_lines(path: Path, columns: Sequence[str] | None) -> Table:
    return _collect((row for _, row in read_json_lines(path)), columns)


def _read_json(path: Path, columns: Sequence[str] | None) -> Table:
    """Read a file named .json, which holds a list of objects, or one object a line like a .jsonl file."""
    with _open_text(path) as stream:
        text = stream.read()
    try:
        value = _parse(text)
    except json.JSONDecodeError as cause:
        try:
            _parse(text.split("\n", maxsplit=1)[0])
        except (ValueError, RecursionError):
            raise DataError(f"{path}:{cause.lineno}: broken JSON at column {cause.colno}: {cause.msg}") from cause
        return _read_json_lines(path, columns)
    except RecursionError as cause:
        raise DataError(f"{path}: broken JSON: nested too deeply") from cause
    rows = value if isinstance(value, list) else [value]
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise DataError(f"{path}: row {number}: expected an object, found {type(row).__name__}")
    return _collect(rows, columns)


def _collect(rows: Iterator[dict[str, Any]] | list[dict[str, Any]], columns: Sequence[str] | None) -> Table:
    names: dict[str, None] = {}
    kept = []
    for row in rows:
        names.update(dict.fromkeys(row))
        kept.append(row if columns is None else {name: row[name] for name in columns if name in row})
    return Table(tuple(names), kept)


def _read_parquet(path: Path, columns: Sequence[str] | None) -> Table:
    import pyarrow as pa  # noqa: PLC0415 - 0.1 s that other tables do not need
    from pyarrow import parquet  # noqa: PLC0415

    try:
        with _open(path) as stream:
            # A compressed one cannot be read from its end, as Parquet is.
            file = parquet.ParquetFile(pa.BufferReader(stream.read()) if path.name.endswith(".gz") else stream)
            names = tuple(map(str, file.schema_arrow.names))
            wanted = [name for name in names if columns is None or name in columns]
            left, rows = _find_most(path), []
            for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=wanted):
                left = _count(batch.nbytes, left, path)
                # A whole number has one spelling; those of other numbers differ between writers, so they are no text.
                rows += [{name: _spell(cell) for name, cell in row.items()} for row in batch.to_pylist()]
    # A date that Python has no number for, or a time zone that nobody knows, fails as it is made a value.
    except (pa.ArrowException, ValueError, OverflowError, LookupError) as cause:
        raise DataError(f"{path}: broken Parquet: {clip(str(cause), SHOWN_CHARACTERS)}") from cause
    return Table(names, rows)


def _spell(cell: Any) -> Any:
    return Number(cell) if isinstance(cell, int) and not isinstance(cell, bool) else cell


def _parse_line(line: str, path: Path, number: int) -> dict[str, Any]:
    try:
        value = _parse(line.rstrip("\r\n"))
    except json.JSONDecodeError as cause:
        what = f" at column {cause.colno}: {cause.msg}" if line.strip() else ": the line is empty"
        raise DataError(f"{path}:{number}: broken JSON{what}") from cause
    except RecursionError as cause:
        raise DataError(f"{path}:{number}: broken JSON: nested too deeply") from cause
    if not isinstance(value, dict):
        raise DataError(f"{path}:{number}: expected an object, found {type(value).__name__}")
    return value


# Numbers as they are spelt: 1.50 stays 1.50, and one of 6,000 digits is no integer for anybody to make.
_parse: Callable[[str], Any] = json.JSONDecoder(parse_int=Number, parse_float=Number, parse_constant=Number).decode


def _find_most(path: Path) -> int:
    return max(MOST_TIMES * path.stat().st_size, MOST_BYTES)


def _count(size: int, left: int, path: Path) -> int:
    if size > left:
        raise DataError(f"{path}: holds more than {_find_most(path)} bytes, the most that are read of a table so small")
    return left - size


class _Counted(io.RawIOBase):
    """What comes out of a compressed file, counted: three megabytes can hold gigabytes."""

    def __init__(self, path: Path) -> None:
        self._stream = gzip.open(path, "rb")  # noqa: SIM115 - closed with this one
        self._path, self._left = path, _find_most(path)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size = self._stream.readinto(buffer)
        self._left = _count(size, self._left, self._path)
        return size

    def close(self) -> None:
        self._stream.close()
        super().close()


def _open(path: Path) -> IO[bytes]:
    refuse_special(path)
    return io.BufferedReader(_Counted(path), CHUNK_BYTES) if path.name.endswith(".gz") else path.open("rb")


@contextmanager
def _open_text(path: Path) -> Iterator[IO[str]]:
    """Open a file as text with its line ends as they are; a mark of byte order at the start is no part of the text."""
    with _open(path) as stream, io.TextIOWrapper(stream, encoding="utf-8-sig", newline="") as text:
        yield text


@contextmanager
def _long_cells() -> Iterator[None]:
    before = csv.field_size_limit(CELL_CHARACTERS)
    try:
        yield
    finally:
        csv.field_size_limit(before)
