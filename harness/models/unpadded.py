"""On a GPU with flash attention, the library's own unpadded inputs: a training batch's texts laid end to end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from sentence_transformers import SentenceTransformer

from harness.experiment.recipe import Recipe
from harness.models.device import Precision, find_flash
from harness.models.packed_encoder import can_group

FLASH = "flash_attention_2"


class Unpadding:
    """Has a model's transformer attend by flash attention, for which the library lays texts end to end.

    Its kernels know fp16 and bf16 alone, so that evaluation, in fp32, goes without.

    Attributes:
        attention: what is attended by, for the record; None where nothing is ever switched.
    """

    def __init__(self, model: SentenceTransformer, recipe: Recipe, *, device: str, precision: Precision) -> None:
        """Bind a model; where `can_unpad` is not true of its training, all below does nothing."""
        unpads = can_unpad(model, recipe, device=device, precision=precision)
        self.attention = f"{FLASH} {find_flash(device)}, unpadded" if unpads else None
        transformer: Any = model[0]
        self._transformer = transformer
        # It has no public name.
        self._own: str = transformer.model.config._attn_implementation if unpads else ""  # noqa: SLF001

    def evaluate(
        self, evaluate: Callable[[SentenceTransformer], Mapping[str, float]], model: SentenceTransformer
    ) -> Mapping[str, float]:
        """Evaluate the model as it attends by itself."""
        with self._switch(self._own, FLASH):
            return evaluate(model)

    def on(self) -> AbstractContextManager[None]:
        """Attend by flash attention within."""
        return self._switch(FLASH, self._own)

    @contextmanager
    def _switch(self, first: str, then: str) -> Iterator[None]:
        self._set(first)
        try:
            yield
        finally:
            self._set(then)

    def _set(self, attention: str) -> None:
        if self.attention is None:
            return
        self._transformer.model.set_attn_implementation(attention)
        # The library finds out anew, whenever this is set, whether it can leave the padding out.
        self._transformer.unpad_inputs = None


def can_unpad(model: SentenceTransformer, recipe: Recipe, *, device: str, precision: Precision) -> bool:
    """Say whether a training can leave the padding to the library: the trainer's own way, with attention it knows.

    A loss that runs the model itself, or a guide beside it, has the batch as the library pads it.
    """
    if find_flash(device) is None or precision == "fp32" or not can_group(model):
        return False
    transformer: Any = model[0]
    return (
        recipe.as_run_on(device)["embedding"] == "padded"
        and not recipe.loss.kind.own_pass
        and recipe.lora is None
        and bool(getattr(transformer.model, "_supports_flash_attn", False))
    )
