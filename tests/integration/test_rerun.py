"""A trial run twice from nothing is proved to give the same bits, and what breaks that is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli.main import main
from harness.core.files import hash_file
from harness.errors import ManifestError
from harness.evidence.baselines import Rerun
from harness.evidence.determinism import WEIGHTS_FILE, Sameness, TrialOutcome, choose_trial, compare_outcomes
from harness.evidence.kept import check_kept
from harness.evidence.verify import verify_records
from harness.experiment.manifest import read_experiment
from harness.pipeline.store import Store
from harness.records.measures import evaluate_run
from harness.records.record import write_record
from harness.records.run import Run, read_run, write_run
from harness.records.trec import read_qrels
from tests.support.records import change_result
from tests.support.tiny_trials import Place, make_place


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return make_place(tmp_path_factory.mktemp("tiny"))


def test_trial_rerun_is_bit_identical_layer_by_layer(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rerun", str(place.manifest), "--device", "cpu", "--store", str(place.store)]) == 0
    said = [line.split() for line in capsys.readouterr().out.splitlines() if line]
    layers = ["data", "batch order", "loss", "weights", "embeddings", "run", "values"]
    assert said[-8:] == [*([*name.split(), "same"] for name in layers), ["bit-identical"]]


def test_records_of_two_trainings_that_differ_are_compared(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert place.at(tmp_path / "a").run() == 0
    text = place.manifest.read_text(encoding="utf-8")
    try:
        place.manifest.write_text(text.replace("learning_rate = 1e-3", "learning_rate = 2e-3"), encoding="utf-8")
        assert place.at(tmp_path / "b").run() == 0
    finally:
        place.manifest.write_text(text, encoding="utf-8")
    tuned, base = "small.finetuned.seed=0.json", "small.baseline.json"
    folders = [tmp_path / name / "results" / "records" / "tiny" for name in ("a", "b")]
    assert main(["rerun", "--records", *(str(folder / base) for folder in folders)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "bit-identical"
    assert main(["rerun", "--records", *(str(folder / tuned) for folder in folders)]) == 1
    said = capsys.readouterr().out.splitlines()
    # The batches are the same, and so is the loss at the first step, before any weight has changed.
    assert said[1] == "batch order  same"
    assert said[2].startswith("loss         differs: step ")
    assert not said[2].startswith("loss         differs: step 1:")
    assert "the first to diverge: loss, step " in said[-1]


def test_same_trial_in_other_stores_is_bit_identical_by_its_records(place: Place, tmp_path: Path) -> None:
    outcomes = []
    for name in ("a", "b"):
        other = place.at(tmp_path / name)
        assert other.run() == 0
        outcomes.append(TrialOutcome(other.read()[1], other.results))
    comparison = compare_outcomes(*outcomes)
    assert comparison.sameness is Sameness.BITS
    assert all(layer.same for layer in comparison.layers)


def test_trial_is_chosen_by_its_id_or_is_the_first_that_is_trained(place: Place) -> None:
    experiment = read_experiment(place.manifest)
    assert choose_trial(experiment, None).id == "tiny/small/finetuned/seed0"
    assert choose_trial(experiment, "tiny/small/baseline").variant == "baseline"
    with pytest.raises(ManifestError, match="no trial 'tiny/other'; the trials are: tiny/small/baseline, "):
        choose_trial(experiment, "tiny/other")


def test_neither_an_experiment_nor_records_is_refused() -> None:
    assert main(["rerun"]) == 2


def test_untrained_values_are_computed_again_from_the_locked_weights(place: Place, tmp_path: Path) -> None:
    """A run that was falsified and hashed anew passes all that follows from files; running the trial again does not."""
    ours = place.at(tmp_path)
    assert ours.run() == 0
    experiments, rerun = place.manifest.parent, Rerun(device="cpu")
    honest = verify_records(ours.results, experiments=experiments, rerun=rerun)
    assert not [line for line in honest.problems if "baseline" in line]
    assert not any("untrained values" in line for line in honest.attested)

    record = ours.read()[0]
    path = ours.results / record.run.path
    run = read_run(path)
    write_run(Run(run.query_ids, tuple(ranked[::-1] for ranked in run.passage_ids), run.scores), path)
    qrels = read_qrels(ours.results / record.qrels.path)
    values = evaluate_run(read_run(path), qrels, record.experiment.evaluation.measures)
    forged = change_result(
        record,
        run=record.run.replace(sha256=hash_file(path)),
        values={measure: float(found.mean()) for measure, found in values.items()},
        per_query={measure: tuple(found.tolist()) for measure, found in values.items()},
    )
    write_record(forged, ours.results)
    assert not [line for line in verify_records(ours.results, experiments=experiments).problems if "baseline" in line]
    problems = "\n".join(verify_records(ours.results, experiments=experiments, rerun=rerun).problems)
    assert "small.baseline.json: tiny/test: values['mrr@10']: reads" in problems


def test_weights_and_embeddings_that_the_store_has_are_held_against_the_records(place: Place, tmp_path: Path) -> None:
    ours = place.at(tmp_path)
    assert ours.run() == 0
    store = Store(ours.store)
    assert list(check_kept(ours.read(), store)) == []
    baseline, tuned = ours.read()
    assert tuned.training is not None
    forged = [
        change_result(baseline, embeddings_sha256="b" * 64),
        tuned.replace(training=tuned.training.replace(weights_sha256="c" * 64)),
    ]
    problems = "\n".join(check_kept(forged, store))
    assert "small.baseline.json: embeddings_sha256: reads bbbb" in problems
    assert "seed=0.json: training.weights_sha256: reads cccc" in problems
    weights = ours.store / "train" / tuned.stages["train"].key / WEIGHTS_FILE
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert "model/model.safetensors has another SHA-256" in "\n".join(check_kept(ours.read(), store))
