"""Where two stacks part is found in order, and a difference of means is judged by this project's statistics."""

from __future__ import annotations

import numpy as np
import pytest

from harness.analysis.attribution import (
    Change,
    compare_batches,
    compare_means,
    find_first_layer,
    has_equal_batches,
    is_in_file_order,
)
from harness.errors import StatisticsError
from tests.support.stacks import SHUFFLED, make_training

QUERIES = 500
STEP = 1 / (2 * QUERIES)


def draw(mean: float, seeds: int, sd: float, seed: int) -> np.ndarray:
    """Draw values per query whose means vary between seeds by about sd."""
    noise = np.random.default_rng(seed).normal(0.0, sd * np.sqrt(QUERIES), (seeds, QUERIES))
    return mean + noise - noise.mean() if seeds > 1 else np.full((1, QUERIES), mean)


def test_means_within_the_margin_are_equivalent_far_ones_different_and_few_noisy_ones_open() -> None:
    base = draw(0.686, 3, 0.001, 1)
    assert compare_means(base, base + 0.002, margin=0.01, step=STEP).change is Change.EQUIVALENT
    assert compare_means(base, base + 0.05, margin=0.01, step=STEP).change is Change.DIFFERENT
    noisy = draw(0.686, 2, 0.02, 2)
    assert compare_means(noisy, noisy + 0.02, margin=0.01, step=STEP).change is Change.OPEN


def test_the_difference_is_after_minus_before_and_the_interval_lies_around_it() -> None:
    base = draw(0.7, 3, 0.002, 3)
    found = compare_means(base, base - 0.003, margin=0.01, step=STEP)
    assert found.interval is not None
    assert found.difference == pytest.approx(-0.003)
    assert (found.interval.low + found.interval.high) / 2 == pytest.approx(-0.003)
    # By hand: t(.95) of 4 + 4 degrees is 1.8595, and both sides have three seeds.
    within = 2 * (base - base.mean(axis=0)).var(axis=0, ddof=1).sum() / QUERIES**2 / 2
    variance = (4 * max(within, STEP**2) + 4 * base.mean(axis=1).var(ddof=1)) / 8
    assert found.interval.high - found.difference == pytest.approx(1.8595 * np.sqrt(variance * 2 / 3), rel=1e-3)


def test_one_seed_on_each_side_is_a_difference_without_an_interval() -> None:
    found = compare_means(draw(0.5, 1, 0.0, 0), draw(0.6, 1, 0.0, 0), margin=0.01, step=STEP)
    assert (round(found.difference, 6), found.interval, found.change) == (0.1, None, None)


@pytest.mark.parametrize(("values", "margin"), [([[]], 0.01), ([[np.nan]], 0.01), ([[0.5]], 0.0)])
def test_what_cannot_be_compared_is_refused(values: list[list[float]], margin: float) -> None:
    with pytest.raises(StatisticsError, match="a comparison needs"):
        compare_means(values, values, margin=margin, step=STEP)


def test_the_first_layer_beyond_float_noise_is_found() -> None:
    assert find_first_layer([0.0, 9e-6, 1e-6]) is None
    assert find_first_layer([0.0, 1e-6, 2e-4, 1e-3]) == 2


def test_batches_are_the_same_where_rows_and_order_are() -> None:
    shuffled = make_training(0, rows=[SHUFFLED[0], (2, 3), (4, 5)])
    (found,) = compare_batches([make_training(0), make_training(1)], [shuffled])
    assert (found.seed, found.same, found.steps) == (0, 2, 3)


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([(0, 1), (2, 3), (4, 5)], True),
        # Row 1 repeats row 0's text, and is left for the next batch.
        ([(0, 2), (1, 3), (4, 5)], True),
        ([(0, 1), (3, 4), (2, 5)], False),
        ([(1, 0), (2, 3), (4, 5)], False),
        (SHUFFLED, False),
    ],
)
def test_file_order_is_told_from_a_shuffle_also_where_duplicates_are_left_for_later(
    rows: list[tuple[int, int]], *, told: bool
) -> None:
    assert is_in_file_order(make_training(0, rows=rows)) is told


def test_seeds_that_draw_the_same_batches_are_told() -> None:
    assert has_equal_batches([make_training(0), make_training(1)])
    assert not has_equal_batches([make_training(0), make_training(1, rows=SHUFFLED)])
    assert not has_equal_batches([make_training(0)])
