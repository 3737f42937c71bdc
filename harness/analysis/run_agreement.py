"""How alike two runs are, by the reproducibility measures of the field: RMSE per query, Kendall's tau union and RBO.

Breuer et al. 2020, "How to Measure the Reproducibility of System-oriented IR Experiments" (SIGIR), section 4.1, as
their package repro_eval 0.5.0 computes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.errors import StatisticsError
from harness.records.ranking import ABSENT, Codes, Passages, Ranking

PERSISTENCE = 0.95
"""p of RBO, repro_eval's default: the expected depth of reading is 1/(1 - p) = 20 ranks."""

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class RunAgreement:
    """How alike two runs are, each a mean over queries.

    Attributes:
        rmse: of the values per query; 0 where they are equal.
        tau: Kendall's tau union, from -1 to 1; nan where no query has two ranks in both runs.
        rbo: rank-biased overlap, from 0 to 1.
    """

    rmse: float
    tau: float
    rbo: float


def encode_runs(rankings: Sequence[Ranking], passages: Passages, query_ids: Sequence[str]) -> tuple[Codes, ...]:
    """Return each run as integers, which order as the passages' ids do.

    Args:
        rankings: ranked lists, as ``passages`` numbered them.
        passages: the ids of all numbers.
        query_ids: Q ids, the rows; a run may lack some.

    Returns:
        One table per run, shape (Q, longest list of all), `ABSENT` behind a list's end.
    """
    rows = {query: row for row, query in enumerate(query_ids)}
    depth = max((ranking.codes.shape[1] for ranking in rankings), default=0)
    tables = []
    for ranking in rankings:
        table = np.full((len(rows), depth), ABSENT, dtype=np.int32)
        places = [(rows[query], place) for place, query in enumerate(ranking.query_ids) if query in rows]
        if places:
            to, come = zip(*places, strict=True)
            table[list(to), : ranking.codes.shape[1]] = ranking.codes[list(come)]
        tables.append(table)
    met = np.unique(np.concatenate([np.zeros(0, dtype=np.int32), *(table.ravel() for table in tables)]))
    ids = list(passages.numbers)
    # Numbers that are met only, so that what else was numbered takes no place.
    ordered = np.full(len(ids) + 1, ABSENT, dtype=np.int32)  # the last entry is for ABSENT, which is -1
    for place, number in enumerate(sorted(met[met != ABSENT].tolist(), key=ids.__getitem__)):
        ordered[number] = place
    return tuple(ordered[table] for table in tables)


def root_mean_square_error(ours: ArrayLike, theirs: ArrayLike) -> float:
    """Return sqrt(sum over q of (x[q] - y[q])² / Q) of one measure's values per query (Breuer et al. 2020, eq. 4).

    Raises:
        StatisticsError: no query, or not as many on both sides.
    """
    one, other = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    if one.shape != other.shape or not one.size:
        raise StatisticsError(f"RMSE needs the same queries on both sides, found {one.size} and {other.size} values")
    return float(np.sqrt(np.mean((one - other) ** 2)))


def kendall_tau_union(ours: Codes, theirs: Codes) -> Array:
    """Return Kendall's tau union of each query (Breuer et al. 2020, eq. 1 and 2).

    The passages of both lists are numbered in one order, here of their ids as in repro_eval, and each list becomes the
    numbers of its passages by rank. tau = (P - N) / (n (n - 1) / 2), with P pairs of ranks whose two numbers rise or
    fall in both lists, N others, and n ranks. So a passage that is swapped for another in place costs little or
    much, by what their ids happen to be; lists that are equal give 1.

    Args:
        ours: what `encode_runs` gave, shape (Q, depth).
        theirs: another run of the same call.

    Returns:
        Shape (Q,); n is the shorter list's length (repro_eval refuses lists of two lengths), and nan below 2.
    """
    one, other = _align(ours, theirs)
    there = (one != ABSENT) & (other != ABSENT)
    alike, pairs = np.zeros(len(ours)), np.zeros(len(ours))
    # Ranks that lie `step` apart, of all queries at once. What is absent comes last, so a pair is there where its lower
    # rank is.
    for step in range(1, len(one)):
        same = (one[step:] > one[:-step]) == (other[step:] > other[:-step])
        alike += (same & there[step:]).sum(axis=0)
        pairs += there[step:].sum(axis=0)
    with np.errstate(invalid="ignore"):
        return np.asarray((2 * alike - pairs) / pairs, dtype=np.float64)


def rank_biased_overlap(ours: Codes, theirs: Codes, *, persistence: float = PERSISTENCE) -> Array:
    """Return the rank-biased overlap of each query, cut at the depth of the tables and normalised there.

    RBO = sum over d of p^(d - 1) |A_d and B_d| / d, divided by sum of p^(d - 1), where A_d and B_d are the first d
    passages of each list (Webber et al. 2010, eq. 4; normalised as in Clarke et al. 2021, Assessing Top-k Preferences).

    Args:
        ours: what `encode_runs` gave, shape (Q, depth).
        theirs: another run of the same call.
        persistence: p, above 0 and below 1.

    Returns:
        Shape (Q,), from 0 to 1; nan where one of the runs lacks the query.
    """
    one, other = _align(ours, theirs)
    depth, queries = one.shape
    if not depth:
        return np.full(queries, np.nan)
    # One number for each query and passage, so that one search finds the rank of every passage in the other run.
    stride = int(max(one.max(), other.max())) + 1
    keys, other_keys = (np.arange(queries) * stride + np.maximum(table, 0, dtype=np.int64) for table in (one, other))
    ranks, columns = np.nonzero(other != ABSENT)
    known = other_keys[ranks, columns]
    order = np.argsort(known)
    places = np.minimum(np.searchsorted(known, keys, sorter=order), len(known) - 1)
    both = (one != ABSENT) & (known[order][places] == keys)
    rank, query = np.nonzero(both)
    # A passage is in both heads from the lower of its two ranks on.
    entered = np.bincount(np.maximum(rank, ranks[order][places][both]) * queries + query, minlength=depth * queries)
    overlap = entered.reshape(depth, queries).cumsum(axis=0)
    weights = persistence ** np.arange(depth)
    values = (weights / np.arange(1, depth + 1) / weights.sum()) @ overlap
    return np.where((one[0] == ABSENT) | (other[0] == ABSENT), np.nan, values)


def _align(ours: Codes, theirs: Codes) -> tuple[Codes, Codes]:
    """Return both tables rank by rank, shape (depth, Q), which numpy takes in long strides."""
    if ours.shape != theirs.shape:
        raise StatisticsError(f"runs of one call have one shape, found {ours.shape} and {theirs.shape}")
    return np.ascontiguousarray(ours.T), np.ascontiguousarray(theirs.T)


def compare_runs(ours: tuple[Codes, ArrayLike], theirs: tuple[Codes, ArrayLike]) -> RunAgreement:
    """Compare two runs, each given as its ranked lists and its values per query.

    Queries that one of the runs lacks count in RMSE, by their values, and in nothing else.

    Raises:
        StatisticsError: as `root_mean_square_error`.
    """
    (one, values), (other, others) = ours, theirs
    tau, rbo = kendall_tau_union(one, other), rank_biased_overlap(one, other)
    return RunAgreement(root_mean_square_error(values, others), _mean(tau), _mean(rbo))


def _mean(values: Array) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
