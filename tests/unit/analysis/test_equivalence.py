"""Verdicts on a printed value: the order of the rules, each edge of them, and what cannot be judged."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.analysis.equivalence import (
    Agreement,
    PublishedValue,
    Verdict,
    can_establish,
    classify,
    decide,
    judge_agreement,
)
from harness.analysis.planner import FURTHER_SEEDS, POWER, forecast_decision, forecast_powers
from harness.analysis.spread import Spread
from harness.errors import StatisticsError

SD, MARGIN = 0.002, 0.01
# n = 3 and m = 1: d0 + 2 = 6 degrees, t(.95) = 1.943180 and t(.995) = 3.707428 from any table.
ERROR = SD * math.sqrt(1 / 3 + 1)
ONE_SIDED, DENIAL = 1.943180 * ERROR, 3.707428 * ERROR


def ask(difference: float, *, sd: float = SD, half: float = 0.0, margin: float = MARGIN, seeds: int = 1) -> str:
    found = decide([difference], [sd**2], 3, published=PublishedValue(0.9, half, seeds), margin=margin)
    return str(found.item())


@pytest.mark.parametrize(
    ("difference", "half", "margin", "expected"),
    [
        (0.0, 0.0, MARGIN, Verdict.REPRODUCED),
        (MARGIN - ONE_SIDED - 1e-6, 0.0, MARGIN, Verdict.REPRODUCED),
        (MARGIN - ONE_SIDED + 1e-6, 0.0, MARGIN, Verdict.COMPATIBLE),
        (MARGIN - ONE_SIDED - 1e-6, 0.0005, MARGIN, Verdict.COMPATIBLE),  # the rounding may hide the difference
        (DENIAL - 1e-6, 0.0, MARGIN, Verdict.COMPATIBLE),
        (DENIAL + 1e-6, 0.0, MARGIN, Verdict.DIFFERS),
        (DENIAL + 1e-6, 0.0005, MARGIN, Verdict.COMPATIBLE),
        (MARGIN + ONE_SIDED - 1e-6, 0.0, MARGIN, Verdict.DIFFERS),
        (MARGIN + ONE_SIDED + 1e-6, 0.0, MARGIN, Verdict.EXCEEDS),
        (-MARGIN - ONE_SIDED - 1e-6, 0.0, MARGIN, Verdict.NOT_REPRODUCED),
        (MARGIN + ONE_SIDED + 1e-6, 0.0005, MARGIN, Verdict.DIFFERS),
        # A margin below the noise: what may be one more draw is never denied.
        (-DENIAL + 1e-6, 0.0, 0.001, Verdict.COMPATIBLE),
        (-DENIAL - 1e-6, 0.0, 0.001, Verdict.NOT_REPRODUCED),
    ],
)
def test_the_first_rule_that_applies_gives_the_verdict(
    difference: float, half: float, margin: float, expected: Verdict
) -> None:
    assert ask(difference, half=half, margin=margin) == expected


def test_more_published_seeds_make_less_noise() -> None:
    edge = MARGIN - 1.943180 * SD * math.sqrt(1 / 3 + 1 / 5)
    assert ask(edge - 1e-6, seeds=5) == Verdict.REPRODUCED
    assert ask(edge - 1e-6) == Verdict.COMPATIBLE


@given(st.floats(-0.1, 0.1), st.floats(1e-4, 0.02), st.floats(0, 0.01), st.floats(1e-3, 0.05))
def test_a_verdict_is_the_same_on_both_sides(difference: float, sd: float, half: float, margin: float) -> None:
    swap = {Verdict.EXCEEDS.value: Verdict.NOT_REPRODUCED.value, Verdict.NOT_REPRODUCED.value: Verdict.EXCEEDS.value}
    found = ask(difference, sd=sd, half=half, margin=margin)
    if difference:
        assert ask(-difference, sd=sd, half=half, margin=margin) == swap.get(found, found)


def test_seeds_that_all_agree_deny_nothing_that_one_query_explains() -> None:
    """With a spread of zero accuracy@1 on 50 queries was once called not reproduced for one query's difference."""
    values = np.tile(np.arange(50) < 45, (3, 1)).astype(float)
    outcome = classify(values, PublishedValue(0.88), margin=0.01, step=1 / 50)
    assert outcome.verdict is Verdict.COMPATIBLE
    assert outcome.spread is not None
    assert outcome.spread.sd > 0


def test_an_outcome_says_what_it_rests_on() -> None:
    values = np.asarray([[0.9, 0.9], [0.904, 0.904], [0.896, 0.896]])
    outcome = classify(values, PublishedValue(0.899, 0.0005), margin=0.03, step=1e-9)
    assert outcome.mean == pytest.approx(0.9)
    assert outcome.spread is not None
    # Two queries that move together: s_w² is half of s_b² = 0.004².
    assert outcome.spread.sd**2 == pytest.approx((4 * 0.5 + 2) / 6 * 0.004**2)
    assert outcome.interval is not None
    half = 1.943180 * outcome.spread.sd * math.sqrt(4 / 3)
    assert (outcome.interval.low, outcome.interval.high) == pytest.approx((0.001 - half, 0.001 + half), abs=1e-8)
    assert (outcome.verdict, outcome.establishable) == (Verdict.REPRODUCED, True)


