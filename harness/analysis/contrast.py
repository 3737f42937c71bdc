"""Whether one side ranks better than another on the same queries: with the chance of queries and of seeds in it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from harness.analysis.paired_queries import WinsTiesLosses, count_wins, effect_size
from harness.analysis.seeds import Interval, t_quantile
from harness.analysis.spread import Array, Spread, estimate_spread, step_of
from harness.errors import StatisticsError

LEVEL = 0.95


@dataclass(frozen=True)
class Side:
    """What is compared: values per query, shape (seeds, queries); an untrained model has one row and no seed."""

    values: Array
    trained: bool

    @classmethod
    def of(cls, values: ArrayLike, *, trained: bool) -> Side:
        """Check a side's values.

        Raises:
            StatisticsError: none, one that is not finite, or several rows of what has no seeds.
        """
        table = np.atleast_2d(np.asarray(values, dtype=np.float64))
        if table.ndim != 2 or not table.size or not np.isfinite(table).all():  # noqa: PLR2004 - seeds by queries
            raise StatisticsError(f"a side needs finite values, seeds by queries, found shape {table.shape}")
        if not trained and len(table) > 1:
            raise StatisticsError(f"an untrained side has one row of values, found {len(table)}")
        return cls(table, trained)


@dataclass(frozen=True, slots=True)
class Contrast:
    """The mean of a minus that of b.

    Attributes:
        difference: over queries and seeds.
        interval: 95 %; None where one seed of what was trained says nothing of the next one.
        p_value: two-sided, of no difference; None likewise.
        spread: between seeds, pooled over both sides; None without training.
        effect_size: Cohen's d_z of the queries' differences; None where they are all equal.
        counts: queries that a wins, ties and loses.
        queries: how many.
    """

    difference: float
    interval: Interval | None
    p_value: float | None
    spread: Spread | None
    effect_size: float | None
    counts: WinsTiesLosses
    queries: int


def contrast(a: Side, b: Side, measure: str) -> Contrast:
    """Compare two sides, paired by query.

    t = D / se with se² = v/Q + max(0, s_b² - s_w²) (1/n_a + 1/n_b). D is the mean over Q queries of the difference of
    means over seeds, and v the variance of these differences: it has the chance of queries and the seeds' noise that
    is each query's own. What seeds do to all queries alike does not show there; it is what the variance s_b² of the
    seeds' means exceeds s_w² by, what single queries explain (see `pool_spread`; a variance component by moments, as
    in Searle, Casella & McCulloch 1992, section 4.3). Untrained sides have no n. The degrees of freedom are those of
    `moderate`, or Q - 1 where nothing was trained (the paired t-test, Student 1908, that agrees with the
    randomization test in retrieval: Smucker, Allan & Carterette 2007).

    Queries alone, as in `sign_flip_test`, took two lots of seeds of one recipe for different in 14 to 17 % of cases at
    5 %, where seeds have a common effect as large as the noise of single queries; this did in 4 to 5 %, and in 1 to 2 %
    where they have none.

    Args:
        a: one side.
        b: the other, the same queries in the same order.
        measure: of all values; its smallest step is the least standard error.

    Raises:
        StatisticsError: the sides have different numbers of queries.
        ManifestError: the measure is unknown.
    """
    if a.values.shape[1] != b.values.shape[1]:
        raise StatisticsError(f"sides of {a.values.shape[1]} and {b.values.shape[1]} queries cannot be paired")
    rows = a.values.mean(axis=0) - b.values.mean(axis=0)
    step = step_of(measure, np.concatenate([a.values, b.values]))
    trained = [side.values for side in (a, b) if side.trained]
    several = any(len(table) > 1 for table in trained)
    spread = estimate_spread(trained, measure) if several else None
    known = spread is not None or not trained
    error, degrees = _standard_error(rows, step, spread, [len(table) for table in trained])
    difference = float(rows.mean())
    interval = p_value = None
    if known and degrees:
        half = t_quantile((1 + LEVEL) / 2, degrees) * error
        interval = Interval(difference - half, difference + half, LEVEL)
        p_value = _two_sided(difference / error, degrees)
    return Contrast(difference, interval, p_value, spread, effect_size(rows), count_wins(rows), len(rows))


def _standard_error(rows: Array, step: float, spread: Spread | None, seeds: list[int]) -> tuple[float, int]:
    """Return se, never less than one smallest step, and its degrees of freedom."""
    variance = float(rows.var(ddof=1)) / len(rows) if len(rows) > 1 else 0.0
    degrees = len(rows) - 1
    if spread is not None:
        variance += max(0.0, spread.between**2 - spread.within**2) * sum(1 / count for count in seeds)
        degrees = spread.degrees
    return max(math.sqrt(variance), step), degrees


def _two_sided(t: float, degrees: int) -> float:
    from scipy.special import stdtr  # noqa: PLC0415 - start-up time

    return float(2 * stdtr(degrees, -abs(t)))
