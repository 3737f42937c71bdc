"""Keeps, for each query, the passages that can still be among its best, as sortable integer keys.

A key packs a float32 score above the place of a passage, so that larger integers are better pairs. Where
places count from the last id, the order of the keys is the tie rule of harness/records/run.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

GROUP = 16  # passages whose maximum is looked at before any of them
_FOLD = 4  # columns whose maximum stands for them where a bound is looked for ...
_SPARE_COLUMNS = 16  # ... as long as there are so many for each rank wanted: few of the best then stand for each other
_ROOM = 8  # places in a shortlist for each rank wanted; half of them may be in use after tidying
_LOW_BITS = 32  # of a key: the place of the id; above them: the score
LOW_MASK = (1 << _LOW_BITS) - 1
_SIGNLESS = 0x7FFFFFFF
NO_KEY = -(1 << 63)


def merge(best: Tensor, query: Tensor, keys: Tensor) -> None:
    """Merge keys, given by ascending row, into the rows of `best`, each in descending order."""
    import torch  # noqa: PLC0415

    if len(query):
        counts = torch.bincount(query, minlength=len(best))
        fresh = no_keys(len(best), int(counts.max()), str(best.device))
        fresh[query, _places_within(query, counts)] = keys
        best.copy_(torch.cat([best, fresh], dim=1).topk(best.shape[1], dim=1).values)


def _places_within(rows: Tensor, counts: Tensor) -> Tensor:
    """Number the entries of each row from 0, for ascending rows."""
    import torch  # noqa: PLC0415

    return torch.arange(len(rows), device=rows.device) - (counts.cumsum(0) - counts)[rows]


def no_keys(rows: int, columns: int, device: str) -> Tensor:
    """Make a matrix of the key that is below all others."""
    import torch  # noqa: PLC0415

    return torch.full((rows, columns), NO_KEY, dtype=torch.int64, device=device)


def pack(scores: Tensor, low: Tensor) -> Tensor:
    """Pack float32 scores above places of at most 32 bits, so that integers order as the pairs do."""
    import torch  # noqa: PLC0415

    bits = (scores + 0.0).view(torch.int32)  # -0.0 becomes 0.0: they tie
    return (torch.where(bits < 0, bits ^ _SIGNLESS, bits).long() << _LOW_BITS) | low


def scores_of(keys: Tensor) -> Tensor:
    """Take the float32 scores out of keys."""
    import torch  # noqa: PLC0415

    bits = (keys >> _LOW_BITS).to(torch.int32)
    return torch.where(bits < 0, bits ^ _SIGNLESS, bits).view(torch.float32)


def maxima_of(scores: Tensor, size: int) -> Tensor:
    """Take the maxima of groups of `size` columns evenly apart, which vectorises; columns left over are passed by."""
    groups = scores.shape[1] // size
    return scores[:, : groups * size].view(len(scores), size, groups).amax(1)


def reached_by(scores: Tensor, keep: int) -> Tensor:
    """Bound each row's `keep`-th highest score from below; -inf where there are fewer.

    So high are the `keep` highest of any maxima of groups, each in another column. It is hardly lower than the score
    itself, and found in far less time.
    """
    while scores.shape[1] >= _SPARE_COLUMNS * keep:
        scores = maxima_of(scores, _FOLD)
    if scores.shape[1] < keep:
        return scores.new_full((len(scores),), -float("inf"))
    return scores.topk(keep, dim=1, sorted=False).values.amin(1)


class Shortlists:
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
        self._keys = no_keys(queries, _ROOM * keep, device)
        self._counts = torch.zeros(queries, dtype=torch.int64, device=device)
        self._floors = torch.full((queries,), -torch.inf, device=device)
        self._margin = 0.0
        self.crowded = torch.zeros(queries, dtype=torch.bool, device=device)

    def widen(self, margin: float) -> None:
        """Take note of a stretch's margin; the widest counts, as a list holds passages of all stretches."""
        self._margin = max(self._margin, margin)

    def add(self, block: slice, coarse: Tensor, offset: int, size: int) -> None:
        """Shortlist from coarse scores of shape (queries of the block, passages padded to whole groups).

        The scores of padding are overwritten.
        """
        import torch  # noqa: PLC0415

        coarse[:, size:] = -float("inf")
        groups = coarse.shape[1] // GROUP
        members, maxima = coarse.view(len(coarse), GROUP, groups), maxima_of(coarse, GROUP)
        floors = self._floors[block].to(coarse.dtype)
        hit = maxima >= floors[:, None]
        if GROUP * int(hit.sum(1).max()) > self._keys.shape[1]:  # these floors may hold back too little
            # The block's own best give others.
            own = reached_by(maxima if groups >= self._keep else coarse, self._keep)
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
        self._keys[block][query, column] = pack(coarse[query, passage].float(), offset + passage)
        self._counts[block] += fresh

    def tidy(self, rows: int) -> None:
        """Raise the floors to what the lists allow, of so many queries at once."""
        for start in range(0, len(self._keys), rows):
            self._tidy(slice(start, start + rows))

    def pairs(self, rows: int) -> tuple[Tensor, Tensor]:
        """Return the final shortlists as query (ascending) and passage indices."""
        import torch  # noqa: PLC0415

        self.tidy(rows)
        query = torch.arange(len(self._counts), device=self._counts.device).repeat_interleave(self._counts)
        return query, self._keys[query, _places_within(query, self._counts)] & LOW_MASK

    def _tidy(self, block: slice) -> None:
        """Raise the floors to what the lists allow, and let go of what is below."""
        half, used = self._keys.shape[1] // 2, int(self._counts[block].max())
        if used < self._keep:
            return
        ranked = self._keys[block][:, :used].topk(min(used, half + 1), dim=1).values
        kth = ranked[:, self._keep - 1]
        floors = self._floor(scores_of(kth)).masked_fill(kth == NO_KEY, -float("inf"))
        self._floors[block] = floors.maximum(self._floors[block])
        outside = (ranked == NO_KEY) | (scores_of(ranked) < self._floors[block][:, None])
        full = ~outside[:, half] if used > half else outside.new_zeros(len(outside))
        ranked, outside = ranked[:, :half], outside[:, :half]
        self._keys[block][:, :used] = NO_KEY
        self._keys[block][:, : ranked.shape[1]] = ranked.masked_fill(outside, NO_KEY)
        self._counts[block] = (~outside).sum(1)
        self._give_up(block, full)

    def _give_up(self, block: slice, full: Tensor) -> None:
        if not full.any():
            return
        self.crowded[block] |= full
        self._floors[block] = self._floors[block].masked_fill(full, float("inf"))
        self._keys[block] = self._keys[block].masked_fill(full[:, None], NO_KEY)
        self._counts[block] = self._counts[block].masked_fill(full, 0)

    def _floor(self, kth: Tensor) -> Tensor:
        """Turn coarse scores that `keep` passages reach into floors: float32 that the coarse type can hold."""
        import torch  # noqa: PLC0415

        rounding = kth.float().abs() * (0.51 * torch.finfo(self._dtype).eps)  # half a unit in the last place
        return (kth.float() - rounding - 2 * self._margin).to(self._dtype).float()
