"""What is said of the values: published claims, and thresholds."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator

from harness.core.schema import Count, Frozen, Line, Seconds, Unit

BASELINE = "baseline"


def _suggest_share(number: Decimal) -> str:
    """Ask whether what was given in per cent is meant as a share."""
    return f"; did you mean {number.scaleb(-2)}?" if 1 < number <= 100 else ""  # noqa: PLR2004 - per cent


def _refuse_per_cent(value: Any) -> Any:
    if type(value) in (int, float) and not 0 <= value <= 1:
        raise ValueError(f"expected 0 to 1, as measures are{_suggest_share(Decimal(str(value)))}")
    return value


# A measure's value, or a difference of two.
Share = Annotated[Unit, BeforeValidator(_refuse_per_cent)]


class _Cell(Frozen):
    """One place of the tables: a model, untrained or by a recipe, on a test set and at a dimension.

    Without ``recipe`` the untrained model is meant, without ``on`` the first test set, without ``dim`` the first of the
    model's ``truncate_dims``.
    """

    model: str
    recipe: str | None = None
    on: str | None = None
    dim: Count | None = None

    @property
    def variant(self) -> str:
        """The recipe, or ``baseline``."""
        return self.recipe or BASELINE


class Threshold(_Cell):
    """A bound that the values must exceed for the experiment to pass."""

    measure: str
    above: Share


class Claims(_Cell):
    """Published values of one cell, as printed, where they were printed, and of how many seeds they are the mean."""

    source: Line
    seeds: Count = 1
    values: dict[str, str]

    @field_validator("values")
    @classmethod
    def _decimal(cls, values: dict[str, str]) -> dict[str, str]:
        for measure, printed in values.items():
            try:
                number = Decimal(printed)
            except InvalidOperation as cause:
                raise ValueError(f"{measure}: {printed!r} is not a printed number") from cause
            if not number.is_finite():
                raise ValueError(f"{measure}: {printed!r} is not finite")
            if not 0 <= number <= 1:
                raise ValueError(f"{measure}: {printed} lies outside 0..1{_suggest_share(number)}")
        return values


class Verdicts(Frozen):
    """How far the mean of our seeds may lie from a published value and count as reproduced.

    ``margin`` is D of `harness.analysis.equivalence`: abs(y - mean) + h + t(.95) se <= D, where se has the noise of the
    published draw too.
    """

    margin: Annotated[Share, Field(gt=0)]


class Published(Frozen):
    """The publication that is checked, and why its values cannot be compared cell by cell, if so."""

    title: Line
    date: Line
    not_comparable: Line | None = None
    hardware: Line | None = None
    training_seconds: Seconds | None = None
