"""A comparison says how alike two outcomes are, and names the first layer, and its step or row, that diverges."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from harness.errors import HarnessError, RecordError
from harness.evidence.determinism import Sameness, TrialOutcome, compare_outcomes, describe_comparison, find_results
from harness.records.record import Artifact, LossPoint, Record, TrainingLog
from harness.records.run import Run, write_run
from tests.support.records import DIGEST, make_record, read_manifest

LOG = TrainingLog(
    precision="fp32",
    steps=3,
    loss=tuple(LossPoint(step=step, loss=1 / step, learning_rate=1e-5) for step in (1, 2, 3)),
    resumes=0,
    batches=("aa", "bb", "cc"),
    weights_sha256=DIGEST,
)
RUN = Run(("q0", "q1"), (("p0", "p1"), ("p1", "p0")), ((0.5, 0.25), (0.5, 0.25)))
VALUES = {"mrr@10": (1.0, 1.0), "accuracy@1": (1.0, 1.0)}


def make_outcome(folder: Path, *, run: Run = RUN, values: dict[str, Any] = VALUES, **changes: Any) -> TrialOutcome:
    """Write a run and return the outcome of a trial with it."""
    (folder / "runs").mkdir(parents=True)
    write_run(run, folder / "runs" / "x.run")
    digest = f"{hash((run.passage_ids, run.scores)) % 16**8:064x}"
    fields: dict[str, Any] = {
        "training": LOG,
        "embeddings_sha256": DIGEST,
        "run": Artifact(path="runs/x.run", sha256=digest),
    }
    record: Record = make_record(values, experiment=read_manifest("bioasq"), seed=0, **{**fields, **changes})
    return TrialOutcome(record, folder)


def test_same_outcomes_are_bit_identical(tmp_path: Path) -> None:
    comparison = compare_outcomes(make_outcome(tmp_path / "a"), make_outcome(tmp_path / "b"))
    assert comparison.sameness is Sameness.BITS
    assert comparison.first_difference is None
    names = [layer.name for layer in comparison.layers]
    assert names == ["data", "batch order", "loss", "weights", "embeddings", "run", "values"]
    assert list(describe_comparison(comparison))[-1] == "bit-identical"


def test_first_batch_that_differs_is_named(tmp_path: Path) -> None:
    other = LOG.replace(batches=("aa", "xx", "cc"), weights_sha256="b" * 64)
    comparison = compare_outcomes(make_outcome(tmp_path / "a"), make_outcome(tmp_path / "b", training=other))
    assert comparison.first_difference is not None
    assert (comparison.first_difference.name, comparison.first_difference.place) == ("batch order", "step 2: bb and xx")
    assert comparison.sameness is Sameness.RANKS
    assert list(describe_comparison(comparison))[-1] == (
        "rank-identical; the first to diverge: batch order, step 2: bb and xx"
    )


def test_first_loss_that_differs_is_named(tmp_path: Path) -> None:
    points = (*LOG.loss[:2], LOG.loss[2].replace(loss=0.33))
    comparison = compare_outcomes(
        make_outcome(tmp_path / "a"), make_outcome(tmp_path / "b", training=LOG.replace(loss=points))
    )
    assert comparison.first_difference is not None
    assert comparison.first_difference.name == "loss"
    assert comparison.first_difference.place == f"step 3: {1 / 3} and 0.33"


def test_tensor_that_differs_is_named(tmp_path: Path) -> None:
    outcomes = []
    for name, shift, digest in (("a", 0.0, DIGEST), ("b", 0.5, "b" * 64)):
        outcome = make_outcome(tmp_path / name, training=LOG.replace(weights_sha256=digest))
        path = tmp_path / name / "model.safetensors"
        save_file({"first": np.ones(3, np.float32), "second": np.full(2, 1 + shift, np.float32)}, path)
        outcomes.append(TrialOutcome(outcome.record, outcome.results, weights=path))
    comparison = compare_outcomes(*outcomes)
    assert comparison.first_difference is not None
    assert comparison.first_difference.name == "weights"
    assert comparison.first_difference.place == "tensor second, by up to 0.5"


def test_row_whose_embedding_differs_is_named(tmp_path: Path) -> None:
    outcomes = []
    for name, shift, digest in (("a", 0.0, DIGEST), ("b", 0.25, "b" * 64)):
        outcome = make_outcome(tmp_path / name, embeddings_sha256=digest)
        embeddings = np.ones((4, 3), np.float32)
        embeddings[1, 2] += shift
        embeddings[3, 0] += shift
        np.save(tmp_path / name / "embeddings.npy", embeddings)
        outcomes.append(TrialOutcome(outcome.record, outcome.results, embeddings=tmp_path / name / "embeddings.npy"))
    comparison = compare_outcomes(*outcomes)
    assert comparison.first_difference is not None
    assert comparison.first_difference.name == "embeddings"
    assert comparison.first_difference.place == "row 1 (query 'q1'), by up to 0.25; 2 of 4 rows differ"


def test_other_scores_in_the_same_order_are_rank_identical(tmp_path: Path) -> None:
    other = Run(RUN.query_ids, RUN.passage_ids, ((0.5, 0.25), (0.5, 0.375)))
    comparison = compare_outcomes(make_outcome(tmp_path / "a"), make_outcome(tmp_path / "b", run=other))
    assert comparison.sameness is Sameness.RANKS
    assert comparison.first_difference is not None
    assert comparison.first_difference.place == "query 'q1', rank 2: scores 0.25 and 0.375; every ranking is the same"


def test_other_order_with_the_same_values_is_value_identical(tmp_path: Path) -> None:
    other = Run(RUN.query_ids, (("p0", "p1"), ("p1", "p2")), RUN.scores)
    comparison = compare_outcomes(make_outcome(tmp_path / "a"), make_outcome(tmp_path / "b", run=other))
    assert comparison.sameness is Sameness.VALUES
    assert comparison.first_difference is not None
    assert comparison.first_difference.place == "query 'q1', rank 2: 'p0' and 'p2'"


def test_other_values_are_different(tmp_path: Path) -> None:
    other = Run(RUN.query_ids, (("p0", "p1"), ("p0", "p1")), RUN.scores)
    values = {"mrr@10": (1.0, 0.5), "accuracy@1": (1.0, 0.0)}
    comparison = compare_outcomes(make_outcome(tmp_path / "a"), make_outcome(tmp_path / "b", run=other, values=values))
    assert comparison.sameness is Sameness.NOT
    assert comparison.layers[-1].place == "mrr@10, query 'q1': 1.0 and 0.5"


def test_what_was_not_recorded_is_said(tmp_path: Path) -> None:
    old = make_outcome(tmp_path / "a", training=LOG.replace(batches=()), embeddings_sha256=None)
    comparison = compare_outcomes(old, make_outcome(tmp_path / "b"))
    assert comparison.sameness is Sameness.BITS
    assert list(describe_comparison(comparison))[-1] == (
        "bit-identical (as far as was recorded: without batch order, embeddings)"
    )


def test_device_that_cannot_be_deterministic_is_said_with_the_operator(tmp_path: Path) -> None:
    log = LOG.replace(nondeterministic=("cumsum_cuda_kernel",))
    first = make_outcome(tmp_path / "a", training=log, device="cuda:0", device_name="a GPU")
    comparison = compare_outcomes(first, make_outcome(tmp_path / "b"))
    assert list(describe_comparison(comparison))[-3:-1] == [
        "other devices: a GPU (cuda:0) and some CPU (cpu)",
        "a GPU cannot be deterministic: torch has no such algorithm on it for cumsum_cuda_kernel",
    ]


def test_different_trials_are_not_compared(tmp_path: Path) -> None:
    first = make_outcome(tmp_path / "a")
    second = make_outcome(tmp_path / "b")
    other = second.record.replace(trial=second.record.trial.replace(seed=1))
    with pytest.raises(RecordError, match="are different trials"):
        compare_outcomes(first, TrialOutcome(other, second.results))


def test_results_folder_is_found_from_a_record(tmp_path: Path) -> None:
    path = tmp_path / "results" / "records" / "bioasq" / "x.json"
    assert find_results(path) == (tmp_path / "results").resolve()
    with pytest.raises(HarnessError, match="expected a record at"):
        find_results(tmp_path / "x.json")
