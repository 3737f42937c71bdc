"""Whether our values are the published one: agreement without training, equivalence over seeds with it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from harness.analysis.seeds import ROUNDING, Interval, mean_interval, summarize, t_quantile
from harness.errors import StatisticsError

SAME = 0.0005  # half of the third decimal: what other kernels, orders of summation and libraries move
CLOSE = 0.001
EQUIVALENCE_LEVEL = 0.90  # two one-sided tests of 5 % each are one interval of 90 %
CONSISTENCY_LEVEL = 0.95
POWER = 0.80
MOST_FURTHER_SEEDS = 1000
NODES = 64


class Agreement(StrEnum):
    """How an untrained model's value stands to the published one."""

    SAME = "same"
    CLOSE = "close"
    DIFFERENT = "different"


class Verdict(StrEnum):
    """How a trained model's values stand to the published one."""

    REPRODUCED = "reproduced"
    EXCEEDS = "exceeds"
    INCONCLUSIVE = "inconclusive"
    DIFFERS = "differs"
    NOT_REPRODUCED = "not reproduced"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A verdict and what it rests on; ``sd`` and ``interval`` (90 %, of the mean) are None for one seed."""

    verdict: Verdict
    mean: float
    sd: float | None
    count: int
    interval: Interval | None
    published: float
    half_digit: float
    margin: float
    reason: str


def judge_agreement(ours: float, published: float, half_digit: float) -> Agreement:
    """Compare a value without chance in it with a printed one.

    Same: |ours - published| <= max(``half_digit``, 0.0005). Close: <= 0.001. Else different.

    Raises:
        StatisticsError: a number is not finite, or ``half_digit`` is negative.
    """
    if not (math.isfinite(ours) and math.isfinite(published) and math.isfinite(half_digit)) or half_digit < 0:
        raise StatisticsError(
            f"agreement needs finite values and half_digit >= 0, found {ours!r}, {published!r}, {half_digit!r}"
        )
    distance = abs(ours - published)
    if distance <= max(half_digit, SAME) + ROUNDING:
        return Agreement.SAME
    return Agreement.CLOSE if distance <= CLOSE + ROUNDING else Agreement.DIFFERENT


def classify(values: Sequence[float], published: float, half_digit: float, margin: float) -> Outcome:
    """Judge our seeds' values against one published value y.

    In this order, with mean, s and n of our seeds, D = ``margin`` and h = ``half_digit``:

    1. the 90 % t interval of the mean lies inside y ± D: reproduced (two one-sided tests, Schuirmann 1987);
    2. |y - mean| <= t(0.975, n-1) s √(1 + 1/n) + h, so y may be one more seed of ours: inconclusive;
    3. the interval is wholly above y + D: exceeds; wholly below y - D: not reproduced;
    4. else y is no seed of ours, but whether the means are further apart than D is open: differs.

    One seed has no variance, so its verdict is inconclusive however near or far it is. Seeds that all agree to
    the last bit (s = 0) have an interval of width zero and go the same way.

    Raises:
        StatisticsError: no value, a number that is not finite, ``margin`` <= 0 or ``half_digit`` < 0.
    """
    if not (math.isfinite(published) and 0 < margin < math.inf and 0 <= half_digit < math.inf):
        raise StatisticsError(
            "a verdict needs a finite published value, margin > 0 and half_digit >= 0, "
            f"found {published!r}, {margin!r}, {half_digit!r}"
        )
    summary = summarize(values)
    interval = None if summary.sd is None else mean_interval(values, EQUIVALENCE_LEVEL)

    def outcome(verdict: Verdict, reason: str) -> Outcome:
        return Outcome(
            verdict, summary.mean, summary.sd, summary.count, interval, published, half_digit, margin, reason
        )

    if summary.sd is None or interval is None:
        return outcome(Verdict.INCONCLUSIVE, "one seed: the variance between seeds is unknown")
    if interval.low >= published - margin and interval.high <= published + margin:
        return outcome(Verdict.REPRODUCED, f"the 90% interval lies within ±{margin:g} of the published value")
    distance = abs(published - summary.mean)
    if distance <= _consistency_factor(summary.count) * summary.sd + half_digit:
        return outcome(Verdict.INCONCLUSIVE, f"may be one of our seeds, yet ±{margin:g} is not established")
    if interval.low > published + margin:
        return outcome(Verdict.EXCEEDS, f"the 90% interval lies above published + {margin:g}")
    if interval.high < published - margin:
        return outcome(Verdict.NOT_REPRODUCED, f"the 90% interval lies below published - {margin:g}")
    return outcome(Verdict.DIFFERS, f"not one of our seeds' values, yet the interval reaches into ±{margin:g}")


def plan_further_seeds(
    count: int,
    difference: float,
    sd: float,
    *,
    margin: float,
    half_digit: float = 0.0,
    power: float = POWER,
    most: int = MOST_FURTHER_SEEDS,
) -> int | None:
    """Return the fewest further seeds that leave the verdict other than inconclusive with probability ``power``.

    Assumes that the true difference (mean - published) and spread are those measured; as in any such plan they
    are themselves estimates, from few seeds rough ones. The power is that of all seeds together, drawn anew:
    keeping the ``count`` at hand, which sit at their own mean, can only make the end less uncertain.

    Args:
        count: seeds at hand.
        difference: mean of ours minus the published value.
        sd: standard deviation between seeds.
        margin: the equivalence margin D.
        half_digit: half the last printed digit of the published value.
        power: wanted probability of a decision.
        most: the largest number of further seeds considered.

    Returns:
        The number of further seeds, or None if even ``most`` do not suffice: the mean sits at the margin, or
        beyond it yet within the spread of single seeds, of which the published value is one.
    """
    start = count + 1
    while start <= count + most:
        # In blocks of growing size: the common answers are small, and each size costs NODES quantiles.
        totals = np.arange(start, min(count + most, 2 * start + 16) + 1)
        enough = np.flatnonzero(decision_power(totals, difference, sd, margin=margin, half_digit=half_digit) >= power)
        if len(enough):
            return int(totals[enough[0]]) - count
        start = int(totals[-1]) + 1
    return None


def decision_power(
    counts: Sequence[int] | NDArray[np.int64],
    difference: float,
    sd: float,
    *,
    margin: float,
    half_digit: float = 0.0,
) -> NDArray[np.float64]:
    """Return the probability of a verdict other than inconclusive, for each number of seeds.

    Given the sample's standard deviation S the mean is normal, so the probability of a mean inside the region of
    equivalence (±(D - t S/√n)) or outside the one of consistency (±(t' S √(1 + 1/n) + h)) is a difference of
    normal distribution functions; it is then integrated over S, whose (n-1) S²/σ² is χ² with n - 1 degrees of
    freedom. This is the exact power of the two one-sided tests (Phillips 1990; Julious 2004, section 5), with the
    region of inconsistency added and Owen's integral done by Gauss-Legendre over the quantiles of S.

    Args:
        counts: numbers of seeds, each 2 or more, shape (k,).
        difference: true mean minus the published value.
        sd: true standard deviation between seeds.
        margin: the equivalence margin D.
        half_digit: half the last printed digit of the published value.

    Returns:
        Probabilities, shape (k,).

    Raises:
        StatisticsError: a count below 2 or a negative ``sd``.
    """
    equivalent, inconsistent = _decision_parts(np.asarray(counts), difference, sd, margin, half_digit)
    return equivalent + inconsistent


def equivalence_power(
    counts: Sequence[int] | NDArray[np.int64], difference: float, sd: float, *, margin: float
) -> NDArray[np.float64]:
    """Return the probability of the verdict *reproduced*, for each number of seeds; see `decision_power`."""
    equivalent, _ = _decision_parts(np.asarray(counts), difference, sd, margin, 0.0)
    return equivalent


def _decision_parts(
    counts: NDArray[np.int64], difference: float, sd: float, margin: float, half_digit: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the probabilities of *equivalent* and of *not equivalent and not consistent*."""
    from scipy.special import gammaincinv, ndtr, stdtrit  # noqa: PLC0415 - start-up time

    if np.any(counts < 2) or sd < 0:  # noqa: PLR2004 - no variance from one seed
        raise StatisticsError(f"power needs counts of 2 or more and sd >= 0, found {counts.min()} and {sd!r}")
    if sd == 0:
        same = np.full(len(counts), float(abs(difference) <= margin))
        return same, (1.0 - same) * float(abs(difference) > half_digit)
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    size = counts[:, None].astype(np.float64)
    degrees = size - 1
    spread = sd * np.sqrt(2 * gammaincinv(degrees / 2, (nodes + 1) / 2) / degrees)
    error = sd / np.sqrt(size)
    inner = margin - stdtrit(degrees, (1 + EQUIVALENCE_LEVEL) / 2) * spread / np.sqrt(size)
    inner = np.maximum(inner, 0.0)
    outer = stdtrit(degrees, (1 + CONSISTENCY_LEVEL) / 2) * spread * np.sqrt(1 + 1 / size) + half_digit
    outer = np.maximum(outer, inner)

    def within(half: NDArray[np.float64]) -> NDArray[np.float64]:
        inside = ndtr((half - difference) / error) - ndtr((-half - difference) / error)
        return np.asarray(inside @ weights / 2, dtype=np.float64)

    return within(inner), 1.0 - within(outer)


def _consistency_factor(count: int) -> float:
    return t_quantile((1 + CONSISTENCY_LEVEL) / 2, count - 1) * math.sqrt(1 + 1 / count)
