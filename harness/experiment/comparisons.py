"""Which cells are compared with which, and what fine-tuning must not cost on other test sets."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from harness.core.schema import Frozen
from harness.experiment.claims import BASELINE, Share


class Comparison(Frozen):
    """Two cells, each MODEL/RECIPE, or MODEL for the untrained model, by the primary measure on the same queries.

    ``above`` asks something of it: the interval of a minus b must lie above it. 0 asks that a be better, -0.005 that it
    be worse by less than 0.005.
    """

    a: str
    b: str
    above: Annotated[float, Field(ge=-1, lt=1)] | None = None

    @model_validator(mode="after")
    def _two(self) -> Self:
        if len(set(self.cells)) == 1:
            raise ValueError(f"a and b are both {self.a!r}: there is nothing to compare")
        return self

    @property
    def cells(self) -> tuple[tuple[str, str], tuple[str, str]]:
        """Model and variant of a and of b."""
        return split_cell(self.a), split_cell(self.b)


class Forgetting(Frozen):
    """What fine-tuning must not cost on another test set: tuned minus own baseline stays above ``-max_drop``."""

    on: str
    max_drop: Share


def split_cell(name: str) -> tuple[str, str]:
    """Return model and variant of a cell's name, MODEL/RECIPE, or MODEL for the untrained model."""
    model, _, recipe = name.partition("/")
    return model, recipe or BASELINE
