"""GitHub shows a report as annotations, a job's summary and one comment on a pull request that is kept current."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from harness.core.text import clip, printable
from harness.errors import RecordError
from harness.report.document import Finding, Level, Report
from harness.report.markdown import render_head, render_section

SUMMARY_VARIABLE = "GITHUB_STEP_SUMMARY"
ACTIONS_VARIABLE = "GITHUB_ACTIONS"
# What GitHub takes: a summary of 1 MiB per step, a comment of 65,536 characters, 10 annotations of a level per step.
SUMMARY_LIMIT_BYTES = 1024 * 1024
COMMENT_LIMIT_CHARACTERS = 65_536
MOST_ANNOTATIONS = 10
SHOWN_CHARACTERS = 1000
ROOM = 200


def render_annotations(findings: tuple[Finding, ...]) -> list[str]:
    """Write findings as workflow commands, at most ten of a level, the last of which says how many are left out."""
    lines = []
    levels: tuple[Level, ...] = ("error", "warning", "notice")
    for level in levels:
        same = [finding for finding in findings if finding.level == level]
        shown = same if len(same) <= MOST_ANNOTATIONS else same[: MOST_ANNOTATIONS - 1]
        lines += [_annotate(level, finding.title, finding.sentence) for finding in shown]
        if len(shown) < len(same):
            lines.append(_annotate(level, "and more", f"{len(same) - len(shown)} more: see the job's summary"))
    return lines


def render_summary(report: Report) -> str:
    """Write a whole report for a job's summary, without pictures, cut at a section's end where it is too long."""
    return _fit(report, brief=False, limit=SUMMARY_LIMIT_BYTES, start="")


def render_comment(report: Report) -> str:
    """Write the brief sections for a comment, led by a hidden line by which the next run finds it again."""
    return _fit(report, brief=True, limit=COMMENT_LIMIT_CHARACTERS, start=f"{mark_comment(report.name)}\n\n")


def mark_comment(name: str) -> str:
    """Return the hidden line of a report's comment."""
    plain = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "._") else "-" for letter in name)
    # Two dashes would end the HTML comment in some readers.
    while "--" in plain:
        plain = plain.replace("--", "-")
    return f"<!-- harness report {plain} -->"


def publish_summary(report: Report, environment: Mapping[str, str]) -> bool:
    """Append the report to the job's summary where GitHub gives a file for it, and say whether it did.

    Args:
        report: what to show.
        environment: the process's variables.

    Raises:
        RecordError: the file cannot be written.
    """
    name = environment.get(SUMMARY_VARIABLE)
    if not name:
        return False
    try:
        with Path(name).open("a", encoding="utf-8") as stream:
            stream.write(render_summary(report))
    except OSError as cause:
        raise RecordError(f"{name} ({SUMMARY_VARIABLE}): cannot be written: {cause.strerror or cause}") from cause
    return True


def list_commands(report: Report, environment: Mapping[str, str]) -> list[str]:
    """Return the annotations to print: none outside of GitHub's runners, where they would be noise."""
    return render_annotations(report.findings) if environment.get(ACTIONS_VARIABLE) == "true" else []


def _annotate(level: Level, title: str, text: str) -> str:
    return f"::{level} title={_escape_property(title)}::{_escape_data(text)}"


def _escape_data(text: str) -> str:
    """Escape as the runner unescapes: a line break would begin a command of the text's own."""
    shown = clip(text, SHOWN_CHARACTERS).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return printable(shown)


def _escape_property(text: str) -> str:
    return _escape_data(text).replace(":", "%3A").replace(",", "%2C")


def _fit(report: Report, *, brief: bool, limit: int, start: str) -> str:
    """Join the parts that fit; what is left out is said."""
    kept, size = [start], len(start.encode())
    for part in _list_parts(report, brief=brief):
        size += len(part.encode())
        if size > limit - ROOM:
            kept.append("\nThe rest is too long for this place: see the report's own file.\n")
            break
        kept.append(part)
    return "".join(kept)


def _list_parts(report: Report, *, brief: bool) -> Iterator[str]:
    yield "\n".join(render_head(report)) + "\n"
    for section in report.sections:
        if section.brief or not brief:
            yield "\n".join(render_section(section, report.name, None)) + "\n"
