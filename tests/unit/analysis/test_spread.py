"""The moderated spread: its formula, its steps, and that agreement of seeds is no certainty."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.analysis.spread import count_relevant, drop_p_value, moderate, pool_spread, smallest_step, step_of
from harness.errors import ManifestError, StatisticsError


@pytest.mark.parametrize(
    ("measure", "relevant", "expected"),
    [
        ("accuracy@1", 1, 1.0),
        ("precision@5", 1, 0.2),
        ("recall@10", 1, 1.0),
        ("recall@10", 4, 0.25),
        ("mrr@10", 1, 0.5),
        ("map@100", 1, 0.5),
        ("ndcg@10", 1, 1 - 1 / math.log2(3)),
    ],
)
def test_a_step_is_what_one_passage_can_move(measure: str, relevant: int, expected: float) -> None:
    assert smallest_step(measure, 50, relevant) == pytest.approx(expected / 50)


def test_a_step_is_the_least_change_that_the_measures_really_make() -> None:
    """Move one relevant passage by one rank anywhere: no change of a mean is smaller, or it is zero, near the top."""
    ranks = np.arange(1, 3)
    gains = {"mrr@10": 1 / ranks, "ndcg@10": 1 / np.log2(ranks + 1), "map@100": 1 / ranks}
    for measure, values in gains.items():
        assert smallest_step(measure, 1) == pytest.approx(values[0] - values[1])


def test_relevant_passages_are_read_off_the_recall() -> None:
    assert count_relevant([0.0, 1.0]) == 1
    assert count_relevant([0.5, 1 / 3, 0.0, 1.0]) == 3
    assert step_of("recall@10", [[0.25, 1.0], [0.5, 1.0]]) == pytest.approx(1 / 8)
    assert step_of("mrr@10", [[0.25, 1.0]]) == pytest.approx(1 / 4)


@pytest.mark.parametrize(("queries", "relevant"), [(0, 1), (10, 0)])
def test_a_step_without_queries_or_relevant_passages_is_refused(queries: int, relevant: int) -> None:
    with pytest.raises(StatisticsError, match="needs a query and a relevant passage"):
        smallest_step("mrr@10", queries, relevant)
    with pytest.raises(ManifestError, match="bogus"):
        smallest_step("bogus@1", 10)


def test_the_spread_is_the_formula_of_its_page() -> None:
    first = np.asarray([[1.0, 0.5, 0.25, 0.0], [0.5, 0.5, 1.0, 0.0], [1.0, 0.0, 0.5, 0.5]])
    second = np.asarray([[1.0, 0.5, 0.5, 0.0], [1.0, 1.0, 0.25, 0.0]])
    found = pool_spread([first, second, [[0.0, 0.0, 0.0, 0.0]]], step=0.01)
    within = (2 * first.var(axis=0, ddof=1).sum() + second.var(axis=0, ddof=1).sum()) / 4**2 / 3
    between = (2 * first.mean(axis=1).var(ddof=1) + second.mean(axis=1).var(ddof=1)) / 3
    assert found.within**2 == pytest.approx(within)
    assert found.between**2 == pytest.approx(between)
    assert found.sd**2 == pytest.approx((4 * within + 3 * between) / 7)
    assert found.degrees == 7


def test_seeds_that_agree_still_have_the_spread_of_one_step() -> None:
    found = pool_spread([np.ones((3, 50))], step=1 / 50)
    assert (found.within, found.between) == (0.0, 0.0)
    assert found.sd == pytest.approx(math.sqrt(4 / 6) / 50)
    assert moderate([0.0], [0.0], 2, 0.02)[0] == pytest.approx(found.sd**2)


@pytest.mark.parametrize("sides", [[], [[[0.5, 0.5]]], [[[math.nan, 1.0], [0.0, 1.0]]], [np.empty((2, 0))]])
def test_a_spread_needs_two_seeds_and_finite_values(sides: list[object]) -> None:
    with pytest.raises(StatisticsError, match="a spread needs"):
        pool_spread(sides, 0.1)  # type: ignore[arg-type]


def test_a_drop_is_at_its_level_where_the_table_says() -> None:
    # t(0.95, 8) = 1.859548 from any table; n = k = 3.
    drop = 1.859548 * 0.002 * math.sqrt(2 / 3)
    assert drop_p_value(drop, 0.002**2, 8, (3, 3)) == pytest.approx(0.05, abs=1e-6)
    assert drop_p_value(-drop, 0.002**2, 8, (3, 3)) == pytest.approx(0.95, abs=1e-6)
