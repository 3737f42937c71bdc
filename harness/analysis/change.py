"""What fine-tuning changed, query by query: one cell per model and measure, tested together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.analysis.paired_queries import (
    WinsTiesLosses,
    count_wins,
    effect_size,
    holm,
    paired_bootstrap_intervals,
    sign_flip_test,
)
from harness.analysis.seeds import Interval
from harness.records.record_set import Shelf, list_seeds, list_values

ROUNDS = 100_000
BOOTSTRAP_ROUNDS = 10_000


@dataclass(frozen=True, slots=True)
class ChangedCell:
    """Tuned against base for one model and measure, the query being the unit.

    ``p_value`` is of the two-sided sign-flip test on differences averaged over seeds; ``p_holm`` is corrected
    over all cells of the experiment; ``interval`` is the paired bootstrap's, 95 %.
    """

    model: str
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
        One cell per tuned model and measure; none where base or tuned records are absent.

    Raises:
        RecordError: a record lacks a measure.
    """
    cells: list[tuple[str, str, tuple[int, ...]]] = []
    rows = []
    for model in shelf.experiment.models:
        base, tuned = shelf.select(model.name, "baseline"), shelf.select(model.name, "finetuned")
        if not base or not tuned:
            continue
        for measure in shelf.experiment.evaluation.measures:
            list_values([*base, *tuned], measure)
            after = np.mean([record.per_query[measure] for record in tuned], axis=0)
            rows.append(after - np.asarray(base[0].per_query[measure]))
            cells.append((model.name, measure, list_seeds(tuned)))
    if not cells:
        return ()
    table = np.stack(rows)
    p_values = sign_flip_test(table, seed=seed, rounds=rounds)
    intervals = paired_bootstrap_intervals(table, seed=seed, rounds=min(rounds, BOOTSTRAP_ROUNDS))
    return tuple(
        ChangedCell(
            model=model,
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
        for (model, measure, seeds), row, interval, p_value, corrected in zip(
            cells, table, intervals, p_values, holm(p_values), strict=True
        )
    )
