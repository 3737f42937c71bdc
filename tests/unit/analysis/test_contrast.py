"""Two sides on the same queries: a paired t-test that knows of seeds, and errs no oftener than it says."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import stdtr

from harness.analysis.contrast import Contrast, Side, contrast
from harness.analysis.seeds import t_quantile
from harness.analysis.spread import PRIOR_DEGREES
from harness.errors import StatisticsError

MEASURE = "mrr@10"
Array = NDArray[np.float64]


def compare(a: Array, b: Array, *, trained: tuple[bool, bool] = (True, True)) -> Contrast:
    return contrast(Side.of(a, trained=trained[0]), Side.of(b, trained=trained[1]), MEASURE)


def make_seeds(
    generator: np.random.Generator, queries: Array, seeds: int, *, own: float = 0.1, common: float = 0.0
) -> Array:
    """Return values per query of so many seeds: noise of each query's own, and of all queries alike."""
    noise = generator.normal(0, own, (seeds, len(queries))) + generator.normal(0, common, (seeds, 1))
    return np.asarray(queries + noise)


def test_without_seeds_it_is_the_paired_t_test() -> None:
    a, b = np.array([0.5, 1.0, 0.25, 1.0, 0.0]), np.array([0.5, 0.5, 0.0, 1.0, 1.0])
    found = compare(a, b, trained=(False, False))
    rows = a - b
    error = rows.std(ddof=1) / math.sqrt(5)
    assert found.difference == pytest.approx(rows.mean())
    assert found.interval is not None
    assert found.interval.high - found.difference == pytest.approx(t_quantile(0.975, 4) * error)
    assert found.spread is None
    assert (found.counts.wins, found.counts.ties, found.counts.losses) == (2, 2, 1)
    assert found.p_value == pytest.approx(2 * stdtr(4, -abs(rows.mean() / error)))


def test_what_seeds_do_to_all_queries_alike_widens_the_interval() -> None:
    queries = np.random.default_rng(0).choice([0.0, 0.5, 1.0], 200)
    shifts = np.array([-0.02, 0.0, 0.02])[:, None]
    base = np.random.default_rng(1).normal(0, 0.05, (3, 200))
    calm, moved = queries + base - base.mean(axis=1, keepdims=True), queries + base + shifts
    narrow, wide = (
        compare(calm + 0.01, queries, trained=(True, False)),
        compare(moved + 0.01, queries, trained=(True, False)),
    )
    assert narrow.interval is not None
    assert wide.interval is not None
    assert wide.spread is not None
    # 1/3 of the variance of means of three seeds, beyond what single queries explain.
    rows = (moved + 0.01).mean(axis=0) - queries
    excess = (wide.spread.between**2 - wide.spread.within**2) / 3
    half = t_quantile(0.975, PRIOR_DEGREES + 2) * math.sqrt(rows.var(ddof=1) / 200 + excess)
    assert wide.interval.high - wide.difference == pytest.approx(half)
    assert wide.interval.high - wide.interval.low > 3 * (narrow.interval.high - narrow.interval.low)


def test_one_seed_tells_nothing_of_the_next_one() -> None:
    queries = np.linspace(0, 1, 50)
    found = compare(queries + 0.1, queries, trained=(True, False))
    assert (found.interval, found.p_value) == (None, None)
    assert found.difference == pytest.approx(0.1)


def test_the_other_side_lends_its_spread_to_a_single_seed() -> None:
    generator = np.random.default_rng(3)
    queries = generator.choice([0.0, 0.5, 1.0], 200)
    found = compare(make_seeds(generator, queries, 3), make_seeds(generator, queries, 1))
    assert found.p_value is not None


def test_equal_sides_are_not_different_and_equal_differences_no_certainty() -> None:
    queries = np.linspace(0, 1, 50)
    same = compare(queries, queries, trained=(False, False))
    assert (same.difference, same.p_value, same.effect_size) == (0.0, 1.0, None)
    shifted = compare(queries / 2 + 0.001, queries / 2, trained=(False, False))
    assert shifted.interval is not None
    assert shifted.interval.low < 0 < shifted.interval.high


def test_one_query_is_compared_without_an_interval() -> None:
    found = compare(np.array([1.0]), np.array([0.5]), trained=(False, False))
    assert (found.difference, found.interval, found.p_value) == (0.5, None, None)


@pytest.mark.parametrize(
    ("a", "b", "trained", "message"),
    [
        (np.zeros((1, 3)), np.zeros((1, 4)), True, "3 and 4 queries cannot be paired"),
        (np.zeros((2, 3)), np.zeros((2, 3)), False, "untrained side has one row of values, found 2"),
        (np.full((1, 3), np.nan), np.zeros((1, 3)), True, "finite"),
        (np.zeros((1, 0)), np.zeros((1, 0)), True, "finite"),
    ],
)
def test_what_cannot_be_paired_is_refused(a: Array, b: Array, *, trained: bool, message: str) -> None:
    with pytest.raises(StatisticsError, match=message):
        compare(a, b, trained=(trained, trained))
