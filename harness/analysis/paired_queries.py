"""What queries say of a change, all paired by query: randomization, bootstrap, effect size, who won."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.analysis.seeds import Interval, check_level
from harness.errors import StatisticsError
from harness.experiment.trial import Pair, list_pairs
from harness.records.record_set import Shelf, list_seeds, list_values

ROUNDS = 100_000
BOOTSTRAP_ROUNDS = 10_000
Array = NDArray[np.float64]
Alternative = Literal["two-sided", "less", "greater"]

CHUNK_NUMBERS = 1 << 22  # random bits drawn at once: another number would draw others, and change every p-value
BLOCK_NUMBERS = 1 << 15  # 256 KiB of float64 at once: from the processor's cache it takes a third of the time
ROUNDING = 1e-12  # relative: sums in another order differ by less, distinct sums of ranks by far more


@dataclass(frozen=True, slots=True)
class WinsTiesLosses:
    """How many queries got better, stayed, got worse."""

    wins: int
    ties: int
    losses: int


def sign_flip_test(
    differences: ArrayLike, *, seed: int, rounds: int = 100_000, alternative: Alternative = "two-sided"
) -> Array:
    """Test for each cell whether its queries' mean difference is zero, by flipping signs at random.

    Under the null hypothesis either system could have made either value of a query, so every difference is
    as likely with the other sign (Fisher 1935; Smucker, Allan & Carterette 2007 for retrieval). p = (1 +
    count) / (rounds + 1), which is never zero and valid at any number of rounds (Phipson & Smyth 2010). All
    cells share each round's signs, which keeps their correlation and costs one matrix product.

    Args:
        differences: one row per cell, one column per query, shape (cells, queries) or (queries,).
        seed: of the random signs.
        rounds: number B of sign patterns.
        alternative: "less" tests for a mean below zero, "greater" for one above.

    Returns:
        p-values, shape (cells,).

    Raises:
        StatisticsError: no query, a difference that is not finite, or fewer than one round.
    """
    table = _table(differences)
    if rounds < 1:
        raise StatisticsError(f"a randomization test needs at least 1 round, found {rounds}")
    # Queries without any difference add nothing to any sum, whatever their sign.
    table = table[:, np.any(table != 0, axis=0)]
    if not table.shape[1]:
        return np.ones(len(table))
    total = table.sum(axis=1)
    slack = ROUNDING * np.abs(table).sum(axis=1)
    generator = np.random.default_rng(seed)
    counts = np.zeros(len(table), dtype=np.int64)
    for size in _chunks(rounds, table.shape[1], CHUNK_NUMBERS):
        packed = np.frombuffer(generator.bytes(size * -(-table.shape[1] // 8)), dtype=np.uint8)
        sums = _sum_drawn(packed.reshape(size, -1), table)  # the signed sum is 2 * sums - total
        sums *= 2
        sums -= total
        if alternative == "two-sided":
            extreme = np.abs(sums) >= np.abs(total) - slack
        elif alternative == "less":
            extreme = sums <= total + slack
        else:
            extreme = sums >= total - slack
        counts += np.count_nonzero(extreme, axis=0)
    return np.asarray((1.0 + counts) / (rounds + 1.0), dtype=np.float64)


def _sum_drawn(packed: NDArray[np.uint8], table: Array) -> Array:
    """Sum, for every round, the differences of the queries whose bit is set, in blocks that stay in the cache."""
    queries = table.shape[1]
    sums = np.empty((len(packed), len(table)))
    transposed = np.ascontiguousarray(table.T)
    start = 0
    for size in _chunks(len(packed), queries, BLOCK_NUMBERS):
        bits = np.unpackbits(packed[start : start + size], axis=1, count=queries)
        sums[start : start + size] = bits.astype(np.float64) @ transposed
        start += size
    return sums


def holm(p_values: ArrayLike) -> Array:
    """Return Holm's (1979) adjusted p-values, in the given order.

    Rejecting those of at most 0.05 keeps the chance of any false rejection in the whole family at most 0.05,
    however its cells depend on each other.

    Args:
        p_values: shape (..., cells); each row is a family of its own.

    Returns:
        Adjusted p-values, of the same shape.

    Raises:
        StatisticsError: a p-value outside [0, 1].
    """
    raw = np.asarray(p_values, dtype=np.float64)
    if not raw.ndim or not np.all((raw >= 0) & (raw <= 1)):
        raise StatisticsError(f"p-values lie in [0, 1] and form a list, found shape {raw.shape}: {raw}")
    order = np.argsort(raw, axis=-1, kind="stable")
    factors = np.arange(raw.shape[-1], 0, -1)
    ascending = np.take_along_axis(raw, order, axis=-1) * factors
    adjusted = np.empty_like(raw)
    np.put_along_axis(adjusted, order, np.minimum(np.maximum.accumulate(ascending, axis=-1), 1.0), axis=-1)
    return adjusted


def paired_bootstrap_intervals(
    differences: ArrayLike, *, seed: int, level: float = 0.95, rounds: int = 10_000
) -> tuple[Interval, ...]:
    """Return the percentile interval of each cell's mean difference, queries drawn with replacement.

    Efron & Tibshirani (1993), section 13.3. With hundreds of queries the mean is close to symmetric, where the
    percentile interval needs no correction. All cells share each round's draw of queries.

    Args:
        differences: one row per cell, one column per query, shape (cells, queries) or (queries,).
        seed: of the random draws.
        level: of the intervals.
        rounds: number of draws.

    Raises:
        StatisticsError: no query, a difference that is not finite, a level outside (0, 1), or no round.
    """
    check_level(level)
    table = _table(differences)
    if rounds < 1:
        raise StatisticsError(f"a bootstrap needs at least 1 round, found {rounds}")
    queries = table.shape[1]
    generator = np.random.default_rng(seed)
    means = np.empty((rounds, len(table)))
    transposed = np.ascontiguousarray(table.T)
    start = 0
    for size in _chunks(rounds, queries, BLOCK_NUMBERS):
        drawn = generator.integers(queries, size=(size, queries))
        drawn += np.arange(size)[:, None] * queries
        weights = np.bincount(drawn.ravel(), minlength=size * queries).reshape(size, queries)
        means[start : start + size] = weights.astype(np.float64) @ transposed / queries
        start += size
    lows, highs = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return tuple(Interval(float(low), float(high), level) for low, high in zip(lows, highs, strict=True))


def effect_size(differences: ArrayLike) -> float | None:
    """Return Cohen's d_z: mean of the differences by their standard deviation (Cohen 1988, section 2.3.5).

    Args:
        differences: shape (queries,).

    Returns:
        The effect size, or None where all differences are equal and so have no spread to compare with.

    Raises:
        StatisticsError: no query, or a difference that is not finite.
    """
    sample = _table(differences)[0]
    if np.all(sample == sample[0]):
        return None
    size = float(sample.mean() / sample.std(ddof=1))
    return size if math.isfinite(size) else None


def count_wins(differences: ArrayLike, *, tolerance: float = 1e-12) -> WinsTiesLosses:
    """Count the queries whose difference is above, within and below ``tolerance`` of zero.

    Args:
        differences: shape (queries,).
        tolerance: below it a difference is a rounding.

    Raises:
        StatisticsError: no query, or a difference that is not finite.
    """
    sample = _table(differences)[0]
    wins = int(np.count_nonzero(sample > tolerance))
    losses = int(np.count_nonzero(sample < -tolerance))
    return WinsTiesLosses(wins, len(sample) - wins - losses, losses)


def _table(differences: ArrayLike) -> Array:
    table = np.atleast_2d(np.asarray(differences, dtype=np.float64))
    if table.ndim != 2 or not table.size:  # noqa: PLR2004 - cells by queries
        raise StatisticsError(f"differences must be cells by queries, at least one each, found shape {table.shape}")
    if not np.all(np.isfinite(table)):
        cell, query = np.argwhere(~np.isfinite(table))[0]
        raise StatisticsError(f"difference of cell {cell}, query {query} is not finite: {table[cell, query]}")
    return table


def _chunks(rounds: int, queries: int, numbers: int) -> list[int]:
    size = max(1, numbers // max(1, queries))
    full, rest = divmod(rounds, size)
    return [size] * full + [rest] * (rest > 0)


@dataclass(frozen=True, slots=True)
class ChangedCell:
    """Tuned against base for one model, recipe and measure, the query being the unit.

    ``p_value`` is of the two-sided sign-flip test on differences averaged over seeds; ``p_holm`` is corrected
    over all cells of the experiment; ``interval`` is the paired bootstrap's, 95 %.
    """

    pair: Pair
    measure: str
    seeds: tuple[int, ...]
    queries: int
    difference: float
    interval: Interval
    p_value: float
    p_holm: float
    effect_size: float | None
    counts: WinsTiesLosses


def compare_tuned(shelf: Shelf, *, rounds: int, seed: int) -> tuple[ChangedCell, ...]:
    """Compare every tuned model with its base, each query's difference averaged over seeds.

    The query is the unit, so that more seeds do not manufacture significance.

    Args:
        shelf: the experiment's records.
        rounds: sign patterns of the randomization test; of the bootstrap at most 10,000.
        seed: of the random draws.

    Returns:
        One cell per tuned model, recipe and measure; none where base or tuned records are absent.

    Raises:
        RecordError: a record lacks a measure.
    """
    cells: list[tuple[Pair, str, tuple[int, ...]]] = []
    rows = []
    for pair in list_pairs(shelf.experiment):
        base, tuned = shelf.select_pair(pair)
        if not base or not tuned:
            continue
        for measure in shelf.experiment.evaluation.measures:
            list_values([*base, *tuned], measure)
            after = np.mean([record.per_query[measure] for record in tuned], axis=0)
            rows.append(after - np.asarray(base[0].per_query[measure]))
            cells.append((pair, measure, list_seeds(tuned)))
    if not cells:
        return ()
    table = np.stack(rows)
    p_values = sign_flip_test(table, seed=seed, rounds=rounds)
    intervals = paired_bootstrap_intervals(table, seed=seed, rounds=min(rounds, BOOTSTRAP_ROUNDS))
    return tuple(
        ChangedCell(
            pair=pair,
            measure=measure,
            seeds=seeds,
            queries=table.shape[1],
            difference=float(row.mean()),
            interval=interval,
            p_value=float(p_value),
            p_holm=float(corrected),
            effect_size=effect_size(row),
            counts=count_wins(row),
        )
        for (pair, measure, seeds), row, interval, p_value, corrected in zip(
            cells, table, intervals, p_values, holm(p_values), strict=True
        )
    )
