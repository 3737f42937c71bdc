"""Turns texts into embeddings, each distinct text once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from harness.errors import HarnessError
from harness.models.device import memory_errors

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

# Texts that are tokenized, and padded to a common length for a moment, at a time.
TOKENIZED_TOGETHER = 256


def encode_texts(
    model: SentenceTransformer,
    texts: Sequence[str],
    *,
    batch_tokens: int,
    progress: Callable[[int, int], None] | None = None,
) -> npt.NDArray[np.float32]:
    """Embed texts in fp32 as `model.encode` does, each distinct text once, those of like length together.

    Args:
        model: the model, which is put into evaluation mode.
        texts: what to embed; duplicates cost nothing.
        batch_tokens: tokens that are embedded together, at most, unless one text alone has more.
        progress: called after each batch with the number of distinct texts that are done, and of all.

    Returns:
        One row per text, in the order of `texts`, shape (texts, dimensions); normalised only if the model does it.

    Raises:
        HarnessError: `batch_tokens` is below 1, or memory does not suffice (names the batch).
    """
    import torch  # noqa: PLC0415 - takes seconds

    from harness.models.packed_encoder import can_pack, embed_packed  # noqa: PLC0415 - imports torch

    if batch_tokens < 1:
        raise HarnessError(f"batch_tokens is {batch_tokens}, expected at least 1")
    numbers: dict[str, int] = {}
    rows = [numbers.setdefault(text, len(numbers)) for text in texts]
    model.eval()
    tokens = _tokenize(model, list(numbers))
    lengths = [len(ids) for ids in tokens]
    dimensions = model.get_embedding_dimension()
    if dimensions is None:
        raise HarnessError("expected a model with a fixed embedding dimension, found one without")
    embeddings = np.empty((len(tokens), dimensions), dtype=np.float32)
    # On a GPU the model's own forward pass has kernels of its own.
    packs = can_pack(model) and model.device.type == "cpu"
    done = 0
    with torch.inference_mode():
        for batch in _batch_by_length(lengths, batch_tokens):
            doing = f"embedding {len(batch)} texts of up to {lengths[batch[0]]} tokens on {model.device}"
            with memory_errors(doing, advice=f"free some, or lower batch_tokens ({batch_tokens})"):
                own = [tokens[index].to(model.device) for index in batch]
                encoded = embed_packed(model, own, dtype=torch.float32) if packs else _embed_padded(model, own)
                embeddings[batch] = encoded.float().cpu().numpy()
            done += len(batch)
            if progress is not None:
                progress(done, len(tokens))
    return embeddings[rows]


def count_truncated(model: SentenceTransformer, texts: Sequence[str]) -> int:
    """Count the texts that have more tokens than the model reads, special tokens included."""
    limit = model.max_seq_length
    if limit is None:
        return 0
    backend = getattr(model.tokenizer, "backend_tokenizer", None)
    if backend is None:
        return sum(len(model.tokenizer(text, truncation=False)["input_ids"]) > limit for text in texts)
    import tokenizers  # noqa: PLC0415 - only here

    # A copy, since switching truncation off would last.
    whole = tokenizers.Tokenizer.from_str(backend.to_str())
    whole.no_truncation()
    whole.no_padding()
    return sum(
        len(encoding.ids) > limit
        for start in range(0, len(texts), TOKENIZED_TOGETHER)
        for encoding in whole.encode_batch(list(texts[start : start + TOKENIZED_TOGETHER]))
    )


def _tokenize(model: SentenceTransformer, texts: Sequence[str]) -> list[torch.Tensor]:
    """Token ids of each text, special tokens included, cut as the model cuts them."""
    tokens = []
    for start in range(0, len(texts), TOKENIZED_TOGETHER):
        features = model.preprocess(list(texts[start : start + TOKENIZED_TOGETHER]))
        # A copy of its own lets the padded block go.
        tokens += [
            ids[mask.bool()] for ids, mask in zip(features["input_ids"], features["attention_mask"], strict=True)
        ]
    return tokens


def _batch_by_length(lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
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


def _embed_padded(model: SentenceTransformer, tokens: Sequence[torch.Tensor]) -> torch.Tensor:
    """Embed one batch through the model's own forward pass."""
    import torch  # noqa: PLC0415 - takes seconds

    padding: Any = getattr(model.tokenizer, "pad_token_id", 0)
    pad = torch.nn.utils.rnn.pad_sequence
    features = {
        "input_ids": pad(list(tokens), batch_first=True, padding_value=padding),
        "attention_mask": pad([torch.ones_like(ids) for ids in tokens], batch_first=True),
    }
    embeddings: torch.Tensor = model(features)["sentence_embedding"]
    return embeddings
