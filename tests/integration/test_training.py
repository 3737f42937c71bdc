"""Training follows the manifest to the bit: columns in their order, a seed for everything, a log of every step."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest

from harness.errors import TrainingError
from harness.experiment.recipe import Embedding
from harness.models.encoder import encode_texts, make_encoder, open_encoder
from harness.models.encoding import Encoding
from harness.models.model_folder import PICKLED_SUFFIXES
from harness.models.training import Checkpoint, train_model
from harness.pipeline.rows import Row, list_columns
from harness.records.record import TrainingLog
from tests.support.manifests import make_rows, parse
from tests.support.tiny_model import build_tiny_model, put_beyond_embeddings
from tests.support.tiny_training import change_recipe

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

# What the trainer's own packages warn of is not what is tested here.
pytestmark = pytest.mark.filterwarnings("default")

ROWS = [Row.pair(row["id"], row["question"], row["answer"]) for row in make_rows(0, 16)]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


def train(base: Path, folder: Path, *, seed: int = 0, **changes: Any) -> Checkpoint:
    """Train on all rows; a recipe's fields and the arguments `progress` and `evaluate` can be changed."""
    options = {name: changes.pop(name) for name in ("progress", "evaluate") if name in changes}
    recipe = change_recipe(parse().recipes["finetuned"], **changes)
    for name in ("target", "scratch"):
        (folder / name).mkdir(parents=True)
    return train_model(
        base,
        list_columns(ROWS, recipe.inputs),
        recipe,
        seed=seed,
        device="cpu",
        precision="fp32",
        target=folder / "target",
        scratch=folder / "scratch",
        **options,
    )


@pytest.fixture(scope="module")
def plain(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """One epoch of four steps, as the tiny manifest has it."""
    return train(base, tmp_path_factory.mktemp("plain"))


def test_the_same_seed_gives_the_same_weights(base: Path, tmp_path: Path, plain: Checkpoint) -> None:
    again = train(base, tmp_path)
    assert again.log.weights_sha256 == plain.log.weights_sha256
    assert again.log.loss == plain.log.loss


def test_another_seed_gives_other_batches_and_weights(base: Path, tmp_path: Path, plain: Checkpoint) -> None:
    other = train(base, tmp_path, seed=1)
    assert other.log.weights_sha256 != plain.log.weights_sha256
    assert other.log.loss[0].loss != plain.log.loss[0].loss


def test_evaluations_on_the_way_see_the_model_and_leave_no_trace(base: Path, tmp_path: Path, plain: Checkpoint) -> None:
    seen: list[float] = []

    def evaluate(model: SentenceTransformer) -> Mapping[str, float]:
        encoder = make_encoder(model, Encoding(), place="model")
        value = float(encode_texts(encoder, [ROWS[0].query], role="query", batch_tokens=512)[0, 0])
        seen.append(value)
        return {"mrr@10": value}

    evaluated = train(base, tmp_path, eval_steps=2, evaluate=evaluate)
    assert len(seen) == 2
    assert seen[0] != seen[1]
    assert evaluated.log.weights_sha256 == plain.log.weights_sha256


def test_checkpoints_on_the_way_leave_no_trace(base: Path, tmp_path: Path, plain: Checkpoint) -> None:
    assert train(base, tmp_path, save_steps=1).log.weights_sha256 == plain.log.weights_sha256


def test_the_model_is_saved_as_safetensors_and_nothing_as_pickle(base: Path, plain: Checkpoint) -> None:
    files = [path for path in plain.folder.parent.rglob("*") if path.is_file()]
    assert plain.folder / "model.safetensors" in files
    assert not [path for path in files if path.suffix in PICKLED_SUFFIXES]
    assert not [path for path in files if path.read_bytes()[:1] == b"\x80"]  # as pickles begin since protocol 2
    text = [ROWS[0].query]
    before, after = (
        encode_texts(open_encoder(folder, device="cpu"), text, role="query", batch_tokens=512)
        for folder in (base, plain.folder)
    )
    assert np.abs(after - before).max() > 1e-3


def test_every_step_has_its_loss_and_rate_in_the_log(plain: Checkpoint) -> None:
    log = TrainingLog.model_validate_json((plain.folder.parent / "training.json").read_text(encoding="utf-8"))
    assert log == plain.log
    assert log.steps == 4
    assert [point.step for point in log.loss] == [1, 2, 3, 4]
    assert all(math.isfinite(point.loss) and point.loss > 0 for point in log.loss)
    assert all(0 <= point.learning_rate <= 1e-3 for point in log.loss)
    assert list((plain.folder.parent / "tensorboard").iterdir())
    assert plain.seconds > 0


def test_progress_is_told_of_every_step(base: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int, float, float]] = []
    checkpoint = train(base, tmp_path, num_train_epochs=2, progress=lambda *step: told.append(step))
    assert [(step, steps) for step, steps, _, _ in told] == [(number, 8) for number in range(1, 9)]
    assert [loss for _, _, loss, _ in told] == [point.loss for point in checkpoint.log.loss]
    assert told[-1][3] == 0.0


