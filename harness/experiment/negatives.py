"""Hard negatives that are mined: a model of the manifest, and what Sentence Transformers' own function is told."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from harness.core.schema import Count, Frozen, Unit

Similarity = Annotated[float, Field(ge=-1, le=1)]
# Inputs are numbered up to negative_99 at most.
MOST_NEGATIVES = 98
Rank = Annotated[int, Field(ge=0, le=100_000)]


class Negatives(Frozen):
    """Arguments of ``mine_hard_negatives`` under their own names; the candidates are the train part's passages.

    Of a query's passages by ``model``, its own left out, those at ranks from ``range_min`` to below ``range_max`` are
    candidates, and the first ``num_negatives`` of them that pass the bounds are taken. A row with fewer is dropped.
    """

    model: str
    num_negatives: Annotated[Count, Field(le=MOST_NEGATIVES)]
    range_min: Rank
    range_max: Rank
    max_score: Similarity | None = None
    min_score: Similarity | None = None
    absolute_margin: Unit | None = None
    relative_margin: Unit | None = None

    @property
    def arguments(self) -> dict[str, float | int]:
        """What the library's function is told."""
        return self.model_dump(exclude={"model"}, exclude_none=True)

    @model_validator(mode="after")
    def _a_range_that_holds_them(self) -> Self:
        if self.num_negatives > self.range_max - self.range_min:
            raise ValueError(
                f"range_min {self.range_min} and range_max {self.range_max} leave {self.range_max - self.range_min} "
                f"candidates, expected at least num_negatives, {self.num_negatives}"
            )
        return self
