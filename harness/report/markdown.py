"""Markdown shows a report as text that GitHub renders; every cell is escaped, since records may be a stranger's."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import assert_never

from tabulate import tabulate

from harness.core.text import clip, printable
from harness.report.document import Block, Command, Example, Finding, Paragraph, Picture, Report, Section, Table

SPECIAL = re.compile(r"([\\`*_\[\]<>#|~&])")
# What GitHub makes links, pictures and formulas of without being asked to, after markdown was rendered, so that a
# backslash does not keep it from that: a character of no width does. Of the list in GitHub's documentation, "Autolinked
# references and URLs", and the GFM specification, 6.9; what a repository's own settings link is not known here.
ZERO_WIDTH = "&#8203;"
PART = "\x00"  # in its place while the text is escaped; none is left of a stranger's
PARTED = (
    re.compile(r"(?i)www(?=\.)"),
    re.compile(r"(?i)(?:https?|ftp|mailto|xmpp):|[a-z0-9]:(?=//)"),
    re.compile(r"#(?=[0-9])"),
    re.compile(r"(?i)\bGH-(?=[0-9])"),
    re.compile(r":(?=[A-Za-z0-9_+-]+:)(?![0-9]{1,2}(?:[+-][0-9]{2})?:)"),
    # A mention, an address, USER@SHA; a measure such as mrr@10 keeps its name.
    re.compile(r"@(?!(?<=[A-Za-z]@)[0-9]{1,5}(?![A-Za-z0-9_@-]|\.[A-Za-z0-9]))"),
)
# A commit is written as code, which GitHub does not look into and which can be copied as it is. There is none in
# 0.1234567 and HP:0000063.
COMMIT = re.compile(r"(?<![0-9A-Za-z])(?<![.:](?=[0-9]{7,40}(?![0-9A-Za-z])))[0-9a-fA-F]{7,40}(?![0-9A-Za-z])")
LINE_START = re.compile(r"^([-+=]|[0-9]+[.)])")
SHOWN_CELL_CHARACTERS = 500
SHOWN_CHARACTERS = 2000
SIGNS = {"error": "**Error**", "warning": "**Warning**", "notice": "Note"}


def render_markdown(report: Report, *, pictures: str | None = "pictures", brief: bool = False) -> str:
    """Write a report as markdown; the same report gives the same bytes.

    Args:
        report: what to show.
        pictures: the folder, relative to the file, that pictures lie in; None leaves them out.
        brief: only the sections that are shown where there is little room.
    """
    lines = list(render_head(report))
    for section in report.sections:
        if section.brief or not brief:
            lines += render_section(section, report.name, pictures)
    return "\n".join(lines).rstrip("\n") + "\n"


def render_head(report: Report) -> Iterator[str]:
    """Write title, lead, reservation and findings."""
    yield from (f"# {escape(report.title)}", "")
    for paragraph in (*report.conclusions, *report.lead):
        yield from (escape_line(paragraph, limit=SHOWN_CHARACTERS), "")
    if report.mark:
        yield from (f"**{escape(report.mark, limit=SHOWN_CHARACTERS)}**", "")
    if report.findings:
        yield from (render_finding(finding) for finding in report.findings)
        yield ""


def render_finding(finding: Finding) -> str:
    """Write one finding as a list item."""
    text = escape(finding.sentence, limit=SHOWN_CHARACTERS)
    return f"- {SIGNS[finding.level]}, {escape(finding.title)}: {text}"


def render_section(section: Section, name: str, pictures: str | None) -> Iterator[str]:
    """Write one section, each block followed by an empty line."""
    yield from (f"## {escape(section.heading)}", "")
    for block in section.blocks:
        yield from _render_block(block, name, pictures)


def _render_block(block: Block, name: str, pictures: str | None) -> Iterator[str]:
    match block:
        case Paragraph():
            yield from (escape_line(block.text, limit=SHOWN_CHARACTERS), "")
        case Command():
            yield from (f"    {' '.join(block.text.split())}", "")
        case Table():
            if block.title:
                yield from (f"**{escape(block.title)}**", "")
            yield from (render_table(block), "")
            if block.mark:
                yield from (f"*{escape(block.mark)}*", "")
        case Picture():
            if pictures is not None:
                caption = block.caption + (f" ({block.mark})" if block.mark else "")
                yield from (f"![{escape(caption)}]({pictures}/{name_picture(name, block)})", "")
        case Example():
            yield from _render_example(block)
        case _:
            assert_never(block)


def name_picture(report: str, picture: Picture) -> str:
    """Return the file name of a picture."""
    return f"{report}-{picture.name}.svg"


def render_table(table: Table) -> str:
    """Write one table with tabulate, numbers to the right."""
    rows = [[escape(cell) for cell in row] for row in table.rows]
    align = ["right" if numeric else "left" for numeric in table.numeric]
    columns = [escape(column) for column in table.columns]
    return tabulate(rows, headers=columns, tablefmt="pipe", colalign=align, disable_numparse=True)


def escape(text: str, *, limit: int = SHOWN_CELL_CHARACTERS) -> str:
    """Make text harmless in markdown: no markup, link, mention, new cell or new line, and of bounded length."""
    text = " ".join(printable(clip(text, limit)).split())
    parts, end = [], 0
    for found in COMMIT.finditer(text):
        parts += [_escape_words(text[end : found.start()]), f"`{found[0]}`"]
        end = found.end()
    return "".join((*parts, _escape_words(text[end:])))


def _escape_words(text: str) -> str:
    for pattern in PARTED:
        text = pattern.sub(lambda found: f"{found[0]}{PART}", text)
    text = SPECIAL.sub(r"\\\1", text)
    # Of two dollars GitHub makes a formula, escaped or not, except in an element of their own.
    return text.replace("$", "<span>$</span>").replace(PART, ZERO_WIDTH)


def escape_line(text: str, *, limit: int = SHOWN_CELL_CHARACTERS) -> str:
    """Escape text that begins a line, where a number or a dash would begin a list."""
    return LINE_START.sub(lambda found: f"{found[1][:-1]}\\{found[1][-1]}", escape(text, limit=limit))


def _render_example(example: Example) -> Iterator[str]:
    yield from (f"### {escape_line(example.question)}", "")
    yield from (f"Query {escape(example.query_id)}, expected: {escape(example.expected)}", "")
    for ranking in example.rankings:
        yield from (f"{escape(ranking.label).capitalize()}: {escape(ranking.standing)}", "")
        if ranking.above:
            yield from (*_number(escape_line(text) for text in ranking.above), "")


def _number(lines: Iterable[str]) -> Iterator[str]:
    for number, line in enumerate(lines, start=1):
        yield f"{number}. {line}"
