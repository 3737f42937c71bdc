"""Our gain by fine-tuning as a share of the published gain, with the chance of queries, seeds and published draw."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from harness.analysis.equivalence import Array, PublishedValue
from harness.analysis.seeds import ROUNDING, Interval, check_level
from harness.analysis.spread import pool_spread
from harness.errors import StatisticsError

ROUNDS = 10_000
BLOCK = 500


@dataclass(frozen=True, slots=True)
class EffectRatio:
    """Our gain by the published gain; ``interval`` is None for a single seed, or where it has no end."""

    ratio: float
    interval: Interval | None
    count: int


def effect_ratio(
    tuned: ArrayLike,
    base: ArrayLike,
    *,
    published: tuple[PublishedValue, PublishedValue],
    step: float,
    same_queries: bool = True,
    level: float = 0.95,
    rounds: int = ROUNDS,
    seed: int = 0,
) -> EffectRatio:
    """Return (our tuned mean - our base mean) / (their tuned - their base) and its percentile interval.

    A bootstrap over queries and seeds together (Efron & Tibshirani 1993, section 8.3). Each round draws our queries
    with replacement, tuned and base of a query together; adds to our tuned mean the noise of n seeds and to their tuned
    value that of m seeds, both normal with one sigma² ~ d s² / chi²(d) per round (two or three seeds are too few to be
    drawn with replacement); adds to their gain the chance of their own queries where these are not ours, taken to vary
    as ours do; and rounds their two values anew, uniformly within half a digit.

    Args:
        tuned: ours per query, shape (seeds, queries).
        base: ours before training, shape (queries,).
        published: their values after and before training.
        step: g, the smallest step of the measure.
        same_queries: whether theirs are our queries.
        level: of the interval.
        rounds: number of draws.
        seed: of the draws.

    Raises:
        StatisticsError: the published gain is zero to within its rounding, or a value is not finite.
    """
    check_level(level)
    table, start = np.atleast_2d(np.asarray(tuned, dtype=np.float64)), np.asarray(base, dtype=np.float64)
    after, before = published
    gain, slack = after.value - before.value, after.half_digit + before.half_digit
    if not (np.isfinite(table).all() and np.isfinite(start).all()) or abs(gain) <= slack + ROUNDING:
        raise StatisticsError(
            f"an effect ratio needs finite values and a published gain that its rounding (±{slack:g}) cannot hide, "
            f"found a published gain of {gain!r}"
        )
    gains = table.mean(axis=0) - start
    count, queries = table.shape
    ratio = float(gains.mean()) / gain
    if count == 1:
        return EffectRatio(ratio, None, 1)
    spread = pool_spread([table], step)
    generator = np.random.default_rng(seed)
    sigma = spread.sd * np.sqrt(spread.degrees / generator.chisquare(spread.degrees, rounds))
    ours = _resample_means(gains, rounds, generator) + sigma / math.sqrt(count) * generator.standard_normal(rounds)
    theirs = gain + sigma / math.sqrt(after.seeds) * generator.standard_normal(rounds)
    theirs += generator.uniform(-after.half_digit, after.half_digit, rounds)
    theirs += generator.uniform(-before.half_digit, before.half_digit, rounds)
    if not same_queries:
        theirs += gains.std(ddof=1) / math.sqrt(queries) * generator.standard_normal(rounds)
    tail = (1 - level) / 2
    # A published gain that may be of either sign bounds no ratio.
    if np.mean(np.sign(theirs) != np.sign(gain)) > tail:
        return EffectRatio(ratio, None, count)
    low, high = np.quantile(ours / theirs, [tail, 1 - tail])
    return EffectRatio(ratio, Interval(float(low), float(high), level), count)


def _resample_means(values: Array, rounds: int, generator: np.random.Generator) -> Array:
    """Return means of queries drawn with replacement, shape (rounds,), in blocks that fit the memory."""
    means = [
        values[generator.integers(len(values), size=(min(BLOCK, rounds - start), len(values)))].mean(axis=1)
        for start in range(0, rounds, BLOCK)
    ]
    return np.concatenate(means)
