"""The effect ratio: one interval that knows of queries, seeds, the published draw and its rounding."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.analysis.effect_ratio import effect_ratio
from harness.analysis.equivalence import PublishedValue
from harness.errors import StatisticsError

GENERATOR = np.random.default_rng(1)
BASE = GENERATOR.choice([0.0, 0.5, 1.0], 400)
GAINS = GENERATOR.choice([-0.2, 0.0, 0.0, 0.4], 400)
TUNED = BASE + GAINS + GENERATOR.choice([0.0, 0.0, 0.0, 0.05], (3, 400))
STEP = 1 / 800


def ask(
    *, half: float = 0.0, seeds: int = 1, same_queries: bool = True, gain: float = 0.05, tuned: np.ndarray = TUNED
) -> tuple[float, float, float]:
    published = (PublishedValue(0.5 + gain, half, seeds), PublishedValue(0.5, half))
    found = effect_ratio(tuned, BASE, published=published, step=STEP, same_queries=same_queries)
    assert found.interval is not None
    return found.ratio, found.interval.low, found.interval.high


def test_the_ratio_is_our_gain_by_theirs_and_lies_in_its_interval() -> None:
    ratio, low, high = ask()
    assert ratio == pytest.approx((TUNED.mean() - BASE.mean()) / 0.05)
    assert low < ratio < high


def test_the_interval_covers_what_queries_alone_would_change() -> None:
    gains = TUNED.mean(axis=0) - BASE
    error = gains.std(ddof=1) / math.sqrt(len(gains)) / 0.05
    _, low, high = ask(seeds=10**6)  # a published mean of so many seeds has no noise
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.15)


def test_every_further_source_of_chance_widens_it() -> None:
    def width(found: tuple[float, float, float]) -> float:
        return found[2] - found[1]

    exact = width(ask(seeds=10**6))
    assert width(ask()) > exact * 1.02
    assert width(ask(half=0.005)) > width(ask()) * 1.02
    assert width(ask(same_queries=False)) > width(ask()) * 1.2


def test_a_published_loss_gives_a_ratio_too() -> None:
    ratio, low, high = ask(gain=-0.05)
    assert low < ratio < high < 0


def test_one_seed_gives_a_ratio_without_an_interval() -> None:
    published = (PublishedValue(0.6), PublishedValue(0.5))
    assert effect_ratio(TUNED[:1], BASE, published=published, step=STEP).interval is None


def test_a_gain_that_may_have_either_sign_bounds_no_ratio() -> None:
    published = (PublishedValue(0.5005), PublishedValue(0.5))
    assert effect_ratio(TUNED, BASE, published=published, step=STEP, same_queries=False).interval is None


def test_a_published_gain_within_its_rounding_has_no_ratio() -> None:
    published = (PublishedValue(0.84, 0.005), PublishedValue(0.83, 0.005))
    with pytest.raises(StatisticsError, match="published gain"):
        effect_ratio(TUNED, BASE, published=published, step=STEP)
    with pytest.raises(StatisticsError, match="finite"):
        effect_ratio([[math.nan], [1.0]], [0.5], published=(PublishedValue(0.6), PublishedValue(0.5)), step=STEP)
