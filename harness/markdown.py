"""Markdown shows a report as text that GitHub renders; every cell is escaped, since records may be a stranger's."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

from tabulate import tabulate

from harness.errors import RecordError
from harness.record import Record, read_records, write_atomically
from harness.report import Report, Table, build_report

SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+!|~&])")
NUMBER = re.compile(r"[-+]?[0-9.]+( (s|min|h|GiB|USD))?.*|")
SHOWN_CHARACTERS = 300
INDEX_FILE = "README.md"


def render_markdown(report: Report) -> str:
    """Write a report as markdown; the same report gives the same bytes."""
    experiment = report.experiment
    lines = [f"# {escape(experiment.title)}", "", escape(experiment.summary.strip(), newlines=True), ""]
    if experiment.published is not None:
        published = experiment.published
        lines += [f"Published: {escape(published.title)}, {escape(published.date)}.", ""]
    if report.notice:
        lines += [f"**{escape(report.notice)}**", ""]
    for section in report.sections:
        lines += [f"## {escape(section.heading)}", ""]
        for paragraph in section.paragraphs:
            lines += [_render_paragraph(paragraph), ""]
        for table in section.tables:
            lines += [render_table(table), ""]
    lines += ["Generated from records by `python3 -m nox -s report`; not edited by hand."]
    return "\n".join(lines) + "\n"


def render_table(table: Table) -> str:
    """Write one table with tabulate, numbers to the right."""
    rows = [[escape(cell) for cell in row] for row in table.rows]
    align = [
        "right" if index and all(NUMBER.fullmatch(row[index]) for row in table.rows) else "left"
        for index in range(len(table.columns))
    ]
    columns = [escape(column) for column in table.columns]
    return tabulate(rows, headers=columns, tablefmt="pipe", colalign=align, disable_numparse=True)


def escape(text: str, *, newlines: bool = False) -> str:
    """Make text harmless in markdown: no markup, no new cell, no new line, bounded length."""
    if len(text) > SHOWN_CHARACTERS and not newlines:
        text = text[:SHOWN_CHARACTERS] + "..."
    if not newlines:
        text = " ".join(text.split())
    return SPECIAL.sub(r"\\\1", text)


def write_tables(results: Path) -> list[Path]:
    """Write ``EXPERIMENT.md`` for every experiment that has records, and the index.

    Returns:
        The files written.

    Raises:
        RecordError: a record is broken, or the disk refuses.
    """
    written = []
    for name, content in render_results(results).items():
        path = results / name
        try:
            write_atomically(path, content.encode())
        except OSError as cause:
            raise RecordError(f"{path}: cannot be written: {cause.strerror or cause}") from cause
        written.append(path)
    return written


def compare_tables(results: Path) -> list[str]:
    """Return what the tables on disk would be changed by, one line per file; empty where they are up to date.

    Raises:
        RecordError: a record is broken.
    """
    differing = []
    for name, content in render_results(results).items():
        path = results / name
        found = path.read_text(encoding="utf-8") if path.is_file() else None
        if found is None:
            differing.append(f"{path}: is missing")
        elif found != content:
            pairs = zip_longest(found.splitlines(), content.splitlines())
            number, (old, new) = next((n, pair) for n, pair in enumerate(pairs, start=1) if pair[0] != pair[1])
            differing.append(f"{path}:{number}: reads {old!r}, the records say {new!r}")
    return differing


def render_results(results: Path) -> dict[str, str]:
    """Return file name -> content for all tables below a results folder.

    Raises:
        RecordError: a record is broken.
    """
    folders = sorted(path for path in (results / "records").glob("*") if path.is_dir())
    reports: dict[str, tuple[Sequence[Record], Report]] = {}
    for folder in folders:
        records = read_records(folder)
        if records:
            reports[folder.name] = (records, build_report(records))
    files = {f"{name}.md": render_markdown(report) for name, (_, report) in reports.items()}
    files[INDEX_FILE] = _render_index(reports)
    return files


def _render_index(reports: dict[str, tuple[Sequence[Record], Report]]) -> str:
    rows = []
    for name, (records, report) in reports.items():
        experiment = report.experiment
        primary = experiment.evaluation.primary
        values = []
        for variant in ("baseline", "finetuned"):
            found = [record.values[primary] for record in records if record.trial.variant == variant]
            values.append(f"{sum(found) / len(found):.4f}" if found else "")
        origins = "; ".join(sorted({source.origin for record in records for source in record.sources.values()}))
        notice = experiment.published.not_comparable if experiment.published else None
        rows.append((f"[{escape(name)}]({name}.md)", primary, *values, escape(notice or ""), escape(origins)))
    columns = ("experiment", "measure", "before", "after (mean over seeds)", "mark", "sources")
    table = tabulate(rows, headers=columns, tablefmt="pipe", disable_numparse=True)
    return f"# Results\n\n{table}\n\nGenerated from records by `python3 -m nox -s report`; not edited by hand.\n"


def _render_paragraph(paragraph: str) -> str:
    """Keep whole commands as code, escape all else."""
    if paragraph.startswith("`") and paragraph.endswith("`") and paragraph.count("`") == 2:  # noqa: PLR2004 - a pair
        return f"    {paragraph[1:-1]}"
    return escape(paragraph)
