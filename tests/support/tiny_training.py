"""A training of seconds with a tiny model, which a test can kill and go on with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness.experiment.arguments import Arguments
from harness.experiment.loss import Loss
from harness.experiment.recipe import Embedding, Precisions, Recipe
from harness.pipeline.rows import Row, list_columns
from tests.support.children import die

if TYPE_CHECKING:
    from harness.models.device import Precision
    from harness.models.training import Checkpoint

WORDS = ["gene", "protein", "cell", "receptor", "cancer", "disease", "treatment", "drug", "risk", "heart", "kinase"]


def make_rows(count: int) -> list[Row]:
    """Return pairs of texts of differing length; some anchors repeat, so that no_duplicates has work to do."""
    rows = []
    for number in range(count):
        first, second = WORDS[number % len(WORDS)], WORDS[(number * 7 + 3) % len(WORDS)]
        anchor = f"what is {first} {number % (count - 3)}"
        rows.append(Row.pair(f"r{number}", anchor, f"{second} and {first} " + f"{first} {number} " * (1 + number % 5)))
    return rows


def make_recipe(**changes: object) -> Recipe:
    """Return a recipe that saves a checkpoint every other step; ``changes`` are of the recipe or of its arguments."""
    arguments = Arguments(
        num_train_epochs=2,
        per_device_train_batch_size=8,
        learning_rate=1e-3,
        warmup_ratio=0.1,
        batch_sampler="no_duplicates",
        save_steps=2,
        save_total_limit=2,
    )
    recipe = Recipe(
        data="tiny",
        inputs=("passage", "query"),
        loss=Loss(name="MultipleNegativesRankingLoss", scale=20.0),
        precision=Precisions(cuda="fp32", cpu="fp32"),
        embedding=Embedding(cuda="grouped", cpu="packed"),
        arguments=arguments,
    )
    return change_recipe(recipe, **changes)


def change_recipe(recipe: Recipe, **changes: object) -> Recipe:
    """Return a recipe with some of its keys, or of its arguments, changed."""
    own = {key: value for key, value in changes.items() if key in Recipe.model_fields}
    others = {key: value for key, value in changes.items() if key not in own}
    return recipe.replace(**own, arguments=recipe.arguments.replace(**others))


def train_tiny(
    base: Path,
    target: Path,
    scratch: Path,
    recipe: Recipe,
    kill_at: int | None = None,
    *,
    device: str = "cpu",
    precision: Precision = "fp32",
) -> Checkpoint:
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
    return train_model(
        base,
        list_columns(make_rows(44), recipe.inputs),
        recipe,
        seed=3,
        device=device,
        precision=precision,
        target=target,
        scratch=scratch,
        progress=watch,
    )
