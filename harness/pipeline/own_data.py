"""Looks at what a user brings: which layout it has, which splits, and which columns are the texts."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

from harness.errors import DataError
from harness.experiment.data import PART_NAMES, PartName

TABLES = (".csv", ".tsv", ".jsonl", ".json", ".parquet")
# Names that tables on the hub give their texts, the usual ones first.
USUAL = {
    "query": ("query", "question", "anchor", "title", "sentence1"),
    "passage": ("passage", "answer", "positive", "context", "document", "text", "sentence2"),
}
SPLITS: dict[PartName, tuple[str, ...]] = {
    "train": ("train",),
    "dev": ("dev", "validation", "valid", "val"),
    "test": ("test",),
}
FIRST_BYTES = 1 << 20


def is_beir(folder: Path) -> bool:
    """Say whether a folder has corpus, queries and judgements where BEIR puts them."""
    names = {path.name.removesuffix(".gz") for path in folder.iterdir()} if folder.is_dir() else set()
    return {"corpus.jsonl", "queries.jsonl", "qrels"} <= names


def list_judged(folder: Path) -> tuple[PartName, ...]:
    """Return the parts that a BEIR folder has judgements of.

    Raises:
        DataError: there are none.
    """
    names = {path.name.removesuffix(".gz").removesuffix(".tsv") for path in (folder / "qrels").iterdir()}
    found = tuple(part for part in PART_NAMES if part in names)
    if not found:
        raise DataError(
            f"{folder / 'qrels'}: expected train.tsv, dev.tsv or test.tsv, found {', '.join(sorted(names))}"
        )
    return found


def list_tables(place: Path) -> list[Path]:
    """Return a file, or the tables below a folder.

    Raises:
        DataError: there is no table.
    """
    paths = [place] if place.is_file() else sorted(path for path in place.rglob("*") if path.is_file())
    tables = [path for path in paths if _ending(path) in TABLES]
    if not tables:
        raise DataError(f"{place}: expected a table ({', '.join(TABLES)}, or one of them as .gz), found none")
    return tables


def find_splits(tables: Sequence[Path]) -> dict[str, str] | None:
    """Tell the parts by the files' names; None where no file is a test set beside one for training."""
    stems = [path.name.partition(".")[0] for path in tables]
    found: dict[str, str] = {}
    for part, words in SPLITS.items():
        named = [stem for stem in stems if any(word in stem.lower().replace("_", "-").split("-") for word in words)]
        if named:
            # datasets calls the split of such files by the usual word.
            found[part] = "validation" if part == "dev" else part
    return found if len(found) > 1 else None


def list_columns(path: Path) -> list[str]:
    """Return the names of a table's columns, from its first row.

    Raises:
        DataError: the file cannot be read so far.
    """
    ending = _ending(path)
    try:
        if ending == ".parquet":
            from pyarrow import parquet  # noqa: PLC0415 - heavy

            return [str(name) for name in parquet.read_schema(path).names]
        with _open(path) as stream:
            text = io.TextIOWrapper(stream, encoding="utf-8", newline="")
            if ending in {".csv", ".tsv"}:
                return next(csv.reader(text, delimiter="\t" if ending == ".tsv" else ","), [])
            return list(_read_first(text.read(FIRST_BYTES)))
    except (OSError, EOFError, ValueError, csv.Error) as cause:
        raise DataError(f"{path}: cannot be read: {cause}") from cause


def choose_columns(there: Sequence[str], given: Mapping[str, str | None], *, place: str) -> dict[str, str]:
    """Take the columns that are named, and for the texts else those of a usual name.

    Raises:
        DataError: a named column is not there, or none has a usual name; lists those there are.
    """
    chosen = {}
    for role, name in given.items():
        usual = (one for one in USUAL.get(role, ()) if one in there)
        found = next(usual, None) if name is None else name
        if found is None and role in USUAL:
            raise DataError(f"{place}: which column is the {role}? say --{role}; there are: {', '.join(there)}")
        if found is not None and found not in there:
            raise DataError(f"{place}: --{role} {found}: no such column; there are: {', '.join(there)}")
        if found is not None:
            chosen[role] = found
    return chosen


def _read_first(text: str) -> dict[str, Any]:
    """Return the first object of JSON lines or of a JSON list."""
    start = text.lstrip()
    decoder = json.JSONDecoder()
    value, _ = decoder.raw_decode(start[1:].lstrip() if start.startswith("[") else start)
    if not isinstance(value, dict):
        raise ValueError(f"expected an object, found {type(value).__name__}")  # noqa: TRY004 - as all of bad JSON
    return value


def _ending(path: Path) -> str:
    return Path(path.name.removesuffix(".gz")).suffix.lower()


def _open(path: Path) -> BinaryIO:
    return cast("BinaryIO", gzip.open(path, "rb") if path.name.endswith(".gz") else path.open("rb"))


def describe_tables(tables: Sequence[Path]) -> Iterator[str]:
    """Name tables for people."""
    yield from (path.name for path in tables[:3])
    if len(tables) > 3:  # noqa: PLR2004 - three are shown
        yield f"and {len(tables) - 3} more"
