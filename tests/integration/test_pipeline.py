"""The whole pipeline as a user runs it, on a model and data made on the spot: what comes out, and which exit code."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.cli.main import main
from harness.core.files import hash_file
from harness.records.record import Record, read_record, read_records
from tests.support.children import end_child
from tests.support.manifests import TINY, write_data, write_manifest
from tests.support.pytest_child import Ended, run_benchmarks, start_benchmarks
from tests.support.tiny_model import build_tiny_model

TRIALS = ["small.baseline", "small.finetuned.seed=0", "small.finetuned.seed=1"]
CLOSED_PORT = "http://127.0.0.1:9"


@dataclass(frozen=True)
class Workshop:
    """A folder with manifest, lock, data and model, and a store that its runs share."""

    folder: Path

    @property
    def store(self) -> Path:
        """Where the stage outputs are."""
        return self.folder / "store"

    def make_manifest(self, place: str = "manifest", **lines: str) -> Path:
        """Write a manifest with some lines changed to a folder of its own, and its lock."""
        path = write_manifest(self.folder / place, **lines)
        text = path.read_text(encoding="utf-8").replace('path = "', 'path = "../')
        start, end = text.index("[[claims]]"), text.index("[prices_usd_per_hour]")
        path.write_text(text[:start] + text[end:], encoding="utf-8")
        assert self.lock(path) == 0
        return path

    def lock(self, manifest: Path) -> int:
        """Lock a manifest, as `harness lock` does."""
        return main(["lock", str(manifest), "--store", str(self.store)])

    def run(self, results: str, manifest: Path, *options: str) -> Ended:
        """Run a manifest's trials on the CPU."""
        return run_benchmarks(self.folder / f"{results}.log", *self.spell(results, manifest), *options)

    def spell(self, results: str, manifest: Path) -> list[str]:
        """Return the options that every run has."""
        places = {
            "--harness-experiment": manifest,
            "--harness-store": self.store,
            "--harness-results": self.folder / results,
        }
        return [*(f"{name}={place}" for name, place in places.items()), "--harness-device=cpu"]


