"""A row is a query and a passage, with what a loss wants beside them; what breaks a rule is named by its row."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.core.text import is_encodable, quote
from harness.errors import DataError
from harness.experiment.data import Columns
from harness.pipeline.tables import Number
from harness.records.trec import MAX_LINE_BYTES

SHOWN_ROWS = 5
MAX_ID_BYTES = MAX_LINE_BYTES // 4
ID_RULE = f"expected no white space, no control character NUL, and at most {MAX_ID_BYTES} bytes of UTF-8"
# Of the SHA-256 of a text without an id: among a million texts, two share 16 digits once in 37 million times.
ID_DIGITS = 16
WHOLE = re.compile(r"-?[0-9]+")
LABEL = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True)
class Row:
    """A query and a passage for it.

    Attributes:
        query_id: names the query; a row's own id, or made from the text.
        passage_id: names the passage likewise.
        query: its text.
        passage: its text.
        negatives: texts of passages that are none for the query.
        score: how like the two are, for a loss that wants it.
        label: their class, for a loss that wants it; 0 says that the passage is none for the query.
    """

    query_id: str
    passage_id: str
    query: str
    passage: str
    negatives: tuple[str, ...] = ()
    score: float | None = None
    label: int | None = None

    @classmethod
    def pair(cls, name: str, query: str, passage: str) -> Row:
        """Make a row whose id names its query and its passage."""
        return cls(name, name, query, passage)


def list_columns(rows: Sequence[Row], names: Sequence[str]) -> dict[str, list[str]]:
    """Return the texts of rows column by column, in the order of ``names``.

    Args:
        rows: what is trained on.
        names: of ``query``, ``passage`` and ``negative``, which is every row's first; ``negative_2`` is the second.

    Raises:
        DataError: there is no row, or one has fewer negatives.
    """
    if not rows:
        raise DataError("there is no row to train on")
    columns = {}
    for name in names:
        if name in {"query", "passage"}:
            columns[name] = [str(getattr(row, name)) for row in rows]
            continue
        place = int(name.removeprefix("negative").removeprefix("_") or 1)
        without = next((row for row in rows if len(row.negatives) < place), None)
        if without is not None:
            raise DataError(f"query {without.query_id!r} has {len(without.negatives)} negatives, expected {place}")
        columns[name] = [row.negatives[place - 1] for row in rows]
    return columns


def list_labels(rows: Sequence[Row], name: str) -> list[float]:
    """Return what a loss compares with, row by row: their ``score``, or their ``label``.

    Raises:
        DataError: a row has none, or a label that is neither 0 nor 1.
    """
    found = []
    for row in rows:
        value = row.score if name == "score" else row.label
        if value is None or (name == "label" and value not in {0, 1}):
            expected = "a number" if name == "score" else "0 or 1"
            raise DataError(f"query {row.query_id!r}: {name} is {value}, expected {expected} to train on")
        found.append(value)
    return found


def make_id(text: str) -> str:
    """Return the id of a text that has none: the first 16 hex digits of its SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:ID_DIGITS]


def check_rows(rows: Iterable[Mapping[str, Any]], columns: Columns, place: str) -> tuple[Row, ...]:
    """Take the columns of a table's rows, and check every cell.

    Args:
        rows: column -> cell, as `read_table` gives them.
        columns: which column is what.
        place: begins every message.

    Raises:
        DataError: naming the first rows that break a rule, and counting all.
    """
    cells, seen = _Cells(), set[str]()
    made = (_take_row(number, row, columns, cells, seen) for number, row in enumerate(rows))
    whole = tuple(row for row in made if row is not None)
    _refuse(cells.problems, place)
    return whole


def check_texts(
    found: Iterable[tuple[str, Any, Any]], *, id_column: str, text_column: str, place: str
) -> dict[str, str]:
    """Check texts that have an id each, and return id -> text.

    Args:
        found: (where it is, id, text) of each.
        id_column: what messages call the id.
        text_column: what messages call the text.
        place: begins every message.

    Raises:
        DataError: naming the first that break a rule, and counting all.
    """
    cells, texts = _Cells(), dict[str, str]()
    for where, name, text in found:
        checked = cells.take_id(name, id_column, where)
        if checked and checked in texts:
            cells.problems.append(f"{where}: {id_column} {quote(checked)} is listed twice")
        texts[checked] = cells.take_text(text, text_column, where)
    _refuse(cells.problems, place)
    return texts


