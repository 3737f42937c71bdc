"""Training that was killed goes on from its last checkpoint, and ends in the weights of one that never was."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from harness.experiment.recipe import Embedding, Recipe
from harness.records.record import TrainingLog
from tests.support.children import run_in_child
from tests.support.tiny_model import build_tiny_model
from tests.support.tiny_training import make_recipe, train_tiny

PADDED = Embedding(cuda="padded", cpu="padded")


def read_log(folder: Path) -> TrainingLog:
    return TrainingLog.model_validate_json((folder / "training.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


def train(base: Path, folder: Path, recipe: Recipe, kill_at: int | None = None) -> int:
    """Train below a folder in a child, anew or from the checkpoints there; returns the exit code."""
    attempts = len(list(folder.glob("attempt-*")))
    target = folder / f"attempt-{attempts}"
    code = run_in_child(train_tiny, base, target, folder / "scratch", recipe, kill_at)
    if code == 0:
        target.rename(folder / "done")
    return code


@pytest.mark.parametrize(
    ("changes", "kills"),
    [
        pytest.param({}, [1, 5, 6, 11], id="no_duplicates, in and between epochs"),
        pytest.param({"batch_sampler": "batch_sampler"}, [9], id="random batches, in the second epoch"),
        pytest.param({"embedding": PADDED, "save_steps": 1, "save_total_limit": 1}, [7], id="padded texts"),
    ],
)
def test_killed_training_ends_in_the_bits_of_one_that_never_was(
    base: Path, tmp_path: Path, changes: dict[str, object], kills: list[int]
) -> None:
    recipe = make_recipe(**changes)
    assert train(base, tmp_path / "undisturbed", recipe) == 0
    for kill_at in kills:
        assert train(base, tmp_path / "killed", recipe, kill_at) == -signal.SIGKILL
    assert train(base, tmp_path / "killed", recipe) == 0

    whole, resumed = read_log(tmp_path / "undisturbed" / "done"), read_log(tmp_path / "killed" / "done")
    assert len(whole.batches) == whole.steps == 12
    assert len(set(whole.batches)) == 12
    assert resumed.batches == whole.batches
    assert resumed.loss == whole.loss
    assert resumed.weights_sha256 == whole.weights_sha256
    # A kill before the first checkpoint leaves nothing to go on from.
    assert whole.resumes == 0
    assert resumed.resumes == sum(kill_at > recipe.arguments.save_steps for kill_at in kills)
