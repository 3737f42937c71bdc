"""Where two stacks of packages part: tokens, layers, batches, losses, values, in the order one follows from another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike

from harness.analysis.equivalence import DENIAL_LEVEL, EQUIVALENCE_LEVEL, TEST_LEVEL
from harness.analysis.seeds import ROUNDING, Interval, t_quantile
from harness.analysis.spread import pool_spread
from harness.errors import StatisticsError
from harness.records.stack import StackTraining

# Other kernels and orders of summation move an fp32 layer or embedding by less; other weights by far more.
FLOAT_NOISE = 1e-5
# Of a loss of one step, likewise; another draw of dropout moves it by a hundred times as much.
LOSS_NOISE = 1e-4


class Change(StrEnum):
    """What a difference of two sides' means amounts to."""

    EQUIVALENT = "equivalent"
    DIFFERENT = "different"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class MeanChange:
    """The difference of two sides' means; ``interval`` and ``change`` are None where neither side has two seeds."""

    difference: float
    interval: Interval | None
    change: Change | None


@dataclass(frozen=True, slots=True)
class Batches:
    """How the batches of one seed compare: how many are the same rows in the same order, of how many steps."""

    seed: int
    same: int
    steps: int


def compare_means(before: ArrayLike, after: ArrayLike, *, margin: float, step: float) -> MeanChange:
    """Compare the means of two sides' seeds, after minus before.

    With s the pooled moderated spread of `pool_spread` and its degrees, se = s sqrt(1/n + 1/m): *equivalent* where the
    90 % interval lies within the margin, two one-sided tests of 5 % (Schuirmann 1987); else *different* where abs(d) >
    t(.995) se; else *open*.

    Args:
        before: per query, shape (seeds, queries).
        after: likewise, of the same queries.
        margin: D, the difference of means that does not matter.
        step: g, the smallest step of the measure.

    Raises:
        StatisticsError: a table is empty, holds what is not finite, or ``margin`` <= 0.
    """
    if not 0 < margin < math.inf:
        raise StatisticsError(f"a comparison needs a margin > 0, found {margin!r}")
    tables = [np.atleast_2d(np.asarray(side, dtype=np.float64)) for side in (before, after)]
    if any(not table.size or not np.isfinite(table).all() for table in tables):
        raise StatisticsError("a comparison needs finite values of at least one query")
    difference = float(tables[1].mean() - tables[0].mean())
    counts = [len(table) for table in tables]
    if max(counts) == 1:
        return MeanChange(difference, None, None)
    spread = pool_spread(tables, step)
    error = spread.sd * math.sqrt(sum(1 / count for count in counts))
    half = t_quantile(TEST_LEVEL, spread.degrees) * error
    interval = Interval(difference - half, difference + half, EQUIVALENCE_LEVEL)
    if max(abs(interval.low), abs(interval.high)) <= margin + ROUNDING:
        return MeanChange(difference, interval, Change.EQUIVALENT)
    apart = abs(difference) > t_quantile(DENIAL_LEVEL, spread.degrees) * error
    return MeanChange(difference, interval, Change.DIFFERENT if apart else Change.OPEN)


def find_first_layer(differences: Sequence[float]) -> int | None:
    """Return the number of the first layer that differs by more than float noise; 0 is the embedding layer."""
    return next((number for number, difference in enumerate(differences) if difference > FLOAT_NOISE), None)


def compare_batches(before: Sequence[StackTraining], after: Sequence[StackTraining]) -> tuple[Batches, ...]:
    """Compare the batches of each seed that both sides have, step by step."""
    others = {training.seed: training for training in after}
    return tuple(
        Batches(
            training.seed,
            sum(one == other for one, other in zip(training.rows, others[training.seed].rows, strict=False)),
            max(len(training.rows), len(others[training.seed].rows)),
        )
        for training in before
        if training.seed in others
    )


def is_in_file_order(training: StackTraining) -> bool:
    """Say whether nothing was shuffled: each batch rises, and begins with the first row that no earlier one had."""
    left = sorted({row for batch in training.rows for row in batch})
    for batch in training.rows:
        if not left or list(batch) != sorted(batch) or batch[0] != left[0]:
            return False
        taken = set(batch)
        left = [row for row in left if row not in taken]
    return True


def has_equal_batches(trainings: Sequence[StackTraining]) -> bool:
    """Say whether several seeds drew the same batches, so that a seed is another draw of dropout only."""
    return len(trainings) > 1 and len({training.rows for training in trainings}) == 1
