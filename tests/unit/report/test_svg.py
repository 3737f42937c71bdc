"""Every colour can be told from its ground, in light and in dark."""

from __future__ import annotations

import pytest

from harness.report.svg import BAND, DARK, FAINT, GRID, GROUND, INK


def luminance(colour: str) -> float:
    """Relative luminance: WCAG 2.2."""
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("colour", sorted(set(DARK) - {GROUND, GRID, BAND}))
def test_colours_stand_out_from_their_ground(colour: str) -> None:
    least = 4.5 if colour in {INK, FAINT} else 3.0
    assert contrast(colour, GROUND) >= least
    assert contrast(DARK[colour], DARK[GROUND]) >= least


@pytest.mark.parametrize("colour", [INK, FAINT])
def test_words_can_be_read_on_the_band(colour: str) -> None:
    assert contrast(colour, BAND) >= 4.5
    assert contrast(DARK[colour], DARK[BAND]) >= 4.5
