"""Measures that say the same as another one on this data, and claims that contradict each other there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from harness.errors import RecordError
from harness.experiment.manifest import Experiment, Variant
from harness.records.record import Record

ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class Repeat:
    """A measure that is ``factor`` times another one, for every query of every record."""

    measure: str
    of: str
    factor: float


@dataclass(frozen=True, slots=True)
class Dispute:
    """Two printed values, each as (measure, source, printed), that cannot both be right."""

    model: str
    variant: Variant
    first: tuple[str, str, str]
    second: tuple[str, str, str]


def find_repeats(records: Sequence[Record], measures: Sequence[str]) -> dict[str, Repeat]:
    """Find the measures that are a fixed multiple of an earlier one with the same cut-off.

    With one relevant passage per query recall@k is accuracy@k and precision@k is accuracy@k / k; that is read off
    the values, not assumed.

    Args:
        records: whose values per query are compared.
        measures: in the order of preference.

    Raises:
        RecordError: a record lacks one of the measures.
    """
    columns = {}
    for measure in measures:
        for record in records:
            if measure not in record.per_query:
                raise RecordError(f"{record.trial.id}: the record has no {measure!r}")
        columns[measure] = np.concatenate([np.asarray(record.per_query[measure]) for record in records])
    repeats: dict[str, Repeat] = {}
    for index, measure in enumerate(measures):
        for earlier in measures[:index]:
            if earlier in repeats or earlier.partition("@")[2] != measure.partition("@")[2]:
                continue
            total = float(columns[earlier].sum())
            factor = float(columns[measure].sum()) / total if total else 0.0
            if factor and np.allclose(columns[measure], columns[earlier] * factor, rtol=0, atol=ROUNDING):
                repeats[measure] = Repeat(measure, earlier, factor)
                break
    return repeats


def find_disputes(experiment: Experiment, repeats: dict[str, Repeat]) -> tuple[Dispute, ...]:
    """Find the pairs of printed values that contradict each other by more than a last digit, rounded or cut off."""
    return tuple(_list_disputes(experiment, repeats))


def _list_disputes(experiment: Experiment, repeats: dict[str, Repeat]) -> Iterator[Dispute]:
    seen: list[tuple[str, Variant, str, str, str]] = []
    for claims in experiment.claims:
        for measure, printed in claims.values.items():
            for model, variant, other_measure, source, other in seen:
                if (model, variant) != (claims.model, claims.variant) or source == claims.source:
                    continue
                (root, value, digit), (other_root, other_value, other_digit) = (
                    _scale(measure, printed, repeats),
                    _scale(other_measure, other, repeats),
                )
                if root == other_root and abs(value - other_value) > max(digit, other_digit) + ROUNDING:
                    yield Dispute(model, variant, (other_measure, source, other), (measure, claims.source, printed))
            seen.append((claims.model, claims.variant, measure, claims.source, printed))


def _scale(measure: str, printed: str, repeats: dict[str, Repeat]) -> tuple[str, float, float]:
    """Return the measure that this one repeats, and the printed value and its last digit in that one's unit."""
    exponent = Decimal(printed).as_tuple().exponent
    value, digit = float(printed), float(Decimal(1).scaleb(int(exponent)))
    repeat = repeats.get(measure)
    return (measure, value, digit) if repeat is None else (repeat.of, value / repeat.factor, digit / repeat.factor)
