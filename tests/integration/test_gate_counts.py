"""Measures that count queries: false alarms stay as rare as stated where few queries change between seeds."""

from __future__ import annotations

import numpy as np
import pytest

from harness.experiment.manifest import Experiment
from harness.gate.compare import GateOutcome, compare
from harness.gate.policy import Policy, Quality
from harness.records.record import Record
from tests.support.records import make_record, read_manifest

MEASURES = ("accuracy@1", "accuracy@3", "accuracy@5", "accuracy@10", "mrr@10")
QUERIES = 100
ROUNDS = 300
SEED = 1


@pytest.fixture(scope="module")
def experiment() -> Experiment:
    found = read_manifest("bioasq", seeds=(0, 1, 2), claims=(), thresholds=())
    evaluation = found.evaluation.replace(measures=MEASURES)
    return found.replace(models=found.models[:1], evaluation=evaluation)


def make_tuned(experiment: Experiment, ranks: np.ndarray, seed: int) -> Record:
    """Return a record for the rank of each query's only passage."""
    values = {}
    for measure in MEASURES:
        kind, _, depth = measure.partition("@")
        found = (ranks <= int(depth)).astype(float)
        values[measure] = (found if kind == "accuracy" else found / ranks).tolist()
    return make_record(values, experiment=experiment, seed=seed)


def test_reference_seeds_that_agree_do_not_make_a_lost_query_certain(experiment: Experiment) -> None:
    policy = Policy(quality=Quality(primary=("accuracy@1",)))
    ranks = np.where(np.arange(QUERIES) < 80, 1, 20)
    reference = [make_tuned(experiment, ranks, seed) for seed in (0, 1, 2)]
    lost = ranks.copy()
    lost[0] = 20
    report = compare(reference, [make_tuned(experiment, lost, seed) for seed in (0, 1, 2)], policy)
    assert report.outcome is GateOutcome.PASS
    lost[:20] = 20
    report = compare(reference, [make_tuned(experiment, lost, seed) for seed in range(6)], policy)
    assert report.outcome is GateOutcome.REGRESSION


def test_false_alarms_are_as_rare_as_stated_where_few_queries_change(experiment: Experiment) -> None:
    """Most queries are clear, some change between seeds: the spread of three seeds is often zero by chance."""
    generator = np.random.default_rng(SEED)

    def draw(clear: np.ndarray, seed: int) -> Record:
        noisy = clear + generator.normal(0, 0.12, QUERIES)
        ranks = np.where(noisy > -0.5, 1, np.ceil(np.exp((-0.5 - noisy) * 2.2)) + 1).astype(int)
        return make_tuned(experiment, ranks, seed)

    alarms, agreeing = 0, 0
    for _ in range(ROUNDS):
        clear = generator.normal(0, 1, QUERIES)
        reference = [draw(clear, seed) for seed in (0, 1, 2)]
        policy = Policy(quality=Quality(primary=("accuracy@1",)))
        report = compare(reference, [draw(clear, seed) for seed in range(6)], policy)
        assert report.outcome is not GateOutcome.NOT_COMPARABLE
        alarms += report.outcome is GateOutcome.REGRESSION
        agreeing += any(cell.reference.sd == 0 for cell in report.quality)
    error = 4 * (0.01 * 0.99 / ROUNDS) ** 0.5
    assert agreeing > ROUNDS / 10, "the simulation must make seeds that agree"
    assert alarms / ROUNDS <= 0.01 + error, f"{alarms} of {ROUNDS} (seed {SEED})"
