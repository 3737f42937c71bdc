"""Finds the passages nearest to each query, exactly, in bounded memory and near the machine's matrix rate.

A score and the place of its id in the order of ids are packed into one integer key, larger is better, so the
tie rule (harness/run.py) is the order of the keys, within a chunk, across chunks and at the cut alike.

Few passages are scored in one matrix product. Many come in chunks that are scored coarsely (in bfloat16 where
that is fast) to shortlist the passages that can be among the best, given a proven bound on the coarse score's
error; only those are scored in full. A bound too wide costs time, never a passage.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness.errors import DataError
from harness.run import Run

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    Embeddings = NDArray[np.float32]

_DENSE_PASSAGES = 50_000  # InformationRetrievalEvaluator's chunk: up to here one product gives its very bits
_CHUNK_PASSAGES = 8192  # a chunk's coarse vectors and a block of its scores stay in a core's cache
_BLOCK_SCORES = 256 * _CHUNK_PASSAGES
_GROUP = 64  # passages whose maximum is looked at before any of them
_PAIRS = 1024  # pairs scored in full at once, likewise for the cache
_ROOM = 8  # places in a shortlist for each rank wanted; half of them may be in use after tidying
_LENGTH_EPSILON = 1e-12  # that of torch.nn.functional.normalize, hence of cos_sim
_LOW_BITS = 32  # of a key: the place of the id; above them: the score
_LOW_MASK = (1 << _LOW_BITS) - 1
_SIGNLESS = 0x7FFFFFFF
_NO_KEY = -(1 << 63)


def retrieve(
    query_embeddings: Embeddings,
    query_ids: Sequence[str],
    passage_embeddings: Embeddings,
    passage_ids: Sequence[str],
    *,
    top_k: int,
    device: str,
    memory_bytes: int = 1_000_000_000,
) -> Run:
    """Rank for each query the `top_k` passages of highest cosine, exactly, by the tie rule.

    A vector shorter than 1e-12 is divided by 1e-12 instead of its length, as cos_sim does: zero has cosine 0
    with everything. Up to 50,000 passages, where all scores fit into half of `memory_bytes`, scores are the
    entries of one float32 product of unit vectors: the one that InformationRetrievalEvaluator takes, equal to
    the bit. Otherwise they are cosines computed in float64 and rounded to float32: within 1e-6 of the product,
    nearer the truth, and the same whatever the chunks.

    Args:
        query_embeddings: float32 of shape (queries, dimensions), need not have unit length.
        query_ids: as many, each once.
        passage_embeddings: float32 of shape (passages, dimensions); an array or a memory map, read in slices.
        passage_ids: as many, each once.
        top_k: ranks to keep; with fewer passages, all are ranked.
        device: a torch device, such as "cpu" or "cuda".
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
    with torch.inference_mode():
        by_id = torch.tensor(sorted(range(len(passage_ids)), key=passage_ids.__getitem__), device=device)
        # Of equal scores the lower id has the larger key, hence places counted from the last id.
        low_keys = torch.empty_like(by_id)
        low_keys[by_id.flip(0)] = torch.arange(len(by_id), device=device)
        queries = _unit(query_embeddings, query_ids, 0, "query", device)
        if len(passage_ids) <= _DENSE_PASSAGES and 8 * len(query_ids) * len(passage_ids) <= memory_bytes:
            passages = _unit(passage_embeddings, passage_ids, 0, "passage", device)
            best = _no_keys(len(queries), keep, device)
            _take(best, queries @ passages.T, low_keys)
        else:
            best = _search(queries, query_embeddings, passage_embeddings, passage_ids, low_keys, keep, memory_bytes)
        ranked = by_id.flip(0)[best & _LOW_MASK].tolist()
        return Run(
            query_ids=tuple(query_ids),
            passage_ids=tuple(tuple(map(passage_ids.__getitem__, row)) for row in ranked),
            scores=tuple(map(tuple, _scores(best).tolist())),
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


def _unit(embeddings: Embeddings, ids: Sequence[str], offset: int, kind: str, device: str) -> Tensor:
    """Copy rows to the device and give them length 1, with the arithmetic of torch's `normalize`."""
    import torch  # noqa: PLC0415

    # A memory map may be read-only, which torch cannot share.
    rows = torch.from_numpy(np.array(embeddings, order="C")).to(device)
    lengths = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    finite = lengths.isfinite().flatten()
    if not finite.all():
        row = int(finite.int().argmin())
        raise DataError(
            f"the embedding of {kind} {ids[offset + row]!r} (row {offset + row}) is not finite, or too long for float32",
        )
    return rows.div_(lengths.clamp_min_(_LENGTH_EPSILON))


def _search(
    queries: Tensor,
    query_embeddings: Embeddings,
    passage_embeddings: Embeddings,
    passage_ids: Sequence[str],
    low_keys: Tensor,
    keep: int,
    memory_bytes: int,
) -> Tensor:
    """Shortlist coarsely, then score the shortlists in full; return keys of shape (queries, keep), best first."""
    import torch  # noqa: PLC0415

    device = str(queries.device)
    step = min(_CHUNK_PASSAGES, max(1, memory_bytes // (40 * queries.shape[1])))
    coarse_queries = queries.to(_coarse_dtype(device))
    query_error = float((coarse_queries.float() - queries).norm(dim=1).max())
    shortlists = _Shortlists(len(queries), keep, coarse_queries)
    rows = max(1, _BLOCK_SCORES // step)
    for offset in range(0, len(passage_ids), step):
        passages = _unit(passage_embeddings[offset : offset + step], passage_ids, offset, "passage", device)
        coarse = passages.to(coarse_queries.dtype)
        passage_error = float((coarse.float() - passages).norm(dim=1).max())
        shortlists.widen(_margin(query_error, passage_error, queries.shape[1], device))
        padded = torch.nn.functional.pad(coarse, (0, 0, 0, -len(coarse) % _GROUP))
        for start in range(0, len(queries), rows):
            block = slice(start, min(start + rows, len(queries)))
            shortlists.add(block, coarse_queries[block] @ padded.T, offset, len(passages))
    query, passage = shortlists.pairs(rows)
    keys = _keys(_cosines(query_embeddings, passage_embeddings, query, passage), low_keys[passage])
    best = _no_keys(len(queries), keep, device)
    for start in range(0, len(queries), rows):
        low, high = torch.searchsorted(query, torch.tensor([start, start + rows], device=device)).tolist()
        _merge(best[start : start + rows], query[low:high] - start, keys[low:high])
    crowded = shortlists.crowded.nonzero().flatten()
    for start in range(0, len(crowded), rows):
        some = crowded[start : start + rows]
        exact = _unit64(query_embeddings[some.cpu().numpy()], device)
        found = _no_keys(len(some), keep, device)
        for offset in range(0, len(passage_ids), step):
            passages = _unit64(passage_embeddings[offset : offset + step], device)
            _take(found, (exact @ passages.T).float(), low_keys[offset : offset + step])
        best[some] = found
    return best


def _coarse_dtype(device: str) -> torch.dtype:
    """Choose bfloat16 where the processor multiplies it natively, several times faster than float32."""
    import torch  # noqa: PLC0415

    native = torch.device(device).type == "cpu" and (
        torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()  # noqa: SLF001 - no public name
    )
    return torch.bfloat16 if native else torch.float32


def _margin(query_error: float, passage_error: float, dimensions: int, device: str) -> float:
    """Bound how far a product of rounded unit vectors is from their cosine, before it is rounded itself.

    With q + a and p + b the rounded vectors, (q + a)(p + b) - qp = (q + a)b + ap, by Cauchy and Schwarz at most
    |q + a||b| + |a||p|. To that comes the float32 arithmetic of lengths and sums of d products, each partial
    sum about 1 at most: four times the textbook's d * 2**-24, as libraries sum in orders of their own. Off the
    CPU, inputs may further be cut to TF32's 11 bits.
    """
    cutting = 0.0 if device == "cpu" else 2.0**-9
    return 1.01 * (query_error + passage_error) + (dimensions + 16) * 2.0**-22 + cutting


class _Shortlists:
    """For each query the passages that can still be among the `keep` best, as keys of coarse score and place.

    Let t be a lower bound of a query's `keep`-th best cosine: the `keep`-th best coarse score so far less its
    error. A passage of cosine t or more had a product of at least t - margin before rounding, and since
    rounding is monotone, a coarse score of at least t - margin rounded: the floor. Others are let go. A query
    with more candidates than its list holds, as when thousands of passages tie, is marked crowded instead.
    """

    def __init__(self, queries: int, keep: int, like: Tensor) -> None:
        import torch  # noqa: PLC0415

        device = str(like.device)
        self._keep = keep
        self._dtype = like.dtype
        self._keys = _no_keys(queries, _ROOM * keep, device)
        self._counts = torch.zeros(queries, dtype=torch.int64, device=device)
        self._floors = torch.full((queries,), -torch.inf, device=device)
        self._margin = 0.0
        self.crowded = torch.zeros(queries, dtype=torch.bool, device=device)

    def widen(self, margin: float) -> None:
        """Take note of a chunk's margin; the widest counts, as a list holds passages of all chunks."""
        self._margin = max(self._margin, margin)

    def add(self, block: slice, coarse: Tensor, offset: int, size: int) -> None:
        """Shortlist from coarse scores of shape (queries of the block, passages padded to whole groups)."""
        import torch  # noqa: PLC0415

        groups = coarse.shape[1] // _GROUP
        members = coarse.view(len(coarse), _GROUP, groups)  # strided groups: their maxima vectorise
        maxima = members.amax(1)
        floors = self._floors[block].to(coarse.dtype)
        hit = maxima >= floors[:, None]
        if size >= self._keep and 2 * int(hit.sum()) > hit.numel():
            # These floors hold back little, as at the start. The block's own best give others.
            own = coarse[:, :size].topk(self._keep, dim=1, sorted=False).values.amin(1)
            floors = floors.maximum(self._floor(own).to(coarse.dtype))
            hit = maxima >= floors[:, None]
        query, group = hit.nonzero(as_tuple=True)
        pair, member = (members[query, :, group] >= floors[query, None]).nonzero(as_tuple=True)
        query, passage = query[pair], member * groups + group[pair]
        real = passage < size
        query, passage = query[real], passage[real]
        fresh = torch.bincount(query, minlength=len(coarse))
        if int((self._counts[block] + fresh).max()) > self._keys.shape[1]:
            self._tidy(block)
            full = self._counts[block] + fresh > self._keys.shape[1]
            self._give_up(block, full)
            stays = ~full[query]
            query, passage, fresh = query[stays], passage[stays], fresh.masked_fill(full, 0)
        column = self._counts[block][query] + _places_within(query, fresh)
        self._keys[block][query, column] = _keys(coarse[query, passage].float(), offset + passage)
        self._counts[block] += fresh

    def pairs(self, rows: int) -> tuple[Tensor, Tensor]:
        """Return the final shortlists as query (ascending) and passage indices."""
        for start in range(0, len(self._keys), rows):
            self._tidy(slice(start, start + rows))
        query, column = (self._keys != _NO_KEY).nonzero(as_tuple=True)
        return query, self._keys[query, column] & _LOW_MASK

    def _tidy(self, block: slice) -> None:
        """Raise the floors to what the lists allow, and let go of what is below."""
        half = self._keys.shape[1] // 2
        ranked, last = self._keys[block].topk(half + 1, dim=1).values.tensor_split([half], dim=1)
        kth = ranked[:, self._keep - 1]
        floors = self._floor(_scores(kth)).masked_fill(kth == _NO_KEY, -float("inf"))
        self._floors[block] = floors.maximum(self._floors[block])
        full = (last[:, 0] != _NO_KEY) & (_scores(last[:, 0]) >= self._floors[block])
        outside = (ranked == _NO_KEY) | (_scores(ranked) < self._floors[block][:, None])
        self._keys[block] = _NO_KEY
        self._keys[block][:, :half] = ranked.masked_fill(outside, _NO_KEY)
        self._counts[block] = (~outside).sum(1)
        self._give_up(block, full)

    def _give_up(self, block: slice, full: Tensor) -> None:
        self.crowded[block] |= full
        self._floors[block] = self._floors[block].masked_fill(full, float("inf"))
        self._keys[block] = self._keys[block].masked_fill(full[:, None], _NO_KEY)
        self._counts[block] = self._counts[block].masked_fill(full, 0)

    def _floor(self, kth: Tensor) -> Tensor:
        """Turn coarse scores that `keep` passages reach into floors: float32 that the coarse type can hold."""
        import torch  # noqa: PLC0415

        rounding = kth.float().abs() * (0.51 * torch.finfo(self._dtype).eps)  # half a unit in the last place
        return (kth.float() - rounding - 2 * self._margin).to(self._dtype).float()


def _cosines(query_embeddings: Embeddings, passage_embeddings: Embeddings, query: Tensor, passage: Tensor) -> Tensor:
    """Score pairs in full: float64 cosines rounded to float32, of shape (pairs,)."""
    import torch  # noqa: PLC0415

    device = str(query.device)
    queries = _unit64(query_embeddings, device)
    scores = torch.empty(len(query), dtype=torch.float32, device=device)
    for pairs in passage.argsort().split(_PAIRS):  # in the order of the passages, to walk a memory map once
        rows, place = passage[pairs].unique_consecutive(return_inverse=True)
        passages = _unit64(passage_embeddings[rows.cpu().numpy()], device)
        scores[pairs] = queries[query[pairs]].mul_(passages[place]).sum(1).float()
    return scores


def _unit64(embeddings: Embeddings, device: str) -> Tensor:
    """Copy rows, already checked, to the device in float64 and give them length 1."""
    import torch  # noqa: PLC0415

    rows = torch.from_numpy(np.array(embeddings, dtype=np.float64, order="C")).to(device)
    return rows.div_(torch.linalg.vector_norm(rows, dim=1, keepdim=True).clamp_min_(_LENGTH_EPSILON))


def _take(best: Tensor, scores: Tensor, low_keys: Tensor) -> None:
    """Merge full scores of shape (queries, passages) into the queries' best keys."""
    import torch  # noqa: PLC0415

    keep = best.shape[1]
    rows = max(1, _BLOCK_SCORES // scores.shape[1])
    for kept, block in zip(best.split(rows), scores.split(rows), strict=True):
        lowest = torch.where(kept[:, -1] == _NO_KEY, -torch.inf, _scores(kept[:, -1]))
        if block.shape[1] >= keep:
            lowest = lowest.maximum(block.topk(keep, dim=1, sorted=False).values.amin(1))
        query, passage = (block >= lowest[:, None]).nonzero(as_tuple=True)
        _merge(kept, query, _keys(block[query, passage], low_keys[passage]))


def _merge(best: Tensor, query: Tensor, keys: Tensor) -> None:
    """Merge keys, given by ascending row, into the rows of `best`, each in descending order."""
    import torch  # noqa: PLC0415

    if len(query):
        counts = torch.bincount(query, minlength=len(best))
        fresh = _no_keys(len(best), int(counts.max()), str(best.device))
        fresh[query, _places_within(query, counts)] = keys
        best.copy_(torch.cat([best, fresh], dim=1).topk(best.shape[1], dim=1).values)


def _places_within(rows: Tensor, counts: Tensor) -> Tensor:
    """Number the entries of each row from 0, for ascending rows."""
    import torch  # noqa: PLC0415

    return torch.arange(len(rows), device=rows.device) - (counts.cumsum(0) - counts)[rows]


def _no_keys(rows: int, columns: int, device: str) -> Tensor:
    import torch  # noqa: PLC0415

    return torch.full((rows, columns), _NO_KEY, dtype=torch.int64, device=device)


def _keys(scores: Tensor, low: Tensor) -> Tensor:
    """Pack float32 scores above places of at most 32 bits, so that integers order as the pairs do."""
    import torch  # noqa: PLC0415

    bits = (scores + 0.0).view(torch.int32)  # -0.0 becomes 0.0: they tie
    return (torch.where(bits < 0, bits ^ _SIGNLESS, bits).long() << _LOW_BITS) | low


def _scores(keys: Tensor) -> Tensor:
    """Take the float32 scores out of keys."""
    import torch  # noqa: PLC0415

    bits = (keys >> _LOW_BITS).to(torch.int32)
    return torch.where(bits < 0, bits ^ _SIGNLESS, bits).view(torch.float32)
