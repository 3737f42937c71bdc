"""The ways of texts through a model: packed, padded in batches of like length, or the library's own."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Router, Transformer
from torch import Tensor

from harness.models.device import full_precision, memory_errors
from harness.models.encoding import Path, Way
from harness.models.packed_encoder import can_pack, embed_packed

# Texts that are tokenized, and padded to a common length for a moment, at a time.
TOKENIZED_TOGETHER = 256
# A batch of texts whose tokens cannot be counted beforehand takes each for so long.
ASSUMED_TOKENS = 512

TextProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class Tokens:
    """Token ids of texts, special tokens included, and how many of them are the prompt's, where the model minds it."""

    ids: list[Tensor]
    prompt_length: int | None


def list_paths(model: SentenceTransformer) -> list[Path]:
    """Return the ways that may do for a model, the fastest first; the library's own always does."""
    paths: list[Path] = ["library"]
    if isinstance(model[0], Transformer):
        paths.insert(0, "padded")
        # On a GPU the model's own forward pass has kernels of its own.
        if can_pack(model) and model.device.type == "cpu":
            paths.insert(0, "packed")
    return paths


def embed_distinct(
    model: SentenceTransformer, texts: Sequence[str], way: Way, *, batch_tokens: int, progress: TextProgress | None
) -> NDArray[np.float32]:
    """Embed texts in fp32, in batches of like length.

    Args:
        model: in evaluation mode.
        texts: what to embed, one or more.
        way: what is put before them, and how they go through the model.
        batch_tokens: tokens that are embedded together, at most, unless one text alone has more.
        progress: called after each batch with the number of texts that are done, and of all.

    Returns:
        One row per text, whole, whatever the model truncates to; shape (texts, dimensions).

    Raises:
        HarnessError: memory does not suffice (names the batch).
    """
    batches = _embed_by_library if way.path == "library" else _embed_by_length
    embeddings: NDArray[np.float32] | None = None
    done = 0
    with torch.inference_mode(), full_precision():
        for rows, batch in batches(model, texts, way, batch_tokens):
            if embeddings is None:
                embeddings = np.empty((len(texts), batch.shape[1]), dtype=np.float32)
            embeddings[rows] = batch.float().cpu().numpy()
            done += len(rows)
            if progress is not None:
                progress(done, len(texts))
    if embeddings is None:
        raise ValueError("expected one or more texts, found none")
    return embeddings


def _embed_by_length(
    model: SentenceTransformer, texts: Sequence[str], way: Way, batch_tokens: int
) -> Iterator[tuple[list[int], Tensor]]:
    """Yield batches of rows and their embeddings, by our own batches."""
    tokens = tokenize(model, texts, way)
    lengths = [len(ids) for ids in tokens.ids]
    for batch in batch_by_length(lengths, batch_tokens):
        with _memory(len(batch), f"{lengths[batch[0]]} tokens", model, batch_tokens):
            own = [tokens.ids[index] for index in batch]
            if way.path == "packed":
                yield batch, embed_packed(model, own, dtype=torch.float32)
            else:
                yield batch, _embed_padded(model, own, tokens.prompt_length)


def _embed_by_library(
    model: SentenceTransformer, texts: Sequence[str], way: Way, batch_tokens: int
) -> Iterator[tuple[list[int], Tensor]]:
    """Yield batches of rows and their embeddings, by the library's own methods for queries and documents."""
    encode = model.encode_query if way.task == "query" else model.encode_document
    limit = getattr(find_input_module(model, way), "max_seq_length", None)
    # A model without a limit, as one of static embeddings, has no cost that grows with padding.
    size = batch_tokens if limit is None or math.isinf(limit) else max(1, batch_tokens // min(limit, ASSUMED_TOKENS))
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]), reverse=True)
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        with _memory(len(rows), f"{len(texts[rows[0]])} characters", model, batch_tokens):
            with model.truncate_embeddings(None):
                embeddings = encode(
                    [texts[row] for row in rows],
                    prompt=way.prompt,
                    batch_size=size,
                    show_progress_bar=False,
                    convert_to_tensor=True,
                )
            yield rows, embeddings


def _memory(count: int, length: str, model: SentenceTransformer, batch_tokens: int) -> Any:
    return memory_errors(
        f"embedding {count} texts of up to {length} on {model.device}",
        advice=f"free some, or lower batch_tokens ({batch_tokens})",
    )


def find_input_module(model: SentenceTransformer, way: Way) -> Any:
    """Return the module that tokenizes texts of a way: of a router, the first of the route."""
    first: Any = model[0]
    if not isinstance(first, Router):
        return first
    # The library decides on a route by task and modality; it has no public name.
    route = first._resolve_route(task=way.task, modality="text")  # noqa: SLF001 - see above
    modules: Any = first.sub_modules
    return modules[route][0]


def tokenize(model: SentenceTransformer, texts: Sequence[str], way: Way) -> Tokens:
    """Tokenize texts as the model does, and cut them as it does."""
    ids: list[Tensor] = []
    prompt_length = None
    options: dict[str, Any] = {} if way.task is None else {"task": way.task}
    for start in range(0, len(texts), TOKENIZED_TOGETHER):
        features: dict[str, Any] = model.preprocess(
            list(texts[start : start + TOKENIZED_TOGETHER]), prompt=way.prompt, **options
        )
        prompt_length = features.get("prompt_length")
        # A copy of its own lets the padded block go.
        ids += [row[mask.bool()] for row, mask in zip(features["input_ids"], features["attention_mask"], strict=True)]
    return Tokens(ids, prompt_length)


def batch_by_length(lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """Cut the texts, longest first, into batches of at most `batch_tokens` tokens when padded to the longest.

    The longest come first, so that a run that does not fit into memory fails at once.
    """
    batches: list[list[int]] = []
    width = 0
    for index in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
        if not batches or (len(batches[-1]) + 1) * width > batch_tokens:
            batches.append([])
            width = lengths[index]
        batches[-1].append(index)
    return batches


def _embed_padded(model: SentenceTransformer, tokens: Sequence[Tensor], prompt_length: int | None) -> Tensor:
    """Embed one batch through the model's own forward pass."""
    padding: Any = getattr(model.tokenizer, "pad_token_id", 0)
    pad = torch.nn.utils.rnn.pad_sequence
    features: dict[str, Any] = {
        "input_ids": pad(list(tokens), batch_first=True, padding_value=padding),
        "attention_mask": pad([torch.ones_like(ids) for ids in tokens], batch_first=True),
    }
    # Padded first: one copy to the device, not one for each text.
    features = {name: block.to(model.device) for name, block in features.items()}
    if prompt_length is not None:
        features["prompt_length"] = prompt_length
    embeddings: Tensor = model(features)["sentence_embedding"]
    return embeddings
