"""The palette of the pictures: colours that have a partner for dark surroundings, and matplotlib's settings."""

from __future__ import annotations

import re
from typing import Any
from xml.sax.saxutils import escape

# Every colour has a part to play. Text keeps a contrast of 4.5 to its ground, shapes one of 3, in light and in dark.
GROUND, INK, FAINT, GRID, BAND = "#ffffff", "#1f2328", "#59636e", "#d8dee4", "#ddf4ff"
OURS, PUBLISHED, BAD, MUTED = "#0969da", "#bc4c00", "#cf222e", "#8c959f"
SERIES = ("#0969da", "#bc4c00", "#1a7f37", "#8250df", "#bf3989", "#1b7c83")
DARK = {
    GROUND: "#0d1117",
    INK: "#e6edf3",
    FAINT: "#9198a1",
    GRID: "#30363d",
    BAND: "#10294a",
    OURS: "#4493f8",
    PUBLISHED: "#f0883e",
    BAD: "#ff7b72",
    MUTED: "#7d8590",
    "#1a7f37": "#3fb950",
    "#8250df": "#ab7df8",
    "#bf3989": "#f778ba",
    "#1b7c83": "#39c5cf",
}
STAGE_COLOURS = {"prepare": MUTED, "baseline": SERIES[5], "train": OURS, "evaluate": PUBLISHED}
SETTINGS: Any = {
    "svg.fonttype": "none",  # text stays text; a browser takes its own sans serif
    "svg.hashsalt": "retrieval-harness",  # ids inside the file would be random otherwise
    "text.parse_math": False,  # a name with a dollar sign is a name
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib, so that every machine measures the same widths
    "font.size": 8,
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.facecolor": "none",
    "axes.labelcolor": FAINT,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 8,
    "figure.facecolor": GROUND,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": FAINT,
    "ytick.labelcolor": INK,
    "ytick.major.size": 0,
}


def finish_svg(svg: str, caption: str) -> str:
    """Take away what tells of the program, add the words for those who cannot see it, and the colours for the dark."""
    start = svg.index("<svg")
    end = svg.index(">", start)
    body = re.sub(r"\s*<metadata>.*?</metadata>", "", svg[end + 1 :], flags=re.DOTALL)
    rules = "".join(
        f'[style*="{part}: {light}"]{{{part}:{dark}!important}}'
        for light, dark in DARK.items()
        for part in ("fill", "stroke")
    )
    words = escape("".join(letter for letter in caption if letter.isprintable()))
    head = f'{svg[start:end]} role="img" aria-label={_quote(words)}>\n <title>{words}</title>\n'
    style = f" <style>text{{font-family:sans-serif}}@media(prefers-color-scheme:dark){{{rules}}}</style>"
    return f"{head}{style}{body}"


def _quote(escaped: str) -> str:
    return '"' + escaped.replace('"', "&quot;") + '"'
