"""What disk an experiment needs is told before it runs, from sizes in its lock, and near what a run took."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.experiment.data import WheelSource
from harness.experiment.lock import Lock, read_lock
from harness.experiment.manifest import Experiment, read_experiment
from harness.experiment.recipe import Select
from harness.pipeline.doctor import estimate_needs
from harness.sources.fetch import name_unpacked
from tests.support.records import MANIFESTS
from tests.support.tiny_training import change_recipe

# Of `pytest benchmarks --experiment hpo-small` into an empty store, by `du` five times a second and afterwards.
MEASURED_PEAK_BYTES, MEASURED_KEPT_BYTES = 466_722_816, 195_395_584
WEIGHTS_BYTES = 90_868_376


def read(name: str) -> tuple[Experiment, Lock]:
    experiment = read_experiment(MANIFESTS / f"{name}.toml")
    return experiment, read_lock(MANIFESTS / f"{name}.lock", experiment)


def test_estimate_is_near_what_a_real_run_took(tmp_path: Path) -> None:
    needs = estimate_needs(*read("hpo-small"), tmp_path)
    assert MEASURED_PEAK_BYTES < needs.disk_bytes < 1.1 * MEASURED_PEAK_BYTES
    assert MEASURED_KEPT_BYTES < needs.kept_bytes < 1.1 * MEASURED_KEPT_BYTES
    assert needs.memory_bytes == 4 * WEIGHTS_BYTES
    assert needs.unknown == ()


def test_every_seed_keeps_a_model_and_one_training_has_checkpoints(tmp_path: Path) -> None:
    experiment, lock = read("hpo-small")
    one, three = (estimate_needs(experiment.replace(seeds=seeds), lock, tmp_path) for seeds in ((0,), (0, 1, 2)))
    more = three.kept_bytes - one.kept_bytes
    assert 2 * WEIGHTS_BYTES < more < 2.2 * WEIGHTS_BYTES
    assert three.disk_bytes - one.disk_bytes == more


@pytest.mark.parametrize(("steps", "kept", "written"), [(100, 2, 1), (5, 2, 2), (1, 2, 3), (1, 4, 5)])
def test_one_more_checkpoint_than_is_kept_lies_there_if_as_many_are_written(
    tmp_path: Path, steps: int, kept: int, written: int
) -> None:
    experiment, lock = read("hpo-small")  # 10 steps
    recipe = change_recipe(experiment.recipes["finetuned"], save_steps=steps, save_total_limit=kept)
    needs = estimate_needs(experiment.replace(recipes={"finetuned": recipe}), lock, tmp_path)
    assert needs.disk_bytes - needs.kept_bytes == written * 3 * WEIGHTS_BYTES


@pytest.mark.parametrize(
    ("evaluated", "copies"),
    [(5, 2), (1, 9), (10, 1), (100, 1)],  # of 10 steps; kept since the oldest of two checkpoints, one every 4 steps
)
def test_select_keeps_weights_beside_the_checkpoints(tmp_path: Path, evaluated: int, copies: int) -> None:
    experiment, lock = read("hpo-small")
    plain = change_recipe(experiment.recipes["finetuned"], save_steps=4, save_total_limit=2, eval_steps=evaluated)
    selecting = plain.replace(select=Select(on="hpo-small/dev", measure="mrr@10"))
    without, with_them = (
        estimate_needs(experiment.model_copy(update={"recipes": {"finetuned": one}}), lock, tmp_path)
        for one in (plain, selecting)
    )
    assert with_them.disk_bytes - without.disk_bytes == copies * WEIGHTS_BYTES
    assert with_them.kept_bytes == without.kept_bytes


def test_rows_that_only_the_lock_says_are_counted(tmp_path: Path) -> None:
    experiment, lock = read("hpo-small")
    uncounted = lock.model_copy(update={"data": None})
    (data,) = experiment.data.values()
    assert data.selection is not None
    unsaid = data.selection.model_copy(update={"train_rows": None, "test_rows": None})
    open_ended = experiment.model_copy(update={"data": {"hpo-small": data.model_copy(update={"selection": unsaid})}})
    known, unknown = (estimate_needs(open_ended, one, tmp_path) for one in (lock, uncounted))
    assert known.disk_bytes > unknown.disk_bytes


def test_sources_that_are_unpacked_already_are_not_needed_again(tmp_path: Path) -> None:
    experiment, lock = read("hpo-small")
    before = estimate_needs(experiment, lock, tmp_path)
    source = experiment.models[0].source
    assert isinstance(source, WheelSource)
    (tmp_path / "sources" / name_unpacked(source, "model")).mkdir(parents=True)
    after = estimate_needs(experiment, lock, tmp_path)
    assert WEIGHTS_BYTES < before.disk_bytes - after.disk_bytes < 1.1 * WEIGHTS_BYTES


def test_while_a_zip_is_unpacked_it_lies_beside_its_files(tmp_path: Path) -> None:
    experiment, lock = read("bioasq-rebuilt")
    untrained = experiment.replace(
        models=tuple(model.replace(recipes=()) for model in experiment.models), claims=(), thresholds=()
    )
    needs = estimate_needs(untrained, lock, tmp_path)
    sizes = lock.sources["model:all-mpnet-base-v2"].sizes
    assert sizes is not None
    assert needs.disk_bytes == 2 * sum(sizes.values())
    assert needs.memory_bytes == 0


def test_source_of_unknown_size_is_said(tmp_path: Path) -> None:
    needs = estimate_needs(*read("bioasq"), tmp_path)
    assert needs.unknown == ("data:bioasq", "model:bge-base-en-v1.5")
    assert needs.disk_bytes > 3 * 437_971_872
