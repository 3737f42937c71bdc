"""The results folder: records in, tables, pages and pictures out, nothing of which is written by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from tabulate import tabulate

from harness.analysis.paired_queries import ROUNDS
from harness.core.files import LINK, SUMS_FILE, list_folders, refuse_links, render_sums, write_atomically
from harness.core.memo import NOTHING, Memo
from harness.errors import RecordError
from harness.experiment.claims import BASELINE
from harness.experiment.trial import label_variant, list_pairs
from harness.records.artifacts import Evidence
from harness.records.history import read_history
from harness.records.record import Record, read_records
from harness.records.stack import FOLDER as STACKS
from harness.records.stack import read_stack_records
from harness.report.document import Report
from harness.report.experiment import build_report
from harness.report.failure import build_failure_report
from harness.report.html import render_html
from harness.report.junit import render_junit
from harness.report.markdown import escape, name_picture, render_markdown
from harness.report.stack import build_stack_report
from harness.report.svg import draw_picture

INDEX_FILE = "README.md"
PICTURES = "pictures"
REFERENCE = "reference"
FOOTER = "\nGenerated from records by `harness report`; not edited by hand.\n"
SHOWN_DIFFERENCE, SHOWN_BEFORE = 120, 40


@dataclass(frozen=True)
class RenderedExperiment:
    """What is generated for one experiment: files by path, its row of the index, and its report where it was built."""

    contents: dict[str, str]
    row: tuple[str, ...]
    report: Report | None


@dataclass(frozen=True)
class Rendered:
    """Everything generated for a results folder.

    Attributes:
        reports: by experiment; where it could not be judged, the report says so. One that a memo knew has none.
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


def write_tables(results: Path, *, rounds: int = ROUNDS, memo: Memo = NOTHING) -> Rendered:
    """Write table, page and pictures for every experiment that has records, and the index.

    Pictures that no report has any more are deleted. An experiment whose records or evidence are broken keeps no other
    from its tables, and gets a table and a page that say what is wrong, in place of older ones.

    Args:
        results: the folder that has ``records/EXPERIMENT/*.json``, and ``reference/EXPERIMENT/history.json`` where
            records were accepted.
        rounds: sign patterns of the randomization test.
        memo: of what was rendered on this machine before.

    Returns:
        What was written.

    Raises:
        RecordError: the disk refuses, or the pictures' folder is a link.
    """
    # What is there is replaced and removed.
    refuse_links(results / PICTURES, below=results)
    rendered = render_results(results, rounds=rounds, memo=memo)
    try:
        for name, content in rendered.contents.items():
            write_atomically(results / name, _encode(content))
        for path in _list_stale(results, rendered.contents):
            path.unlink()
    except OSError as cause:
        raise RecordError(f"{results}: cannot be written: {cause.strerror or cause}") from cause
    return rendered


def compare_tables(
    results: Path, *, rounds: int = ROUNDS, evidence: Evidence | None = None, memo: Memo = NOTHING
) -> TableComparison:
    """Hold the files on disk against what the records say, except those of an experiment that cannot be judged."""
    differing = []
    rendered = render_results(results, rounds=rounds, evidence=evidence, memo=memo)
    contents = {
        name: content for name, content in rendered.contents.items() if Path(name).stem not in rendered.problems
    }
    for name, content in contents.items():
        path = results / name
        linked = path.is_symlink() or path.parent.is_symlink()
        found = path.read_bytes() if path.is_file() and not linked else None
        if linked:
            differing.append(f"{path}: {LINK}")
        elif found is None:
            differing.append(f"{path}: is missing")
        elif found != _encode(content):
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


def _encode(content: str) -> bytes:
    """Encode a page, which may name a file that a stranger has named in no UTF-8."""
    return content.encode(errors="backslashreplace")


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


def render_results(
    results: Path, *, rounds: int = ROUNDS, evidence: Evidence | None = None, memo: Memo = NOTHING
) -> Rendered:
    """Make everything that is generated for a results folder, writing nothing.

    Args:
        results: see `write_tables`.
        rounds: sign patterns of the randomization test.
        evidence: what was read of the folder already; None reads it anew.
        memo: of what was rendered on this machine before.
    """
    files: dict[str, str] = {}
    rows: list[tuple[str, ...]] = []
    known: dict[str, tuple[Record, ...]] = {}
    reports: dict[str, Report] = {}
    problems: dict[str, str] = {}
    evidence = evidence or Evidence(results)
    for folder in list_folders(results / "records"):
        name = folder.name
        try:
            refuse_links(folder, below=results)
            records = read_records(folder)
            if not records:
                continue
            known[name] = records
            rendered = _render_once(name, records, evidence, rounds, memo)
        except Exception as cause:  # noqa: BLE001 - also of what nobody foresaw: the other experiments have their tables
            report = build_failure_report(name, f"{name}: the records could not be judged", cause)
            problems[name] = report.findings[0].text
            row = (_link(name), "could not be judged", "", "", "", "", "")
            rendered = RenderedExperiment(_render(name, report, memo), row, report)
        files |= rendered.contents
        rows.append(rendered.row)
        if rendered.report is not None:
            reports[name] = rendered.report
    stacks, refused = _render_stacks(results, known, memo)
    for pages in stacks.values():
        files |= pages
    problems |= refused
    files[INDEX_FILE] = _render_index(rows, sorted(stacks))
    files[SUMS_FILE] = render_sums(results)
    return Rendered(reports, files, problems)


