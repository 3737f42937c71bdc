"""The results folder: records in, tables, pages and pictures out, nothing of which is written by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from tabulate import tabulate

from harness.analysis.paired_queries import ROUNDS
from harness.core.files import SUMS_FILE, render_sums, write_atomically
from harness.errors import RecordError
from harness.experiment.manifest import Variant
from harness.records.artifacts import Evidence
from harness.records.history import read_history
from harness.records.record import Record, read_records
from harness.report.document import Report
from harness.report.experiment import build_report
from harness.report.html import render_html
from harness.report.junit import render_junit
from harness.report.markdown import escape, name_picture, render_markdown
from harness.report.svg import draw_picture

INDEX_FILE = "README.md"
PICTURES = "pictures"
REFERENCE = "reference"
FOOTER = "\nGenerated from records by `python3 -m nox -s report`; not edited by hand.\n"
SHOWN_DIFFERENCE, SHOWN_BEFORE = 120, 40


@dataclass(frozen=True)
class Entry:
    """One experiment's records and the report on them."""

    records: tuple[Record, ...]
    report: Report


@dataclass(frozen=True)
class Rendered:
    """Everything generated for a results folder: reports by experiment, contents by path below the folder."""

    reports: dict[str, Report]
    contents: dict[str, str]


def write_tables(results: Path, *, rounds: int = ROUNDS) -> Rendered:
    """Write table, page and pictures for every experiment that has records, and the index.

    Pictures that no report has any more are deleted.

    Args:
        results: the folder that has ``records/EXPERIMENT/*.json``, and ``reference/EXPERIMENT/history.json`` where
            records were accepted.
        rounds: sign patterns of the randomization test.

    Returns:
        What was written.

    Raises:
        HarnessError: a record or its evidence is broken, or the disk refuses.
    """
    rendered = render_results(results, rounds=rounds)
    try:
        for name, content in rendered.contents.items():
            write_atomically(results / name, content.encode())
        for path in _list_stale(results, rendered.contents):
            path.unlink()
    except OSError as cause:
        raise RecordError(f"{results}: cannot be written: {cause.strerror or cause}") from cause
    return rendered


def compare_tables(results: Path, *, rounds: int = ROUNDS, evidence: Evidence | None = None) -> list[str]:
    """Return what the files on disk would be changed by, one line per file; empty where they are up to date.

    Raises:
        HarnessError: a record or its evidence is broken.
    """
    differing = []
    contents = render_results(results, rounds=rounds, evidence=evidence).contents
    for name, content in contents.items():
        path = results / name
        found = path.read_bytes() if path.is_file() else None
        if found is None:
            differing.append(f"{path}: is missing")
        elif found != content.encode():
            old_lines, new_lines = found.decode(errors="replace").splitlines(), content.splitlines()
            pairs = zip_longest(old_lines, new_lines)
            number, (old, new) = next(
                ((number, pair) for number, pair in enumerate(pairs, start=1) if pair[0] != pair[1]),
                (len(new_lines), ("other line ends", "its own")),
            )
            same = next((at for at, pair in enumerate(zip_longest(old or "", new or "")) if pair[0] != pair[1]), 0)
            start = max(0, same - SHOWN_BEFORE)
            differing.append(f"{path}:{number}: reads {_cut(old, start)}, the records say {_cut(new, start)}")
    differing += [f"{path}: no report has this picture" for path in _list_stale(results, contents)]
    return differing


def write_junit(reports: Mapping[str, Report], folder: Path) -> list[Path]:
    """Write each report as JUnit XML and return the files.

    Raises:
        RecordError: the disk refuses.
    """
    written = []
    for name, report in reports.items():
        path = folder / f"{name}.xml"
        try:
            write_atomically(path, render_junit(report).encode())
        except OSError as cause:
            raise RecordError(f"{path}: cannot be written: {cause.strerror or cause}") from cause
        written.append(path)
    return written


