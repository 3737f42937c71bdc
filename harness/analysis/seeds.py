"""What values can say of their mean: intervals, bounds, and whether a cost grew by more than noise.

``scipy.special`` is imported inside the functions: half of a gate's start-up time would be spent on it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from harness.errors import StatisticsError

ROUNDING = 1e-9  # far below any printed digit, far above the error of subtracting two printed decimals


@dataclass(frozen=True, slots=True)
class Interval:
    """A range that covers what it estimates with probability ``level``."""

    low: float
    high: float
    level: float

    def scaled(self, factor: float, shift: float = 0.0) -> Interval:
        """Return the interval of ``factor * quantity + shift``; a negative factor turns it round."""
        ends = (self.low * factor + shift, self.high * factor + shift)
        return Interval(min(ends), max(ends), self.level)


@dataclass(frozen=True, slots=True)
class Summary:
    """Count, mean and standard deviation (n - 1 in the denominator); ``sd`` is None for a single value."""

    count: int
    mean: float
    sd: float | None


@dataclass(frozen=True, slots=True)
class ThresholdOutcome:
    """Whether a mean is above a bound: ``met`` is None where the values cannot say."""

    met: bool | None
    mean: float
    lower_bound: float | None
    bound: float
    level: float
    reason: str


@dataclass(frozen=True, slots=True)
class CostOutcome:
    """Whether seconds or bytes grew: ``regression`` is None where the values cannot say.

    ``p_value`` is the chance of a mean at least so high from an unchanged pipeline, before any correction.
    """

    regression: bool | None
    reference_mean: float
    candidate_mean: float
    p_value: float | None
    reason: str


def summarize(values: Sequence[float]) -> Summary:
    """Summarize one or more values.

    Raises:
        StatisticsError: no value, or one that is not finite.
    """
    count = len(values)
    if not count:
        raise StatisticsError("a mean needs at least 1 value, found none")
    if not all(map(math.isfinite, values)):
        wrong = next(value for value in values if not math.isfinite(value))
        raise StatisticsError(f"a mean needs finite values, found {wrong!r}")
    # Equal values have no spread; their computed mean may still miss them by a rounding.
    if all(value == values[0] for value in values):
        return Summary(count, float(values[0]), 0.0 if count > 1 else None)
    mean = math.fsum(values) / count
    return Summary(count, mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1)))


def t_quantile(probability: float, degrees: int) -> float:
    """Return the quantile of Student's t distribution with ``degrees`` of freedom."""
    from scipy.special import stdtrit  # noqa: PLC0415 - start-up time

    return float(stdtrit(degrees, probability))


def mean_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """Return the two-sided t interval of the mean: mean ± t((1 + level)/2, n - 1) s / √n.

    Raises:
        StatisticsError: fewer than two values, one that is not finite, or a level outside (0, 1).
    """
    check_level(level)
    summary, sd = _spread(values, what="an interval of a mean")
    half = t_quantile((1 + level) / 2, summary.count - 1) * sd / math.sqrt(summary.count)
    return Interval(summary.mean - half, summary.mean + half, level)


def lower_bound(values: Sequence[float], level: float = 0.95) -> float:
    """Return the one-sided lower confidence bound of the mean: mean - t(level, n - 1) s / √n.

    Raises:
        StatisticsError: as `mean_interval`.
    """
    check_level(level)
    summary, sd = _spread(values, what="a lower bound of a mean")
    return summary.mean - t_quantile(level, summary.count - 1) * sd / math.sqrt(summary.count)


def judge_threshold(values: Sequence[float], bound: float, level: float = 0.95) -> ThresholdOutcome:
    """Say whether the mean over seeds is above ``bound``: its lower one-sided bound must be.

    One seed has no bound, so ``met`` is None then, except where that seed itself is not above the bound: then
    nothing supports the claim and it is not met.

    Raises:
        StatisticsError: no value, or one that is not finite.
    """
    summary = summarize(values)
    if summary.sd is None:
        met = None if summary.mean > bound else False
        reason = "one seed: not assessable by interval" if met is None else "the one seed is not above the bound"
        return ThresholdOutcome(met, summary.mean, None, bound, level, reason)
    low = lower_bound(values, level)
    word = "above" if low > bound else "not above"
    reason = f"lower {level:.0%} bound over {summary.count} seeds is {word} the threshold"
    return ThresholdOutcome(low > bound, summary.mean, low, bound, level, reason)


