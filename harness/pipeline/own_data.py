"""Looks at what a user brings: which layout it has, which splits, and which columns are the texts."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from harness.core.text import clip
from harness.errors import DataError
from harness.experiment.data import PART_NAMES, PartName
from harness.pipeline.tables import read_table

# Names that tables on the hub give their texts, the usual ones first.
USUAL = {
    "query": ("query", "question", "anchor", "title", "sentence1"),
    "passage": ("passage", "answer", "positive", "context", "document", "text", "sentence2"),
}
# What a recipe may train on beside the two texts, by the names that tables on the hub give it.
TRAINABLE = re.compile(r"negatives?(_\d+)?|score|label")
# Of names that a table or folder may have any number of.
SHOWN_CHARACTERS = 300
SPLITS: dict[PartName, str] = {"train": "train", "dev": "validation", "test": "test"}


def is_beir(folder: Path) -> bool:
    """Say whether a folder has corpus, queries and judgements where BEIR puts them."""
    names = {path.name.removesuffix(".gz") for path in folder.iterdir()} if folder.is_dir() else set()
    return {"corpus.jsonl", "queries.jsonl", "qrels"} <= names


def list_judged(folder: Path) -> tuple[PartName, ...]:
    """Return the parts that a BEIR folder has judgements of.

    Raises:
        DataError: there are none, or their folder is a link, of which not even the names are listed.
    """
    if (folder / "qrels").is_symlink():
        raise DataError(
            f"{folder / 'qrels'}: is a link to a folder, whose files would be read unhashed; copy them instead"
        )
    names = {path.name.removesuffix(".gz").removesuffix(".tsv") for path in (folder / "qrels").iterdir()}
    found = tuple(part for part in PART_NAMES if part in names)
    if not found:
        raise DataError(
            f"{folder / 'qrels'}: expected train.tsv, dev.tsv or test.tsv, found "
            f"{clip(', '.join(sorted(names)), SHOWN_CHARACTERS)}"
        )
    return found


def find_splits(splits: Collection[str]) -> dict[PartName, str] | None:
    """Tell the parts by the splits that there are; None where there is no test set beside one for training."""
    found = {part: name for part, name in SPLITS.items() if name in splits}
    return found if len(found) > 1 else None


def list_columns(path: Path) -> list[str]:
    """Return the names of a table's columns.

    Raises:
        DataError: the file cannot be read.
    """
    return list(read_table(path, ()).names)


def choose_columns(there: Sequence[str], given: Mapping[str, str | None], *, place: str) -> dict[str, str]:
    """Take the columns that are named, and for the texts else those of a usual name.

    Raises:
        DataError: a named column is not there, or none has a usual name; lists those there are.
    """
    chosen = {}
    listed = clip(", ".join(there), SHOWN_CHARACTERS)
    for role, name in given.items():
        usual = (one for one in USUAL.get(role, ()) if one in there)
        found = next(usual, None) if name is None else name
        if found is None and role in USUAL:
            raise DataError(f"{place}: which column is the {role}? say --{role}; there are: {listed}")
        if found is not None and found not in there:
            raise DataError(f"{place}: --{role} {found}: no such column; there are: {listed}")
        if found is not None:
            chosen[role] = found
    return chosen


def describe_further(names: Sequence[str]) -> str:
    """Say of columns that no recipe of ours takes which ones another recipe could, by their usual names."""
    trainable = [name for name in names if TRAINABLE.fullmatch(name)]
    others = [name for name in names if name not in trainable]
    said = ""
    if trainable:
        listed = clip(", ".join(trainable), SHOWN_CHARACTERS)
        said += f"; not trained on as written, but a recipe can be (`columns` and `inputs`): {listed}"
    return said + (f"; not used: {clip(', '.join(others), SHOWN_CHARACTERS)}" if others else "")


def describe_tables(tables: Sequence[str]) -> Iterator[str]:
    """Name tables for people."""
    yield from tables[:3]
    if len(tables) > 3:  # noqa: PLR2004 - three are shown
        yield f"and {len(tables) - 3} more"