def _render_once(
    name: str, records: tuple[Record, ...], evidence: Evidence, rounds: int, memo: Memo
) -> RenderedExperiment:
    """Report on an experiment, unless the same records with the same files were reported on before."""
    past = read_history(refuse_links(evidence.results / REFERENCE / name, below=evidence.results)).snapshots
    there = [artifact for record in records for artifact in record.artifacts if evidence.has(artifact)]
    inputs = {
        "name": name,
        "records": [record.model_dump(mode="json") for record in records],
        "files": {artifact.path: evidence.hash(artifact) for artifact in there},
        "history": [snapshot.model_dump(mode="json") for snapshot in past],
        "rounds": rounds,
    }
    found = memo.find("experiment", inputs)
    if found is not None:
        return RenderedExperiment(found["contents"], tuple(found["row"]), None)
    report = build_report(records, evidence=evidence, history=past, rounds=rounds)
    if report.name != name:
        raise RecordError(f"{evidence.results / 'records' / name}: holds records of {report.name!r}")
    made = RenderedExperiment(_render(name, report, memo), _make_row(name, records, report), report)
    memo.keep("experiment", inputs, {"contents": made.contents, "row": made.row})
    return made


def _render(name: str, report: Report, memo: Memo) -> dict[str, str]:
    """Render a report as all its files; drawing takes most of the time, and few charts change."""
    drawn = {}
    for picture in report.pictures:
        found = memo.find("picture", {"picture": repr(picture)})
        drawn[picture.name] = draw_picture(picture) if found is None else str(found)
        if found is None:
            memo.keep("picture", {"picture": repr(picture)}, drawn[picture.name])
    pictures = {f"{PICTURES}/{name_picture(name, picture)}": drawn[picture.name] for picture in report.pictures}
    return {
        f"{name}.md": render_markdown(report) + FOOTER,
        f"{name}.html": render_html(report, drawn),
        **pictures,
    }


def _make_row(name: str, records: tuple[Record, ...], report: Report) -> tuple[str, ...]:
    experiment = records[0].experiment
    origins = "; ".join(sorted({source.origin for record in records for source in record.sources.values()}))
    return (
        _link(name),
        escape(experiment.published.not_comparable or "") if experiment.published else "",
        experiment.evaluation.primary,
        _show_mean(records, trained=False),
        _show_mean(records, trained=True),
        escape(report.verdicts),
        escape(origins),
    )


def _render_stacks(
    results: Path, known: Mapping[str, tuple[Record, ...]], memo: Memo
) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
    """Render a page for each experiment and stack that were compared, and say by page what could not be read."""
    pages: dict[str, dict[str, str]] = {}
    problems: dict[str, str] = {}
    for folder in list_folders(results / STACKS):
        try:
            records = read_stack_records(results, folder.name)
            stacks = sorted({record.stack for record in records})
            reports = [
                build_stack_report([one for one in records if one.stack == stack], known.get(folder.name, ()))
                for stack in stacks
            ]
        except Exception as cause:  # noqa: BLE001 - see render_results
            name = f"{folder.name}-stack"
            reports = [build_failure_report(name, f"{folder.name}: the stacks could not be compared", cause)]
            problems[name] = reports[0].findings[0].text
        pages |= {report.name: _render(report.name, report, memo) for report in reports}
    return pages, problems


def _render_index(rows: Sequence[tuple[str, ...]], stacks: Sequence[str]) -> str:
    columns = ("experiment", "mark", "measure", "before", "after", "verdicts", "sources")
    align = ("left", "left", "left", "right", "right", "left", "left")
    table = tabulate(
        sorted(rows), headers=columns, tablefmt="pipe", disable_numparse=True, colalign=align if rows else None
    )
    pages = "".join(f"- {_link(name)}\n" for name in stacks)
    compared = f"\n## Did the libraries change the result?\n\n{pages}" if pages else ""
    return f"# Results\n\nAfter fine-tuning: mean over seeds, per model.\n\n{table}\n{compared}{FOOTER}"


def _link(name: str) -> str:
    return f"[{escape(name)}]({name}.md) ([page]({name}.html))"


def _show_mean(records: Sequence[Record], *, trained: bool) -> str:
    """Show the primary measure's mean over seeds, for each model and recipe that has records."""
    primary = records[0].experiment.evaluation.primary
    values: dict[str, list[float]] = {}
    for record in records:
        if (record.trial.variant != BASELINE) == trained:
            label = label_variant(record.experiment, record.trial.model, record.trial.variant)
            values.setdefault(label, []).append(record.values[primary])
    several = len(list_pairs(records[0].experiment)) > 1
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