@pytest.fixture(scope="module", autouse=True)
def unreachable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[subprocess.Popen[str]]:
    """A command that asks a hub nobody answers for; it waits between its tries, so it starts before all else."""
    folder = tmp_path_factory.mktemp("unreachable")
    path = folder / "tiny.toml"
    source = 'kind = "folder"\npath = "data"'
    assert source in TINY
    hub = f'kind = "hub"\nrepository = "user/data"\nrevision = "{"a" * 40}"'
    path.write_text(TINY.replace(source, hub), encoding="utf-8")
    variables = {"HF_ENDPOINT": CLOSED_PORT, "HF_HOME": str(folder / "hub")}
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"} | variables
    command = [sys.executable, "-c", "from harness.cli.main import main; raise SystemExit(main())", "lock", str(path)]
    with subprocess.Popen(
        command, env=environment, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as child:
        yield child
        child.kill()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture
def workshop(tmp_path: Path, base: Path) -> Workshop:
    """A workshop of its own, for runs that break something."""
    shutil.copytree(base, tmp_path / "model")
    write_data(tmp_path / "data")
    return Workshop(tmp_path)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Workshop:
    """A workshop whose store is filled by the first run."""
    folder = tmp_path_factory.mktemp("shared")
    shutil.copytree(base, folder / "model")
    write_data(folder / "data")
    return Workshop(folder)


@pytest.fixture(scope="module")
def first(shared: Workshop) -> Ended:
    """The first run of all trials of one model."""
    options = (
        "--harness-models=small",
        "--harness-seeds=2",
        "--harness-precision=fp32",
        f"--benchmark-json={shared.folder / 'first.json'}",
    )
    return shared.run("first", shared.make_manifest(), *options)


@pytest.fixture(scope="module")
def second(shared: Workshop, first: Ended) -> Ended:
    """The same trials again, of a manifest that asks for more than they can give."""
    assert first.code == 0
    options = ("--harness-models=small", f"--benchmark-json={shared.folder / 'second.json'}")
    return shared.run("second", shared.make_manifest("strict", above="0.99999"), *options)


def read_trials(shared: Workshop, results: str) -> list[Record]:
    folder = shared.folder / results / "records" / "tiny"
    assert sorted(path.stem for path in folder.iterdir()) == TRIALS
    return [read_record(folder / f"{stem}.json") for stem in TRIALS]


def read_benchmarks(shared: Workshop, results: str) -> list[dict[str, Any]]:
    data = json.loads((shared.folder / f"{results}.json").read_text(encoding="utf-8"))
    return [benchmark["extra_info"] for benchmark in data["benchmarks"]]


def test_a_run_whose_thresholds_are_met_ends_with_0(first: Ended) -> None:
    assert first.code == 0, first.said


def test_the_first_lines_say_which_experiment_was_taken_and_why(first: Ended) -> None:
    head = first.said[: first.said.index("[1/3]")]
    assert "experiment tiny: as asked" in head
    assert "A tiny experiment: 3 trials, seeds 0, 1" in head


def test_progress_says_which_trial_of_how_many_and_which_stage(first: Ended) -> None:
    for text in (
        "[1/3] tiny/small/baseline baseline ...",
        "[2/3] tiny/small/finetuned/seed0 train ...",
        "[3/3] tiny/small/finetuned/seed1 evaluate ...",
        "; all trials done in about",
    ):
        assert text in first.said


def test_every_trial_has_a_record_with_values_stages_and_sources(shared: Workshop, first: Ended) -> None:
    del first
    baseline, *tuned = read_trials(shared, "first")
    assert set(baseline.stages) == {"prepare", "baseline"}
    assert baseline.training is None
    for seed, record in enumerate(tuned):
        assert record.trial.seed == seed
        assert set(record.stages) == {"prepare", "train", "evaluate"}
        assert record.training is not None
        assert record.training.precision == "fp32"
        assert [point.step for point in record.training.loss] == [1, 2, 3, 4, 5]
        assert record.values["mrr@10"] > 0
        assert record.sources["data:tiny"].locked
        assert record.sources[f"model:{record.trial.model}"].files["model.safetensors"]
        assert record.training_cost_usd is None  # of this CPU nobody knows the price
    assert tuned[0].training != tuned[1].training
    assert baseline.data.train_pairs == 20
    assert len(baseline.query_ids) == 8


def test_runs_and_qrels_lie_beside_the_records_as_the_files_they_name(shared: Workshop, first: Ended) -> None:
    del first
    results = shared.folder / "first"
    for record in read_trials(shared, "first"):
        for artifact in (record.run, record.qrels):
            assert hash_file(results / artifact.path) == artifact.sha256


def test_texts_of_nobody_knows_whom_are_not_written(shared: Workshop, first: Ended) -> None:
    assert first.code == 0
    assert "attribution" not in TINY
    assert [record.texts for record in read_trials(shared, "first")] == [None] * len(TRIALS)
    assert not list((shared.folder / "first").rglob("texts*"))


def test_a_table_of_the_records_is_written_and_its_index(shared: Workshop, first: Ended) -> None:
    del first
    table = (shared.folder / "first" / "tiny.md").read_text(encoding="utf-8")
    baseline, *_ = read_trials(shared, "first")
    assert f"{baseline.values['mrr@10']:.4f}" in table
    assert "(tiny.md)" in (shared.folder / "first" / "README.md").read_text(encoding="utf-8")


def test_the_benchmarks_json_carries_each_trials_values(shared: Workshop, first: Ended) -> None:
    del first
    infos = {info["trial"]: info for info in read_benchmarks(shared, "first")}
    for record in read_trials(shared, "first"):
        info = infos[record.trial.id]
        assert info["values"] == record.values
        assert info["seconds"] == {stage: cost.seconds for stage, cost in record.stages.items()}
        assert not any(info["cached"].values()) or record.trial.variant == "finetuned"


def test_a_missed_threshold_ends_with_1_and_names_value_bound_and_trial(shared: Workshop, second: Ended) -> None:
    assert second.code == 1, second.said
    _, record, _ = read_trials(shared, "second")
    value = f"{record.values['mrr@10']:.4f}"
    assert f"tiny/small/finetuned/seed0: mrr@10 is {value}, must be above 0.99999" in second.said
    assert "could not run" not in second.said


def test_what_was_done_once_is_not_done_again(shared: Workshop, second: Ended) -> None:
    assert "cached, took" in second.said
    infos = read_benchmarks(shared, "second")
    assert len(infos) == 3
    assert all(all(info["cached"].values()) for info in infos)
    for before, after in zip(read_trials(shared, "first"), read_trials(shared, "second"), strict=True):
        assert after.values == before.values
        assert after.training == before.training
        assert {name: cost.seconds for name, cost in after.stages.items()} == {
            name: cost.seconds for name, cost in before.stages.items()
        }


def test_a_broken_record_of_another_experiment_is_named_and_these_tables_are_written(
    shared: Workshop, second: Ended
) -> None:
    del second
    broken = shared.folder / "neighbour" / "records" / "other" / "x.json"
    broken.parent.mkdir(parents=True)
    broken.write_text("{", encoding="utf-8")
    ended = shared.run(
        "neighbour", shared.folder / "manifest" / "tiny.toml", "--harness-models=small", "--harness-precision=fp32"
    )
    assert ended.code == 2, ended.said
    assert f"could not run: {broken}" in ended.said
    table = shared.folder / "neighbour" / "tiny.md"
    assert f"tables: {table}" in ended.said
    assert "In short" in table.read_text(encoding="utf-8")


def test_records_of_an_edited_recipe_are_outdated_and_no_old_table_is_named(shared: Workshop, first: Ended) -> None:
    assert first.code == 0
    shutil.copytree(shared.folder / "first", shared.folder / "edited")
    manifest = shared.make_manifest("longer", num_train_epochs="2")
    ended = shared.run("edited", manifest, "--harness-models=small", "--harness-seeds=0,", "--harness-precision=fp32")
    assert ended.code == 2, ended.said
    assert "tiny/small/finetuned/seed1: recorded under another recipe" in ended.said
    assert "seed=0: recorded under" not in ended.said
    assert "tables:" not in ended.said
    assert "could not be judged" in (shared.folder / "edited" / "tiny.md").read_text(encoding="utf-8")


def test_records_of_models_that_an_edited_manifest_was_not_run_for_stay_in_the_tables(
    shared: Workshop, first: Ended
) -> None:
    assert first.code == 0
    shutil.copytree(shared.folder / "first", shared.folder / "partly")
    before = shared.run("partly", shared.folder / "manifest" / "tiny.toml", "--harness-models=other")
    assert before.code == 0, before.said
    manifest = shared.make_manifest("longer", num_train_epochs="2")
    ended = shared.run("partly", manifest, "--harness-models=small", "--harness-precision=fp32")
    assert ended.code == 0, ended.said
    table = shared.folder / "partly" / "tiny.md"
    assert f"tables: {table}" in ended.said
    assert "| other " in table.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (("--device", "tpu9"), "device is 'tpu9'"),
        (("--precision", "int8"), "precision is 'int8', expected fp16, bf16 or fp32"),
        (("--data-dir", "nowhere"), "nowhere: no such data folder; name one with --data-dir"),
    ],
)
def test_a_dry_run_refuses_what_the_run_refuses(
    shared: Workshop, capsys: pytest.CaptureFixture[str], option: tuple[str, str], said: str
) -> None:
    assert main(["run", str(shared.make_manifest("dry")), "--dry-run", *option]) == 2
    assert said in capsys.readouterr().err


