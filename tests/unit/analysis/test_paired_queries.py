"""Paired statistics over queries, against exact enumeration and what is known of them."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from harness.analysis import paired_queries as permutation
from harness.analysis.paired_queries import (
    count_wins,
    effect_size,
    holm,
    paired_bootstrap_intervals,
    sign_flip_test,
)
from harness.errors import StatisticsError

SMALL = [0.5, -0.25, 1 / 3, 0.5, 0.0, 0.9, -1 / 3, 0.2, 0.5, 0.0]
ROUNDS = 20_000


def test_ties_count_as_extreme_in_spite_of_rounding() -> None:
    # All of one sign: of 2^9 patterns exactly the two of one sign reach the observed sum, added up in any order.
    # The nine stand among many columns, so that BLAS adds them up in another order than the plain sum does.
    table = np.zeros((200, 700))
    places = np.random.default_rng(13).choice(700, size=9, replace=False)
    table[:, places] = 1 / np.random.default_rng(12).integers(1, 50, size=(200, 9))
    table[0] = 1.0
    p_values = sign_flip_test(table, seed=1, rounds=ROUNDS)[1:]
    assert len(set(p_values.tolist())) == 1  # cells share the signs, so only a rounding could tell them apart
    assert p_values == pytest.approx(2 / 512, abs=4 * math.sqrt(2 / 512 / ROUNDS))


def test_a_change_of_nothing_has_a_p_value_of_one() -> None:
    table = np.zeros((3, 50))
    table[1, 4] = 0.5
    assert sign_flip_test(table, seed=1, rounds=500).tolist() == [1.0, 1.0, 1.0]
    assert sign_flip_test(np.zeros((2, 5)), seed=1, rounds=500).tolist() == [1.0, 1.0]


def test_a_p_value_is_never_zero() -> None:
    assert sign_flip_test(np.ones(200), seed=1, rounds=999)[0] == pytest.approx(1 / 1000)


def test_the_same_seed_gives_the_same_p_values_and_cells_do_not_disturb_each_other() -> None:
    table = np.random.default_rng(3).normal(size=(4, 60))
    together = sign_flip_test(table, seed=11, rounds=3000)
    assert np.array_equal(together, sign_flip_test(table, seed=11, rounds=3000))
    alone = [sign_flip_test(row, seed=11, rounds=3000)[0] for row in table]
    assert together.tolist() == alone


def test_scaling_a_measure_does_not_change_its_p_value() -> None:
    differences = np.random.default_rng(4).choice([0, 0, 1, -1, 1], size=200).astype(float)
    whole = sign_flip_test(np.stack([differences, differences / 3]), seed=2, rounds=5000)
    assert whole[0] == whole[1]


def test_one_sided_p_values_know_the_direction() -> None:
    worse = np.full(100, -0.1)
    assert sign_flip_test(worse, seed=1, rounds=999, alternative="less")[0] == pytest.approx(0.001)
    assert sign_flip_test(worse, seed=1, rounds=999, alternative="greater")[0] == 1.0


def test_a_hundred_thousand_permutations_of_707_queries_over_20_cells_take_under_five_seconds() -> None:
    table = np.random.default_rng(5).normal(size=(20, 707))
    start = time.process_time()  # of all threads together, so that it is one core's time
    sign_flip_test(table, seed=1, rounds=100_000)
    assert time.process_time() - start < 5


@pytest.mark.parametrize("differences", [[], [[]], [math.nan, 0.1], np.zeros((2, 2, 2))])
def test_differences_that_are_no_table_of_numbers_are_refused(differences: object) -> None:
    with pytest.raises(StatisticsError, match="difference"):
        sign_flip_test(differences, seed=1)  # type: ignore[arg-type]
    with pytest.raises(StatisticsError, match="difference"):
        paired_bootstrap_intervals(differences, seed=1)  # type: ignore[arg-type]


def test_no_rounds_are_refused() -> None:
    with pytest.raises(StatisticsError, match="at least 1 round"):
        sign_flip_test(SMALL, seed=1, rounds=0)
    with pytest.raises(StatisticsError, match="at least 1 round"):
        paired_bootstrap_intervals(SMALL, seed=1, rounds=0)


def test_holm_is_the_textbook_example() -> None:
    # Holm (1979): sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1, made monotone.
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]).tolist() == [1.0, 1.0]
    assert holm([]).tolist() == []


def test_each_row_of_p_values_is_a_family_of_its_own() -> None:
    rows = [[0.01, 0.04, 0.03], [0.5, 0.02, 0.02]]
    assert holm(rows).tolist() == [holm(row).tolist() for row in rows]


@pytest.mark.parametrize("p_values", [[1.1], [-0.1], [math.nan], [[0.5], [2.0]]])
def test_holm_refuses_what_is_no_list_of_probabilities(p_values: list[float]) -> None:
    with pytest.raises(StatisticsError, match="p-values"):
        holm(p_values)


def test_cells_share_the_draws_of_the_bootstrap() -> None:
    sample = np.random.default_rng(8).normal(size=40)
    first, second = paired_bootstrap_intervals(np.stack([sample, -sample]), seed=1, level=0.9, rounds=999)
    assert (second.low, second.high) == pytest.approx((-first.high, -first.low))
    assert first.level == 0.9


def test_the_effect_size_is_mean_by_standard_deviation() -> None:
    assert effect_size([1.0, 2.0, 3.0]) == pytest.approx(2.0)
    assert effect_size([0.0, 0.0]) is None
    assert effect_size([0.3]) is None


def test_wins_ties_and_losses_make_up_all_queries() -> None:
    counted = count_wins([0.5, 1e-15, 0.0, -0.2, 0.1])
    assert (counted.wins, counted.ties, counted.losses) == (2, 2, 1)


@pytest.mark.parametrize("block", [1, 64, 1 << 22])
def test_how_much_is_computed_at_once_changes_no_result(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    table = np.random.default_rng(3).normal(0.05, 1.0, size=(3, 61))
    expected = sign_flip_test(table, seed=1, rounds=500), paired_bootstrap_intervals(table, seed=1, rounds=500)
    monkeypatch.setattr(permutation, "BLOCK_NUMBERS", block)
    assert np.array_equal(sign_flip_test(table, seed=1, rounds=500), expected[0])
    for found, interval in zip(paired_bootstrap_intervals(table, seed=1, rounds=500), expected[1], strict=True):
        assert found.low == pytest.approx(interval.low, rel=1e-12)
        assert found.high == pytest.approx(interval.high, rel=1e-12)