def growth_p_value(reference: Sequence[float], candidate: Sequence[float]) -> float:
    """Return the chance that an unchanged cost's mean is at least so high.

    t = (mean of candidate - mean of reference) / (s sqrt(1/n + 1/k)), with n - 1 degrees of freedom and s the spread of
    the reference alone: a prediction of k further values (Hahn & Meeker, "Statistical Intervals" (1991), section 4.7).
    With a spread of zero any higher mean has p = 0 and any other p = 1.

    Raises:
        StatisticsError: fewer than two reference values, no candidate value, or one that is not finite.
    """
    from scipy.special import stdtr  # noqa: PLC0415 - start-up time

    found = summarize(candidate)
    summary, sd = _spread(reference, what="a prediction")
    half_unit = sd * math.sqrt(1 / found.count + 1 / summary.count)
    excess = found.mean - summary.mean
    if half_unit == 0:
        return 0.0 if excess > 0 else 1.0
    return float(stdtr(summary.count - 1, -excess / half_unit))


def cost_regression(
    reference: Sequence[float],
    candidate: Sequence[float],
    *,
    relative: float,
    floor: float,
    level: float = 0.95,
) -> CostOutcome:
    """Say whether a cost (seconds, bytes; lower is better) has grown by more than noise.

    All three must hold: the mean grew by more than ``relative`` of the reference's mean (a slower machine day
    is no regression), by more than ``floor`` in its own unit (nobody minds 30 % of a millisecond), and past the
    upper prediction bound at ``level``. So an unchanged pipeline is called a regression at most 1 - ``level`` of
    the time, and in practice less often. A single reference value says nothing of noise: ``regression`` is None
    unless the growth already fails one of the first two conditions.

    Raises:
        StatisticsError: no value, one that is not finite or is negative, or a negative threshold.
    """
    if relative < 0 or floor < 0:
        raise StatisticsError(f"cost thresholds must not be negative, found relative {relative!r}, floor {floor!r}")
    if min([*reference, *candidate], default=0.0) < 0:
        raise StatisticsError(f"a cost cannot be negative, found {min([*reference, *candidate])!r}")
    check_level(level)
    before, after = summarize(reference), summarize(candidate)
    growth = after.mean - before.mean
    p_value = None if before.sd is None else growth_p_value(reference, candidate)

    def outcome(regression: bool | None, reason: str) -> CostOutcome:  # noqa: FBT001 - local shorthand
        return CostOutcome(regression, before.mean, after.mean, p_value, reason)

    if growth <= relative * before.mean:
        return outcome(False, f"grew by no more than {relative:.0%}")
    if growth <= floor:
        return outcome(False, f"grew by no more than {floor:g}")
    if p_value is None:
        return outcome(None, "one reference value: its noise is unknown")
    if p_value >= 1 - level:
        return outcome(False, f"within what noise explains (p = {p_value:.3f})")
    return outcome(True, f"grew by {growth:g}, beyond {relative:.0%}, {floor:g} and noise (p = {p_value:.3g})")


def check_level(level: float) -> None:
    """Refuse a confidence level that is none.

    Raises:
        StatisticsError: it does not lie strictly between 0 and 1.
    """
    if not 0 < level < 1:
        raise StatisticsError(f"a confidence level lies strictly between 0 and 1, found {level!r}")


def _spread(values: Sequence[float], *, what: str) -> tuple[Summary, float]:
    summary = summarize(values)
    if summary.sd is None:
        raise StatisticsError(f"{what} needs at least 2 values, found {summary.count}")
    return summary, summary.sd
