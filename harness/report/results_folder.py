"""The results folder: records in, tables, pages and pictures out, nothing of which is written by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from tabulate import tabulate

from harness.analysis.paired_queries import ROUNDS
from harness.core.files import SUMS_FILE, render_sums, write_atomically
from harness.errors import RecordError
from harness.experiment.claims import BASELINE
from harness.experiment.trial import label_variant, list_pairs
from harness.records.artifacts import Evidence
from harness.records.history import read_history
from harness.records.record import Record, read_records
from harness.report.document import Picture, Report
from harness.report.experiment import build_report
from harness.report.failure import build_failure_report
from harness.report.html import render_html
from harness.report.junit import render_junit
from harness.report.markdown import escape, name_picture, render_markdown
from harness.report.picture_cache import PictureCache
from harness.report.svg import draw_picture

INDEX_FILE = "README.md"
PICTURES = "pictures"
REFERENCE = "reference"
FOOTER = "\nGenerated from records by `python3 -m nox -s report`; not edited by hand.\n"
SHOWN_DIFFERENCE, SHOWN_BEFORE = 120, 40


@dataclass(frozen=True)
class ReportedExperiment:
    """One experiment's records and the report on them."""

    records: tuple[Record, ...]
    report: Report


@dataclass(frozen=True)
class Rendered:
    """Everything generated for a results folder.

    Attributes:
        reports: by experiment; where it could not be judged, the report says so.
        contents: by path below the folder.
        problems: by experiment, why it could not be judged. Every experiment's problems are its own.
    """

    reports: dict[str, Report]
    contents: dict[str, str]
    problems: dict[str, str]


@dataclass(frozen=True)
class TableComparison:
    """What the files on disk would be changed by, a line per file, and by experiment why it could not be judged."""

    differing: tuple[str, ...]
    problems: dict[str, str]


def write_tables(results: Path, *, rounds: int = ROUNDS) -> Rendered:
    """Write table, page and pictures for every experiment that has records, and the index.

    Pictures that no report has any more are deleted. An experiment whose records or evidence are broken keeps no other
    from its tables, and gets a table and a page that say what is wrong, in place of older ones.

    Args:
        results: the folder that has ``records/EXPERIMENT/*.json``, and ``reference/EXPERIMENT/history.json`` where
            records were accepted.
        rounds: sign patterns of the randomization test.

    Returns:
        What was written.

    Raises:
        RecordError: the disk refuses.
    """
    cache = PictureCache(results / PICTURES)
    rendered = render_results(results, rounds=rounds, draw=cache.draw)
    try:
        for name, content in rendered.contents.items():
            write_atomically(results / name, content.encode())
        for path in _list_stale(results, rendered.contents):
            path.unlink()
        cache.save()
    except OSError as cause:
        raise RecordError(f"{results}: cannot be written: {cause.strerror or cause}") from cause
    return rendered


def compare_tables(results: Path, *, rounds: int = ROUNDS, evidence: Evidence | None = None) -> TableComparison:
    """Hold the files on disk against what the records say, except those of an experiment that cannot be judged."""
    differing = []
    rendered = render_results(results, rounds=rounds, evidence=evidence)
    contents = {
        name: content for name, content in rendered.contents.items() if Path(name).stem not in rendered.problems
    }
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
    differing += [
        f"{path}: no report has this picture"
        for path in _list_stale(results, contents)
        if not path.name.startswith(tuple(f"{name}-" for name in rendered.problems))
    ]
    return TableComparison(tuple(differing), rendered.problems)


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


def _draw_anew(file: str, picture: Picture) -> str:
    del file
    return draw_picture(picture)


def render_results(
    results: Path,
    *,
    rounds: int = ROUNDS,
    evidence: Evidence | None = None,
    draw: Callable[[str, Picture], str] = _draw_anew,
) -> Rendered:
    """Make everything that is generated for a results folder, writing nothing.

    Args:
        results: see `write_tables`.
        rounds: sign patterns of the randomization test.
        evidence: what was read of the folder already; None reads it anew.
        draw: makes the SVG of a picture, told the name of its file.
    """
    entries: dict[str, ReportedExperiment] = {}
    reports: dict[str, Report] = {}
    problems: dict[str, str] = {}
    evidence = evidence or Evidence(results)
    for folder in sorted(path for path in (results / "records").glob("*") if path.is_dir()):
        name = folder.name
        try:
            records = read_records(folder)
            if not records:
                continue
            past = read_history(results / REFERENCE / name).snapshots
            report = build_report(records, evidence=evidence, history=past, rounds=rounds)
            if report.name != name:
                raise RecordError(f"{folder}: holds records of {report.name!r}")  # noqa: TRY301 - one more of its faults
            entries[name] = ReportedExperiment(records, report)
        except Exception as cause:  # noqa: BLE001 - also of what nobody foresaw: the other experiments have their tables
            report = build_failure_report(name, f"{name}: the records could not be judged", cause)
            problems[name] = report.findings[0].text
        reports[name] = report
    files = {}
    for name, report in reports.items():
        drawn = {picture.name: draw(name_picture(name, picture), picture) for picture in report.pictures}
        files[f"{name}.md"] = render_markdown(report) + FOOTER
        files[f"{name}.html"] = render_html(report, drawn)
        for picture in report.pictures:
            files[f"{PICTURES}/{name_picture(name, picture)}"] = drawn[picture.name]
    files[INDEX_FILE] = _render_index(entries, problems)
    files[SUMS_FILE] = render_sums(results)
    return Rendered(reports, files, problems)


def _render_index(entries: Mapping[str, ReportedExperiment], problems: Mapping[str, str]) -> str:
    rows = [(_link(name), "could not be judged", "", "", "", "", "") for name in problems]
    for name, entry in entries.items():
        experiment = entry.records[0].experiment
        origins = "; ".join(sorted({source.origin for record in entry.records for source in record.sources.values()}))
        rows.append(
            (
                _link(name),
                escape(experiment.published.not_comparable or "") if experiment.published else "",
                experiment.evaluation.primary,
                _show_mean(entry, trained=False),
                _show_mean(entry, trained=True),
                escape(entry.report.verdicts),
                escape(origins),
            )
        )
    columns = ("experiment", "mark", "measure", "before", "after", "verdicts", "sources")
    align = ("left", "left", "left", "right", "right", "left", "left")
    rows.sort()
    table = tabulate(rows, headers=columns, tablefmt="pipe", disable_numparse=True, colalign=align if rows else None)
    return f"# Results\n\nAfter fine-tuning: mean over seeds, per model.\n\n{table}\n{FOOTER}"


def _link(name: str) -> str:
    return f"[{escape(name)}]({name}.md) ([page]({name}.html))"


def _show_mean(entry: ReportedExperiment, *, trained: bool) -> str:
    """Show the primary measure's mean over seeds, for each model and recipe that has records."""
    primary = entry.records[0].experiment.evaluation.primary
    values: dict[str, list[float]] = {}
    for record in entry.records:
        if (record.trial.variant != BASELINE) == trained:
            label = label_variant(record.experiment, record.trial.model, record.trial.variant)
            values.setdefault(label, []).append(record.values[primary])
    several = len(list_pairs(entry.records[0].experiment)) > 1
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
