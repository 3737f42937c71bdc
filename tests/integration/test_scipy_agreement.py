"""Our statistics against scipy.stats, an implementation of its own (apart from the unit tests: it takes a second)."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.analysis.equivalence import Verdict, classify, equivalence_power
from harness.analysis.paired_queries import paired_bootstrap_intervals, sign_flip_test
from harness.analysis.seeds import lower_bound, mean_interval, t_quantile

SEEDS = [0.8893, 0.8921, 0.8907, 0.8938, 0.8899]
LEVELS = (0.8, 0.9, 0.95, 0.99)
SMALL = [0.5, -0.25, 1 / 3, 0.5, 0.0, 0.9, -1 / 3, 0.2, 0.5, 0.0]
ROUNDS = 20_000


@pytest.mark.parametrize("level", LEVELS)
def test_the_mean_interval_is_scipys(level: float) -> None:
    from scipy import stats

    theirs = stats.t.interval(level, len(SEEDS) - 1, loc=np.mean(SEEDS), scale=stats.sem(SEEDS))
    ours = mean_interval(SEEDS, level)
    assert (ours.low, ours.high) == pytest.approx(theirs, abs=1e-12)
    assert ours.level == level


@pytest.mark.parametrize("level", LEVELS)
def test_the_lower_bound_is_scipys_one_sided_interval(level: float) -> None:
    from scipy import stats

    theirs = stats.ttest_1samp(SEEDS, 0.5, alternative="greater").confidence_interval(level)
    assert lower_bound(SEEDS, level) == pytest.approx(theirs.low, abs=1e-12)


@pytest.mark.parametrize("degrees", [1, 2, 4, 30, 1000])
def test_the_t_quantile_is_scipys(degrees: int) -> None:
    from scipy import stats

    for probability in (0.05, 0.5, 0.95, 0.999):
        assert t_quantile(probability, degrees) == pytest.approx(stats.t.ppf(probability, degrees), rel=1e-9)


def test_equivalence_is_two_one_sided_t_tests() -> None:
    from scipy import stats

    for shift in (0.0, 0.004, 0.007, 0.0095, -0.008):
        values = [value + shift for value in SEEDS]
        above = stats.ttest_1samp(values, 0.8912 - 0.01, alternative="greater").pvalue
        below = stats.ttest_1samp(values, 0.8912 + 0.01, alternative="less").pvalue
        reproduced = classify(values, 0.8912, 0.0, 0.01).verdict is Verdict.REPRODUCED
        assert reproduced == (max(above, below) <= 0.05)


def test_equivalence_power_is_the_published_one() -> None:
    # Exact power against the noncentral t distribution where only one side matters: margin far on the other side
    # is the one-sample, one-sided t test of (margin - difference).
    from scipy import stats

    for count in (3, 5, 20):
        shift, sd, margin = 0.9, 0.05, 1.0
        central = stats.t.ppf(0.95, count - 1)
        expected = 1 - stats.nct.cdf(central, count - 1, (margin - shift) / sd * math.sqrt(count))
        # Far from the lower edge, so the two tests are one.
        assert equivalence_power([count], shift, sd, margin=margin)[0] == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize("alternative", ["two-sided", "less", "greater"])
def test_sign_flips_agree_with_scipys_exact_permutations(alternative: str) -> None:
    from scipy import stats

    exact = stats.permutation_test(
        (SMALL,),
        lambda values, axis: np.mean(values, axis=axis),
        permutation_type="samples",
        alternative=alternative,
        n_resamples=np.inf,
        vectorized=True,
    ).pvalue
    ours = sign_flip_test(SMALL, seed=7, rounds=ROUNDS, alternative=alternative)[0]  # type: ignore[arg-type]
    # Four standard errors of a binomial proportion; the seed is fixed, so this passes always or never.
    assert ours == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / ROUNDS) + 1 / ROUNDS)


def test_the_bootstrap_interval_is_scipys_within_its_noise() -> None:
    from scipy import stats

    sample = np.random.default_rng(6).normal(0.02, 0.3, size=600)
    ours = paired_bootstrap_intervals(sample, seed=1, rounds=10_000)[0]
    theirs = stats.bootstrap((sample,), np.mean, n_resamples=10_000, method="percentile", rng=1, batch=1000)
    # A quantile's own Monte-Carlo error here is about 0.0003. Ours takes two chunks of memory.
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=0.0015)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=0.0015)
    assert ours.low < sample.mean() < ours.high
