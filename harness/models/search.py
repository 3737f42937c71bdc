"""Finds the passages nearest to each query, exactly, in bounded memory and near the machine's matrix rate.

A score and the place of its id in the order of ids are packed into one integer key, larger is better, so the
tie rule (harness/records/run.py) is the order of the keys, within a chunk, across chunks and at the cut alike.

Few passages are scored in one matrix product. Many come in stretches that are scored coarsely (in bfloat16 where
that is fast) to shortlist the passages that can be among the best, given a proven bound on the coarse score's
error; only those are scored in full. A bound too wide costs time, never a passage.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from harness.errors import DataError
from harness.experiment.model import Similarity
from harness.models.device import full_precision, memory_errors, native_bf16, open_device
from harness.models.shortlist import GROUP, LOW_MASK, NO_KEY, Shortlists, merge, no_keys, pack, reached_by, scores_of
from harness.records.run import Run

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Embeddings: TypeAlias = NDArray[np.float32]
"""One row of numbers per text."""

_DENSE_PASSAGES = 50_000  # InformationRetrievalEvaluator's chunk: up to here one product gives its very bits
_CHUNK_PASSAGES = 2048  # a chunk's vectors and a block of its scores stay in the processor's cache
_BLOCK_SCORES = 1024 * _CHUNK_PASSAGES
_STRETCH_PASSAGES = 131_072  # scored coarsely together: one stretch gives floors that no other raises by much
_BLOCK_QUERIES = 512
_PAIRED_PASSAGES = 16_384  # in float64 at once, for the scores of pairs
_LENGTH_EPSILON = 1e-12  # that of torch.nn.functional.normalize, hence of cos_sim


def retrieve(
    query_embeddings: Embeddings,
    query_ids: Sequence[str],
    passage_embeddings: Embeddings,
    passage_ids: Sequence[str],
    *,
    top_k: int,
    device: str,
    similarity: Similarity = "cosine",
    memory_bytes: int = 1_000_000_000,
) -> Run:
    """Rank for each query the `top_k` passages of highest similarity, exactly, by the tie rule.

    For cosines a vector shorter than 1e-12 is divided by 1e-12 instead of its length, as cos_sim does: zero has cosine
    0 with everything. Up to 50,000 passages, where all scores fit into half of `memory_bytes`, cosines and dot products
    are the entries of one float32 product: the one that InformationRetrievalEvaluator takes, equal to the bit.
    Otherwise they are computed in float64 and rounded to float32: nearer the truth, cosines within 1e-6 of the product,
    and the same whatever the chunks. Euclidean and Manhattan similarities, which are distances below zero, always are,
    pair by pair and without a shortlist: slow where passages are many.

    Args:
        query_embeddings: float32 of shape (queries, dimensions), need not have unit length.
        query_ids: as many, each once.
        passage_embeddings: float32 of shape (passages, dimensions); an array or a memory map, read in slices.
        passage_ids: as many, each once.
        top_k: ranks to keep; with fewer passages, all are ranked.
        device: a torch device, such as "cpu" or "cuda".
        similarity: what a score is; higher is nearer.
        memory_bytes: working memory wanted, beyond embeddings, ids, `8 * top_k` keys a query and the run.

    Returns:
        The run, queries in the order given.

    Raises:
        DataError: when shapes and ids do not fit each other, ids repeat, there is nothing to rank, or an
            embedding is not finite or too long for float32; names the row and its id.
    """
    import torch  # noqa: PLC0415 - takes seconds to import

    _check(query_embeddings, query_ids, "query")
    _check(passage_embeddings, passage_ids, "passage")
    if query_embeddings.shape[1] != passage_embeddings.shape[1]:
        raise DataError(
            f"queries have {query_embeddings.shape[1]} dimensions but passages {passage_embeddings.shape[1]}",
        )
    if top_k < 1:
        raise DataError(f"top_k is {top_k}, expected at least 1")
    keep = min(top_k, len(passage_ids))
    open_device(device)
    with torch.inference_mode(), full_precision():
        by_id = torch.tensor(sorted(range(len(passage_ids)), key=passage_ids.__getitem__), device=device)
        # Of equal scores the lower id has the larger key, hence places counted from the last id.
        low_keys = torch.empty_like(by_id)
        low_keys[by_id.flip(0)] = torch.arange(len(by_id), device=device)
        unit = similarity == "cosine"
        advice = "free some, or take a machine with more"
        with memory_errors(f"ranking {len(passage_ids)} passages for {len(query_ids)} queries", advice=advice):
            queries = _copy(query_embeddings, query_ids, 0, "query", device=device, unit=unit)
            if similarity in {"euclidean", "manhattan"}:
                best = _measure_all(
                    query_embeddings,
                    passage_embeddings,
                    passage_ids,
                    low_keys=low_keys,
                    keep=keep,
                    power=2.0 if similarity == "euclidean" else 1.0,
                )
            elif len(passage_ids) <= _DENSE_PASSAGES and 8 * len(query_ids) * len(passage_ids) <= memory_bytes:
                passages = _copy(passage_embeddings, passage_ids, 0, "passage", device=device, unit=unit)
                best = no_keys(len(queries), keep, device)
                _take(best, queries @ passages.T, low_keys)
            else:
                best = _search(
                    queries,
                    query_embeddings,
                    passage_embeddings,
                    passage_ids,
                    low_keys=low_keys,
                    keep=keep,
                    unit=unit,
                    memory_bytes=memory_bytes,
                )
        ranked = by_id.flip(0)[best & LOW_MASK].tolist()
        return Run(
            query_ids=tuple(query_ids),
            passage_ids=tuple(tuple(map(passage_ids.__getitem__, row)) for row in ranked),
            scores=tuple(map(tuple, scores_of(best).tolist())),
        )


def _check(embeddings: Embeddings, ids: Sequence[str], kind: str) -> None:
    if embeddings.ndim != 2 or embeddings.dtype != np.float32:  # noqa: PLR2004 - a matrix
        raise DataError(
            f"{kind} embeddings are {embeddings.dtype} of shape {embeddings.shape}, expected a float32 matrix",
        )
    if len(embeddings) != len(ids):
        raise DataError(f"{len(embeddings)} {kind} embeddings but {len(ids)} {kind} ids")
    if not len(ids) or not embeddings.shape[1]:
        raise DataError(f"{kind} embeddings of shape {embeddings.shape}: nothing to rank")
    if len(set(ids)) != len(ids):
        raise DataError(f"{len(ids) - len(set(ids))} {kind} ids repeat an earlier one")


def _copy(embeddings: Embeddings, ids: Sequence[str], offset: int, kind: str, *, device: str, unit: bool) -> Tensor:
    """Copy rows to the device, check them and, where asked, give them length 1 by the arithmetic of `normalize`.

    A length whose square fits float32 also keeps every dot product and distance within it.
    """
    import torch  # noqa: PLC0415

    # A memory map may be read-only, which torch cannot share.
    rows = torch.from_numpy(np.array(embeddings, order="C")).to(device)
    lengths = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    finite = lengths.isfinite().flatten()
    if not finite.all():
        row = int(finite.int().argmin())
        raise DataError(
            f"the embedding of {kind} {ids[offset + row]!r} (row {offset + row}) is not finite or too long for float32",
        )
    return rows.div_(lengths.clamp_min_(_LENGTH_EPSILON)) if unit else rows


def _search(
    queries: Tensor,
    query_embeddings: Embeddings,
    passage_embeddings: Embeddings,
    passage_ids: Sequence[str],
    *,
    low_keys: Tensor,
    keep: int,
    unit: bool,
    memory_bytes: int,
) -> Tensor:
    """Shortlist coarsely, then score the shortlists in full; return keys of shape (queries, keep), best first.

    For dot products a query has length 1 in the shortlist all the same, which orders its passages alike, and what a
    coarse score can be off by grows with the longest passage.
    """
    import torch  # noqa: PLC0415

    device = str(queries.device)
    if not unit:
        queries = queries / torch.linalg.vector_norm(queries, dim=1, keepdim=True).clamp_min(_LENGTH_EPSILON)
    coarse_queries = queries.to(_coarse_dtype(device))
    query_error = float((coarse_queries.float() - queries).norm(dim=1).max())
    shortlists = Shortlists(len(queries), keep, coarse_queries)
    step = max(GROUP, min(_STRETCH_PASSAGES, memory_bytes // (16 * queries.shape[1])) // GROUP * GROUP)
    rows = max(1, min(_BLOCK_QUERIES, memory_bytes // (4 * step * coarse_queries.itemsize)))
    for number, offset in enumerate(range(0, len(passage_ids), step)):
        if number and number & (number - 1) == 0:  # twice as many seen as at the last time: the floors have risen
            shortlists.tidy(rows)
        stretch = slice(offset, min(offset + step, len(passage_ids)))
        size = stretch.stop - stretch.start
        coarse = coarse_queries.new_zeros(size + -size % GROUP, queries.shape[1])
        passage_error, longest = 0.0, 1.0 if unit else 0.0
        for start, passages in _read_chunks(passage_embeddings, passage_ids, stretch, device=device, unit=unit):
            part = coarse[start - offset : start - offset + len(passages)].copy_(passages)
            passage_error = max(passage_error, float((part.float() - passages).norm(dim=1).max()))
            if not unit:
                longest = max(longest, float(torch.linalg.vector_norm(passages, dim=1).max()))
        shortlists.widen(_margin(query_error, passage_error, queries.shape[1], device, longest=longest))
        for start in range(0, len(queries), rows):
            block = slice(start, min(start + rows, len(queries)))
            shortlists.add(block, coarse_queries[block] @ coarse.T, offset, size)
    query, passage = shortlists.pairs(_BLOCK_QUERIES)
    exact = _score_pairs(query_embeddings, passage_embeddings, query, passage, unit=unit, memory_bytes=memory_bytes)
    keys = pack(exact, low_keys[passage])
    best = no_keys(len(queries), keep, device)
    for start in range(0, len(queries), _BLOCK_QUERIES):
        edges = torch.tensor([start, start + _BLOCK_QUERIES], device=device)
        low, high = torch.searchsorted(query, edges).tolist()
        merge(best[start : start + _BLOCK_QUERIES], query[low:high] - start, keys[low:high])
    crowded = shortlists.crowded.nonzero().flatten()
    for start in range(0, len(crowded), _BLOCK_QUERIES):
        some = crowded[start : start + _BLOCK_QUERIES]
        asked = query_embeddings[some.cpu().numpy()]
        # On the CPU whatever the device, as the scores of pairs.
        found = _rank_all(asked, passage_embeddings, low_keys=low_keys.cpu(), keep=keep, unit=unit)
        best[some] = found.to(device)
    return best


def _read_chunks(
    embeddings: Embeddings, ids: Sequence[str], rows: slice, *, device: str, unit: bool
) -> Iterator[tuple[int, Tensor]]:
    """Yield passages of some rows, checked, a chunk at a time, each with its first row."""
    for start in range(rows.start, rows.stop, _CHUNK_PASSAGES):
        chunk = slice(start, min(start + _CHUNK_PASSAGES, rows.stop))
        yield start, _copy(embeddings[chunk], ids, start, "passage", device=device, unit=unit)


def _rank_all(
    query_embeddings: Embeddings, passage_embeddings: Embeddings, *, low_keys: Tensor, keep: int, unit: bool
) -> Tensor:
    """Score every passage in full, without a shortlist; return keys of shape (queries, keep), best first."""
    queries = _copy64(query_embeddings, "cpu", unit=unit)
    found = no_keys(len(queries), keep, "cpu")
    for offset in range(0, len(passage_embeddings), _CHUNK_PASSAGES):
        passages = _copy64(passage_embeddings[offset : offset + _CHUNK_PASSAGES], "cpu", unit=unit)
        _take(found, (queries @ passages.T).float(), low_keys[offset : offset + _CHUNK_PASSAGES])
    return found


def _measure_all(
    query_embeddings: Embeddings,
    passage_embeddings: Embeddings,
    passage_ids: Sequence[str],
    *,
    low_keys: Tensor,
    keep: int,
    power: float,
) -> Tensor:
    """Score every pair by its distance below zero, in float64; return keys of shape (queries, keep), best first."""
    import torch  # noqa: PLC0415

    device = str(low_keys.device)
    queries = _copy64(query_embeddings, device, unit=False)
    best = no_keys(len(queries), keep, device)
    for offset in range(0, len(passage_ids), _CHUNK_PASSAGES):
        rows = passage_embeddings[offset : offset + _CHUNK_PASSAGES]
        _copy(rows, passage_ids, offset, "passage", device=device, unit=False)  # refuses what is not finite
        passages = _copy64(rows, device, unit=False)
        for start in range(0, len(queries), _CHUNK_PASSAGES):
            block = slice(start, start + _CHUNK_PASSAGES)
            distances = torch.cdist(
                queries[block], passages, p=power, compute_mode="donot_use_mm_for_euclid_dist"
            ).float()
            _take(best[block], distances.neg_(), low_keys[offset : offset + len(rows)])
    return best


def _coarse_dtype(device: str) -> torch.dtype:
    """Choose bfloat16 where the processor multiplies it natively, several times faster than float32."""
    import torch  # noqa: PLC0415

    kind = torch.device(device).type
    return torch.bfloat16 if kind == "cpu" and native_bf16(kind) else torch.float32


def _margin(query_error: float, passage_error: float, dimensions: int, device: str, *, longest: float) -> float:
    """Bound how far a product of rounded vectors is from that of a unit query and a passage, before it is rounded.

    With q + a and p + b the rounded vectors, (q + a)(p + b) - qp = (q + a)b + ap, by Cauchy and Schwarz at most
    |q + a||b| + |a||p|, where |p| is `longest` at most. To that comes the float32 arithmetic of lengths and sums of d
    products, each partial sum about |p| at most: four times the textbook's d * 2**-24, as libraries sum in orders of
    their own. Off the CPU, inputs may further be cut to TF32's 11 bits.
    """
    cutting = 0.0 if device == "cpu" else 2.0**-9
    return 1.01 * (query_error * longest + passage_error) + ((dimensions + 16) * 2.0**-22 + cutting) * longest


def _score_pairs(
    query_embeddings: Embeddings,
    passage_embeddings: Embeddings,
    query: Tensor,
    passage: Tensor,
    *,
    unit: bool,
    memory_bytes: int,
) -> Tensor:
    """Score pairs in full, queries ascending: float64 cosines or dot products rounded to float32, of shape (pairs,).

    On the CPU whatever the device, each pair by itself, so that its score does not depend on what else is scored.
    """
    import torch  # noqa: PLC0415

    queries = _copy64(query_embeddings, "cpu", unit=unit)
    query, passage, device = query.cpu(), passage.cpu(), query.device
    scores = torch.empty(len(query), dtype=torch.float32)
    # Each passage is read once, front to back as a memory map wants it.
    untyped: Any = passage
    rows, place = untyped.unique(return_inverse=True)
    step = max(1, min(_PAIRED_PASSAGES, memory_bytes // (32 * queries.shape[1])))
    for start in range(0, len(rows), step):
        passages = _copy64(passage_embeddings[rows[start : start + step].numpy()], "cpu", unit=unit)
        pairs = ((place >= start) & (place < start + step)).nonzero().flatten()
        scores[pairs] = _multiply_pairs(queries, passages, query[pairs], place[pairs] - start).float()
    return scores.to(device)


def _multiply_pairs(queries: Tensor, passages: Tensor, query: Tensor, passage: Tensor) -> Tensor:
    """Return the dot products of pairs, of shape (pairs,), given by ascending query."""
    import torch  # noqa: PLC0415

    first = torch.searchsorted(query, torch.arange(len(queries) + 1))
    with warnings.catch_warnings():
        # Said of all that is in this format; the one operator taken here is held against sums of products by a test.
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        wanted = torch.sparse_csr_tensor(
            first, passage, queries.new_zeros(len(passage)), (len(queries), len(passages)), check_invariants=False
        )
    found: Tensor = torch.sparse.sampled_addmm(wanted, queries, passages.T, beta=0.0).values()
    return found


def _copy64(embeddings: Embeddings, device: str, *, unit: bool) -> Tensor:
    """Copy rows, already checked, to the device in float64 and, where asked, give them length 1."""
    import torch  # noqa: PLC0415

    rows = torch.from_numpy(np.array(embeddings, dtype=np.float64, order="C")).to(device)
    return rows.div_(torch.linalg.vector_norm(rows, dim=1, keepdim=True).clamp_min_(_LENGTH_EPSILON)) if unit else rows


def _take(best: Tensor, scores: Tensor, low_keys: Tensor) -> None:
    """Merge full scores of shape (queries, passages) into the queries' best keys."""
    import torch  # noqa: PLC0415

    keep = best.shape[1]
    rows = max(1, _BLOCK_SCORES // scores.shape[1])
    for start in range(0, len(best), rows):
        kept, block = best[start : start + rows], scores[start : start + rows]
        lowest = torch.where(kept[:, -1] == NO_KEY, -torch.inf, scores_of(kept[:, -1]))
        lowest = lowest.maximum(reached_by(block, keep))
        query, passage = (block >= lowest[:, None]).nonzero(as_tuple=True)
        merge(kept, query, pack(block[query, passage], low_keys[passage]))
