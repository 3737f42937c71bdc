"""Annotations, summary and comment stay within what GitHub takes, and a record can begin no command in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import RecordError
from harness.report.document import Finding, Paragraph, Report, Section
from harness.report.github import (
    COMMENT_LIMIT_CHARACTERS,
    SUMMARY_LIMIT_BYTES,
    list_commands,
    mark_comment,
    publish_summary,
    render_annotations,
    render_comment,
    render_summary,
)
from tests.support.reports import HARM, make_report


def test_an_annotation_is_one_escaped_line() -> None:
    (line,) = render_annotations((Finding("error", "a:b,c", "50%\nsecond\r::error::x", "m/finetuned"),))
    assert line == "::error title=a%3Ab%2Cc::m/finetuned: 50%25%0Asecond%0D::error::x"


def test_hostile_text_gives_one_line_per_finding() -> None:
    report = make_report(HARM)
    lines = render_annotations(report.findings)
    assert len(lines) == len(report.findings)
    for line in lines:
        assert len(line.splitlines()) == 1
        assert line.startswith(("::error title=", "::warning title=", "::notice title="))


def test_more_annotations_than_github_shows_are_counted() -> None:
    lines = render_annotations(tuple(Finding("warning", "w", str(number)) for number in range(25)))
    assert len(lines) == 10
    assert lines[-1] == "::warning title=and more::16 more: see the job's summary"


def test_annotations_are_printed_on_github_only() -> None:
    report = make_report()
    assert list_commands(report, {}) == []
    assert len(list_commands(report, {"GITHUB_ACTIONS": "true"})) == 3


def test_the_summary_is_appended_where_github_gives_a_file(tmp_path: Path) -> None:
    file = tmp_path / "summary.md"
    file.write_text("before\n", encoding="utf-8")
    assert publish_summary(make_report("words"), {"GITHUB_STEP_SUMMARY": str(file)})
    text = file.read_text(encoding="utf-8")
    assert text.startswith("before\n# words\n")
    assert "## words two" in text
    assert not publish_summary(make_report(), {})


def test_a_summary_that_cannot_be_written_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="GITHUB_STEP_SUMMARY"):
        publish_summary(make_report(), {"GITHUB_STEP_SUMMARY": str(tmp_path / "no" / "such" / "file")})


def test_the_comment_begins_with_its_mark_and_is_brief() -> None:
    text = render_comment(make_report("words"))
    assert text.startswith(f"{mark_comment('demo')}\n\n# words\n")
    assert "## words one" in text
    assert "## words two" not in text


@pytest.mark.parametrize("name", ["a --> b", "a--b", "x\n-->", "-->", HARM])
def test_a_name_cannot_end_the_hidden_mark(name: str) -> None:
    mark = mark_comment(name)
    assert mark.count("--") == 2
    assert mark.startswith("<!-- ")
    assert mark.endswith(" -->")
    assert len(mark.splitlines()) == 1


def test_what_is_too_long_is_cut_and_said() -> None:
    sections = tuple(Section(str(number), (Paragraph("ä" * 1900),), brief=True) for number in range(400))
    report = Report("r", "t", sections=sections)
    comment, summary = render_comment(report), render_summary(report)
    assert len(comment) <= COMMENT_LIMIT_CHARACTERS
    assert "too long" in comment
    assert len(summary.encode()) <= SUMMARY_LIMIT_BYTES
    assert "too long" in summary