def render_results(results: Path, *, rounds: int = ROUNDS, evidence: Evidence | None = None) -> Rendered:
    """Make everything that is generated for a results folder, writing nothing.

    Args:
        results: see `write_tables`.
        rounds: sign patterns of the randomization test.
        evidence: what was read of the folder already; None reads it anew.

    Raises:
        HarnessError: a record or its evidence is broken.
    """
    entries: dict[str, Entry] = {}
    evidence = evidence or Evidence(results)
    for folder in sorted(path for path in (results / "records").glob("*") if path.is_dir()):
        records = read_records(folder)
        if records:
            past = read_history(results / REFERENCE / folder.name).snapshots
            entries[folder.name] = Entry(records, build_report(records, evidence=evidence, history=past, rounds=rounds))
    files = {}
    for name, entry in entries.items():
        if entry.report.name != name:
            raise RecordError(f"{results / 'records' / name}: holds records of {entry.report.name!r}")
        drawn = {picture.name: draw_picture(picture) for picture in entry.report.pictures}
        files[f"{name}.md"] = render_markdown(entry.report) + FOOTER
        files[f"{name}.html"] = render_html(entry.report, drawn)
        for picture in entry.report.pictures:
            files[f"{PICTURES}/{name_picture(name, picture)}"] = drawn[picture.name]
    files[INDEX_FILE] = _render_index(entries)
    files[SUMS_FILE] = render_sums(results)
    return Rendered({name: entry.report for name, entry in entries.items()}, files)


def _render_index(entries: Mapping[str, Entry]) -> str:
    rows = []
    for name, entry in entries.items():
        experiment = entry.records[0].experiment
        origins = "; ".join(sorted({source.origin for record in entry.records for source in record.sources.values()}))
        rows.append(
            (
                f"[{escape(name)}]({name}.md) ([page]({name}.html))",
                escape(experiment.published.not_comparable or "") if experiment.published else "",
                experiment.evaluation.primary,
                _show_mean(entry, "baseline"),
                _show_mean(entry, "finetuned"),
                _show_verdicts(entry),
                escape(origins),
            )
        )
    columns = ("experiment", "mark", "measure", "before", "after", "verdicts", "sources")
    align = ("left", "left", "left", "right", "right", "left", "left")
    table = tabulate(rows, headers=columns, tablefmt="pipe", disable_numparse=True, colalign=align if rows else None)
    return f"# Results\n\nAfter fine-tuning: mean over seeds, per model.\n\n{table}\n{FOOTER}"


def _show_verdicts(entry: Entry) -> str:
    """Show how many of each verdict; in parentheses where the data are not the published ones."""
    published = entry.records[0].experiment.published
    verdicts = escape(entry.report.verdicts)
    return f"({verdicts})" if verdicts and published is not None and published.not_comparable else verdicts


def _show_mean(entry: Entry, variant: Variant) -> str:
    """Show the primary measure's mean over seeds, for each model that has records."""
    primary = entry.records[0].experiment.evaluation.primary
    values: dict[str, list[float]] = {}
    for record in entry.records:
        if record.trial.variant == variant:
            values.setdefault(record.trial.model, []).append(record.values[primary])
    several = len({record.trial.model for record in entry.records}) > 1
    means = {model: f"{sum(found) / len(found):.4f}" for model, found in values.items()}
    return "; ".join(f"{escape(model)} {mean}" if several else mean for model, mean in means.items())


def _list_stale(results: Path, contents: Mapping[str, str]) -> list[Path]:
    folder = results / PICTURES
    return [path for path in sorted(folder.glob("*.svg")) if f"{PICTURES}/{path.name}" not in contents]


def _cut(line: str | None, start: int) -> str:
    """Show a line, a long one from where it begins to differ."""
    if line is None or len(line) <= SHOWN_DIFFERENCE:
        return repr(line)
    end = start + SHOWN_DIFFERENCE
    return f"{'...' if start else ''}{line[start:end]!r}{'...' if end < len(line) else ''}"
