"""What seeds can say of a mean: intervals, bounds and the prediction that a gate rests on.

``scipy.special`` is imported inside the functions: half of a gate's start-up time would be spent on it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from harness.errors import StatisticsError

ROUNDING = 1e-9  # far below any printed digit, far above the error of subtracting two printed decimals

Side = Literal["lower", "upper"]


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
class EffectRatio:
    """Our gain as a share of the published gain; ``interval`` is None for a single seed."""

    ratio: float
    interval: Interval | None
    count: int


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


def effect_ratio(
    tuned: Sequence[float],
    base: float,
    *,
    published_tuned: float,
    published_base: float,
    half_digits: tuple[float, float] = (0.0, 0.0),
    level: float = 0.95,
) -> EffectRatio:
    """Return (our tuned mean - our base) / (their tuned - their base) with its interval.

    Our base is not trained and has no seeds, so our gain's interval is the tuned mean's t interval moved by it.
    The printed values are only known to within half their last digit each; the interval takes the worst of
    both, so that it covers at least ``level``. The published tuned value is itself one seed, whose own spread
    nobody printed: the interval speaks of our gain against the printed one, not against their mean.

    Args:
        tuned: our tuned values, one per seed.
        base: our value before training.
        published_tuned: their value after training.
        published_base: their value before training.
        half_digits: half the last printed digit of ``published_tuned`` and of ``published_base``.
        level: of the interval.

    Raises:
        StatisticsError: the published gain is zero to within its rounding, or a value is not finite.
    """
    summary = summarize(tuned)
    gain = published_tuned - published_base
    slack = sum(half_digits)
    if not (math.isfinite(base) and math.isfinite(gain)) or abs(gain) <= slack + ROUNDING:
        raise StatisticsError(
            f"an effect ratio needs a published gain that its rounding (±{slack:g}) cannot hide and finite "
            f"values, found published gain {gain!r} and our base {base!r}"
        )
    ratio = (summary.mean - base) / gain
    if summary.sd is None:
        return EffectRatio(ratio, None, 1)
    ours = mean_interval(tuned, level).scaled(1.0, -base)
    corners = [end / theirs for end in (ours.low, ours.high) for theirs in (gain - slack, gain + slack)]
    return EffectRatio(ratio, Interval(min(corners), max(corners), level), summary.count)


def prediction_bound(reference: Sequence[float], *, level: float = 0.95, new: int = 1, side: Side = "lower") -> float:
    """Return the bound that the mean of ``new`` further seeds crosses with probability 1 - ``level`` by chance.

    mean - t(level, n - 1) s √(1/new + 1/n), or + for the upper side: Hahn & Meeker, "Statistical Intervals"
    (1991), section 4.7.

    Raises:
        StatisticsError: fewer than two reference values (one seed says nothing of chance), values that are not
            finite, or ``new`` below 1.
    """
    check_level(level)
    summary, half_unit = _prediction_unit(reference, new)
    half = t_quantile(level, summary.count - 1) * half_unit
    return summary.mean - half if side == "lower" else summary.mean + half


def prediction_p_value(reference: Sequence[float], candidate: Sequence[float], *, side: Side = "lower") -> float:
    """Return the chance that an unchanged pipeline's mean is at least so far on the worse side.

    It is below 1 - level exactly where the candidate's mean crosses `prediction_bound`. The spread is the
    reference's alone, so that a candidate whose seeds fall apart cannot hide behind its own variance. With a
    spread of zero any worse mean has p = 0 and any other p = 1.

    Raises:
        StatisticsError: as `prediction_bound`, or no candidate value.
    """
    from scipy.special import stdtr  # noqa: PLC0415 - start-up time

    found = summarize(candidate)
    summary, half_unit = _prediction_unit(reference, found.count)
    excess = summary.mean - found.mean if side == "lower" else found.mean - summary.mean
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
    p_value = None if before.sd is None else prediction_p_value(reference, candidate, side="upper")

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


def _prediction_unit(reference: Sequence[float], new: int) -> tuple[Summary, float]:
    if new < 1:
        raise StatisticsError(f"a prediction is of at least 1 new seed, found {new}")
    summary, sd = _spread(reference, what="a prediction")
    return summary, sd * math.sqrt(1 / new + 1 / summary.count)
