"""The file that a drawn chart becomes: what is seen of matplotlib's SVG, and little else.

matplotlib writes out a style at every element, six digits behind the point, and a named group around each. As every
page holds its pictures inside, most of a page was that.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import groupby
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

SVG, LINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
# A page shows a unit with less than two pixels. Shapes of marks are small, and stand once wherever they are used.
PLACE_DIGITS, SHAPE_DIGITS = 1, 2
PLACES = frozenset({"x", "y", "width", "height", "transform"})
UNSEEN = frozenset({"metadata", "style"})
ALL_ELEMENTS = "*{stroke-linejoin:round;stroke-linecap:butt}"  # matplotlib's own rule
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
NAME = re.compile(r"#([\w-]+)")
COLOUR = re.compile(r"#[0-9a-f]{6}")
PATH_PART = re.compile(r"([MLCz])([^MLCz]*)")


def finish_svg(svg: str, caption: str, dark: Mapping[str, str]) -> str:
    """Return the whole file of what matplotlib drew.

    Added are words for those who cannot see it, and for every colour its partner in the dark. Left out is what nobody
    sees: groups and names without a use, digits below a pixel, and styles said again.

    Args:
        svg: matplotlib's file.
        caption: what the picture shows.
        dark: colour in the light -> colour in the dark, both as ``#rrggbb``.
    """
    root = ET.fromstring(svg)  # noqa: S314 - ours
    writer = _Writer(svg)
    body = "".join(writer.write(child, PLACE_DIGITS) for child in root)
    words = "".join(letter for letter in caption if letter.isprintable())
    size = {name: root.attrib[name] for name in ("width", "height", "viewBox")}
    head = {"xmlns": SVG, "xmlns:xlink": LINK, **size, "role": "img", "aria-label": words}
    style = _render_style(writer.classes, dark)
    return f"<svg{_render(head)}>\n<title>{escape(words)}</title>\n<style>{style}</style>\n{body}</svg>\n"


class _Writer:
    """Writes elements; ``classes`` has a class for each style that was met."""

    def __init__(self, svg: str) -> None:
        self._names = {name: f"n{index}" for index, name in enumerate(dict.fromkeys(_list_names(svg)))}
        self.classes: dict[str, str] = {}

    def write(self, element: ET.Element, digits: int) -> str:
        """Return an element, or only what is in it where it is a group that does nothing."""
        tag = element.tag.removeprefix(f"{{{SVG}}}")
        if tag in UNSEEN:
            return ""
        below = SHAPE_DIGITS if tag == "defs" else digits
        inside = escape((element.text or "").strip()) + "".join(self.write(child, below) for child in element)
        attributes = dict(self._shorten(element, digits))
        if tag in {"g", "defs"} and not (inside and (attributes or tag == "defs")):
            return inside
        return f"<{tag}{_render(attributes)}" + (f">{inside}</{tag}>" if inside else "/>")

    def _shorten(self, element: ET.Element, digits: int) -> Iterator[tuple[str, str]]:
        for name, value in element.attrib.items():
            if name == "style":
                yield "class", self.classes.setdefault(value, f"c{len(self.classes)}")
            elif name == "id":
                if value in self._names:
                    yield "id", self._names[value]
            elif name == "d":
                yield "d", shorten_path(value, digits)
            elif name in PLACES:
                if not value.startswith("rotate(-0 "):
                    yield name, NUMBER.sub(lambda found: _show(_place(found[0], digits), digits), value)
            else:
                asked = NAME.sub(lambda found: f"#{self._names[found[1]]}", value)
                yield name.replace(f"{{{LINK}}}", "xlink:"), asked


def shorten_path(path: str, digits: int) -> str:
    """Say a path of absolute moves, lines and curves by steps from point to point, of so many digits.

    Points are rounded before steps are taken, so that no error grows along a line. A step that goes nowhere is left
    out, and steps one after another along an axis in one direction are one.
    """
    x = y = 0
    steps: list[tuple[str, tuple[int, ...]]] = []
    for command, numbers in PATH_PART.findall(path):
        places = [_place(number, digits) for number in NUMBER.findall(numbers)]
        moved = tuple(place - (x, y)[index % 2] for index, place in enumerate(places))
        if command == "L":
            _add_line(steps, *moved)
        else:
            steps.append((command, tuple(places)) if command in "Mz" else ("c", moved))
        x, y = places[-2:] or (x, y)
    parts = []
    # Further numbers of a step's letter are such steps too, but those of a move are lines.
    for (command, _), group in groupby(steps, key=lambda step: (step[0], step[1] if step[0] == "M" else ())):
        shown = ",".join(_show(number, digits) for _, numbers in group for number in numbers)
        parts.append(command + shown.replace(",-", "-"))
    return "".join(parts)


def _add_line(steps: list[tuple[str, tuple[int, ...]]], x: int, y: int) -> None:
    if x and y:
        steps.append(("l", (x, y)))
    elif x or y:
        command, length = ("h", x) if x else ("v", y)
        last, lengths = steps[-1]
        if last == command and (lengths[0] > 0) == (length > 0):
            steps[-1] = (command, (lengths[0] + length,))
        else:
            steps.append((command, (length,)))


def _render_style(classes: Mapping[str, str], dark: Mapping[str, str]) -> str:
    light = "".join(f".{name}{{{_tighten(style)}}}" for style, name in classes.items())
    partners = []
    for style, name in classes.items():
        parts = [part for part in _tighten(style).split(";") if part.partition(":")[2] in dark]
        if parts:
            partners.append(f".{name}{{{';'.join(COLOUR.sub(lambda found: dark[found[0]], part) for part in parts)}}}")
    return f"{ALL_ELEMENTS}{light}@media(prefers-color-scheme:dark){{{''.join(partners)}}}"


def _tighten(style: str) -> str:
    return style.replace(": ", ":").replace("; ", ";")


def _list_names(svg: str) -> list[str]:
    """Return the ids that something in the file asks for."""
    return re.findall(r'(?:href="|url\()#([\w-]+)', svg)


def _render(attributes: Mapping[str, str]) -> str:
    """Quote by apostrophes, which an address can hold as they are: a page holds the file in one."""
    return "".join(f" {name}='{escape(value, {chr(39): '&#39;'})}'" for name, value in attributes.items())


def _place(number: str, digits: int) -> int:
    return round(float(number) * 10.0**digits)


def _show(place: int, digits: int) -> str:
    return re.sub(r"^(-?)0\.", r"\1.", f"{place / 10.0**digits:.12g}")
