"""The error rates that results/calibration.md states, in seconds: each within four standard errors of its bound.

Every simulation has a fixed seed, so a test passes always or never.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import ttest_rel

from benchmarks.calibration import (
    COMMON_SD,
    MARGIN,
    SEED,
    SeedPool,
    make_pool,
    simulate_gate,
    simulate_golden,
    simulate_planner,
    simulate_verdicts,
)
from harness.analysis.contrast import Contrast, Side, contrast
from harness.analysis.equivalence import Verdict

RESULTS = Path(__file__).parents[2] / "results"
ROUNDS = 4000


@pytest.fixture(scope="module")
def pool() -> SeedPool:
    return make_pool(RESULTS, "bioasq-rebuilt", size=150)


def error(rate: float, rounds: int = ROUNDS) -> float:
    return float(4 * np.sqrt(rate * (1 - rate) / rounds))


@pytest.mark.parametrize(("common", "alarm", "power"), [(0.0, 0.01, 0.95), (COMMON_SD, 0.02, 0.85)])
def test_the_gate_errs_no_oftener_than_stated_and_finds_a_drop(
    pool: SeedPool, common: float, alarm: float, power: float
) -> None:
    def rate(drop: float) -> float:
        found = simulate_gate(pool, (3, 3), drop=drop, common=common, rounds=ROUNDS, seed=SEED)
        return float(found.ours.mean())

    assert rate(0.0) <= alarm + error(alarm), f"seed {SEED}"
    assert rate(0.01) >= power - error(power), f"seed {SEED}"


@pytest.mark.parametrize("seeds", [(2, 1), (3, 1), (5, 3)])
def test_other_numbers_of_seeds_raise_no_more_false_alarms(pool: SeedPool, seeds: tuple[int, int]) -> None:
    found = simulate_gate(pool, seeds, drop=0.0, common=0.0, rounds=ROUNDS, seed=SEED)
    assert found.ours.mean() <= 0.01 + error(0.01), f"seed {SEED}"


@pytest.mark.parametrize(("common", "alarm", "power"), [(0.0, 0.01, 0.95), (COMMON_SD, 0.02, 0.85)])
def test_a_golden_reference_adds_no_false_alarms(pool: SeedPool, common: float, alarm: float, power: float) -> None:
    def rate(drop: float) -> float:
        return float(simulate_golden(pool, (3, 3), drop=drop, common=common, rounds=ROUNDS, seed=SEED).mean())

    assert rate(0.0) <= alarm + error(alarm), f"seed {SEED}"
    assert rate(0.01) >= power - error(power), f"seed {SEED}"


@pytest.mark.parametrize("count", [2, 3, 5, 10])
@pytest.mark.parametrize("sd", [0.001, 0.002, 0.005])
@pytest.mark.parametrize(("doubled", "limit"), [(False, 0.05), (True, 0.08)])
def test_a_difference_of_the_margin_is_seldom_called_reproduced(
    count: int, sd: float, *, doubled: bool, limit: float
) -> None:
    found, _ = simulate_verdicts(count, sd, MARGIN, doubled=doubled, rounds=ROUNDS, seed=SEED)
    assert np.mean(found == Verdict.REPRODUCED) <= limit + error(limit), f"seed {SEED}"


@pytest.mark.parametrize("count", [2, 3, 5, 10])
def test_the_truth_is_seldom_denied(count: int) -> None:
    for sd in (0.001, 0.01):
        found, _ = simulate_verdicts(count, sd, 0.0, doubled=False, rounds=ROUNDS, seed=SEED)
        denied = np.isin(found, (Verdict.NOT_REPRODUCED, Verdict.EXCEEDS, Verdict.DIFFERS))
        assert denied.mean() <= 0.01 + error(0.01), f"seed {SEED}"


def test_the_old_rule_is_seen_to_err(pool: SeedPool) -> None:
    """The simulation can tell: the rules of before leave the bounds that ours keep."""
    _, old = simulate_verdicts(10, 0.002, MARGIN, doubled=False, rounds=ROUNDS, seed=SEED)
    assert old.mean() > 0.05 + error(0.05)
    gate = simulate_gate(pool, (3, 3), drop=0.0, common=0.0, rounds=ROUNDS, seed=SEED)
    assert gate.old.mean() > 0.02 + error(0.02)


def test_the_planner_delivers_what_it_promises() -> None:
    cases = simulate_planner(600, seed=SEED)
    promised, delivered = (np.mean([case[place] for case in cases]) for place in (0, 2))
    assert abs(promised - delivered) <= 0.05 + error(0.3, len(cases)) / 2, f"seed {SEED}"


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("common", [0.0, COMMON_SD])
def test_a_recipe_is_seldom_better_than_itself(seeds: int, common: float) -> None:
    alarms = [found.p_value for found in compare_often(seeds, 0.0, common=common, rounds=1000)]
    assert np.mean([p_value is not None and p_value <= 0.05 for p_value in alarms]) <= 0.05 + error(0.05, 1000)


@pytest.mark.parametrize(("common", "power"), [(0.0, 0.85), (COMMON_SD, 0.65)])
def test_a_better_recipe_is_found(common: float, power: float) -> None:
    found = [one.interval for one in compare_often(3, 0.01, common=common, rounds=500)]
    assert np.mean([interval is not None and interval.low > 0 for interval in found]) >= power - error(power, 500)


def test_scipy_tests_pairs_alike() -> None:
    a, b = np.random.default_rng(SEED).choice([0.0, 0.25, 0.5, 1.0], (2, 300))
    found = contrast(Side.of(a, trained=False), Side.of(b, trained=False), "mrr@10")
    expected = ttest_rel(a, b)
    assert found.p_value == pytest.approx(expected.pvalue)
    assert found.interval is not None
    assert (found.interval.low, found.interval.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))


def compare_often(seeds: int, gain: float, *, common: float, rounds: int) -> Iterator[Contrast]:
    """Compare seeds whose sd is 0.003 by the noise of single queries, and ``common`` by what they do to all."""
    generator = np.random.default_rng(SEED)
    queries = generator.choice([0.0, 0.25, 0.5, 1.0], 500)
    for _ in range(rounds):
        own = generator.normal(0, 0.003 * np.sqrt(500), (2, seeds, 500))
        a, b = queries + own + generator.normal(0, common, (2, seeds, 1))
        yield contrast(Side.of(a + gain, trained=True), Side.of(b, trained=True), "mrr@10")
