"""A picture's file shows what matplotlib drew: the same points and styles, said once, with words and dark colours."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest

from harness.report.svg_file import finish_svg, shorten_path

SVG = "{http://www.w3.org/2000/svg}"
LINE = "fill: none; stroke: #0969da; stroke-width: 1.5"
DRAWN = f"""<?xml version="1.0" encoding="utf-8" standalone="no"?>
<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd">
<svg xmlns:xlink="http://www.w3.org/1999/xlink" width="331.2pt" height="208.8pt" viewBox="0 0 331.2 208.8"
 xmlns="http://www.w3.org/2000/svg" version="1.1">
 <metadata><by>a program</by></metadata>
 <defs><style type="text/css">*{{stroke-linejoin: round}}</style></defs>
 <g id="figure_1">
  <g id="line2d_1"><path d="M 1.04 2.06 L 3.5 4.25 " clip-path="url(#p63d5c512c2)" style="{LINE}"/></g>
  <g id="line2d_2"><path d="M 5 6 L 7 8 " style="{LINE}"/></g>
  <g id="line2d_3"/>
  <g id="line2d_4"><defs><path id="m5a9d" d="M 0 0.125 L 0 3.5 " style="stroke: #59636e"/></defs>
   <g clip-path="url(#p63d5c512c2)"><use xlink:href="#m5a9d" x="43.017115" y="178.799135"/></g></g>
  <text style="fill: #1f2328" x="12.26" y="0.04" transform="rotate(-0 12.26 0.04)">a &lt; b &amp; 'c'</text>
  <text style="fill: #1f2328" x="9" y="96.94" transform="rotate(-90 9 96.94)">up</text>
 </g>
 <defs><clipPath id="p63d5c512c2"><rect x="31.22" y="15" width="296.9764" height="163.7"/></clipPath></defs>
</svg>
"""
DARK = {"#0969da": "#4493f8", "#59636e": "#9198a1", "#1f2328": "#e6edf3"}


def follow(path: str) -> list[tuple[float, float]]:
    """The points that a path of steps goes through, as a reader of SVG takes them."""
    points: list[tuple[float, float]] = []
    for command, said in re.findall(r"([Mlhvcz])([^Mlhvcz]*)", path):
        numbers = [float(number) for number in re.findall(r"-?(?:\d+\.?\d*|\.\d+)", said)]
        if command == "z":
            continue
        if command in "hv":
            pairs = [(number, 0.0) if command == "h" else (0.0, number) for number in numbers]
        else:
            pairs = list(zip(numbers[::2], numbers[1::2], strict=True))
        # The last point of a curve is where the next step starts; its two handles count from the same start.
        for index, (x, y) in enumerate(pairs):
            start = (0.0, 0.0) if command == "M" else points[-1 - (index % 3 if command == "c" else 0)]
            points.append((start[0] + x, start[1] + y))
    return points


def test_a_path_goes_through_the_same_points() -> None:
    said = [(10.0, 20.0), (12.34, 18.77), (0.06, -3.21), (7.0, 7.0), (11.5, -0.04)]
    shortened = shorten_path("M {} {} \n".format(*said[0]) + "".join(f"L {x} {y} \n" for x, y in said[1:]), 1)
    assert follow(shortened) == [pytest.approx(point, abs=0.0501) for point in said]


def test_no_error_grows_along_a_line() -> None:
    steps = 1000
    path = "M 0 0 " + "".join(f"L {0.04 * step} {step % 7}.04 " for step in range(1, steps + 1))
    assert follow(shorten_path(path, 1))[-1] == pytest.approx((0.04 * steps, steps % 7), abs=0.0501)


def test_a_curve_keeps_its_handles() -> None:
    path = "M 0 2.5 C 0.663 2.5 1.299 2.237 1.768 1.768 C 2.237 1.299 2.5 0.663 2.5 0 z"
    assert shorten_path(path, 2) == "M0,2.5c.66,0,1.3-.26,1.77-.73,.47-.47,.73-1.11,.73-1.77z"
    expected = [(0, 2.5), (0.663, 2.5), (1.299, 2.237), (1.768, 1.768), (2.237, 1.299), (2.5, 0.663), (2.5, 0)]
    assert follow(shorten_path(path, 2)) == [pytest.approx(point, abs=0.0051) for point in expected]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("M 1 2 L 3 2 L 5 2 L 5 2 L 5 9 ", "M1,2h4v7"),
        ("M 1 2 L 5 2 L 3 2 ", "M1,2h4-2"),  # back along itself: both ends are seen
        ("M 0.5 -0.5 L 0.04 0.04 z", "M.5-.5l-.5,.5z"),
        ("M 1 1 L 1 1 ", "M1,1"),
        ("M 1 1 L 2 2 M 9 9 L 8 9 ", "M1,1l1,1M9,9h-1"),
        ("M 1 1 M 9 9 L 8 9 ", "M1,1M9,9h-1"),  # a point by itself: no line leads to it
    ],
)
def test_steps_along_an_axis_are_short_and_none_goes_nowhere(path: str, expected: str) -> None:
    assert shorten_path(path, 1) == expected


def test_the_file_has_what_is_seen_and_words_and_nothing_of_the_program() -> None:
    svg = finish_svg(DRAWN, 'what\'s "seen" & <heard>', DARK)
    root = ET.fromstring(svg)  # noqa: S314 - our own text
    assert root.get("viewBox") == "0 0 331.2 208.8"
    assert root.get("aria-label") == root.findtext(f"{SVG}title") == 'what\'s "seen" & <heard>'
    assert [element.text for element in root.iter(f"{SVG}text")] == ["a < b & 'c'", "up"]
    turned = [element.get("transform") for element in root.iter(f"{SVG}text")]
    assert turned == [None, "rotate(-90 9 96.9)"]
    assert not list(root.iter("metadata"))
    assert "program" not in svg
    assert "figure_1" not in svg
    assert [element.get("d") for element in root.iter(f"{SVG}path")] == ["M1,2.1l2.5,2.1", "M5,6l2,2", "M0,.12v3.38"]
    (used,) = root.iter(f"{SVG}use")
    assert (used.get("x"), used.get("y")) == ("43", "178.8")


def test_what_is_asked_for_keeps_a_name() -> None:
    root = ET.fromstring(finish_svg(DRAWN, "c", DARK))  # noqa: S314 - our own text
    named = {element.get("id"): element.tag.removeprefix(SVG) for element in root.iter() if element.get("id")}
    assert sorted(named.values()) == ["clipPath", "path"]
    (used,) = root.iter(f"{SVG}use")
    assert named[(used.get("{http://www.w3.org/1999/xlink}href") or "").removeprefix("#")] == "path"
    clipped = {element.get("clip-path") for element in root.iter()} - {None}
    assert [named[str(one).removeprefix("url(#").removesuffix(")")] for one in clipped] == ["clipPath"]


def test_a_style_is_said_once_and_has_its_partner_in_the_dark() -> None:
    svg = finish_svg(DRAWN, "c", DARK)
    root = ET.fromstring(svg)  # noqa: S314 - our own text
    light, _, dark = (root.findtext(f"{SVG}style") or "").partition("@media(prefers-color-scheme:dark)")
    first, second, _ = (element.get("class") for element in root.iter(f"{SVG}path"))
    assert first == second
    assert svg.count("stroke-width:1.5") == 1
    assert f".{first}{{fill:none;stroke:#0969da;stroke-width:1.5}}" in light
    assert f".{first}{{stroke:#4493f8}}" in dark
    assert "style=" not in svg
