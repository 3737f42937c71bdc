"""The statistics of seeds: closed forms, and every way to ask for too much."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.analysis.equivalence import (
    Agreement,
    Verdict,
    classify,
    decision_power,
    judge_agreement,
    plan_further_seeds,
)
from harness.analysis.seeds import (
    Interval,
    cost_regression,
    effect_ratio,
    judge_threshold,
    lower_bound,
    mean_interval,
    prediction_bound,
    prediction_p_value,
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


@pytest.mark.parametrize("ask", [mean_interval, lower_bound, prediction_bound])
def test_one_seed_has_no_interval_and_no_bound(ask: object) -> None:
    assert callable(ask)
    with pytest.raises(StatisticsError, match="needs at least 2 values, found 1"):
        ask([0.9])


@pytest.mark.parametrize("level", [0.0, 1.0, -0.5, 95.0, math.nan])
def test_a_level_that_is_no_probability_is_refused(level: float) -> None:
    with pytest.raises(StatisticsError, match="strictly between 0 and 1"):
        mean_interval(SEEDS, level)
    with pytest.raises(StatisticsError, match="strictly between 0 and 1"):
        prediction_bound(SEEDS, level=level)


def test_scaling_an_interval_by_a_negative_factor_keeps_low_below_high() -> None:
    assert Interval(1.0, 2.0, 0.9).scaled(-2.0, 1.0) == Interval(-3.0, -1.0, 0.9)


@pytest.mark.parametrize(
    ("ours", "half_digit", "expected"),
    [
        (0.8348, 0.00005, Agreement.SAME),
        (0.8353, 0.00005, Agreement.SAME),  # exactly 0.0005, in decimals
        (0.8343, 0.00005, Agreement.SAME),
        (0.8342, 0.00005, Agreement.CLOSE),
        (0.8358, 0.00005, Agreement.CLOSE),  # exactly 0.001
        (0.8359, 0.00005, Agreement.DIFFERENT),
        (0.9348, 0.00005, Agreement.DIFFERENT),  # much better is different too: it can mean leakage
        (0.8390, 0.005, Agreement.SAME),  # printed with two decimals
        (0.8399, 0.005, Agreement.DIFFERENT),
    ],
)
def test_agreement_follows_the_stated_tolerances(ours: float, half_digit: float, expected: Agreement) -> None:
    assert judge_agreement(ours, 0.8348, half_digit) is expected


@pytest.mark.parametrize(("ours", "half_digit"), [(math.nan, 0.0), (0.8, -0.1), (0.8, math.nan)])
def test_agreement_with_what_is_no_number_is_refused(ours: float, half_digit: float) -> None:
    with pytest.raises(StatisticsError, match="agreement needs"):
        judge_agreement(ours, 0.8, half_digit)


@pytest.mark.parametrize(
    ("values", "margin", "expected"),
    [
        ([0.890, 0.891, 0.892], 0.01, Verdict.REPRODUCED),
        ([0.880, 0.890, 0.900], 0.01, Verdict.INCONCLUSIVE),  # interval too wide
        ([0.920, 0.921, 0.922], 0.01, Verdict.EXCEEDS),
        ([0.860, 0.861, 0.862], 0.01, Verdict.NOT_REPRODUCED),
        # Not a value of these seeds (prediction reach 0.005), interval 0.8993..0.9027 reaches below 0.902.
        ([0.900, 0.901, 0.902], 0.01, Verdict.DIFFERS),
        ([0.882, 0.883, 0.884], 0.01, Verdict.DIFFERS),
        # The mean is beyond the margin, its interval (±0.0017) is not wholly.
        ([0.9018, 0.9028, 0.9038], 0.01, Verdict.DIFFERS),
        ([0.8802, 0.8812, 0.8822], 0.01, Verdict.DIFFERS),
        ([0.892, 0.892, 0.892], 0.01, Verdict.REPRODUCED),  # deterministic training
        ([0.950, 0.950, 0.950], 0.01, Verdict.EXCEEDS),
        ([0.800, 0.800], 0.01, Verdict.NOT_REPRODUCED),
        ([0.892], 0.01, Verdict.INCONCLUSIVE),
        ([0.100], 0.01, Verdict.INCONCLUSIVE),  # one seed says nothing of variance, however far off
    ],
)
def test_a_verdict_follows_the_stated_order(values: list[float], margin: float, expected: Verdict) -> None:
    assert classify(values, 0.892, 0.00005, margin).verdict is expected


def test_consistency_is_asked_before_direction() -> None:
    # The interval (0.9028..0.9592) lies wholly above 0.902, yet 0.892 may be a further seed: s = 0.0167.
    outcome = classify([0.916, 0.928, 0.949], 0.892, 0.0, 0.01)
    assert outcome.interval is not None
    assert outcome.interval.low > 0.902
    assert outcome.verdict is Verdict.INCONCLUSIVE


def test_the_last_printed_digit_widens_consistency() -> None:
    values = [0.900, 0.901, 0.902]
    assert classify(values, 0.892, 0.0, 0.01).verdict is Verdict.DIFFERS
    assert classify(values, 0.89, 0.005, 0.01).verdict is Verdict.DIFFERS
    assert classify(values, 0.89, 0.0062, 0.01).verdict is Verdict.INCONCLUSIVE


def test_one_seed_gets_its_mean_and_a_reason_instead_of_an_interval() -> None:
    outcome = classify([0.89], 0.892, 0.00005, 0.01)
    assert (outcome.mean, outcome.sd, outcome.interval, outcome.count) == (0.89, None, None, 1)
    assert "one seed" in outcome.reason


@pytest.mark.parametrize(
    ("published", "half_digit", "margin"),
    [(math.nan, 0.0, 0.01), (0.9, -1e-9, 0.01), (0.9, 0.0, 0.0), (0.9, 0.0, -0.01), (0.9, 0.0, math.inf)],
)
def test_a_verdict_without_a_margin_or_a_number_is_refused(published: float, half_digit: float, margin: float) -> None:
    with pytest.raises(StatisticsError, match="a verdict needs"):
        classify(SEEDS, published, half_digit, margin)


@given(
    st.lists(st.floats(0, 1), min_size=2, max_size=8),
    st.floats(0, 1),
    st.floats(1e-4, 0.2),
    st.floats(-0.5, 0.5),
)
def test_a_verdict_depends_on_differences_only(
    values: list[float], published: float, margin: float, shift: float
) -> None:
    before = classify(values, published, 0.0, margin)
    mirrored = classify([-value for value in values], -published, 0.0, margin)
    swap = {Verdict.EXCEEDS: Verdict.NOT_REPRODUCED, Verdict.NOT_REPRODUCED: Verdict.EXCEEDS}
    assert mirrored.verdict is swap.get(before.verdict, before.verdict)
    assert before.interval is not None
    edges = [before.interval.low, before.interval.high, before.mean]
    # Near an edge the shift's own rounding may decide; elsewhere nothing may change.
    if min(abs(abs(edge - published) - margin) for edge in edges) > 1e-9 and (before.sd == 0) is (
        summarize([value + shift for value in values]).sd == 0
    ):
        moved = classify([value + shift for value in values], published + shift, 0.0, margin)
        assert (moved.verdict is Verdict.REPRODUCED) == (before.verdict is Verdict.REPRODUCED)


def test_power_without_spread_is_certain() -> None:
    assert decision_power([2, 3], 0.005, 0.0, margin=0.01).tolist() == [1.0, 1.0]
    assert decision_power([2, 3], 0.02, 0.0, margin=0.01, half_digit=0.03).tolist() == [0.0, 0.0]
    with pytest.raises(StatisticsError, match="counts of 2 or more"):
        decision_power([1], 0.0, 0.1, margin=0.01)


@pytest.mark.parametrize("difference", [0.0, 0.003, -0.006, 0.009, 0.03])
def test_the_plan_is_the_fewest_seeds_with_the_power_asked_for(difference: float) -> None:
    further = plan_further_seeds(3, difference, 0.006, margin=0.01, half_digit=0.00005)
    assert further is not None
    powers = decision_power(np.arange(4, 4 + further), difference, 0.006, margin=0.01, half_digit=0.00005)
    assert powers[-1] >= 0.8
    assert np.all(powers[:-1] < 0.8)


def test_the_plan_skips_no_number_of_seeds() -> None:
    totals = np.arange(4, 40)
    found = set()
    for sd in np.linspace(0.014, 0.017, 16):
        powers = decision_power(totals, 0.002, sd, margin=0.01)
        expected = int(totals[np.argmax(powers >= 0.8)]) - 3
        assert plan_further_seeds(3, 0.002, sd, margin=0.01) == expected
        found.add(expected)
    assert found >= set(range(19, 25))  # across the end of the first block, at 21


def test_what_more_seeds_cannot_decide_has_no_plan() -> None:
    assert plan_further_seeds(3, 0.01, 0.02, margin=0.01) is None  # at the margin
    assert plan_further_seeds(3, 0.015, 0.02, margin=0.01) is None  # beyond it, within the spread of one seed
    assert plan_further_seeds(3, 0.0, 0.006, margin=0.01, most=1) is None


def test_the_effect_ratio_moves_with_our_gain_and_its_interval() -> None:
    found = effect_ratio(SEEDS, 0.8347, published_tuned=0.8919, published_base=0.8347, level=0.95)
    interval = mean_interval(SEEDS, 0.95)
    assert found.ratio == pytest.approx((np.mean(SEEDS) - 0.8347) / 0.0572)
    assert found.interval is not None
    assert found.interval.low == pytest.approx((interval.low - 0.8347) / 0.0572)
    assert found.interval.high == pytest.approx((interval.high - 0.8347) / 0.0572)
    assert found.count == 5


def test_the_effect_ratio_grows_wider_by_what_was_not_printed() -> None:
    half = 0.005
    exact = effect_ratio(SEEDS, 0.83, published_tuned=0.89, published_base=0.83)
    rounded = effect_ratio(SEEDS, 0.83, published_tuned=0.89, published_base=0.83, half_digits=(half, half))
    assert exact.interval is not None
    assert rounded.interval is not None
    assert rounded.interval.low == pytest.approx(exact.interval.low * 0.06 / 0.07)
    assert rounded.interval.high == pytest.approx(exact.interval.high * 0.06 / 0.05)


def test_a_published_loss_gives_a_ratio_too() -> None:
    found = effect_ratio([0.70, 0.72], 0.8, published_tuned=0.75, published_base=0.8)
    assert found.ratio == pytest.approx(1.8)
    assert found.interval is not None
    assert found.interval.low < 1.8 < found.interval.high


def test_one_seed_gives_a_ratio_without_an_interval() -> None:
    assert effect_ratio([0.9], 0.8, published_tuned=0.9, published_base=0.8).interval is None


def test_a_published_gain_within_its_rounding_has_no_ratio() -> None:
    with pytest.raises(StatisticsError, match="published gain"):
        effect_ratio(SEEDS, 0.83, published_tuned=0.84, published_base=0.83, half_digits=(0.005, 0.005))
    with pytest.raises(StatisticsError, match="published gain"):
        effect_ratio(SEEDS, math.nan, published_tuned=0.84, published_base=0.83)


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


def test_the_prediction_bound_is_the_textbook_one() -> None:
    # n = 5, so t(0.95, 4) = 2.1318 from any table.
    expected = np.mean(SEEDS) - 2.1318 * np.std(SEEDS, ddof=1) * math.sqrt(1 + 1 / 5)
    assert prediction_bound(SEEDS) == pytest.approx(expected, abs=1e-6)
    averaged = np.mean(SEEDS) + 2.1318 * np.std(SEEDS, ddof=1) * math.sqrt(1 / 3 + 1 / 5)
    assert prediction_bound(SEEDS, new=3, side="upper") == pytest.approx(averaged, abs=1e-6)
    with pytest.raises(StatisticsError, match="at least 1 new seed"):
        prediction_bound(SEEDS, new=0)


@pytest.mark.parametrize("new", [1, 4])
def test_the_prediction_p_value_crosses_its_level_at_the_bound(new: int) -> None:
    for side in ("lower", "upper"):
        bound = prediction_bound(SEEDS, level=0.95, new=new, side=side)
        found = prediction_p_value(SEEDS, [bound] * new, side=side)
        assert found == pytest.approx(0.05, abs=1e-9)


def test_without_spread_any_worse_value_is_beyond_chance() -> None:
    assert prediction_p_value([0.9, 0.9], [0.9]) == 1.0
    assert prediction_p_value([0.9, 0.9], [0.91]) == 1.0
    assert prediction_p_value([0.9, 0.9], [0.8999]) == 0.0


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


def test_importing_the_statistics_does_not_import_scipy() -> None:
    code = "import sys, harness.analysis.equivalence, harness.analysis.paired_queries; sys.exit('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
