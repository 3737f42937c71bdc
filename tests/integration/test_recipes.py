"""Every loss and every argument that a recipe may name is trained with, for a few steps of a tiny model."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.errors import TrainingError
from harness.experiment.arguments import Arguments
from harness.experiment.loss import LOSSES, Loss, LossName
from harness.experiment.recipe import Matryoshka
from harness.models.loading import load_model
from harness.models.training import Checkpoint, train_model
from harness.pipeline.rows import Row
from harness.pipeline.stages import list_inputs
from harness.records.record import RowsUsed
from tests.support.model_kinds import build
from tests.support.tiny_model import build_tiny_model
from tests.support.tiny_training import make_recipe, make_rows

# What the trainer's own packages warn of is not what is tested here.
pytestmark = pytest.mark.filterwarnings("default")

# Every question is asked twice, so that no_duplicates has work to do.
ROWS = [
    Row(
        f"r{number}",
        f"r{number}",
        f"what is the role of gene {number % 12}",
        row.passage,
        negatives=("no evidence", row.query[::-1]),
        score=(number % 5) / 4,
        label=number % 2,
    )
    for number, row in enumerate(make_rows(24))
]
SETTINGS: dict[LossName, dict[str, Any]] = {
    "MultipleNegativesRankingLoss": {"scale": 20.0, "hardness_mode": "hard_negatives", "hardness_strength": 5.0},
    "CachedMultipleNegativesRankingLoss": {"scale": 20.0, "mini_batch_size": 3},
    "TripletLoss": {"distance_metric": "COSINE", "triplet_margin": 1.0},
    "CoSENTLoss": {"scale": 20.0},
    "AnglELoss": {"scale": 20.0},
    "CosineSimilarityLoss": {},
    "ContrastiveLoss": {"distance_metric": "EUCLIDEAN", "margin": 1.0, "size_average": False},
    "OnlineContrastiveLoss": {"distance_metric": "COSINE_DISTANCE", "margin": 0.5},
    "MarginMSELoss": {},
    "GISTEmbedLoss": {"guide": "guide", "temperature": 0.05, "margin_strategy": "relative", "margin": 0.0},
    "CachedGISTEmbedLoss": {"guide": "guide", "temperature": 0.05, "mini_batch_size": 3, "contrast_anchors": False},
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


def train(
    base: Path, folder: Path, *, rows: Sequence[Row] = ROWS, guide: Path | None = None, **changes: Any
) -> Checkpoint:
    """Train three steps of eight rows, unless the changes say otherwise."""
    recipe = make_recipe(**{"inputs": ("query", "passage"), "num_train_epochs": 1, "save_steps": 100, **changes})
    for name in ("target", "scratch"):
        (folder / name).mkdir(parents=True)
    return train_model(
        base,
        list_inputs(rows, recipe),
        recipe,
        seed=0,
        device="cpu",
        precision="fp32",
        target=folder / "target",
        scratch=folder / "scratch",
        guide=guide or (build_tiny_model(folder / "guide", seed=1) if recipe.loss.guide else None),
    )


@pytest.fixture(scope="module")
def plain(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return train(base, tmp_path_factory.mktemp("plain"))


def choose_inputs(loss: Loss) -> tuple[str, ...]:
    """Name the columns that a loss needs, and two negatives where it takes any number."""
    kind = loss.kind
    texts = ("query", "passage", "negative", "negative_2")[: kind.most_texts or 4]
    return texts if kind.label is None else (*texts, kind.label)


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_is_trained(name: LossName, base: Path, tmp_path: Path, plain: Checkpoint) -> None:
    loss = Loss(name=name, **SETTINGS[name])
    trained = train(base, tmp_path, loss=loss, inputs=choose_inputs(loss))
    assert trained.log.steps == 3
    assert all(point.loss > 0 for point in trained.log.loss)
    assert trained.log.weights_sha256 != plain.log.weights_sha256


@pytest.mark.parametrize("name", ["GISTEmbedLoss", "CachedGISTEmbedLoss"])
def test_a_guide_that_cannot_guide_is_one_line(name: LossName, base: Path, tmp_path: Path) -> None:
    loss, guide = Loss(name=name, **SETTINGS[name]), build(tmp_path / "static", "StaticEmbedding")
    with pytest.raises(TrainingError, match=r"the model cannot be trained by this loss: ValueError: ") as caught:
        train(base, tmp_path, loss=loss, inputs=choose_inputs(loss), guide=guide)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("weights", [None, (1.0, 0.5)])
def test_a_matryoshka_loss_is_the_sum_over_its_dimensions(
    weights: tuple[float, float] | None, base: Path, tmp_path: Path
) -> None:
    """Kusupati et al. 2022: here of the whole embedding and of its half, before the first step."""
    base = build_tiny_model(tmp_path / "base", dropout=0.0)
    width = load_model(base, device="cpu").get_embedding_dimension()
    assert width is not None
    both, whole, half = (
        train(base, tmp_path / name, matryoshka=Matryoshka(dims=dims, weights=weights and weights[: len(dims)]))
        .log.loss[0]
        .loss
        for name, dims in (("both", (width, width // 2)), ("whole", (width,)), ("half", (width // 2,)))
    )
    factor = 1.0 if weights is None else weights[1]
    assert both == pytest.approx(whole + factor * half, rel=1e-4)
    assert whole == pytest.approx(train(base, tmp_path / "plain").log.loss[0].loss, rel=1e-4)


def test_a_cached_loss_is_the_loss_of_the_whole_batch(base: Path, tmp_path: Path) -> None:
    """GradCache (Gao et al. 2021): embedded in parts, the batch and its negatives stay whole."""
    base = build_tiny_model(tmp_path / "base", dropout=0.0)
    cached = Loss(name="CachedMultipleNegativesRankingLoss", scale=20.0, mini_batch_size=3)
    first, second = (
        train(base, tmp_path / name, **changes).log.loss[0].loss
        for name, changes in (("whole", dict[str, Any]()), ("cached", {"loss": cached}))
    )
    assert second == pytest.approx(first, rel=1e-4)


# Of each argument, what makes its effect seen; without an effect on the weights those of speed alone.
EFFECTS: dict[str, dict[str, Any]] = {
    "num_train_epochs": {"num_train_epochs": 0.5},
    "max_steps": {"num_train_epochs": None, "max_steps": 2},
    "per_device_train_batch_size": {"per_device_train_batch_size": 6},
    "gradient_accumulation_steps": {"gradient_accumulation_steps": 2},
    "learning_rate": {"learning_rate": 2e-3},
    "lr_scheduler_type": {"lr_scheduler_type": "constant"},
    "lr_scheduler_kwargs": {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr": 5e-4}},
    "warmup_ratio": {"warmup_ratio": 0.9},
    "warmup_steps": {"warmup_ratio": None, "warmup_steps": 2},
    "optim": {"optim": "sgd"},
    "weight_decay": {"weight_decay": 0.1},
    "adam_beta1": {"adam_beta1": 0.5},
    "adam_beta2": {"adam_beta2": 0.9},
    "adam_epsilon": {"adam_epsilon": 1e-2},
    "max_grad_norm": {"max_grad_norm": 1e-3},
    "gradient_checkpointing": {"gradient_checkpointing": True},
    "batch_sampler": {"batch_sampler": "batch_sampler"},
    "dataloader_drop_last": {"dataloader_drop_last": True, "per_device_train_batch_size": 7},
}
WITHOUT_EFFECT: dict[str, dict[str, Any]] = {
    "dataloader_num_workers": {"dataloader_num_workers": 1},
    "save_steps": {"save_steps": 2},
    "save_total_limit": {"save_total_limit": 1},
    "eval_steps": {"eval_steps": 2},
}


def test_every_argument_is_tried() -> None:
    assert EFFECTS.keys() | WITHOUT_EFFECT.keys() == Arguments.model_fields.keys()


@pytest.mark.parametrize("name", EFFECTS)
def test_an_argument_reaches_the_trainer(name: str, base: Path, tmp_path: Path, plain: Checkpoint) -> None:
    trained = train(base, tmp_path, **EFFECTS[name])
    chosen = make_recipe(**{"num_train_epochs": 1, **EFFECTS[name]}).arguments
    assert trained.log.steps == chosen.count_steps(len(ROWS))
    assert len(trained.log.batches) == chosen.count_batches(len(ROWS))
    assert trained.log.weights_sha256 != plain.log.weights_sha256


def test_arguments_of_speed_and_saving_leave_the_weights_as_they_are(
    base: Path, tmp_path: Path, plain: Checkpoint
) -> None:
    together = {key: value for changes in WITHOUT_EFFECT.values() for key, value in changes.items()}
    del together["eval_steps"]  # wants an evaluation, see test_training
    assert train(base, tmp_path, **together).log.weights_sha256 == plain.log.weights_sha256


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("linear", None),
        ("cosine_with_restarts", {"num_cycles": 2}),
        ("polynomial", None),
        ("cosine", None),
        ("constant_with_warmup", None),
        ("inverse_sqrt", None),
        ("warmup_stable_decay", {"num_decay_steps": 1}),
    ],
)
def test_every_schedule_is_one_of_the_trainers(
    name: str, settings: dict[str, float] | None, base: Path, tmp_path: Path
) -> None:
    trained = train(base, tmp_path, lr_scheduler_type=name, lr_scheduler_kwargs=settings)
    assert trained.log.steps == 3


@pytest.mark.parametrize(
    ("given", "rates"), [({"warmup_ratio": 0.5}, 2), ({"warmup_ratio": None, "warmup_steps": 1}, 1)]
)
def test_warm_up_is_a_share_of_the_steps_or_their_number(
    given: dict[str, Any], rates: int, base: Path, tmp_path: Path
) -> None:
    """Two of three steps where half of them are rounded up; the first rate of a warm-up is 0."""
    logged = [point.learning_rate for point in train(base, tmp_path, **given).log.loss]
    assert [rate < logged[rates] for rate in logged[:rates]] == [True] * rates
    assert logged[0] == 0
    assert logged[rates] == 1e-3


def test_rows_that_fit_into_no_batch_are_counted(base: Path, tmp_path: Path) -> None:
    """Of answers yes and no, a batch without repeats has one each, and for the trainer 40 rows are 5 batches of 8."""
    rows = [Row.pair(f"r{n}", f"is gene {n} a risk", "yes" if n % 2 else "no") for n in range(40)]
    log = train(base, tmp_path, rows=rows).log
    assert log.rows == RowsUsed(given=40, used=10, batches=5, batches_of_one=0)
    # What the trainer itself did.
    assert log.steps == 5
    assert len(log.batches) == 5


def test_all_rows_are_used_where_they_differ(plain: Checkpoint) -> None:
    assert plain.log.rows == RowsUsed(given=24, used=24, batches=3, batches_of_one=0)


def test_batches_of_one_row_are_an_error_where_negatives_come_from_the_batch(base: Path, tmp_path: Path) -> None:
    rows = [dataclasses.replace(row, passage="yes") for row in ROWS]
    with pytest.raises(TrainingError, match="each of 3 batches has one row, so that no passage is a negative"):
        train(base, tmp_path / "none", rows=rows)
    # With negatives of their own there is something to learn.
    assert train(base, tmp_path / "some", rows=rows, inputs=("query", "passage", "negative")).log.rows is not None


def test_no_batch_at_all_is_an_error(base: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="3 rows make no batch of 8: there is nothing to train on"):
        train(base, tmp_path, rows=ROWS[:3], dataloader_drop_last=True)