@pytest.mark.parametrize("inputs", [("passage", "query"), ("query", "passage")])
@pytest.mark.parametrize("embedding", ["packed", "padded"])
def test_the_loss_takes_the_columns_in_the_manifests_order(
    tmp_path: Path, inputs: tuple[str, str], embedding: Literal["packed", "padded"]
) -> None:
    """The first loss over one batch of everything is that of the formula, with the first column asking.

    MultipleNegativesRankingLoss (Henderson et al. 2017, section 4.4): cross entropy of scaled cosine similarities
    between each text of the first column and all of the second, where its own partner is the right answer.
    """
    base = build_tiny_model(tmp_path / "base", dropout=0.0)
    way = Embedding(cuda="padded", cpu=embedding)
    checkpoint = train(base, tmp_path, inputs=inputs, embedding=way, per_device_train_batch_size=len(ROWS))
    texts = list_columns(ROWS, inputs)
    encoder = open_encoder(base, device="cpu")
    losses = {}
    for asking, answering in (inputs, inputs[::-1]):
        first, second = (
            encode_texts(encoder, texts[column], role="query", batch_tokens=512) for column in (asking, answering)
        )
        scores = 20.0 * first.astype(np.float64) @ second.T  # the model normalises
        losses[asking] = float(np.mean(np.log(np.exp(scores).sum(axis=1)) - np.diag(scores)))
    assert checkpoint.log.loss[0].loss == pytest.approx(losses[inputs[0]], rel=1e-4)
    assert losses[inputs[1]] != pytest.approx(losses[inputs[0]], rel=1e-3)


def test_a_loss_that_is_no_number_stops_training_naming_step_and_batch(base: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError) as caught:
        train(base, tmp_path, learning_rate=1e12, warmup_ratio=0.0)
    said = str(caught.value)
    assert said.startswith("step 2: the loss is nan; the batch begins with '")
    assert "what is the role of" in said
    assert not (tmp_path / "target" / "model").exists()


def test_a_model_that_fails_at_a_text_of_the_data_is_named(tmp_path: Path) -> None:
    broken = build_tiny_model(tmp_path / "broken")
    put_beyond_embeddings(broken, "role")  # every question of the rows has it
    with pytest.raises(TrainingError, match=r"broken: the model cannot be trained.*: IndexError"):
        train(broken, tmp_path)


def test_operators_without_a_deterministic_algorithm_are_listed_once_and_still_warned_of() -> None:
    import torch

    from harness.models.trainer import deterministic_algorithms

    with warnings.catch_warnings(record=True) as said, deterministic_algorithms("cpu") as operators:
        warnings.simplefilter("always")
        for _ in range(2):
            torch.zeros(4).put_(torch.tensor([0, 1]), torch.ones(2))
    assert operators == ["put_"]
    assert [str(warning.message).split(" does not ")[0] for warning in said] == ["put_", "put_"]
    with deterministic_algorithms("cpu") as operators:
        torch.zeros(4).cumsum(0)
    assert operators == []
