"""One table for every test set: all models at all their dimensions beside each other, before and after training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.experiment.claims import BASELINE
from harness.experiment.trial import Pair, label_variant, list_pairs
from harness.records.record import Record
from harness.records.record_set import Shelf
from harness.report.document import Section, Table
from harness.report.verdict_tables import Assessment, format_spread, list_measure


def list_test_sets(found: Assessment) -> Section:
    """Set all models side by side on each test set; nothing where one model has one result, shown elsewhere already."""
    experiment = found.shelf.experiment
    tables = tuple(table for on in experiment.evaluation.on if (table := _list_set(found, on)) is not None)
    rows = sum(len(table.rows) for table in tables)
    several = len(experiment.models) > 1 or len(tables) > 1 or rows > len(list_pairs(experiment)) * 2
    return Section("By test set", tables if several else ())


def _list_set(found: Assessment, on: str) -> Table | None:
    experiment = found.shelf.experiment
    measures = [name for name in experiment.evaluation.measures if name in found.measures]
    primary = experiment.evaluation.primary
    shown = [primary, *(name for name in measures if name != primary)] if primary in measures else measures
    rows = []
    data = None
    for model, variant, dim, records in _list_cells(found.shelf, on):
        data = records[0].data
        label = label_variant(experiment, model, variant)
        when = "untrained" if variant == BASELINE else "trained"
        values = [format_spread(list_measure(records, measure)) for measure in shown]
        rows.append((label, when, "" if dim is None else f"{dim}", *values))
    if data is None:
        return None
    seeds = max(len(records) for *_, records in _list_cells(found.shelf, on))
    many = f"; ± is the sd over {seeds} seeds" if seeds > 1 else ""
    title = f"{on}: {data.queries} queries, {data.passages} passages{many}"
    kept = [0, 1, *([2] if any(row[2] for row in rows) else []), *range(3, 3 + len(shown))]
    columns = ("model", "", "dimensions", *shown)
    return Table(
        tuple(columns[place] for place in kept), tuple(tuple(row[place] for place in kept) for row in rows), title=title
    )


def _list_cells(shelf: Shelf, on: str) -> Iterator[tuple[str, str, int | None, Sequence[Record]]]:
    """Yield (model, variant, dimension, records) of every cell that has records, each once."""
    told: set[tuple[str, str]] = set()
    for pair in list_pairs(shelf.experiment):
        for variant in pair.variants:
            if (pair.model, variant) in told:
                continue
            told.add((pair.model, variant))
            yield from _list_dims(shelf, pair, variant, on)


def _list_dims(
    shelf: Shelf, pair: Pair, variant: str, on: str
) -> Iterator[tuple[str, str, int | None, Sequence[Record]]]:
    for dim in shelf.experiment.model(pair.model).truncate_dims or (None,):
        records = shelf.select(pair.model, variant, on=on, dim=dim)
        if records:
            yield pair.model, variant, dim, records
