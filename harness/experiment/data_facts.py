"""What can be read off a data set and is kept in the lock: rows and first ids by part, passages and their repeats."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

from pydantic import model_validator

from harness.core.schema import Frozen, Natural, check_part
from harness.experiment.data import PART_NAMES, PartName


class PartFacts(Frozen):
    """A part's rows and the id of the first one's query; of BEIR's layout the rows are pairs judged relevant."""

    rows: Natural
    first_id: str | None


class DataFacts(Frozen):
    """A data set in numbers; what is published of it stands in the manifest, under ``expect``."""

    parts: dict[PartName, PartFacts]
    passages: Natural
    duplicate_passages: Natural

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        check_part("duplicate_passages", self.duplicate_passages, "passages", self.passages)
        return self


def list_differences(found: DataFacts, locked: DataFacts) -> Iterator[str]:
    """Yield what differs, in words."""
    for part in PART_NAMES:
        now, before = found.parts.get(part), locked.parts.get(part)
        if now is None or before is None:
            if now is not before:
                yield f"part {part} is {'not there' if now is None else 'there'}, the lock says otherwise"
            continue
        if now.rows != before.rows:
            yield f"{part} has {now.rows} rows, the lock says {before.rows}"
        if now.first_id != before.first_id:
            yield f"the first id of {part} is {now.first_id!r}, the lock says {before.first_id!r}"
    for name, what in (("passages", "passages"), ("duplicate_passages", "duplicate passages")):
        if getattr(found, name) != getattr(locked, name):
            yield f"there are {getattr(found, name)} {what}, the lock says {getattr(locked, name)}"
