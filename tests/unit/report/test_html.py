"""The page is whole and asks nobody for anything; what a record says is text in it, whatever it says."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from typing import get_args

import pytest
from jinja2 import UndefinedError

from harness.report.document import Block, Finding, Report, Section, Table
from harness.report.html import ENVIRONMENT, MOST_ROWS, read_style, render_html
from tests.support.reports import HARM, make_report

SVG = '<svg xmlns="http://www.w3.org/2000/svg"></svg>'
VOID = {"meta", "img", "br"}


class Reader(HTMLParser):
    """Collects tags and attributes, and checks that what opens is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag that opens."""
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Check that the tag opened last is the one that closes."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Note text."""
        self.text += data


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


def test_every_part_of_a_report_is_shown_in_well_formed_markup() -> None:
    reader = read(render_html(make_report("plain words"), {"changes-m": SVG}))
    assert reader.text.count("plain words") > 15
    for tag in ("h1", "h2", "table", "img", "article", "pre", "ol"):
        assert any(seen == tag for seen, _ in reader.seen)


def test_hostile_text_adds_no_tag_and_no_attribute() -> None:
    plain = read(render_html(make_report("plain"), {"changes-m": SVG}))
    hostile = read(render_html(make_report(HARM), {"changes-m": SVG}))
    without_class = [
        [(tag, sorted(set(attributes) - {"class"})) for tag, attributes in reader.seen] for reader in (plain, hostile)
    ]
    assert without_class[0] == without_class[1]
    assert "<script>alert(1)</script>" in hostile.text


def test_control_and_direction_marks_are_not_shown() -> None:
    page = render_html(make_report(HARM), {"changes-m": SVG})
    assert not set(page) & {"\x1b", "\x00", "\u202e", "\r"}


def test_the_page_loads_nothing_and_runs_nothing() -> None:
    page = render_html(make_report(HARM), {"changes-m": SVG})
    for tag, attributes in read(page).seen:
        for name in ("src", "href"):
            target = attributes.get(name)
            assert target is None or target.startswith(("data:image/svg+xml,", "#"))
        assert tag not in {"script", "iframe", "object", "link", "base", "form"}
        assert not any(name.startswith("on") or name == "style" for name in attributes)
    assert "url(" not in read_style()
    assert "@import" not in read_style()


def test_the_policy_allows_the_one_style_sheet_and_pictures_inside_only() -> None:
    page = render_html(make_report(), {"changes-m": SVG})
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    style = re.search(r"<style>(.*?)</style>", page, flags=re.DOTALL)
    assert policy is not None
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert policy[1].startswith("default-src 'none'; img-src data:; ")
    assert f"style-src 'sha256-{digest}'" in policy[1]
    assert "unsafe" not in policy[1]


def test_the_page_follows_light_and_dark_and_the_width_of_a_phone() -> None:
    page = render_html(make_report(), {"changes-m": SVG})
    assert "prefers-color-scheme:dark" in page
    assert 'name="viewport" content="width=device-width' in page


def test_a_verdict_is_coloured_in_parentheses_too() -> None:
    table = Table(("a", "verdict"), (("x", "reproduced"), ("y", "(not reproduced)"), ("z", "whatever")))
    page = render_html(Report("r", "t", sections=(Section("s", (table,)),)), {})
    assert '<td class="good">reproduced</td>' in page
    assert '<td class="bad">(not reproduced)</td>' in page
    assert "<td>whatever</td>" in page


def test_long_tables_are_folded_except_where_the_answer_stands() -> None:
    rows = tuple((f"r{number}", "0.5") for number in range(MOST_ROWS + 1))
    long, short = Table(("a", "b"), rows, title="long one"), Table(("a", "b"), rows[1:])
    sections = (Section("answer", (long,), brief=True), Section("details", (long, short)))
    seen = [tag for tag, _ in read(render_html(Report("r", "t", sections=sections), {})).seen]
    first, second = seen.index("section"), len(seen) - 1 - seen[::-1].index("section")
    assert seen[first:second].count("details") == 0
    assert seen[second:].count("details") == 1
    assert f"<summary>long one ({MOST_ROWS + 1} rows)</summary>" in render_html(Report("r", "t", sections=sections), {})


def test_errors_are_in_sight_and_notices_folded() -> None:
    findings = (Finding("error", "e", "bad"), Finding("notice", "n", "by the way"))
    page = render_html(Report("r", "t", findings=findings), {})
    assert page.index("bad") < page.index("<details") < page.index("by the way")
    assert "About, 1 note<" in page


def test_every_kind_of_block_is_shown() -> None:
    shown = {type(block) for section in make_report().sections for block in section.blocks}
    assert shown == set(get_args(Block))


def test_a_name_that_the_template_does_not_have_is_an_error_not_a_gap() -> None:
    with pytest.raises(UndefinedError):
        ENVIRONMENT.from_string("{{ report.no_such_thing }}").render(report=make_report())


def test_addresses_and_numbers_are_no_links_on_a_phone() -> None:
    assert '<meta name="format-detection" content="telephone=no, date=no, email=no' in render_html(
        make_report(), {"changes-m": SVG}
    )


def test_the_same_report_gives_the_same_bytes() -> None:
    assert render_html(make_report(HARM), {"changes-m": SVG}) == render_html(make_report(HARM), {"changes-m": SVG})
