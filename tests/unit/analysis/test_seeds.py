"""The statistics of seeds: closed forms, and every way to ask for too much."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest

from harness.analysis.seeds import (
    Interval,
    cost_regression,
    growth_p_value,
    judge_threshold,
    lower_bound,
    mean_interval,
    summarize,
)
from harness.errors import StatisticsError

SEEDS = [0.8893, 0.8921, 0.8907, 0.8938, 0.8899]


def test_a_summary_of_equal_values_has_a_spread_of_exactly_zero() -> None:
    assert summarize([0.1, 0.1, 0.1]).sd == 0.0
    assert summarize([0.1]).sd is None
    assert summarize([1.0, 3.0]).sd == pytest.approx(math.sqrt(2))


@pytest.mark.parametrize("values", [[], [math.nan, 1.0], [math.inf]])
def test_a_mean_of_nothing_or_of_no_number_is_refused(values: list[float]) -> None:
    with pytest.raises(StatisticsError, match="a mean needs"):
        summarize(values)


@pytest.mark.parametrize("ask", [mean_interval, lower_bound])
def test_one_seed_has_no_interval_and_no_bound(ask: object) -> None:
    assert callable(ask)
    with pytest.raises(StatisticsError, match="needs at least 2 values, found 1"):
        ask([0.9])


@pytest.mark.parametrize("level", [0.0, 1.0, -0.5, 95.0, math.nan])
def test_a_level_that_is_no_probability_is_refused(level: float) -> None:
    with pytest.raises(StatisticsError, match="strictly between 0 and 1"):
        mean_interval(SEEDS, level)


def test_scaling_an_interval_by_a_negative_factor_keeps_low_below_high() -> None:
    assert Interval(1.0, 2.0, 0.9).scaled(-2.0, 1.0) == Interval(-3.0, -1.0, 0.9)


def test_a_threshold_needs_its_lower_bound_above_not_its_mean() -> None:
    assert judge_threshold(SEEDS, 0.88).met is True
    close = judge_threshold(SEEDS, 0.8905)
    assert close.met is False
    assert close.mean > 0.8905
    assert close.lower_bound == pytest.approx(lower_bound(SEEDS))


def test_a_threshold_is_open_for_one_good_seed_and_missed_by_one_bad_seed() -> None:
    assert judge_threshold([0.9], 0.88).met is None
    assert "not assessable" in judge_threshold([0.9], 0.88).reason
    assert judge_threshold([0.87], 0.88).met is False


@pytest.mark.parametrize(
    ("candidate", "expected", "reason"),
    [
        ([108.0], False, "no more than 10%"),  # within the relative threshold
        ([130.0], True, "beyond"),
        ([50.0], False, "no more than 10%"),  # faster
    ],
)
def test_a_cost_regression_needs_more_than_the_relative_threshold(
    candidate: list[float],
    expected: bool,  # noqa: FBT001 - a parametrized expectation
    reason: str,
) -> None:
    outcome = cost_regression([99.0, 100.0, 101.0], candidate, relative=0.1, floor=1.0)
    assert outcome.regression is expected
    assert reason in outcome.reason


def test_a_cost_regression_needs_more_than_the_floor() -> None:
    outcome = cost_regression([0.099, 0.1, 0.101], [0.2], relative=0.1, floor=1.0)
    assert outcome.regression is False
    assert "no more than 1" in outcome.reason


def test_a_cost_regression_needs_more_than_noise() -> None:
    outcome = cost_regression([80.0, 100.0, 120.0], [125.0], relative=0.1, floor=1.0)
    assert outcome.regression is False
    assert outcome.p_value is not None
    assert outcome.p_value > 0.05
    assert "noise" in outcome.reason


def test_one_reference_cost_cannot_accuse_but_can_acquit() -> None:
    assert cost_regression([100.0], [150.0], relative=0.1, floor=1.0).regression is None
    assert cost_regression([100.0], [105.0], relative=0.1, floor=1.0).regression is False


@pytest.mark.parametrize(
    ("reference", "relative", "floor"), [([-1.0, 2.0], 0.1, 0.0), ([1.0], -0.1, 0.0), ([1.0], 0.1, -1.0)]
)
def test_a_negative_cost_or_threshold_is_refused(reference: list[float], relative: float, floor: float) -> None:
    with pytest.raises(StatisticsError, match="negative"):
        cost_regression(reference, [1.0], relative=relative, floor=floor)


@pytest.mark.parametrize("new", [1, 4])
def test_growth_is_at_its_level_where_the_textbook_bound_is(new: int) -> None:
    # n = 5, so t(0.95, 4) = 2.1318 from any table.
    bound = np.mean(SEEDS) + 2.131847 * np.std(SEEDS, ddof=1) * math.sqrt(1 / new + 1 / 5)
    assert growth_p_value(SEEDS, [float(bound)] * new) == pytest.approx(0.05, abs=1e-6)


def test_without_spread_any_growth_is_beyond_chance() -> None:
    assert growth_p_value([0.9, 0.9], [0.9]) == 1.0
    assert growth_p_value([0.9, 0.9], [0.89]) == 1.0
    assert growth_p_value([0.9, 0.9], [0.9001]) == 0.0


def test_importing_the_statistics_does_not_import_scipy() -> None:
    code = "import sys, harness.analysis.verdict; sys.exit('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
