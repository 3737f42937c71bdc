"""What to change where a training batch does not fit says first what keeps the recipe's gradients."""

from __future__ import annotations

import pytest

from harness.experiment.loss import Loss
from harness.models.failures import advise_on_memory
from tests.support.tiny_training import make_recipe

RANKING = Loss(name="MultipleNegativesRankingLoss", scale=20.0)
CACHED = Loss(name="CachedMultipleNegativesRankingLoss", scale=20.0, mini_batch_size=4)
PAIRED = Loss(name="CoSENTLoss", scale=20.0)


@pytest.mark.parametrize(
    ("loss", "parts", "absent"),
    [
        (RANKING, ["take the loss CachedMultipleNegativesRankingLoss", "below 8", "fewer negatives"], ["loss.mini"]),
        (CACHED, ["lower loss.mini_batch_size (4), which changes no gradient", "fewer negatives"], ["take the loss"]),
        (
            PAIRED,
            ["per_device_train_batch_size (8) and raise gradient_accumulation_steps (2)", "keeps the rows"],
            ["Cach"],
        ),
    ],
)
def test_advice_is_of_the_loss(loss: Loss, parts: list[str], absent: list[str]) -> None:
    inputs = ("query", "passage", "score") if loss is PAIRED else ("query", "passage")
    advice = advise_on_memory(make_recipe(loss=loss, inputs=inputs, gradient_accumulation_steps=2))
    assert all(part in advice for part in parts), advice
    assert not any(part in advice for part in absent), advice


def test_checkpointed_gradients_are_advised_once() -> None:
    assert "gradient_checkpointing = true" in advise_on_memory(make_recipe())
    assert "gradient_checkpointing" not in advise_on_memory(make_recipe(gradient_checkpointing=True))
