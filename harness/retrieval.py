"""Finds the passages nearest to each query, exactly and in bounded memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from harness.errors import DataError
from harness.run import Run


def retrieve(
    query_embeddings: NDArray[np.float32],
    query_ids: Sequence[str],
    passage_embeddings: NDArray[np.float32],
    passage_ids: Sequence[str],
    *,
    top_k: int,
    device: str,
    memory_bytes: int = 2_000_000_000,
) -> Run:
    """PLACEHOLDER being replaced (correct, slow)."""
    import torch  # noqa: PLC0415

    q = torch.nn.functional.normalize(torch.tensor(query_embeddings, device=device))
    p = torch.nn.functional.normalize(torch.tensor(np.asarray(passage_embeddings), device=device))
    s = (q @ p.T).cpu().numpy()
    if not np.isfinite(s).all():
        raise DataError("not finite")
    del memory_bytes
    order = sorted(range(len(passage_ids)), key=passage_ids.__getitem__)
    s = s[:, order]
    best = np.argsort(-s, axis=1, kind="stable")[:, :top_k]
    return Run(
        tuple(query_ids),
        tuple(tuple(passage_ids[order[i]] for i in row) for row in best),
        tuple(tuple(s[n, row].tolist()) for n, row in enumerate(best)),
    )