def _refuse(problems: Sequence[str], place: str) -> None:
    if problems:
        more = f"\n  and {len(problems) - SHOWN_ROWS} more" if len(problems) > SHOWN_ROWS else ""
        raise DataError(
            f"{place}: rows break a rule in {len(problems)} places:\n  " + "\n  ".join(problems[:SHOWN_ROWS]) + more
        )


class _Cells:
    """Takes one cell after another for what it should be, and collects what is wrong with them."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def take_id(self, found: Any, column: str, where: str) -> str:
        # Hub tables often number their rows; anything else but text is somebody's mistake.
        number = isinstance(found, Number) and not WHOLE.fullmatch(found)
        if isinstance(found, bool) or number or not isinstance(found, str | int) or not str(found).strip():
            self.problems.append(f"{where}: {column} is {quote(found)}, expected text or a whole number")
            return ""
        name = str(found)
        if not _is_plain_id(name):
            self.problems.append(f"{where}: {column} {quote(name)} cannot stand in a run: {ID_RULE}")
        return name

    def take_text(self, found: Any, column: str, where: str) -> str:
        if isinstance(found, Number):
            self.problems.append(f"{where}: {column} is the number {quote(found)}, expected text: put it in quotes")
        elif not isinstance(found, str) or not found.strip():
            self.problems.append(f"{where}: {column} is {quote(found)}, expected text")
        elif not is_encodable(found):
            self.problems.append(f"{where}: {column} cannot be written as UTF-8: {quote(found)}")
        else:
            return found
        return ""

    def take_score(self, found: Any, column: str, where: str) -> float:
        try:
            score = math.nan if isinstance(found, bool) else float(found)
        except (TypeError, ValueError, OverflowError):
            score = math.nan
        if not math.isfinite(score):
            self.problems.append(f"{where}: {column} is {quote(found)}, expected a finite number")
        return score

    def take_label(self, found: Any, column: str, where: str) -> int:
        if not LABEL.fullmatch(str(found)):
            self.problems.append(f"{where}: {column} is {quote(found)}, expected a whole number from 0 on")
            return 0
        return int(str(found))


def _take_row(number: int, row: Mapping[str, Any], columns: Columns, cells: _Cells, seen: set[str]) -> Row | None:
    before, where = len(cells.problems), f"row {number}"

    def take_id(column: str | None) -> str:
        return cells.take_id(row.get(column), column, where) if column else ""

    name = take_id(columns.id)
    if name:
        where = f"row {number} (id {quote(name)})"
        if name in seen:
            cells.problems.append(
                f"row {number}: id {quote(name)} is listed twice; one that rows share is a passage_id or query_id"
            )
        seen.add(name)
    query = cells.take_text(row.get(columns.query), columns.query, where)
    passage = cells.take_text(row.get(columns.passage), columns.passage, where)
    query_id, passage_id = take_id(columns.query_id), take_id(columns.passage_id)
    negatives: list[str] = []
    for column in list_negatives(columns):
        found = row.get(column)
        negatives += [cells.take_text(one, column, where) for one in (found if isinstance(found, list) else [found])]
    score = cells.take_score(row.get(columns.score), columns.score, where) if columns.score else None
    label = cells.take_label(row.get(columns.label), columns.label, where) if columns.label else None
    if len(cells.problems) > before:
        return None
    return Row(
        query_id=name or query_id or make_id(query),
        passage_id=name or passage_id or make_id(passage),
        query=query,
        passage=passage,
        negatives=tuple(negatives),
        score=score,
        label=label,
    )


def list_negatives(columns: Columns) -> tuple[str, ...]:
    """Return the columns of negatives."""
    return (columns.negative,) if isinstance(columns.negative, str) else columns.negative or ()


def _is_plain_id(name: str) -> bool:
    """Say whether an id can stand in a TREC file, so that what `write_run` would refuse is found before any work."""
    return name.split() == [name] and "\0" not in name and is_encodable(name) and len(name.encode()) <= MAX_ID_BYTES
