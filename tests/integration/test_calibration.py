"""The rules are themselves tested: simulated truths are rejected no more often than stated, and shifts are found.

Every experiment is drawn from a fixed seed, so a test passes always or never. A rate is compared with its claim
within four standard errors of a binomial proportion, which chance exceeds once in 16,000 times.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.analysis.paired_queries import holm, paired_bootstrap_intervals, sign_flip_test
from harness.analysis.seeds import (
    cost_regression,
    judge_threshold,
    mean_interval,
)

SEED = 20260101
EXPERIMENTS = 2000
SD = 0.004


def error(rate: float, experiments: int) -> float:
    return 4 * math.sqrt(max(rate * (1 - rate), 1 / experiments) / experiments)


def draw(mean: float, sd: float, count: int, *, experiments: int = EXPERIMENTS, seed: int = SEED) -> list[list[float]]:
    table: list[list[float]] = np.random.default_rng(seed).normal(mean, sd, size=(experiments, count)).tolist()
    return table


@pytest.mark.parametrize("level", [0.9, 0.95])
def test_the_mean_interval_covers_the_mean_as_often_as_it_says(level: float) -> None:
    intervals = [mean_interval(sample, level) for sample in draw(0.5, 0.1, 3)]
    covered = np.mean([interval.low <= 0.5 <= interval.high for interval in intervals])
    assert covered == pytest.approx(level, abs=error(level, EXPERIMENTS))


def test_a_mean_at_the_threshold_passes_one_time_in_twenty() -> None:
    passed = np.mean([judge_threshold(sample, 0.88).met is True for sample in draw(0.88, SD, 3)])
    assert passed == pytest.approx(0.05, abs=error(0.05, EXPERIMENTS))


def test_unchanged_costs_are_accused_at_most_one_time_in_twenty_and_doubled_costs_found() -> None:
    samples = draw(100.0, 5.0, 4)
    same = np.mean([cost_regression(s[:3], s[3:], relative=0.0, floor=0.0).regression is True for s in samples])
    assert same == pytest.approx(0.05, abs=error(0.05, EXPERIMENTS))
    guarded = np.mean([cost_regression(s[:3], s[3:], relative=0.1, floor=1.0).regression is True for s in samples])
    assert guarded < same
    doubled = np.mean([cost_regression(s[:3], [2 * s[3]], relative=0.1, floor=1.0).regression is True for s in samples])
    assert doubled > 0.95


def rank_differences(experiments: int, queries: int, *, seed: int) -> np.ndarray:
    """Differences of reciprocal ranks, most of them zero, under exchange of the two systems."""
    generator = np.random.default_rng(seed)
    values = 1 / generator.integers(1, 11, size=(2, experiments, queries))
    unchanged = generator.random((experiments, queries)) < 0.7
    return np.asarray(np.where(unchanged, 0.0, values[0] - values[1]))


@pytest.mark.parametrize("alternative", ["two-sided", "less"])
def test_sign_flip_p_values_are_uniform_when_nothing_changed(alternative: str) -> None:
    experiments = 2000
    p_values = sign_flip_test(
        rank_differences(experiments, 100, seed=SEED),
        seed=1,
        rounds=999,
        alternative=alternative,  # type: ignore[arg-type]
    )
    for level in (0.01, 0.05, 0.2, 0.5):
        assert np.mean(p_values <= level) == pytest.approx(level, abs=error(level, experiments))


def test_sign_flips_find_a_shift_as_the_normal_approximation_says() -> None:
    from scipy import stats

    experiments, queries, shift, sd = 2000, 200, 0.02, 0.1
    table = np.random.default_rng(SEED).normal(shift, sd, size=(experiments, queries))
    found = float(np.mean(sign_flip_test(table, seed=1, rounds=999) <= 0.05))
    expected = float(stats.nct.sf(stats.t.ppf(0.975, queries - 1), queries - 1, shift / sd * math.sqrt(queries)))
    assert found == pytest.approx(expected, abs=error(expected, experiments) + 0.01)  # the test is not a t test


def test_holm_accuses_an_unchanged_family_at_most_one_time_in_twenty() -> None:
    experiments, cells = 2000, 7
    generator = np.random.default_rng(SEED)
    for correlation in (0.0, 0.9):
        common = generator.normal(size=(experiments, 1))
        own = generator.normal(size=(experiments, cells))
        scores = math.sqrt(correlation) * common + math.sqrt(1 - correlation) * own
        from scipy.special import ndtr

        accused = np.mean([holm(row).min() <= 0.05 for row in ndtr(scores)])
        assert accused <= 0.05 + error(0.05, experiments)


def test_the_paired_bootstrap_covers_the_mean_about_as_often_as_it_says() -> None:
    experiments = 400
    table = rank_differences(experiments, 300, seed=SEED)
    intervals = paired_bootstrap_intervals(table, seed=1, rounds=1000)
    covered = np.mean([interval.low <= 0 <= interval.high for interval in intervals])
    # The percentile interval's own coverage error at 300 queries is below one percent.
    assert covered == pytest.approx(0.95, abs=error(0.95, experiments) + 0.01)
