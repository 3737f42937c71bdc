"""The best step by a dev part is the model that is kept, whatever is pruned, and through kills."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.cli.main import main
from harness.errors import StoreError
from harness.experiment.recipe import Select
from harness.models.best_weights import BestWeights
from harness.models.training import train_model
from harness.pipeline.stages import list_inputs
from harness.records.record import TrainingLog, read_record
from tests.support.children import die, run_in_child
from tests.support.manifests import TINY, make_rows, write_data, write_rows
from tests.support.tiny_model import build_tiny_model
from tests.support.tiny_training import make_recipe
from tests.support.tiny_training import make_rows as make_training_rows

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

pytestmark = pytest.mark.filterwarnings("default")

# Twelve steps are asked for at 3, 6, 9 and 12; the best one is long pruned when training ends.
SCORES = {3: 0.2, 6: 0.7, 9: 0.7, 12: 0.4}
RECIPE = make_recipe(select=Select(on="tiny/dev", measure="mrr@10"), eval_steps=3, save_steps=2, save_total_limit=1)


def train(
    base: Path, folder: Path, scores: Mapping[int, float] = SCORES, kill_at: int | None = None, **changes: object
) -> None:
    """Train 44 rows for two epochs; the model so far scores by its step, as counted here."""
    from tests.support.tiny_training import change_recipe

    target = folder / f"target-{len(list(folder.glob('target-*')))}"
    target.mkdir(parents=True)
    (folder / "scratch").mkdir(exist_ok=True)
    step = 0

    def watch(done: int, *_: float) -> None:
        nonlocal step
        step = done
        if done == kill_at:
            die()

    def evaluate(_: SentenceTransformer) -> Mapping[str, float]:
        return {"mrr@10": scores[step]}

    recipe = change_recipe(RECIPE, **changes)
    train_model(
        base,
        list_inputs(make_training_rows(44), recipe),
        recipe,
        seed=3,
        device="cpu",
        precision="fp32",
        target=target,
        scratch=folder / "scratch",
        progress=watch,
        evaluate=evaluate,
    )
    target.rename(folder / "done")


def read_log(folder: Path) -> TrainingLog:
    return TrainingLog.model_validate_json((folder / "done" / "training.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


def test_the_best_step_is_kept_although_its_checkpoint_is_not(base: Path, tmp_path: Path) -> None:
    train(base, tmp_path / "best")
    log = read_log(tmp_path / "best")
    assert log.selected is not None
    # Of equal ones the earliest.
    assert (log.selected.step, log.selected.value) == (6, 0.7)
    assert log.steps == 12
    assert [path.name for path in (tmp_path / "best/scratch/checkpoints").iterdir()] == ["checkpoint-12"]
    # Its weights are those of a training whose best step is asked for alone.
    train(base, tmp_path / "other", scores={6: 0.9, 12: 0.1}, eval_steps=6)
    assert read_log(tmp_path / "other").weights_sha256 == log.weights_sha256
    train(base, tmp_path / "last", scores={6: 0.1, 12: 0.9}, eval_steps=6)
    assert read_log(tmp_path / "last").weights_sha256 != log.weights_sha256


def test_the_last_step_is_asked_for_too(base: Path, tmp_path: Path) -> None:
    train(base, tmp_path, scores={5: 0.1, 10: 0.2, 12: 0.3}, eval_steps=5)
    log = read_log(tmp_path)
    assert log.selected is not None
    assert log.selected.step == 12


@pytest.mark.parametrize("kill_at", [7, 11])
def test_the_best_step_survives_a_kill(base: Path, tmp_path: Path, kill_at: int) -> None:
    train(base, tmp_path / "whole")
    assert run_in_child(train, base, tmp_path / "killed", SCORES, kill_at) == -signal.SIGKILL
    assert run_in_child(train, base, tmp_path / "killed") == 0
    whole, killed = read_log(tmp_path / "whole"), read_log(tmp_path / "killed")
    assert killed.resumes == 1
    assert killed.selected == whole.selected
    assert killed.weights_sha256 == whole.weights_sha256


def test_what_was_best_after_the_checkpoint_gone_on_from_is_forgotten(base: Path, tmp_path: Path) -> None:
    from harness.models.loading import load_model

    model, best = load_model(base, device="cpu"), BestWeights(tmp_path)
    for step, value in ((2, 0.1), (4, 0.3), (6, 0.2), (8, 0.5)):
        best.consider(model, step=step, value=value)
    best.prune(6)
    assert sorted(path.name for path in tmp_path.glob("*.safetensors")) == ["step-4.safetensors", "step-8.safetensors"]
    best.forget_after(6)
    found = best.find_best()
    assert found is not None
    assert (found.step, found.value) == (4, 0.3)
    (tmp_path / "step-4.safetensors").write_bytes(b"broken")
    with pytest.raises(StoreError, match="the best weights are not as they were written"):
        best.restore(model, found)


def test_a_run_selects_on_dev_and_evaluates_on_test(tmp_path: Path) -> None:
    build_tiny_model(tmp_path / "model")
    write_data(tmp_path / "data")
    write_rows(tmp_path / "data" / "validation.jsonl", make_rows(40, 6))
    text = TINY.replace('{ train = "train", test', '{ train = "train", dev = "validation", test')
    text = text.replace("[recipes.finetuned.arguments]", SELECTING, 1).replace("seeds = [0, 1]", "seeds = [0]")
    (tmp_path / "tiny.toml").write_text(text, encoding="utf-8")
    assert main(["lock", str(tmp_path / "tiny.toml"), "--store", str(tmp_path / "store")]) == 0
    options = ["--store", str(tmp_path / "store"), "--results", str(tmp_path / "results")]
    assert main(["run", str(tmp_path / "tiny.toml"), *options]) in {0, 1}
    record = read_record(tmp_path / "results/records/tiny/small.finetuned.seed=0.json")
    assert record.training is not None
    selected = record.training.selected
    assert selected is not None
    assert (selected.on, selected.measure, selected.step in {2, 4, 5}) == ("tiny/dev", "mrr@10", True)
    assert {name: len(one.query_ids) for name, one in record.evaluations.items()} == {"tiny/test": 8}


SELECTING = """select = { on = "tiny/dev", measure = "mrr@10" }

[recipes.finetuned.arguments]
eval_steps = 2"""
