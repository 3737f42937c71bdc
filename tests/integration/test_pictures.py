"""Pictures are the same bytes for the same numbers, whole SVG whatever names say, and leave matplotlib as it was."""

from __future__ import annotations

import os
import re
import tracemalloc
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest

from harness.report.document import (
    ChangeChart,
    Chart,
    ContrastChart,
    ContrastRow,
    Curve,
    DifferenceChart,
    DifferenceRow,
    HistoryChart,
    HistoryPoint,
    LossChart,
    Picture,
    StageChart,
    StageRow,
    ValueChart,
    ValueRow,
)
from harness.report.svg import DARK, FAINT, GROUND, draw_picture
from tests.support.reports import HARM

SVG = "{http://www.w3.org/2000/svg}"
POINTS = tuple(HistoryPoint(f"{number:08x}", f"2026-11-{number + 1:02}", 0.8, 0.79, 0.81) for number in range(6))


def make_charts(text: str) -> list[Chart]:
    """One chart of every kind, with ``text`` wherever a name is free."""
    return [
        ValueChart(
            (ValueRow(text, 0.8, 0.9, 0.89, 0.91, 0.81, 0.92), ValueRow("b", 0.8, None, None, None, None, None)),
            note=text,
        ),
        DifferenceChart(
            (DifferenceRow(text, False, -0.01, None, None), DifferenceRow(text, True, 0.002, -0.01, 0.014)), 0.01
        ),
        ContrastChart(text, (ContrastRow(text, 0.1, 0.05, 0.15, 0.0), ContrastRow("b", -0.1, None, None, None))),
        LossChart((Curve(text, (1, 2, 3), (1.0, 0.5, 0.25)), Curve("b", tuple(range(100)), (0.5,) * 100))),
        ChangeChart(text, (0.5, 0.25, 0.0, -0.5), 2, 1, 1),
        HistoryChart(text, ((text, POINTS), ("b", POINTS[:1])), 0.78),
        StageChart((StageRow(text, (("prepare", 1.0), ("train", 9000.0))), StageRow("b", (("baseline", 5.0),)))),
    ]


@pytest.mark.parametrize("chart", make_charts("a"), ids=lambda chart: type(chart).__name__)
def test_the_same_numbers_give_the_same_bytes(chart: Chart) -> None:
    picture = Picture("p", "a caption", chart)
    first, second = draw_picture(picture), draw_picture(picture)
    assert first == second
    assert "Matplotlib" not in first
    assert len(first) < 100_000


@pytest.mark.parametrize("chart", make_charts(HARM), ids=lambda chart: type(chart).__name__)
def test_hostile_names_are_text(chart: Chart) -> None:
    svg = draw_picture(Picture("p", HARM, chart))
    root = ET.fromstring(svg)  # noqa: S314 - our own text
    allowed = {"svg", "title", "style", "defs", "g", "path", "rect", "text", "use", "clipPath"}
    assert {element.tag.removeprefix(SVG) for element in root.iter()} <= allowed
    for element in root.iter():
        assert not any(name.startswith("on") for name in element.attrib)
        target = element.get("{http://www.w3.org/1999/xlink}href")
        assert target is None or target.startswith("#")
    assert "&lt;script&gt;" in svg


def test_the_caption_stands_for_the_picture_and_dark_has_its_colours() -> None:
    root = ET.fromstring(draw_picture(Picture("p", 'say "so"', make_charts("a")[0])))  # noqa: S314
    assert root.get("role") == "img"
    assert root.get("aria-label") == 'say "so"'
    assert root.findtext(f"{SVG}title") == 'say "so"'
    assert "prefers-color-scheme:dark" in (root.findtext(f"{SVG}style") or "")


def test_every_colour_in_a_picture_has_a_partner_in_the_dark() -> None:
    for chart in make_charts("a"):
        light = draw_picture(Picture("p", "c", chart)).partition("@media(prefers-color-scheme:dark)")[0]
        colours = set(re.findall(r"#[0-9a-f]{6}\b", light))
        assert {GROUND, FAINT} <= colours <= set(DARK)


def test_the_users_own_settings_change_nothing_and_are_put_back() -> None:
    import matplotlib as mpl

    picture = Picture("p", "c", make_charts("a")[0])
    expected = draw_picture(picture)
    with mpl.rc_context({"font.size": 20.0, "axes.facecolor": "red"}):
        assert draw_picture(picture) == expected
        assert mpl.rcParams["font.size"] == 20.0


def test_another_value_gives_another_picture() -> None:
    chart = ChangeChart("m", (0.5, -0.5), 1, 0, 1)
    other = replace(chart, changes=(0.5, -0.25))
    assert draw_picture(Picture("p", "c", chart)) != draw_picture(Picture("p", "c", other))


@pytest.mark.parametrize("changes", [(0.0, 0.0), (1.0,), (-1.0,), (0.0,)])
def test_changes_of_one_kind_only_can_be_drawn(changes: tuple[float, ...]) -> None:
    wins, losses = sum(change > 0 for change in changes), sum(change < 0 for change in changes)
    svg = draw_picture(Picture("p", "c", ChangeChart("m", changes, wins, len(changes) - wins - losses, losses)))
    assert "tied ones not drawn" in svg


@pytest.mark.parametrize("said", ["no date", "-99999999999999"])
def test_a_build_date_that_is_none_is_nothing_to_a_picture(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    chart = LossChart((Curve("seed 0", (1, 2), (0.5, 0.25)),))
    usual = draw_picture(Picture("loss", "Loss", chart))
    monkeypatch.setenv("SOURCE_DATE_EPOCH", said)
    assert draw_picture(Picture("loss", "Loss", chart)) == usual
    assert os.environ["SOURCE_DATE_EPOCH"] == said


def test_a_curve_of_very_many_steps_is_drawn_from_means() -> None:
    """The mean around every step took the square of their number: 100,000 steps, 4 GB."""
    steps = tuple(range(1, 100_001))
    chart = LossChart((Curve("seed 0", steps, tuple(float(step % 2) for step in steps)),))
    tracemalloc.start()
    drawn = draw_picture(Picture("loss", "Loss", chart))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 300 * 2**20
    assert "thin: mean of 25 steps, thick: mean of 5025 steps around it" in drawn
