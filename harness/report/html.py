"""HTML shows a report as one page that asks nobody for anything: style and pictures are inside, without scripts."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from harness.core.text import clip, printable
from harness.report.document import Block, Picture, Report

SHOWN_CHARACTERS = 2000
# More are folded: who wants them all opens them.
MOST_ROWS = 12
LONG_CELL = 60
TONES = {
    "same": "good",
    "close": "good",
    "reproduced": "good",
    "met": "good",
    "pass": "good",
    "better": "good",
    "exceeds": "odd",
    "inconclusive": "odd",
    "worse, within chance": "odd",
    "undecided": "odd",
    "different": "bad",
    "differs": "bad",
    "not reproduced": "bad",
    "not met": "bad",
    "regression": "bad",
    "not comparable": "odd",
}
# Last columns that a phone keeps in sight while the others scroll.
JUDGED = frozenset({"verdict", "threshold"})
# What stands in an address as it is (RFC 3986), and means nothing in HTML.
ADDRESS_MARKS = "!$'()*+,-./:;=?@_~"


def render_html(report: Report, pictures: Mapping[str, str]) -> str:
    """Write a report as a whole HTML page; the same report gives the same bytes.

    Everything that comes from a record is escaped. The page's own policy allows the one style sheet, by its hash,
    and pictures that are inside; a browser will run no script in it and load nothing.

    Args:
        report: what to show.
        pictures: name -> SVG of each of the report's pictures.
    """
    style = read_style()
    return ENVIRONMENT.get_template("html.j2").render(
        report=report,
        pictures=pictures,
        style=Markup(style),  # noqa: S704 - ours
        style_digest=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        judged=JUDGED,
        most_rows=MOST_ROWS,
    )


def read_style() -> str:
    """Return the style sheet, without the comments and line ends that only its editor needs."""
    loader = ENVIRONMENT.loader
    if loader is None:
        raise RuntimeError("the environment has no loader, expected the package's")
    return loader.get_source(ENVIRONMENT, "html.css")[0]


def _finalize(value: object) -> object:
    """Bound what an expression shows, and take from it what could hide or reorder the rest; escaping comes after."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return printable(clip(value, SHOWN_CHARACTERS))


def _choose_tone(cell: str, number: bool) -> str:  # noqa: FBT001 - templates have no keywords to spare
    if number:
        return "number"
    tone = TONES.get(cell.strip("()"), "")
    return tone or ("long" if len(cell) > LONG_CELL else "")


def _name_classes(told: tuple[str, bool]) -> Markup:
    name, spare = told
    names = " ".join(part for part in (name, "spare" if spare else "") if part)
    return Markup(' class="{}"').format(names) if names else Markup()


def _group_pictures(blocks: Sequence[Block]) -> Iterator[tuple[bool, list[Block]]]:
    """Yield blocks in their order, pictures beside each other together."""
    for pictured, group in groupby(blocks, key=lambda block: isinstance(block, Picture)):
        yield pictured, list(group)


def _embed(svg: str) -> Markup:
    """Return the picture as an address; in base64 it would be longer, as most of it is digits."""
    return Markup("data:image/svg+xml," + quote(svg, safe=ADDRESS_MARKS))  # noqa: S704 - no mark of HTML is left


def _name_kind(block: Any) -> str:
    return type(block).__name__


def _make_environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("harness.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        classes=_name_classes, embed=_embed, group_pictures=_group_pictures, kind=_name_kind, tone=_choose_tone
    )
    return environment


ENVIRONMENT = _make_environment()
