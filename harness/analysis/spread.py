"""The spread between seeds that verdicts and the gate rest on: moderated by what the noise of single queries explains.

scipy.special is imported inside the functions: half of a gate's start-up time would be spent on it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.errors import StatisticsError
from harness.experiment.measure import parse_measure

PRIOR_DEGREES = 4
"""d0: 2, 4 and 8 were compared, and only 4 met both the false alarms and the power of results/calibration.md."""

MOST_RELEVANT = 1000

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Spread:
    """The standard deviation between seeds.

    Attributes:
        sd: s, of one seed's mean over queries.
        degrees: of freedom of s.
        within: s_w, what the noise of single queries explains.
        between: s_b, pooled standard deviation of the seeds' means.
    """

    sd: float
    degrees: int
    within: float
    between: float


def smallest_step(measure: str, queries: int, relevant: int = 1) -> float:
    """Return the least by which a measure's mean over queries can change, when one passage of one query moves.

    With Q queries and cut-off k: 1/Q for accuracy@k, 1/(kQ) for precision@k, 1/(RQ) for recall@k with R relevant
    passages, 1/(2Q) for mrr@k and map@k (from rank 1 to rank 2), and (1 - 1/log2(3))/Q for ndcg@k (likewise).

    Raises:
        ManifestError: the measure is unknown.
        StatisticsError: no query or no relevant passage.
    """
    parsed = parse_measure(measure)
    if queries < 1 or relevant < 1:
        raise StatisticsError(f"{measure}: a step needs a query and a relevant passage, found {queries} and {relevant}")
    steps = {
        "accuracy": 1.0,
        "precision": 1 / parsed.cutoff,
        "recall": 1 / relevant,
        "mrr": 1 / 2,
        "map": 1 / 2,
        "ndcg": 1 - 1 / math.log2(3),
    }
    return steps[parsed.family] / queries


def count_relevant(recalls: ArrayLike) -> int:
    """Return the number R of relevant passages that recall values j/R speak of: their largest denominator."""
    values = np.unique(np.asarray(recalls, dtype=np.float64))
    return max((Fraction(value).limit_denominator(MOST_RELEVANT).denominator for value in values.tolist()), default=1)


def step_of(measure: str, per_query: ArrayLike) -> float:
    """Return `smallest_step` of a measure for a table of values, shape (..., queries)."""
    table = np.asarray(per_query, dtype=np.float64)
    relevant = count_relevant(table) if parse_measure(measure).family == "recall" else 1
    return smallest_step(measure, table.shape[-1], relevant)


def moderate(
    within: ArrayLike, between: ArrayLike, degrees: int, step: float, *, prior: float = PRIOR_DEGREES
) -> Array:
    """Return the moderated variance s², for each pair of variances.

    s² = (d0 max(s_w², g²) + nu s_b²) / (d0 + nu), the posterior mean of a scaled inverse chi-squared prior with d0
    degrees at s_w² (Smyth 2004, "Linear models and empirical Bayes methods for assessing differential expression",
    section 3). It has d0 + nu degrees of freedom.

    Args:
        within: s_w², any shape.
        between: s_b², the same shape.
        degrees: nu, those of s_b².
        step: g, the smallest step of the measure: seeds that happen to agree are no certainty.
        prior: d0.
    """
    floor = np.maximum(np.asarray(within, dtype=np.float64), step**2)
    return np.asarray((prior * floor + degrees * np.asarray(between)) / (prior + degrees), dtype=np.float64)


def pool_spread(sides: Sequence[ArrayLike], step: float) -> Spread:
    """Estimate the spread between seeds from one side or several, whose means may differ.

    nu = sum of (n_i - 1); s_w² = sum of (n_i - 1) (sum over q of Var(x[q]) / Q²) / nu, the variance of a mean over Q
    queries whose seed noise is independent; s_b² = pooled variance of the seeds' means; then `moderate`.

    Args:
        sides: one table of values each, shape (seeds, queries); one seed has no part in it.
        step: g, the smallest step of the measure.

    Raises:
        StatisticsError: no side has two seeds, a table is empty or holds what is not finite.
    """
    tables = [np.atleast_2d(np.asarray(side, dtype=np.float64)) for side in sides]
    if any(not table.size or not np.isfinite(table).all() for table in tables):
        raise StatisticsError("a spread needs finite values of at least one query")
    degrees = sum(len(table) - 1 for table in tables)
    if degrees < 1:
        raise StatisticsError("a spread needs a side with at least 2 seeds")
    several = [table for table in tables if len(table) > 1]
    within = sum(float(((table - table.mean(axis=0)) ** 2).sum()) / table.shape[1] ** 2 for table in several) / degrees
    means = [table.mean(axis=1) for table in several]
    between = sum(float(((mean - mean.mean()) ** 2).sum()) for mean in means) / degrees
    variance = float(moderate(within, between, degrees, step))
    return Spread(math.sqrt(variance), PRIOR_DEGREES + degrees, math.sqrt(within), math.sqrt(between))


def estimate_spread(sides: Sequence[Array], measure: str) -> Spread:
    """Estimate the spread of a measure between seeds: `pool_spread`, never less than one smallest step of it.

    Raises:
        ManifestError: the measure is unknown.
        StatisticsError: as `pool_spread`.
    """
    return pool_spread(sides, step_of(measure, np.concatenate(sides)))


def drop_p_value(drop: ArrayLike, variance: ArrayLike, degrees: int, seeds: tuple[int, int]) -> Array:
    """Return the chance of a drop at least so large from an unchanged pipeline, one-sided.

    t = (mean_ref - mean_cand) / (s sqrt(1/n + 1/k)) with the degrees of `moderate`: the moderated t of Smyth (2004).

    Args:
        drop: mean of the reference's seeds minus mean of the candidate's, any shape.
        variance: s², the same shape.
        degrees: d0 + nu.
        seeds: n and k, of reference and candidate.
    """
    from scipy.special import stdtr  # noqa: PLC0415 - start-up time

    error = np.sqrt(np.asarray(variance) * (1 / seeds[0] + 1 / seeds[1]))
    return np.asarray(stdtr(degrees, -np.asarray(drop) / error), dtype=np.float64)
