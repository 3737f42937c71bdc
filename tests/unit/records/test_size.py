"""Records that nobody would read are refused by what is known before anything is trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli.main import main
from harness.errors import RecordError
from harness.experiment.lock import read_lock
from harness.experiment.manifest import Experiment, read_experiment
from harness.pipeline.doctor import Health, check_experiment
from harness.records import size
from harness.records.size import find_counts, refuse_excess
from tests.support.records import MANIFESTS

HPO = MANIFESTS / "hpo.toml"


@pytest.fixture(scope="module")
def experiment() -> Experiment:
    return read_experiment(HPO)


def test_queries_and_rows_are_those_of_manifest_and_lock(experiment: Experiment) -> None:
    lock = read_lock(HPO.with_suffix(".lock"), experiment)
    assert find_counts(experiment, lock) == ({"hpo/test": 500}, {"hpo": 2000})
    ablation = read_experiment(MANIFESTS / "hpo-ablation.toml")
    assert find_counts(ablation, None) == ({"hpo/test": 500}, {"hpo": 2000})


def test_queries_measures_and_dimensions_are_multiplied(experiment: Experiment) -> None:
    # An id and 15 values each.
    refuse_excess(experiment, {"hpo/test": 24_900}, {"hpo": 2000})
    with pytest.raises(
        RecordError, match="hpo/all-MiniLM-L6-v2: a record of 25001 queries, 15 measures would hold 400016"
    ):
        refuse_excess(experiment, {"hpo/test": 25_001}, {})
    narrow = experiment.models[0].replace(truncate_dims=(64, 32))
    with pytest.raises(RecordError, match="15000 queries, 15 measures and 2 dimensions would hold 480000 values"):
        refuse_excess(experiment.replace(models=(narrow,)), {"hpo/test": 15_000}, {})


def test_steps_count_too(experiment: Experiment) -> None:
    with pytest.raises(RecordError, match="and 100000 steps would hold 408000 values or more, at most 400000 are read"):
        refuse_excess(experiment, {"hpo/test": 500}, {"hpo": 3_200_000})


def test_dry_run_and_doctor_say_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    places = ["--results", str(tmp_path), "--store", str(tmp_path / "store")]
    assert main(["run", str(HPO), "--dry-run", *places]) == 0
    monkeypatch.setattr(size, "MOST_VALUES", 8100)
    assert main(["run", str(HPO), "--dry-run", *places]) == 2
    said = "500 queries, 15 measures, and 63 steps would hold 8252 values or more, at most 8100 are read"
    assert said in capsys.readouterr().err
    found = check_experiment(HPO, store=tmp_path / "store", results=tmp_path, reachable=True)
    assert found.health is Health.BAD
    assert said in found.text
