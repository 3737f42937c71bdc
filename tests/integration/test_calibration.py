"""The rules are themselves tested: simulated truths are rejected no more often than stated, and shifts are found.

Every experiment is drawn from a fixed seed, so a test passes always or never. A rate is compared with its claim
within four standard errors of a binomial proportion, which chance exceeds once in 16,000 times.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.analysis.equivalence import Verdict, classify, decision_power, equivalence_power, plan_further_seeds
from harness.analysis.paired_queries import holm, paired_bootstrap_intervals, sign_flip_test
from harness.analysis.seeds import (
    cost_regression,
    effect_ratio,
    judge_threshold,
    mean_interval,
    prediction_p_value,
)

SEED = 20260101
EXPERIMENTS = 2000
PUBLISHED, MARGIN, SD = 0.892, 0.01, 0.004


def error(rate: float, experiments: int) -> float:
    return 4 * math.sqrt(max(rate * (1 - rate), 1 / experiments) / experiments)


def draw(mean: float, sd: float, count: int, *, experiments: int = EXPERIMENTS, seed: int = SEED) -> list[list[float]]:
    table: list[list[float]] = np.random.default_rng(seed).normal(mean, sd, size=(experiments, count)).tolist()
    return table


def rate_of(verdict: Verdict, samples: list[list[float]], *, half_digit: float = 0.0) -> float:
    return float(np.mean([classify(sample, PUBLISHED, half_digit, MARGIN).verdict is verdict for sample in samples]))


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("edge", [-MARGIN, MARGIN])
def test_a_mean_at_the_margin_is_called_reproduced_at_most_one_time_in_twenty(count: int, edge: float) -> None:
    found = rate_of(Verdict.REPRODUCED, draw(PUBLISHED + edge, SD, count))
    assert found <= 0.05 + error(0.05, EXPERIMENTS)


def test_at_the_margin_the_five_percent_are_used_up_when_seeds_suffice() -> None:
    found = rate_of(Verdict.REPRODUCED, draw(PUBLISHED + MARGIN, SD, 8))
    assert found == pytest.approx(0.05, abs=error(0.05, EXPERIMENTS))


def test_a_published_value_drawn_from_our_own_distribution_is_denied_at_most_one_time_in_twenty() -> None:
    samples = draw(PUBLISHED, SD, 4)
    denied = 0
    for published, *ours in samples:
        verdict = classify(ours, published, 0.00005, MARGIN).verdict
        denied += verdict in (Verdict.DIFFERS, Verdict.EXCEEDS, Verdict.NOT_REPRODUCED)
    assert denied / EXPERIMENTS <= 0.05 + error(0.05, EXPERIMENTS)


@pytest.mark.parametrize(("count", "shift"), [(3, 0.0), (5, 0.004), (8, -0.006), (5, 0.03)])
def test_verdicts_are_reached_with_the_power_that_is_predicted(count: int, shift: float) -> None:
    samples = draw(PUBLISHED + shift, SD, count)
    reproduced = equivalence_power([count], shift, SD, margin=MARGIN)[0]
    assert rate_of(Verdict.REPRODUCED, samples) == pytest.approx(reproduced, abs=error(reproduced, EXPERIMENTS))
    decided = decision_power([count], shift, SD, margin=MARGIN, half_digit=0.0005)[0]
    inconclusive = rate_of(Verdict.INCONCLUSIVE, samples, half_digit=0.0005)
    assert 1 - inconclusive == pytest.approx(decided, abs=error(decided, EXPERIMENTS))


@pytest.mark.parametrize(("shift", "sd"), [(0.0, 0.008), (0.005, 0.008), (0.025, 0.007)])
def test_the_seeds_that_the_plan_asks_for_decide_four_times_in_five(shift: float, sd: float) -> None:
    further = plan_further_seeds(3, shift, sd, margin=MARGIN)
    assert further is not None
    decided = 1 - rate_of(Verdict.INCONCLUSIVE, draw(PUBLISHED + shift, sd, 3 + further))
    assert decided >= 0.8 - error(0.8, EXPERIMENTS)


@pytest.mark.parametrize("level", [0.9, 0.95])
def test_the_mean_interval_covers_the_mean_as_often_as_it_says(level: float) -> None:
    intervals = [mean_interval(sample, level) for sample in draw(0.5, 0.1, 3)]
    covered = np.mean([interval.low <= 0.5 <= interval.high for interval in intervals])
    assert covered == pytest.approx(level, abs=error(level, EXPERIMENTS))


def test_a_mean_at_the_threshold_passes_one_time_in_twenty() -> None:
    passed = np.mean([judge_threshold(sample, 0.88).met is True for sample in draw(0.88, SD, 3)])
    assert passed == pytest.approx(0.05, abs=error(0.05, EXPERIMENTS))


def test_the_effect_ratio_covers_the_true_ratio() -> None:
    covered = 0
    for sample in draw(0.83 + 0.9 * 0.06, SD, 3):
        interval = effect_ratio(sample, 0.83, published_tuned=0.89, published_base=0.83).interval
        covered += interval is not None and interval.low <= 0.9 <= interval.high
    assert covered / EXPERIMENTS == pytest.approx(0.95, abs=error(0.95, EXPERIMENTS))


@pytest.mark.parametrize(("references", "new"), [(2, 1), (3, 1), (5, 1), (3, 3), (5, 2)])
def test_an_unchanged_pipeline_crosses_the_prediction_bound_one_time_in_twenty(references: int, new: int) -> None:
    samples = draw(0.89, SD, references + new)
    crossed = np.mean([prediction_p_value(sample[:references], sample[references:]) < 0.05 for sample in samples])
    assert crossed == pytest.approx(0.05, abs=error(0.05, EXPERIMENTS))


@pytest.mark.parametrize("drop", [0.01, 0.02])
def test_a_drop_crosses_the_prediction_bound_as_the_noncentral_t_says(drop: float) -> None:
    from scipy import stats

    samples = [[*sample[:5], sample[5] - drop] for sample in draw(0.89, SD, 6)]
    crossed = float(np.mean([prediction_p_value(sample[:5], sample[5:]) < 0.05 for sample in samples]))
    expected = float(stats.nct.sf(stats.t.ppf(0.95, 4), 4, drop / (SD * math.sqrt(1 + 1 / 5))))
    assert crossed == pytest.approx(expected, abs=error(expected, EXPERIMENTS))


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
