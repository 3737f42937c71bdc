"""The library's losses, by the recipe's name for them, and on the same batches without arithmetic on padding."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import losses
from sentence_transformers.sentence_transformer.losses.contrastive import SiameseDistanceMetric
from sentence_transformers.sentence_transformer.losses.triplet import TripletDistanceMetric
from torch import Tensor, nn

from harness.experiment.recipe import Recipe
from harness.models.device import Precision
from harness.models.packed_attention import cut_by_length
from harness.models.packed_encoder import can_group, can_pack, embed_packed

DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

# What one more forward pass costs, counted in tokens that could be embedded meanwhile.
FORWARD_OVERHEAD_TOKENS = 64


def make_loss(
    model: SentenceTransformer, recipe: Recipe, *, precision: Precision, guide: SentenceTransformer | None = None
) -> nn.Module:
    """Build the recipe's loss over the model that is trained.

    Texts are embedded as the recipe asks, unless the loss runs the model itself. Where gradients are checkpointed, the
    model's own forward pass does it, so that nothing is packed. MatryoshkaLoss works on that forward pass as well.
    """
    loss = _make_plain(model, recipe, guide)
    if recipe.matryoshka is not None:
        weights = None if recipe.matryoshka.weights is None else list(recipe.matryoshka.weights)
        return losses.MatryoshkaLoss(model, loss, list(recipe.matryoshka.dims), weights)
    way = recipe.embedding.cpu if model.device.type == "cpu" else recipe.embedding.cuda
    if way == "padded" or recipe.loss.kind.own_pass:
        return loss
    return GroupedLoss(model, loss, precision=precision, may_pack=not recipe.arguments.gradient_checkpointing)


def _make_plain(model: SentenceTransformer, recipe: Recipe, guide: SentenceTransformer | None) -> nn.Module:
    """Build the library's own loss."""
    settings = dict(recipe.loss.arguments)
    if guide is not None:
        settings["guide"] = guide
    if "distance_metric" in settings:
        metrics: Any = TripletDistanceMetric if recipe.loss.name == "TripletLoss" else SiameseDistanceMetric
        settings["distance_metric"] = getattr(metrics, str(settings["distance_metric"]))
    loss: nn.Module = getattr(losses, recipe.loss.name)(model, **settings)
    return loss


class GroupedLoss(nn.Module):
    """A loss of the library whose texts are embedded without their padding.

    The batch and the loss over its embeddings are those of the loss it is given, whose own method computes it; in fp32
    without dropout so are the gradients, to rounding. The texts of all columns are sorted by length together. On a CPU
    a BERT or MPNet encoder then runs once over all of them laid end to end, and only attention works in blocks of like
    length; on a GPU, and for any other transformer, the model's own forward pass runs on one group of like length after
    another. A model whose batches cannot be cut anew (see `can_group`) has the library's own way.
    """

    def __init__(
        self, model: SentenceTransformer, loss: nn.Module, *, precision: Precision, may_pack: bool = True
    ) -> None:
        """Bind the loss to the model it trains.

        Args:
            model: the model; it is not changed.
            loss: one of the library's with `compute_loss_from_embeddings`, of the same model.
            precision: of the matrix products. The weights, their gradients and the optimizer stay in fp32. For a model
                that cannot be packed, the trainer's autocast decides instead.
            may_pack: whether texts may be laid end to end where the model allows it.
        """
        super().__init__()
        self.model = model
        self.loss = loss
        self.precision: Precision = precision
        # On a GPU the trainer's autocast and the model's own forward pass have kernels of their own.
        self.packs = may_pack and can_pack(model) and model.device.type == "cpu"
        self.groups = can_group(model)

    def forward(self, sentence_features: Iterable[dict[str, Any]], labels: Tensor | None) -> Tensor:
        """Compute the loss of one batch.

        Args:
            sentence_features: one dict per column with `input_ids` and `attention_mask`, each (texts, tokens).
            labels: one per row, where the loss compares with any.

        Returns:
            The loss, a scalar.
        """
        columns = list(sentence_features)
        if not self.groups:
            plain: Tensor = self.loss(columns, labels)
            return plain
        embeddings = self._embed_packed(columns) if self.packs else self._embed_groups(columns)
        own: Any = self.loss
        value: Tensor = own.compute_loss_from_embeddings(embeddings, labels)
        return value

    def _embed_packed(self, columns: list[dict[str, Any]]) -> list[Tensor]:
        lengths, owners = _measure(columns)
        texts = [
            columns[column]["input_ids"][row, :length] for length, (column, row) in zip(lengths, owners, strict=True)
        ]
        embeddings = embed_packed(self.model, texts, dtype=DTYPES[self.precision])
        return list(embeddings.view(len(columns), len(texts) // len(columns), -1).unbind(0))

    def _embed_groups(self, columns: list[dict[str, Any]]) -> list[Tensor]:
        lengths, owners = _measure(columns)
        order = sorted(range(len(lengths)), key=lengths.__getitem__)
        ascending = [lengths[row] for row in order]
        parts = []
        for first, last in cut_by_length(ascending, overhead=FORWARD_OVERHEAD_TOKENS, power=1):
            rows = [owners[row] for row in order[first:last]]
            trimmed = {
                key: torch.nn.utils.rnn.pad_sequence(
                    [columns[column][key][row, : ascending[last - 1]] for column, row in rows], batch_first=True
                )
                for key, value in columns[0].items()
                if isinstance(value, Tensor) and value.shape == columns[0]["input_ids"].shape
            }
            parts.append(self.model(trimmed)["sentence_embedding"])
        places = torch.empty(len(order), dtype=torch.long)
        places[torch.tensor(order)] = torch.arange(len(order))
        embeddings = torch.cat(parts).index_select(0, places.to(parts[0].device))
        return list(embeddings.view(len(columns), len(order) // len(columns), -1).unbind(0))


def _measure(columns: list[dict[str, Any]]) -> tuple[list[int], list[tuple[int, int]]]:
    """Count the tokens of every text of every column, and note its column and row."""
    counts = torch.stack([features["attention_mask"].sum(1) for features in columns]).tolist()
    owners = [(column, row) for column, own in enumerate(counts) for row in range(len(own))]
    return [length for own in counts for length in own], owners
