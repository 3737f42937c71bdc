"""Markdown holds every part of a report, and nothing that a record says becomes markup."""

from __future__ import annotations

import re

import pytest

from harness.report.document import Finding, Paragraph, Report, Section, Table
from harness.report.markdown import escape, escape_line, render_markdown
from tests.support.reports import HARM, make_report


def test_every_part_of_a_report_is_shown() -> None:
    text = render_markdown(make_report("plain words"))
    for part in (
        "# plain words",
        "**plain words**",
        "- **Error**, plain words: plain words: plain words",
        "## plain words one",
        "    harness report",
        "| plain words   |   value | verdict     |",
        "![plain words (plain words)](pictures/demo-changes-m.svg)",
        "### plain words",
        "1. plain words",
    ):
        assert part in text


def test_brief_markdown_leaves_out_the_other_sections_and_pictures_where_there_are_none() -> None:
    text = render_markdown(make_report("words"), pictures=None, brief=True)
    assert "## words one" in text
    assert "## words two" not in text
    assert "![" not in text


def test_nothing_of_a_hostile_record_becomes_markup() -> None:
    text = render_markdown(make_report(HARM))
    assert "<script" not in text.replace("\\<script", "")
    text = text.replace("<span>$</span>", "")  # of ours, see `escape`
    for opener in ("<", "`", "|", "[", "*"):
        harmful = [line for line in text.splitlines() if "evil" in line and re.search(rf"(?<!\\)\{opener}", line)]
        # What remains are our own signs: bold, list, cell and picture marks.
        for line in harmful:
            ours = line.startswith(("**", "- **", "| ", "![", "*"))
            assert ours, line
    assert not re.search(r"(?<!\\)\]\(javascript", text)
    assert not re.search(r"https?://evil", text)
    assert not re.search(r"www\.evil", text)
    assert "@somebody" not in text
    assert "\x1b" not in text
    assert "\x00" not in text
    assert "\u202e" not in text


def test_a_hostile_line_break_begins_no_line() -> None:
    for line in render_markdown(make_report(HARM)).splitlines():
        assert not line.startswith(("# heading", "::", "- item"))


def test_a_cell_cannot_end_its_row() -> None:
    table = Table(("a", "b"), (("x | y\nz", "1"),))
    text = render_markdown(Report("r", "t", sections=(Section("s", (table,)),)))
    row = next(line for line in text.splitlines() if "x" in line and line.startswith("| x"))
    assert len(re.findall(r"(?<!\\)\|", row)) == 3


@pytest.mark.parametrize("start", ["1. one", "2) two", "- dash", "+ plus", "= equals", "# hash", "> quote", "* star"])
def test_text_at_the_start_of_a_line_begins_no_block(start: str) -> None:
    assert re.match(r"^([0-9]*\\)", escape_line(start))


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("see https://evil.example", "see https:&#8203;//evil.example"),
        ("HTTP://evil.example", "HTTP:&#8203;//evil.example"),
        ("ftp://evil.example", "ftp:&#8203;//evil.example"),
        ("www.evil.example", "www&#8203;.evil.example"),
        ("a.b+c@evil.example", "a.b+c@&#8203;evil.example"),
        ("mailto:a@evil.example", "mailto:&#8203;a@&#8203;evil.example"),
        ("xmpp:a@evil.example", "xmpp:&#8203;a@&#8203;evil.example"),
        ("mrr@10.example", "mrr@&#8203;10.example"),
        ("@somebody and @org/team", "@&#8203;somebody and @&#8203;org/team"),
        ("fixes #1", "fixes \\#&#8203;1"),
        ("user/repo#12", "user/repo\\#&#8203;12"),
        ("GH-1, gh-22", "GH-&#8203;1, gh-&#8203;22"),
        ("a5c3785", "`a5c3785`"),
        ("(a5c3785ed8d6a35868bc169f07e40e889087fd2e)", "(`a5c3785ed8d6a35868bc169f07e40e889087fd2e`)"),
        ("1234567", "`1234567`"),
        ("1.a5c3785", "1.`a5c3785`"),
        ("a5c3785...b5c3785", "`a5c3785`...`b5c3785`"),
        ("user@a5c3785", "user@&#8203;`a5c3785`"),
        ("user/repo@a5c3785", "user/repo@&#8203;`a5c3785`"),
        (":smile: :+1:", ":&#8203;smile: :&#8203;+1:"),
        ("text[^1]", "text\\[^1\\]"),
        ("[^1]: note", "\\[^1\\]: note"),
        ("$x$", "<span>$</span>x<span>$</span>"),
        ("$`x`$", "<span>$</span>\\`x\\`<span>$</span>"),
        ("`a5c3785`", "\\``a5c3785`\\`"),
        ("\x00&#8203;", "\\&\\#&#8203;8203;"),
    ],
)
def test_what_github_makes_of_text_unasked_stays_text(text: str, escaped: str) -> None:
    assert escape(text) == escaped


@pytest.mark.parametrize(
    "text", ["0.1234567", "HP:0000063", "12:30:45+00:00", "a 64-digit " + "a" * 64, "ndcg@10.", "GHz-1", "see: this"]
)
def test_what_github_makes_nothing_of_stays_as_it_is(text: str) -> None:
    assert escape(text) == text


def test_text_is_cut_at_its_limit() -> None:
    assert len(escape("a" * 10_000)) < 600
    report = Report("r", "t", sections=(Section("s", (Paragraph("a" * 100_000),)),))
    assert len(render_markdown(report)) < 3000


def test_a_measure_keeps_its_name() -> None:
    assert escape("mrr@10") == "mrr@10"
    assert escape("+0.1234 (0.1 to 0.2)") == "+0.1234 (0.1 to 0.2)"


def test_columns_of_numbers_stand_to_the_right() -> None:
    table = Table(("measure", "ours", "verdict"), (("a", "0.5 ± 0.1", "same"), ("b", "", "same")))
    text = render_markdown(Report("r", "t", sections=(Section("s", (table,)),)))
    assert re.search(r"^\|:-+\|-+:\|:-+\|$", text, flags=re.MULTILINE)


def test_the_column_that_names_the_rows_is_never_a_number() -> None:
    assert Table(("seed", "mrr@10"), (("0", "0.5"), ("1", "0.6"))).numeric == (False, True)


def test_a_long_cell_of_digits_is_judged_in_no_time() -> None:
    table = Table(("a", "b"), (("x", "1" * 5000 + "!"), ("x", "1 " * 5000 + "!")))
    assert table.numeric == (False, False)


def test_findings_name_their_cell() -> None:
    report = Report("r", "t", findings=(Finding("warning", "inconclusive", "mrr@10 0.9", "m/finetuned"),))
    assert "- **Warning**, inconclusive: m/finetuned: mrr@10 0.9" in render_markdown(report)
