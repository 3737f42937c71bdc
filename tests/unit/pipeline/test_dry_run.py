"""A dry run lists sources, trials and what they would take, and names what each figure rests on; it makes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli.main import main
from harness.experiment.manifest import read_experiment
from harness.experiment.trial import narrow
from harness.pipeline.dry_run import describe_run
from harness.records.record import write_record
from tests.support.records import MANIFESTS, MODEL, make_cost, make_record

ROOT = Path(__file__).parents[3]
BIOASQ = MANIFESTS / "bioasq.toml"
VALUES = {"mrr@10": (1.0, 0.5)}


def describe(manifest: Path, results: Path) -> list[str]:
    return list(describe_run(read_experiment(manifest), manifest, store=results / "store", results=results))


def test_what_was_published_is_the_basis_where_there_are_no_records(tmp_path: Path) -> None:
    lines = describe(BIOASQ, tmp_path)
    assert "lock: " + str(MANIFESTS / "bioasq.lock") + " belongs to it" in lines
    assert "trials: 7" in lines
    assert f"  bioasq/{MODEL}/finetuned/seed4" in lines
    assert "steps: finetuned: 126 a training, of 4012 rows expected" in lines
    assert (
        "time: 5 min 0 s of training: 5 x 1 min 0 s, as published on one NVIDIA A10G; of evaluation not known" in lines
    )
    assert "cost: 0.09 USD: 5 x 1 min 0 s, as published on one NVIDIA A10G, at 1.1 USD an hour of NVIDIA A10G" in lines
    assert not list(tmp_path.iterdir())


def test_steps_follow_from_the_locks_rows_where_the_manifest_expects_none(tmp_path: Path) -> None:
    """Of a manifest that was written by `harness init`, and the lock beside it."""
    manifest = ROOT / "examples" / "other-repository" / "faq.toml"
    assert "expect" not in manifest.read_text(encoding="utf-8")
    assert "steps: plain: 2 a training, of 60 rows locked" in describe(manifest, tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("", "", "not known before the data are read: neither expect nor the lock says how many rows"),
        ("num_train_epochs = 1", "max_steps = 7", "7 a training, as max_steps says"),
    ],
)
def test_steps_of_rows_that_nobody_has_counted_are_said_to_be_unknown(
    tmp_path: Path, old: str, new: str, expected: str
) -> None:
    text = (ROOT / "examples" / "other-repository" / "faq.toml").read_text(encoding="utf-8")
    (tmp_path / "faq.toml").write_text(text.replace(old, new), encoding="utf-8")
    assert f"steps: plain: {expected}" in describe(tmp_path / "faq.toml", tmp_path / "results")


def test_records_at_hand_tell_time_and_memory(tmp_path: Path) -> None:
    whole = narrow(read_experiment(BIOASQ), models=[MODEL], seeds=[0, 1, 2])
    write_record(make_record(VALUES, experiment=whole, variant="baseline"), tmp_path)
    stages = {"train": make_cost(100.0, 3 * 2**30), "evaluate": make_cost(20.0)}
    write_record(make_record(VALUES, experiment=whole, seed=0, stages=stages), tmp_path)
    lines = list(describe_run(whole, BIOASQ, store=tmp_path / "store", results=tmp_path))
    # 21 s of the baseline, three times 120 s.
    assert "time: 6 min 21 s, the mean of 2 records on some CPU for each such trial" in lines
    assert "cost: not known: prices_usd_per_hour says nothing of some CPU" in lines
    assert any(line.startswith("memory: 3.0 GiB, the highest peak of 2 records") for line in lines)


def test_an_unpinned_publication_is_described_and_says_what_is_not_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = MANIFESTS / "sec-rag.toml"
    command = ["run", str(manifest), "--dry-run", "--results", str(tmp_path), "--store", str(tmp_path / "store")]
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("lock: unpinned: data:sec, model:bge-base-en-v1.5; before a run") for line in lines)
    assert "trials: 4" in lines
    basis = "3 x 3 min 26 s, as published on a g5.2xlarge (NVIDIA A10G)"
    assert f"cost: 0.21 USD: {basis}, at 1.212 USD an hour of NVIDIA A10G" in lines
    assert "memory: not known: no record, and no lock that says how large the weights are" in lines
    assert main([*command, "--seeds", "1"]) == 0
    assert "trials: 2" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_a_publication_without_a_training_time_has_none_of_ours(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = MANIFESTS / "miriad.toml"
    command = ["run", str(manifest), "--dry-run", "--results", str(tmp_path), "--store", str(tmp_path / "store")]
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("lock: unpinned: data:miriad, model:embeddinggemma-300m; ") for line in lines)
    assert "trials: 4" in lines
    assert "time: not known: there is no record of it, and no published duration" in lines
    assert "cost: not known, like the time" in lines
    assert not list(tmp_path.iterdir())


def test_as_many_steps_are_made_as_of_the_rows_that_were_published() -> None:
    arguments = read_experiment(MANIFESTS / "miriad.toml").recipes["finetuned"].arguments
    one_epoch = arguments.replace(max_steps=None, num_train_epochs=1)
    assert arguments.count_steps(4_000_000) == one_epoch.count_steps(100_000)


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--engine", "evil", "engine is 'evil', expected local or ray"),
        ("--parallel", "2", "parallel: only with the engine ray"),
        ("--parallel", "many", "--parallel is 'many', expected a number"),
        ("--data-dir", "nope", "nope: the manifest's data comes from hub, so no folder can stand in for it"),
        ("--stack", "nope", "--stack does not go with --dry-run"),
    ],
)
def test_what_the_run_refuses_is_refused_before_anything_is_described(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, value: str, said: str
) -> None:
    assert main(["run", str(BIOASQ), "--dry-run", "--results", str(tmp_path), option, value]) == 2
    shown = capsys.readouterr()
    assert said in shown.err
    assert not shown.out


def test_number_of_the_cluster_out_of_range_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    places = ["--results", str(tmp_path), "--engine", "ray"]
    assert main(["run", str(BIOASQ), "--dry-run", *places, "--parallel=-1"]) == 2
    assert "parallel is -1, expected at least 1" in capsys.readouterr().err
    assert main(["run", str(BIOASQ), "--dry-run", *places, "--parallel=1"]) == 0
