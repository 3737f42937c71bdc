"""How each model was asked: what stood before its texts, how they were compared, and what to know of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.records.record import Record
from harness.report.document import Finding, Section, Table
from harness.report.run_tables import sort_records


def list_models(records: Sequence[Record]) -> Section:
    """Show prompts, similarity and parameters, once for each model; the first records have none of them."""
    rows = []
    for model in dict.fromkeys(record.trial.model for record in sort_records(records)):
        own = [record for record in sort_records(records) if record.trial.model == model]
        rows += list(dict.fromkeys(row for record in own if (row := _describe(record)) is not None))
    columns = ("model", "before queries", "before passages", "similarity", "parameters")
    kept = [place for place in range(len(columns)) if place == 0 or any(row[place] for row in rows)]
    table = Table(tuple(columns[place] for place in kept), tuple(tuple(row[place] for place in kept) for row in rows))
    return Section("How models were asked", (table,) if rows else ())


def list_notes(records: Sequence[Record]) -> Iterator[Finding]:
    """Say what a reader of the values should know of how they came about, each once."""
    told = set()
    for record in sort_records(records):
        of_encoding = () if record.encoding is None else record.encoding.notes
        for place, note in [*(("", note) for note in of_encoding), *_list_result_notes(record)]:
            finding = Finding("notice", "how it was ranked", f"{record.trial.model}{place}: {note}")
            if finding not in told:
                told.add(finding)
                yield finding


def _list_result_notes(record: Record) -> Iterator[tuple[str, str]]:
    for name, result in record.evaluations.items():
        yield from ((f" on {name}", note) for note in result.notes)


def _describe(record: Record) -> tuple[str, str, str, str, str] | None:
    encoding, parameters = record.encoding, record.parameters
    if encoding is None and parameters is None:
        return None
    said = "" if parameters is None else ", ".join(f"{name} {value}" for name, value in parameters.items())
    if encoding is None:
        return record.trial.model, "", "", "", said
    queries, passages = (repr(encoding.prompts.get(role, "")) for role in ("query", "passage"))
    return (
        record.trial.model,
        "" if queries == "''" else queries,
        "" if passages == "''" else passages,
        encoding.similarity,
        said,
    )
