"""What was recorded on a cluster is what was recorded one by one: the committed records of both say so."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.records.record import read_record

RESULTS = Path(__file__).parents[3] / "results"
ONE_BY_ONE = RESULTS / "records" / "hpo-scale"
ON_RAY = RESULTS / "on-ray" / "records" / "hpo-scale"


@pytest.mark.parametrize("name", sorted(path.name for path in ONE_BY_ONE.glob("*.json")))
def test_a_trial_on_a_cluster_gave_the_same_bits(name: str) -> None:
    alone, beside = read_record(ONE_BY_ONE / name), read_record(ON_RAY / name)
    # Seconds, what was cached and by which trial differ; all that was computed does not.
    assert beside.evaluations == alone.evaluations
    assert beside.training == alone.training or (
        beside.training is not None
        and alone.training is not None
        and beside.training.replace(resumes=0) == alone.training.replace(resumes=0)
    )
    assert beside.sources == alone.sources
    assert beside.experiment_digest == alone.experiment_digest
    for stage in ("prepare", "baseline", "train"):
        one, other = alone.stages.get(stage), beside.stages.get(stage)
        assert (one and one.key) == (other and other.key)
    assert alone.execution is None
    assert beside.execution is not None


def test_trials_shared_the_machine_and_one_worker_was_lost() -> None:
    executions = [read_record(path).execution for path in sorted(ON_RAY.glob("*.json"))]
    assert len(executions) == 1 + 2 * 3
    assert max(one.attempts for one in executions if one is not None) == 2
    assert min(one.trials_on_machine for one in executions if one is not None) >= 2
