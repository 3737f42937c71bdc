"""Our statistics against scipy.stats, an implementation of its own (apart from the unit tests: it takes a second)."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.analysis.equivalence import PublishedValue, Verdict, decide
from harness.analysis.paired_queries import paired_bootstrap_intervals, sign_flip_test
from harness.analysis.seeds import lower_bound, mean_interval, t_quantile
from harness.analysis.spread import drop_p_value

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


@pytest.mark.parametrize("seeds", [1, 3])
def test_reproduced_is_two_one_sided_tests_with_the_noise_of_both_draws(seeds: int) -> None:
    from scipy import stats

    sd, margin, count = 0.002, 0.01, 5
    error = sd * math.sqrt(1 / count + 1 / seeds)
    for shift in np.linspace(-0.012, 0.012, 101):
        above = stats.t.sf((shift + margin) / error, 4 + count - 1)
        below = stats.t.cdf((shift - margin) / error, 4 + count - 1)
        found = decide([shift], [sd**2], count, published=PublishedValue(0.9, seeds=seeds), margin=margin)
        assert (found.item() == Verdict.REPRODUCED) == (max(above, below) <= 0.05)


def test_the_gates_p_value_is_scipys_t_test_given_its_variance() -> None:
    from scipy import stats

    first, second = SEEDS, [value - 0.001 for value in SEEDS[:3]]
    theirs = stats.ttest_ind(first, second, alternative="greater")
    pooled = (4 * np.var(first, ddof=1) + 2 * np.var(second, ddof=1)) / 6
    drop = float(np.mean(first) - np.mean(second))
    assert drop_p_value(drop, pooled, 6, (5, 3)) == pytest.approx(theirs.pvalue, rel=1e-9)


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
