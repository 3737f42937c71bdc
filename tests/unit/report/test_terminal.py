"""The terminal's text fits eighty columns and moves no cursor."""

from __future__ import annotations

from harness.report.document import Report, Section, Table
from harness.report.terminal import render_terminal
from tests.support.reports import HARM, make_report


def test_brief_sections_and_findings_are_shown() -> None:
    text = render_terminal(make_report("words"))
    assert "words one\n---------" in text
    assert "words two" not in text
    assert "ERROR words: words: words" in text


def test_a_table_leaves_out_what_it_can_spare_to_fit() -> None:
    columns = ("measure", "published", "gain", "verdict")
    table = Table(columns, (("m" * 30, "0." + "1" * 20, "+0." + "1" * 20, "not reproduced"),), spare=("gain",))
    report = Report("r", "t", sections=(Section("s", (table,), brief=True),))
    assert "gain" in render_terminal(report, width=200)
    narrow = render_terminal(report, width=80)
    assert "gain" not in narrow
    assert "not reproduced" in narrow
    assert max(map(len, narrow.splitlines())) <= 80


def test_control_characters_do_not_reach_the_terminal() -> None:
    text = render_terminal(make_report(HARM))
    assert not {letter for letter in text if not letter.isprintable()} - {"\n"}
