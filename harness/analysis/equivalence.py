"""Whether our values are the published one: agreement without training, equivalence over seeds with it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.analysis.seeds import ROUNDING, Interval, t_quantile
from harness.analysis.spread import PRIOR_DEGREES, Spread, pool_spread
from harness.errors import StatisticsError

EQUIVALENCE_LEVEL = 0.90  # two one-sided tests of 5 % each are one interval of 90 %
TEST_LEVEL = 0.95
DENIAL_LEVEL = 0.995
NORMAL_QUANTILE = 1.6448536269514722  # of 95 %: that of t for ever more seeds

Array: TypeAlias = NDArray[np.float64]


class Agreement(StrEnum):
    """How an untrained model's value compares with the published one, the best first."""

    SAME = "same"
    CLOSE = "close"
    DIFFERENT = "different"


class Verdict(StrEnum):
    """How a trained model's values compare with the published one."""

    REPRODUCED = "reproduced"
    EXCEEDS = "exceeds"
    NOT_REPRODUCED = "not reproduced"
    COMPATIBLE = "compatible"
    DIFFERS = "differs"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class PublishedValue:
    """A printed value: y, half its last digit h, and the number m of seeds that it is the mean of."""

    value: float
    half_digit: float = 0.0
    seeds: int = 1

    def __post_init__(self) -> None:
        if not (math.isfinite(self.value) and 0 <= self.half_digit < math.inf and self.seeds >= 1):
            raise StatisticsError(
                "a published value is finite, with half a digit of 0 or more and 1 seed or more, "
                f"found {self.value!r}, {self.half_digit!r}, {self.seeds!r}"
            )


@dataclass(frozen=True, slots=True)
class ClaimOutcome:
    """A verdict and what it rests on.

    Attributes:
        verdict: the first rule of `decide` that applies.
        mean: of our seeds.
        count: of our seeds.
        spread: between seeds; None for one seed.
        interval: 90 %, of ours minus published with the noise of both sides; None for one seed.
        published: the printed value.
        margin: D.
        establishable: whether any number of our seeds could establish that the means are within D of each other.
        reason: in words.
    """

    verdict: Verdict
    mean: float
    count: int
    spread: Spread | None
    interval: Interval | None
    published: PublishedValue
    margin: float
    establishable: bool
    reason: str


def judge_agreement(ours: float, published: float, half_digit: float, step: float) -> Agreement:
    """Compare a value without chance in it with a printed one.

    Same: abs(ours - published) <= h + g/4. Close: <= h + 2 g. Else different. g is the smallest step of the measure
    (see `smallest_step`). The factors were chosen on 16 faults of a small model: 16-bit weights are the same, bf16
    arithmetic is close, a shorter maximal length, other pooling and a wrong prefix are different.

    Raises:
        StatisticsError: a number is not finite, ``half_digit`` is negative or ``step`` is not positive.
    """
    if not (math.isfinite(ours) and math.isfinite(published) and 0 <= half_digit < math.inf and 0 < step < math.inf):
        raise StatisticsError(
            "agreement needs finite values, half_digit >= 0 and a step > 0, "
            f"found {ours!r}, {published!r}, {half_digit!r}, {step!r}"
        )
    distance = abs(ours - published)
    if distance <= half_digit + step / 4 + ROUNDING:
        return Agreement.SAME
    return Agreement.CLOSE if distance <= half_digit + 2 * step + ROUNDING else Agreement.DIFFERENT