def test_data_from_a_folder_named_on_the_command_line_are_the_same_data(shared: Workshop, first: Ended) -> None:
    assert first.code == 0
    manifest = shared.make_manifest("moved")
    moved = shared.folder / "elsewhere"
    (shared.folder / "data").rename(moved)
    try:
        without = shared.run("without", manifest, "--harness-models=other")
        given = shared.run("given", manifest, "--harness-models=other", f"--harness-data-dir={moved}")
    finally:
        moved.rename(shared.folder / "data")
    assert without.code == 2
    assert "no such data folder; name one with --data-dir" in without.said
    assert given.code == 0, given.said
    (record,) = read_records(shared.folder / "given" / "records" / "tiny")
    assert (record.trial.id, record.stages["prepare"].cached) == ("tiny/other/baseline", True)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--harness-models=small,none", "ManifestError: tiny: no model 'none'; its models are: small, other"),
        (
            "--harness-models=small,small",
            "ManifestError: tiny: models must be one or more different ones of small, other",
        ),
        ("--harness-seeds=0", "ManifestError: seeds are '0', a count; expected 1 to 1000"),
        ("--harness-seeds=3,3", "ManifestError: tiny: seeds must be one or more different numbers"),
        ("--harness-device=tpu9", "device is 'tpu9'"),
        ("--harness-precision=fp16", "precision fp16 needs a GPU"),
        ("--harness-precision=int8", "precision is 'int8', expected fp16, bf16 or fp32"),
        ("--harness-report-to=nobody", "tracker 'nobody': not known or not installed; here are: "),
        ("--harness-data-dir=nowhere", "nowhere: no such data folder; name one with --data-dir"),
    ],
)
def test_options_that_cannot_be_meant_end_with_2(shared: Workshop, first: Ended, option: str, said: str) -> None:
    del first
    ended = shared.run("options", shared.folder / "manifest" / "tiny.toml", option)
    assert ended.code == 2, ended.said
    # Once for all trials, save that the two lines of a bad selection stand at its place and at the end.
    assert 1 <= ended.said.count(said) <= 2, ended.said
    assert "ERROR at setup" not in ended.said
    assert not (shared.folder / "options").exists()


