"""The device is where tensors live: its name, and how much of its memory they took."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sentence_transformers import SentenceTransformer

TOKENIZED_TOGETHER = 512


def name_device(device: str, cpu: str) -> str:
    """Return the GPU's name as its driver gives it, or ``cpu``, the processor's, for anything else."""
    import torch  # noqa: PLC0415 - takes seconds

    return str(torch.cuda.get_device_name(device)) if device.startswith("cuda") else cpu


def reset_peak_device_memory(device: str) -> None:
    """Let the peak be counted from here."""
    import torch  # noqa: PLC0415 - takes seconds

    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)


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