def decide(
    difference: ArrayLike, variance: ArrayLike, seeds: int, *, published: PublishedValue, margin: float
) -> NDArray[np.str_]:
    """Return the verdict for each pair of difference and variance.

    With m seeds behind the printed value y, h half its last digit, D the margin, delta = abs(y - mean), se = s sqrt(1/n
    + 1/m) and t of d0 + n - 1 degrees of freedom, the first that applies:

    1. *reproduced*: delta + h + t(.95) se <= D, two one-sided tests (Schuirmann 1987) with the noise of both draws;
    2. *not reproduced* (below) or *exceeds* (above): delta - h > max(D + t(.95) se, t(.995) se);
    3. *compatible*: delta - h <= t(.995) se, so y may be one more draw of ours (Hahn & Meeker 1991, section 4.7);
    4. *differs*: else.

    Args:
        difference: mean of our seeds minus the printed value, shape (cases,).
        variance: s² of `moderate`, shape (cases,).
        seeds: n, of ours.
        published: m and h; its value is in ``difference`` already.
        margin: D.

    Returns:
        Values of `Verdict`, shape (cases,).
    """
    signed = np.asarray(difference, dtype=np.float64)
    delta = np.abs(signed)
    error = np.sqrt(np.asarray(variance) * (1 / seeds + 1 / published.seeds))
    degrees = PRIOR_DEGREES + seeds - 1
    one_sided, denial = t_quantile(TEST_LEVEL, degrees) * error, t_quantile(DENIAL_LEVEL, degrees) * error
    beyond = delta - published.half_digit > np.maximum(margin + one_sided, denial)
    return np.asarray(
        np.select(
            [
                delta + published.half_digit + one_sided <= margin + ROUNDING,
                beyond & (signed < 0),
                beyond,
                delta - published.half_digit <= denial,
            ],
            [Verdict.REPRODUCED, Verdict.NOT_REPRODUCED, Verdict.EXCEEDS, Verdict.COMPATIBLE],
            Verdict.DIFFERS,
        )
    )


def classify(values: ArrayLike, published: PublishedValue, *, margin: float, step: float) -> ClaimOutcome:
    """Judge our seeds' values against one published value; see `decide` for the rules.

    One seed shows no spread, so its verdict is *undecided* however near or far it is.

    Args:
        values: per query, shape (seeds, queries).
        published: the printed value.
        margin: D, the difference of means that does not matter.
        step: g, the smallest step of the measure.

    Raises:
        StatisticsError: no value, a number that is not finite, or ``margin`` <= 0.
    """
    if not 0 < margin < math.inf:
        raise StatisticsError(f"a verdict needs a margin > 0, found {margin!r}")
    table = np.atleast_2d(np.asarray(values, dtype=np.float64))
    if not table.size or not np.isfinite(table).all():
        raise StatisticsError("a verdict needs finite values of at least one query")
    count, mean = len(table), float(table.mean())
    if count == 1:
        reason = "one seed: the spread between seeds is unknown"
        return ClaimOutcome(Verdict.UNDECIDED, mean, count, None, None, published, margin, True, reason)
    spread = pool_spread([table], step)
    difference = mean - published.value
    verdict = Verdict(decide([difference], [spread.sd**2], count, published=published, margin=margin).item())
    half = t_quantile(TEST_LEVEL, spread.degrees) * spread.sd * math.sqrt(1 / count + 1 / published.seeds)
    interval = Interval(difference - half, difference + half, EQUIVALENCE_LEVEL)
    possible = can_establish(spread.sd, published, margin)
    return ClaimOutcome(
        verdict,
        mean,
        count,
        spread,
        interval,
        published,
        margin,
        possible,
        _word_reason(verdict, margin, published, possible=possible),
    )


def can_establish(sd: float, published: PublishedValue, margin: float) -> bool:
    """Say whether ever more seeds of ours could establish it: 1.645 s / sqrt(m) + h <= D, the limit of `decide`."""
    return NORMAL_QUANTILE * sd / math.sqrt(published.seeds) + published.half_digit <= margin


def _word_reason(verdict: Verdict, margin: float, published: PublishedValue, *, possible: bool) -> str:
    if verdict is Verdict.COMPATIBLE:
        may = f"the published value may be one more draw of ours; means within {margin:g} are not established"
        draws = "one printed draw" if published.seeds == 1 else f"a printed mean of {published.seeds} draws"
        return may if possible else f"{may}, and {draws} cannot establish it at this spread"
    return {
        Verdict.REPRODUCED: f"the difference of means lies within ±{margin:g}, the noise of both draws included",
        Verdict.NOT_REPRODUCED: f"our mean lies below the published value by more than {margin:g} and noise",
        Verdict.EXCEEDS: f"our mean lies above the published value by more than {margin:g} and noise",
        Verdict.DIFFERS: f"the published value is no draw of ours, but that it is off by more than {margin:g} is open",
    }[verdict]
