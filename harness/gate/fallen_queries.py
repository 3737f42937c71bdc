"""The queries behind each primary measure that fell: all drawn, and those that fell most by their texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from harness.core.text import clip
from harness.gate.compare import GateReport
from harness.gate.quality import QualityCell, Status
from harness.gate.query_texts import QueryTexts, read_query_texts
from harness.records.record import Record
from harness.report.document import ChangeChart, Paragraph, Picture, Section, Table

MOST_QUERIES = 10
QUERY_CHARACTERS = 120


def list_fallen_queries(
    result: GateReport, reference: Sequence[Record], candidate: Sequence[Record], folders: Sequence[Path]
) -> Section:
    """Draw and list the queries behind each primary measure that fell, where no record is in doubt."""
    if result.problems:
        return Section("Query by query", ())
    blocks: list[Paragraph | Table | Picture] = []
    for cell in result.quality:
        fell = cell.status in (Status.REGRESSION, Status.SUSPECT, Status.WITHIN_CHANCE)
        if cell.deciding and cell.against == "accepted" and fell:
            before, after = _select(reference, cell), _select(candidate, cell)
            blocks += _list_queries(cell, before, after, read_query_texts([*after, *before], folders))
    return Section("Query by query", tuple(blocks))


def _list_queries(
    cell: QualityCell, before: Sequence[Record], after: Sequence[Record], asked: QueryTexts
) -> Iterator[Paragraph | Table | Picture]:
    old, new = (np.mean([record.per_query[cell.measure] for record in records], axis=0) for records in (before, after))
    changes = new - old
    order = np.argsort(changes, kind="stable")
    query_ids = before[0].query_ids
    fallen = [place for place in order[:MOST_QUERIES].tolist() if changes[place] < 0]
    named = any(query_ids[place] in asked.texts for place in fallen)
    rows = tuple(
        (
            *((clip(asked.texts.get(query_ids[place], ""), QUERY_CHARACTERS),) if named else ()),
            query_ids[place],
            f"{old[place]:.4f}",
            f"{new[place]:.4f}",
            f"{changes[place]:+.4f}",
        )
        for place in fallen
    )
    fell, rose = int((changes < 0).sum()), int((changes > 0).sum())
    model, _, variant = cell.group.partition("/")[2].rpartition("/")
    chart = ChangeChart(cell.measure, tuple(changes[order][::-1].tolist()), rose, len(changes) - fell - rose, fell)
    caption = f"Change in {cell.measure} from reference to candidate for each of {len(changes)} queries, {cell.group}"
    yield Picture(f"changes-{model}-{variant}-{cell.measure.replace('@', '-')}", caption, chart)
    columns = (*(("query", "id") if named else ("query",)), "reference", "candidate", "change")
    title = f"{cell.group}: {cell.measure}, the {len(rows)} queries that fell most of {fell}"
    yield Table(columns, rows, title=title, spare=("id",) if named else ())
    if asked.problem is not None:
        yield Paragraph(f"The texts of these queries are not shown: {asked.problem}")


def _select(records: Sequence[Record], cell: QualityCell) -> list[Record]:
    return [
        record
        for record in records
        if f"{record.trial.experiment}/{record.trial.model}/{record.trial.variant}" == cell.group
    ]