def test_one_seed_is_undecided_however_near_or_far() -> None:
    for published in (0.5, 0.9):
        outcome = classify([[0.5, 0.5]], PublishedValue(published), margin=0.01, step=0.25)
        assert (outcome.verdict, outcome.spread, outcome.interval) == (Verdict.UNDECIDED, None, None)
        assert "one seed" in outcome.reason


def test_one_printed_draw_cannot_establish_a_margin_below_its_own_noise() -> None:
    one, many = PublishedValue(0.9), PublishedValue(0.9, seeds=4)
    assert can_establish(0.006, one, MARGIN)
    assert not can_establish(0.0062, one, MARGIN)
    assert can_establish(0.0062, many, MARGIN)
    assert not can_establish(0.006, PublishedValue(0.9, 0.0005), MARGIN)
    values = np.asarray([[0.89, 0.89], [0.9, 0.9], [0.91, 0.91]])
    assert "one printed draw cannot" in classify(values, one, margin=MARGIN, step=1e-9).reason


@pytest.mark.parametrize(
    ("value", "half", "seeds"), [(math.nan, 0.0, 1), (0.9, -1e-9, 1), (0.9, math.inf, 1), (0.9, 0, 0)]
)
def test_a_published_value_that_is_none_is_refused(value: float, half: float, seeds: int) -> None:
    with pytest.raises(StatisticsError, match="a published value is finite"):
        PublishedValue(value, half, seeds)


@pytest.mark.parametrize(
    ("values", "margin"), [([[0.9, 0.9]], 0.0), ([[0.9]], math.inf), ([[math.nan]], 0.01), ([], 0.01)]
)
def test_a_verdict_without_a_margin_or_values_is_refused(values: list[list[float]], margin: float) -> None:
    with pytest.raises(StatisticsError, match="a verdict needs"):
        classify(values, PublishedValue(0.9), margin=margin, step=0.1)


@pytest.mark.parametrize(
    ("distance", "half", "expected"),
    [
        (0.0, 0.0, Agreement.SAME),
        (0.25, 0.0, Agreement.SAME),  # in steps
        (0.26, 0.0, Agreement.CLOSE),
        (2.0, 0.0, Agreement.CLOSE),
        (2.01, 0.0, Agreement.DIFFERENT),
        (2.01, 0.5, Agreement.CLOSE),
        (0.75, 0.5, Agreement.SAME),
        (-3.0, 0.5, Agreement.DIFFERENT),  # much better is different too: it can mean leakage
    ],
)
def test_agreement_is_counted_in_smallest_steps(distance: float, half: float, expected: Agreement) -> None:
    step = 1 / 1414
    assert judge_agreement(0.8 + distance * step, 0.8, half * step, step) is expected


def test_one_query_of_accuracy_can_be_close() -> None:
    assert judge_agreement(0.785 + 1 / 707, 0.785, 0.00005, 1 / 707) is Agreement.CLOSE


@pytest.mark.parametrize(("ours", "half", "step"), [(math.nan, 0.0, 0.1), (0.8, -0.1, 0.1), (0.8, 0.0, 0.0)])
def test_agreement_with_what_is_no_number_is_refused(ours: float, half: float, step: float) -> None:
    with pytest.raises(StatisticsError, match="agreement needs"):
        judge_agreement(ours, 0.8, half, step)


def plan(difference: float, sd: float, **changes: float) -> object:
    spread = Spread(sd, 6, changes.get("within", sd), changes.get("between", sd))
    return forecast_decision(3, difference, spread, published=PublishedValue(0.9), margin=MARGIN, step=1e-4)


def test_a_plan_promises_a_probability_and_no_more_seeds_than_it_needs() -> None:
    spread = Spread(0.003, 6, 0.003, 0.003)
    found = forecast_decision(3, 0.005, spread, published=PublishedValue(0.9), margin=MARGIN, step=1e-4)
    assert found is not None
    powers = forecast_powers(
        3, 0.005, spread, published=PublishedValue(0.9), margin=MARGIN, step=1e-4, choices=FURTHER_SEEDS
    )
    place = FURTHER_SEEDS.index(found.further_seeds)
    wanted = min(POWER, powers.max() - 0.05)
    assert found.probability == powers[place] >= wanted
    assert np.all(powers[:place] < wanted)


def test_a_plan_is_refused_where_one_printed_draw_cannot_decide() -> None:
    assert plan(0.0, 0.0062) is None
    assert plan(0.0, 0.005) is not None


def test_the_same_question_gets_the_same_plan() -> None:
    assert plan(0.004, 0.004) == plan(0.004, 0.004)
