"""A training of seconds with a tiny model, which a test can kill and go on with."""

from __future__ import annotations

from pathlib import Path

from harness.experiment.manifest import Precisions, Training
from harness.pipeline.dataset import Row, list_columns
from tests.support.children import die

WORDS = ["gene", "protein", "cell", "receptor", "cancer", "disease", "treatment", "drug", "risk", "heart", "kinase"]


def make_rows(count: int) -> list[Row]:
    """Return pairs of texts of differing length; some anchors repeat, so that no_duplicates has work to do."""
    rows = []
    for number in range(count):
        first, second = WORDS[number % len(WORDS)], WORDS[(number * 7 + 3) % len(WORDS)]
        anchor = f"what is {first} {number % (count - 3)}"
        rows.append(Row(f"r{number}", anchor, f"{second} and {first} " + f"{first} {number} " * (1 + number % 5)))
    return rows


def make_recipe(**changes: object) -> Training:
    """Return a recipe that saves a checkpoint every other step."""
    recipe = Training(
        loss="MultipleNegativesRankingLoss",
        scale=20.0,
        columns=("positive", "anchor"),
        epochs=2,
        batch_size=8,
        learning_rate=1e-3,
        warmup_ratio=0.1,
        batch_sampler="no_duplicates",
        precision=Precisions(cuda="fp32", cpu="fp32"),
        checkpoint_steps=2,
        checkpoints_kept=2,
        evaluation_steps=0,
        embedding="grouped",
    )
    return recipe.replace(**changes)


def train_tiny(base: Path, target: Path, scratch: Path, recipe: Training, kill_at: int | None) -> None:
    """Train on 44 pairs in this process and, where asked, be killed after a step.

    The batches of 8 are six an epoch, the last one smaller.
    """
    from harness.models.training import train_model

    def watch(step: int, steps: int, loss: float, left: float) -> None:
        del steps, loss, left
        if step == kill_at:
            die()

    target.mkdir(parents=True)
    scratch.mkdir(parents=True, exist_ok=True)
    train_model(
        base,
        list_columns(make_rows(44), recipe.columns),
        recipe,
        seed=3,
        device="cpu",
        precision="fp32",
        target=target,
        scratch=scratch,
        progress=watch,
    )
