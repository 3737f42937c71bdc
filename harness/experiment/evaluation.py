"""What is measured, on which test sets, and the measure that decides."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator

from harness.core.schema import Count, Frozen
from harness.errors import ManifestError
from harness.experiment.data import NAME, PART_NAMES, PartName, refuse_repeats
from harness.experiment.measure import parse_measure

_TEST_SET = re.compile(rf"(?P<data>{NAME.pattern})/(?P<part>{'|'.join(PART_NAMES)})")


@dataclass(frozen=True)
class TestSet:
    """A part of a data set that is evaluated on: its queries, and as corpus all passages of the data set."""

    data: str
    part: PartName

    __test__ = False  # pytest takes any class of such a name for tests

    def __str__(self) -> str:
        """Write it as manifests, records and tables do."""
        return f"{self.data}/{self.part}"


def parse_test_set(name: str) -> TestSet:
    """Understand a test set's name, DATA/PART.

    Raises:
        ValueError: it is not one.
    """
    match = _TEST_SET.fullmatch(name)
    if match is None:
        raise ValueError(f"a test set is DATA/PART with a part of {', '.join(PART_NAMES)}; found {name!r}")
    part = next(part for part in PART_NAMES if part == match["part"])
    return TestSet(match["data"], part)


class Evaluation(Frozen):
    """What is measured in fp32 on each query's best ``top_k`` passages; ``primary`` on the first test set decides."""

    on: Annotated[tuple[str, ...], Field(min_length=1)]
    measures: Annotated[tuple[str, ...], Field(min_length=1)]
    primary: str
    top_k: Count
    batch_tokens: Count

    @field_validator("on")
    @classmethod
    def _test_sets(cls, on: tuple[str, ...]) -> tuple[str, ...]:
        for name in on:
            parse_test_set(name)
        refuse_repeats(on, "test set")
        return on

    @field_validator("measures")
    @classmethod
    def _known(cls, measures: tuple[str, ...]) -> tuple[str, ...]:
        for measure in measures:
            try:
                parse_measure(measure)
            except ManifestError as cause:
                raise ValueError(str(cause)) from cause
        refuse_repeats(measures, "measure")
        return measures

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.primary not in self.measures:
            raise ValueError(f"the primary measure {self.primary!r} must be one of the measures")
        for measure in self.measures:
            if parse_measure(measure).cutoff > self.top_k:
                raise ValueError(f"{measure!r} needs more passages than top_k = {self.top_k}")
        return self

    @property
    def test_sets(self) -> tuple[TestSet, ...]:
        """The test sets; the first is the primary one."""
        return tuple(parse_test_set(name) for name in self.on)

    def list_results(self, dims: Sequence[int]) -> list[str]:
        """Name the results of a model evaluated at these dimensions, or at its own only where there are none."""
        return [name if dim is None else f"{name}@{dim}" for name in self.on for dim in (dims or (None,))]
