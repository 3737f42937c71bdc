"""The terminal shows what a person waited for: the brief sections, narrow enough for eighty columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import assert_never

from harness.core.text import clip, printable
from harness.report.document import Block, Command, Example, Paragraph, Picture, Report, Table

WIDTH = 80
SHOWN_CHARACTERS = 1000


def render_terminal(report: Report, *, width: int = WIDTH) -> str:
    """Write a report's conclusions, its brief sections and its findings as plain text.

    Args:
        report: what to show.
        width: columns of the terminal; tables leave out what they can spare to fit.
    """
    lines = [line for text in report.conclusions for line in (*_wrap(text, width), "")]
    for section in report.sections:
        if section.brief:
            lines += [_plain(section.heading), "-" * len(_plain(section.heading))]
            for block in section.blocks:
                lines += [*_render_block(block, width), ""]
    for finding in report.findings:
        lines += _wrap(f"{finding.level.upper()} {finding.title}: {finding.sentence}", width)
    return "\n".join(lines).rstrip()


def _render_block(block: Block, width: int) -> Iterator[str]:
    match block:
        case Paragraph():
            yield from _wrap(block.text, width)
        case Command():
            yield f"  {_plain(block.text)}"
        case Table():
            yield from _render_table(block, width)
        case Picture():
            yield from _wrap(f"[picture: {block.caption}]", width)
        case Example():
            yield from _wrap(f"{block.question} (query {block.query_id})", width)
            yield from _wrap(f"  expected: {block.expected}", width)
            for ranking in block.rankings:
                yield from _wrap(f"  {ranking.label}: {ranking.standing}", width)
        case _:
            assert_never(block)


def _render_table(table: Table, width: int) -> Iterator[str]:
    if table.title:
        yield _plain(table.title)
    kept = list(range(len(table.columns)))
    spare = [table.columns.index(name) for name in table.spare if name in table.columns]
    lines = _lay_out(table, kept)
    while spare and max(map(len, lines)) > width:
        kept.remove(spare.pop(0))
        lines = _lay_out(table, kept)
    yield from lines
    if table.mark:
        yield from _wrap(table.mark, width)


def _lay_out(table: Table, kept: list[int]) -> list[str]:
    """Write columns as wide as they need to be: tabulate would pad every header, which eighty columns cannot spare."""
    cells = [[_plain(row[index]) for index in kept] for row in (table.columns, *table.rows)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(kept))]
    numeric = [table.numeric[index] for index in kept]
    lines = [
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(row, widths, numeric, strict=True)
        ).rstrip()
        for row in cells
    ]
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]


def _wrap(text: str, width: int) -> list[str]:
    indent = " " * (len(text) - len(text.lstrip()))
    return textwrap.wrap(_plain(text), width, initial_indent=indent, subsequent_indent=indent + "  ") or [""]


def _plain(text: str) -> str:
    """Keep what is shown: a name from a record must not move the cursor or colour the screen."""
    return printable(clip(text, SHOWN_CHARACTERS)).strip()
