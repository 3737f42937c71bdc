"""How alike runs are: those of the seeds with one another, with the untrained model's, and with another system's."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import combinations, product
from statistics import fmean

from harness.analysis.run_agreement import PERSISTENCE, RunAgreement, compare_runs, encode_runs
from harness.experiment.claims import BASELINE
from harness.experiment.trial import label_variant, list_pairs
from harness.records.artifacts import Evidence
from harness.records.ranking import Codes
from harness.records.record import Record
from harness.records.record_set import Shelf
from harness.report.document import Paragraph, Section, Table

HEADING = "Agreement of runs"
# Of so many seeds every pair is compared, and of more each with so many others twice: pairs grow with the square.
MOST_PAIRED, FOLLOWING = 10, 4


# What trained runs are compared with, and which records with which.
_Comparisons = dict[str, tuple[tuple[Record, Record], ...]]


def list_agreements(shelf: Shelf, evidence: Evidence) -> Section:
    """Compare ranked lists and values per query, per test set, by the measures of `harness.analysis.run_agreement`.

    The reference run is the untrained model's own, and that of every system whose run the manifest names. Every pair
    of runs is compared, of more than ten seeds four pairs for each (`pair_seeds`), and the means over pairs are shown.

    Raises:
        RecordError: a run is absent or not that of the record.
        DataError: a run or qrels file breaks a rule.
    """
    experiment = shelf.experiment
    tables = [_list_set(shelf, on, evidence) for on in experiment.evaluation.on]
    found = tuple(table for table in tables if table.rows)
    note = Paragraph(
        f"RMSE is of {experiment.evaluation.primary} per query; tau is Kendall's tau union, which depends on how "
        f"passages are named; RBO has p = {PERSISTENCE} and ends with the lists (Breuer et al. 2020). Each is a mean "
        "over queries, then over pairs of runs."
    )
    return Section(HEADING, (note, *found) if found else ())


def _list_set(shelf: Shelf, on: str, evidence: Evidence) -> Table:
    primary = shelf.experiment.evaluation.primary
    rows = []
    for label, dim, comparisons in _list_comparisons(shelf, on):
        agreements = _compare(comparisons, primary, evidence)
        for against, found in agreements.items():
            means = [fmean(getattr(one, name) for one in found) for name in ("rmse", "tau", "rbo")]
            values = ("" if math.isnan(mean) else f"{mean:.4f}" for mean in means)
            rows.append((label, "" if dim is None else f"{dim}", against, f"{len(found)}", *values))
    columns = ("model", "dimensions", "trained, compared with", "pairs", f"RMSE of {primary}", "tau", "RBO")
    kept = [place for place in range(len(columns)) if place != 1 or any(row[1] for row in rows)]
    return Table(
        tuple(columns[place] for place in kept), tuple(tuple(row[place] for place in kept) for row in rows), title=on
    )


def _list_comparisons(shelf: Shelf, on: str) -> Iterator[tuple[str, int | None, _Comparisons]]:
    """Yield (label, dimension, comparisons) of every trained model."""
    experiment = shelf.experiment
    others = [model.name for model in experiment.models if model.kind == "run"]
    for pair in list_pairs(experiment):
        if pair.recipe is None:
            continue
        label = label_variant(experiment, pair.model, pair.recipe)
        for dim in experiment.model(pair.model).truncate_dims or (None,):
            tuned = shelf.select(pair.model, pair.recipe, on=on, dim=dim)
            found = {"one another": pair_seeds(tuned)}
            found["the untrained model"] = tuple(product(tuned, shelf.select(pair.model, BASELINE, on=on, dim=dim)))
            for name in others:
                found[f"the run of {name}"] = tuple(product(tuned, shelf.select(name, BASELINE, on=on)))
            yield label, dim, {against: pairs for against, pairs in found.items() if pairs}


def pair_seeds(records: Sequence[Record]) -> tuple[tuple[Record, Record], ...]:
    """Pair each record with each other; of very many each with a few that follow it, around in a circle."""
    if len(records) <= MOST_PAIRED:
        return tuple(combinations(records, 2))
    # As many pairs of every seed, so that the mean over pairs leans on none.
    following = [*records, *records[:FOLLOWING]]
    return tuple(
        (one, following[place + step]) for place, one in enumerate(records) for step in range(1, FOLLOWING + 1)
    )


def _compare(comparisons: _Comparisons, primary: str, evidence: Evidence) -> dict[str, list[RunAgreement]]:
    records = {record.run.path: record for pairs in comparisons.values() for pair in pairs for record in pair}
    for record in records.values():
        evidence.check(record.run)
    # All records of a test set hold the same queries in the same order, as the shelf checks.
    queries = next((record.query_ids for record in records.values()), ())
    rankings = [evidence.find_ranking(record.run, record.qrels) for record in records.values()]
    codes = dict(zip(records, encode_runs(rankings, evidence.passages, queries), strict=True))

    def take(record: Record) -> tuple[Codes, tuple[float, ...]]:
        return codes[record.run.path], record.per_query[primary]

    return {
        against: [compare_runs(take(one), take(other)) for one, other in pairs]
        for against, pairs in comparisons.items()
    }
