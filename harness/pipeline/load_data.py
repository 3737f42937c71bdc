"""Loads a source's checked files, whatever their layout: tables with splits or parts, BEIR, an ontology."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from harness.core.text import clip, quote
from harness.errors import DataError
from harness.experiment.data import PART_NAMES, Columns, Data, PartName, Parts
from harness.experiment.data_facts import DataFacts, PartFacts
from harness.pipeline.beir import load_beir
from harness.pipeline.dataset import PreparedData, prepare_rows
from harness.pipeline.obo import read_terms, select_rows
from harness.pipeline.rows import Row, check_rows, list_negatives
from harness.pipeline.split_files import Split, find_files
from harness.pipeline.tables import read_table

SHOWN_CHARACTERS = 300
PAIRS = Columns(query="anchor", passage="positive", id="id")


def load_data(folder: Path, data: Data, files: Collection[str]) -> PreparedData:
    """Load a data set.

    Args:
        folder: the source's folder.
        data: the manifest's part on it: layout, columns, splits or parts, and what is expected.
        files: the paths in the folder that were hashed; nothing else is read.

    Raises:
        DataError: a broken file (with its line), a missing column or split, another number of rows than expected, rows
            that break a rule (with their numbers).
    """
    if data.format == "beir":
        loaded = load_beir(folder, files)
    else:
        rows = _load_rows(folder, data, files)
        merge = data.columns is not None and data.columns.id is None
        loaded = prepare_rows(rows, merge=merge)
    for part in PART_NAMES:
        _check_expected(part, loaded.parts.get(part), data)
    return loaded


def read_facts(data: Data, folder: Path, files: Collection[str]) -> DataFacts:
    """Load a data set and say what the lock keeps of it; arguments and errors are those of `load_data`."""
    return load_data(folder, data, files).facts


def _load_rows(folder: Path, data: Data, files: Collection[str]) -> dict[PartName, tuple[Row, ...]]:
    """Return the rows of every part, in the source's order."""
    if data.selection is not None:
        ontologies = sorted(name for name in files if name.endswith(".obo"))
        if len(ontologies) != 1:
            raise DataError(f"{folder}: has {len(ontologies)} .obo files, expected 1")
        chosen = select_rows(read_terms(folder / ontologies[0]), data.selection)
        return {part: check_rows(rows, PAIRS, part) for part, rows in chosen.items()}
    if data.columns is None:
        raise DataError(f"{folder}: a table without columns")
    if data.parts is not None:
        rows = _load_split(folder, data, files, split=None)
        return draw_parts(check_rows(rows, data.columns, "rows"), data.parts)
    splits = {part: getattr(data.splits, part) for part in data.part_names}
    return {
        part: check_rows(_load_split(folder, data, files, split=split), data.columns, part)
        for part, split in splits.items()
    }


def draw_parts(rows: Sequence[Row], parts: Parts) -> dict[PartName, tuple[Row, ...]]:
    """Share rows out by the SHA-256 of salt and passage, read as a number below 1, so that no passage crosses parts.

    Raises:
        DataError: a part gets no row.
    """
    shares = {part: float(getattr(parts, part)) for part in PART_NAMES if getattr(parts, part) > 0}
    drawn: dict[PartName, list[Row]] = {part: [] for part in shares}
    for row in rows:
        digest = hashlib.sha256(f"{parts.salt}:{row.passage}".encode()).digest()
        place = int.from_bytes(digest[:8]) / 2**64
        bound = 0.0
        for part, share in shares.items():
            bound += share
            # The last part takes what rounding leaves.
            if place < bound or part == list(shares)[-1]:
                drawn[part].append(row)
                break
    empty = [part for part, some in drawn.items() if not some]
    if empty:
        raise DataError(f"{empty[0]}: gets none of the {len(rows)} rows; there are too few passages for such a share")
    return {part: tuple(some) for part, some in drawn.items()}


def _load_split(folder: Path, data: Data, files: Collection[str], *, split: str | None) -> list[dict[str, Any]]:
    """Read the wanted columns of a split's files, or of all tables."""
    wanted = _list_wanted(data.columns)
    named = None if split is None else Split.parse(split)
    found = find_files(folder, files, config=data.config, split=None if named is None else named.name)
    rows: list[dict[str, Any]] = []
    names: dict[str, None] = {}
    for name in found:
        table = read_table(folder / name, wanted)
        names.update(dict.fromkeys(table.names))
        rows += table.rows
    if not rows:
        raise DataError(f"{folder}: split {split!r} has no rows")
    missing = [column for column in wanted if column not in names]
    if missing:
        there = clip(str(list(names)), SHOWN_CHARACTERS)
        raise DataError(f"{folder}: split {split!r} has no column {missing[0]!r}; it has {there}")
    return rows if named is None else rows[named.cut(len(rows))]


def _list_wanted(columns: Columns | None) -> list[str]:
    if columns is None:
        return []
    ids = (columns.id, columns.query_id, columns.passage_id)
    optional = (*ids, *list_negatives(columns), columns.score, columns.label)
    return list(dict.fromkeys((columns.query, columns.passage, *(name for name in optional if name))))


def _check_expected(part: PartName, found: PartFacts | None, data: Data) -> None:
    rows, first_id = (0, None) if found is None else (found.rows, found.first_id)
    count, first = data.expected_rows(part), data.expected_first_id(part)
    if count is not None and rows != count:
        raise DataError(f"{part}: has {rows} rows, the manifest says {count}")
    if first is not None and first_id != first:
        raise DataError(f"{part}: the first id is {quote(first_id)}, the manifest says {first!r}")