def test_a_misspelt_key_ends_with_2_before_anything_runs(workshop: Workshop) -> None:
    path = workshop.folder / "tiny.toml"
    path.write_text(TINY.replace("num_train_epochs = 1", "num_train_epoch = 1"), encoding="utf-8")
    ended = workshop.run("results", path)
    assert ended.code == 2, ended.said
    assert (
        f"{path}: unknown key 'recipes.finetuned.arguments.num_train_epoch'; did you mean 'num_train_epochs'?"
        in ended.said
    )
    assert "pytest_plugin.py:" not in ended.said  # a message, no traceback


def test_records_that_nobody_would_read_end_with_2_before_anything_is_embedded_or_trained(workshop: Workshop) -> None:
    manifest = workshop.make_manifest(num_train_epochs="70000.0")
    ended = workshop.run("results", manifest, "--harness-models=small", "--harness-precision=fp32", "-x")
    assert ended.code == 2, ended.said
    assert "RecordError: tiny/small: a record of " in ended.said
    assert " values or more, at most 400000 are read" in ended.said
    assert not {path.name for path in workshop.store.iterdir()} & {"baseline", "train"}


def test_a_manifest_whose_sources_changed_since_it_was_locked_ends_with_2(workshop: Workshop) -> None:
    path = workshop.make_manifest()
    path.write_text(path.read_text(encoding="utf-8").replace('path = "../data"', 'path = "../data2"'), encoding="utf-8")
    ended = workshop.run("results", path)
    assert ended.code == 2, ended.said
    assert "LockError" in ended.said
    assert "does not match the manifest, whose sources changed since it was made" in ended.said


def test_a_file_with_another_hash_ends_with_2_and_leaves_no_record(workshop: Workshop) -> None:
    path = workshop.make_manifest()
    weights = workshop.folder / "model" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    ended = workshop.run("results", path, "--harness-models=other")
    assert ended.code == 2, ended.said
    assert f"model.safetensors: SHA-256 is {hash_file(weights)}, the lock says" in ended.said
    assert "could not run: " in ended.said
    assert not (workshop.folder / "results" / "records").exists()


def test_broken_json_ends_locking_with_2_and_names_file_and_line(
    workshop: Workshop, capsys: pytest.CaptureFixture[str]
) -> None:
    path = workshop.make_manifest()
    broken = workshop.folder / "data" / "train.jsonl"
    lines = broken.read_text(encoding="utf-8").splitlines()
    lines[6] = lines[6][:-1]
    broken.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert workshop.lock(path) == 2
    assert f"DataError: {broken}:7: broken JSON at column" in capsys.readouterr().err


def test_a_loss_that_is_no_number_ends_with_2_names_step_and_batch_and_keeps_what_was_finished(
    workshop: Workshop,
) -> None:
    path = workshop.make_manifest(learning_rate="1e12", warmup_ratio="0.0")
    ended = workshop.run("results", path, "--harness-models=small", "--harness-seeds=1")
    assert ended.code == 2, ended.said
    assert "TrainingError: step 2: the loss is nan; the batch begins with " in ended.said
    (record,) = read_records(workshop.folder / "results" / "records" / "tiny")
    assert record.trial.variant == "baseline"
    assert (workshop.folder / "results" / "tiny.md").is_file()


def test_an_interrupt_keeps_the_records_of_finished_trials(workshop: Workshop) -> None:
    path = workshop.make_manifest(num_train_epochs="400")
    log = workshop.folder / "results.log"
    child = start_benchmarks(log, *workshop.spell("results", path), "--harness-models=small")
    deadline = time.monotonic() + 200
    while "seed0 train ..." not in (log.read_text(encoding="utf-8") if log.exists() else ""):
        assert child.is_alive(), log.read_text(encoding="utf-8")
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert child.pid is not None
    os.kill(child.pid, signal.SIGINT)
    assert end_child(child) == 2
    (record,) = read_records(workshop.folder / "results" / "records" / "tiny")
    assert record.trial.id == "tiny/small/baseline"
    assert (workshop.folder / "results" / "tiny.md").is_file()
    assert "KeyboardInterrupt" in log.read_text(encoding="utf-8")


def test_a_hub_that_cannot_be_reached_ends_with_2_and_the_ways_without_it(unreachable: subprocess.Popen[str]) -> None:
    _, said = unreachable.communicate(timeout=120)
    assert unreachable.returncode == 2, said
    (line,) = [line for line in said.splitlines() if line.startswith("harness: ")]
    assert line.startswith("harness: SourceError: hub user/data @ aaaaaaaaaaaa: the hub cannot be reached (")
    assert said.count("Retrying in") >= 3
    assert "experiment hpo needs none" in line
    assert "bioasq-rebuilt" in line
