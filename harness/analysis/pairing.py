"""Two stored sets of records, perhaps of two experiments: which of their cells can be paired query by query."""

from __future__ import annotations

from collections.abc import Sequence

from harness.analysis.comparison import CellName, ComparedCells, compare_records, correct
from harness.errors import RecordError
from harness.experiment.comparisons import split_cell
from harness.records.record import Record

Cells = dict[CellName, tuple[Record, ...]]


def compare_sets(
    a: Sequence[Record], b: Sequence[Record], *, cell_a: str | None = None, cell_b: str | None = None
) -> tuple[ComparedCells, ...]:
    """Compare cells of two sets of records, by the primary measure of A on its primary test set, Holm over all.

    Args:
        a: records of one experiment.
        b: records of one experiment, the same or another.
        cell_a: MODEL or MODEL/RECIPE of A. Where one cell is named, the other is that of the same name; where none is,
            every cell that both sets have is compared.
        cell_b: likewise of B.

    Returns:
        One comparison per pair of cells.

    Raises:
        RecordError: naming what cannot be paired: cells that are not there, other queries, judgements, numbers of
            passages, or measures.
    """
    sides = _group(a, "A"), _group(b, "B")
    if cell_a is None and cell_b is None:
        pairs = [(name, name) for name in sides[0] if name in sides[1]]
        if not pairs:
            raise RecordError(f"A and B have no cell in common: A has {_list(sides[0])}; B has {_list(sides[1])}")
    else:
        pairs = [(split_cell(cell_a or cell_b or ""), split_cell(cell_b or cell_a or ""))]
    for side, cells, wanted in (("A", sides[0], pairs[0][0]), ("B", sides[1], pairs[0][1])):
        if wanted not in cells:
            raise RecordError(f"{side} has no records of {'/'.join(wanted)}; it has {_list(cells)}")
    return correct([_compare(sides[0][one], sides[1][other]) for one, other in pairs])


def _group(records: Sequence[Record], side: str) -> Cells:
    """Return the records by cell, in the order of their seeds, all of one experiment."""
    experiments = sorted({record.trial.experiment for record in records})
    if len(experiments) != 1:
        raise RecordError(f"{side}: expected records of one experiment, found {', '.join(experiments) or 'none'}")
    ids = [record.trial.id for record in records]
    repeated = next((name for name in ids if ids.count(name) > 1), None)
    if repeated is not None:
        raise RecordError(f"{side}: {repeated}: two records of this trial, expected one")
    cells: dict[CellName, list[Record]] = {}
    for record in sorted(records, key=lambda record: -1 if record.trial.seed is None else record.trial.seed):
        cells.setdefault((record.trial.model, record.trial.variant), []).append(record)
    return {name: tuple(found) for name, found in cells.items()}


def _compare(a: Sequence[Record], b: Sequence[Record]) -> ComparedCells:
    first = a[0].at()
    views = [_see(record, first) for record in (*a, *b)]
    return compare_records(views[: len(a)], views[len(a) :], first.experiment.evaluation.primary)


def _see(record: Record, first: Record) -> Record:
    """Return a record as seen from the test set of another record, whatever its own name of that."""
    for view in record.views:
        if (view.query_ids, view.qrels.sha256, view.data.passages) == (
            first.query_ids,
            first.qrels.sha256,
            first.data.passages,
        ):
            return view
    there = "; ".join(map(_describe, record.views))
    raise RecordError(
        f"{record.trial.id} cannot be paired with {first.trial.id}, which is on {_describe(first)}; it has {there}"
    )


def _describe(view: Record) -> str:
    queries, passages = len(view.query_ids), view.data.passages
    return f"{view.result_name} ({queries} queries, {passages} passages, judgements {view.qrels.sha256[:12]})"


def _list(cells: Cells) -> str:
    return ", ".join("/".join(name) for name in cells)
