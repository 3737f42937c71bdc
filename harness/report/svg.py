"""Charts drawn as SVG: the same bytes for the same numbers, readable in light and dark, on a phone too."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, assert_never

from harness.core.text import clip, format_seconds
from harness.report.document import (
    ChangeChart,
    Chart,
    ContrastChart,
    Curve,
    DifferenceChart,
    HistoryChart,
    LossChart,
    Picture,
    StageChart,
    ValueChart,
)
from harness.report.svg_file import finish_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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
STAGE_COLOURS = {"prepare": MUTED, "baseline": SERIES[5], "mine": SERIES[3], "train": OURS, "evaluate": PUBLISHED}
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
WIDTH_INCHES = 4.6
MINUTE, HOUR = 60, 3600
SHOWN_CHARACTERS = 60
ROW_CHARACTERS = 24  # longer ones would leave no room for what they name
MOST_COMMITS = 40
# Of a curve: more than a picture can show, and the mean around each would take the square of their number.
MOST_POINTS = 4000
TIED = 1e-12


def draw_picture(picture: Picture) -> str:
    """Draw one chart as a whole SVG file.

    matplotlib is loaded here: it takes longer than the rest of a report. Its settings are ours alone during the
    call, whatever the user's own say, and are put back afterwards.
    """
    import matplotlib as mpl  # noqa: PLC0415 - see above
    from matplotlib.backends.backend_svg import FigureCanvasSVG  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    with mpl.rc_context(), _without_build_date():
        mpl.rcdefaults()
        mpl.rcParams.update(SETTINGS)
        figure = Figure(figsize=(WIDTH_INCHES, _measure_height(picture.chart)), layout="constrained")
        FigureCanvasSVG(figure)
        _draw(figure.subplots(), picture.chart)
        # Laid out here, since savefig would draw all once more for it.
        if (engine := figure.get_layout_engine()) is not None:
            engine.execute(figure)
        figure.set_layout_engine("none")
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    return finish_svg(stream.getvalue(), picture.caption, DARK)


@contextmanager
def _without_build_date() -> Iterator[None]:
    """Hide a variable that matplotlib reads, and fails at where it is no date, for a date that no picture has."""
    said = os.environ.pop("SOURCE_DATE_EPOCH", None)
    try:
        yield
    finally:
        if said is not None:
            os.environ["SOURCE_DATE_EPOCH"] = said


def _measure_height(chart: Chart) -> float:
    """Return inches: charts of rows grow with their rows."""
    match chart:
        case ValueChart():
            return 1.1 + 0.28 * len(chart.rows)
        case DifferenceChart():
            return 1.2 + 0.2 * len(chart.rows)
        case StageChart() | ContrastChart():
            return 0.9 + 0.34 * len(chart.rows)
        case LossChart() | ChangeChart() | HistoryChart():
            return 2.9
        case _:
            assert_never(chart)


def _draw(axes: Axes, chart: Chart) -> None:
    match chart:
        case ValueChart():
            _draw_values(axes, chart)
        case DifferenceChart():
            _draw_differences(axes, chart)
        case ContrastChart():
            _draw_contrasts(axes, chart)
        case LossChart():
            _draw_losses(axes, chart)
        case ChangeChart():
            _draw_changes(axes, chart)
        case HistoryChart():
            _draw_history(axes, chart)
        case StageChart():
            _draw_stages(axes, chart)
        case _:
            assert_never(chart)


def _draw_values(axes: Axes, chart: ValueChart) -> None:
    published = any(row.published_before is not None or row.published_after is not None for row in chart.rows)
    shift = 0.16 if published else 0.0
    for place, row in enumerate(chart.rows):
        for before, after, offset, colour in (
            (row.before, row.after, -shift, OURS),
            (row.published_before, row.published_after, shift, PUBLISHED),
        ):
            if before is not None and after is not None:
                axes.plot([before, after], [place + offset] * 2, color=GRID, linewidth=2, zorder=1)
            for value, filled in ((before, False), (after, True)):
                if value is not None:
                    _mark(axes, value, place + offset, colour, filled=filled, diamond=colour == PUBLISHED)
        if row.low is not None and row.high is not None:
            axes.plot([row.low, row.high], [place - shift] * 2, color=OURS, linewidth=1.2, zorder=2)
    _name_rows(axes, [row.label for row in chart.rows])
    axes.grid(visible=True, axis="x")
    axes.set_xlabel("value" + (f" ({_plain(chart.note)})" if chart.note else ""))
    present = [
        ("ours before", OURS, False, any(row.before is not None for row in chart.rows)),
        ("ours after", OURS, True, any(row.after is not None for row in chart.rows)),
        ("published before", PUBLISHED, False, any(row.published_before is not None for row in chart.rows)),
        ("published after", PUBLISHED, True, any(row.published_after is not None for row in chart.rows)),
    ]
    for label, colour, filled, shown in present:
        if shown:
            _mark(axes, float("nan"), 0, colour, filled=filled, diamond=colour == PUBLISHED, label=label)
    _add_legend(axes, columns=2)


def _draw_differences(axes: Axes, chart: DifferenceChart) -> None:
    axes.axvspan(-chart.margin, chart.margin, color=BAND, linewidth=0, zorder=0)
    axes.axvline(0, color=FAINT, linewidth=0.8, zorder=1)
    labels = []
    places = _space_groups([row.trained for row in chart.rows])
    for place, row in zip(places, chart.rows, strict=True):
        colour = OURS if row.trained else FAINT
        if row.low is not None and row.high is not None:
            axes.plot([row.low, row.high], [place, place], color=colour, linewidth=1.4, zorder=2)
        _mark(axes, row.difference, place, colour, filled=row.trained)
        labels.append(row.label)
    for label, colour, filled, shown in (
        ("before fine-tuning", FAINT, False, any(not row.trained for row in chart.rows)),
        ("after, with 90 % interval", OURS, True, any(row.trained for row in chart.rows)),
    ):
        if shown:
            _mark(axes, float("nan"), 0, colour, filled=filled, label=label)
    _name_rows(axes, labels, places)
    reach = max([chart.margin * 1.5, *(abs(end) for row in chart.rows for end in _list_ends(row))]) * 1.08
    axes.set_xlim(-reach, reach)
    axes.grid(visible=True, axis="x")
    axes.set_xlabel(f"ours minus published (band: ±{chart.margin:g})")
    _add_legend(axes, columns=2)


def _draw_contrasts(axes: Axes, chart: ContrastChart) -> None:
    axes.axvline(0, color=FAINT, linewidth=0.8, zorder=1)
    for place, row in enumerate(chart.rows):
        if row.low is not None and row.high is not None:
            axes.plot([row.low, row.high], [place + 0.2] * 2, color=OURS, linewidth=1.4, zorder=2)
        if row.bound is not None:
            axes.plot([row.bound] * 2, [place, place + 0.4], color=BAD, linewidth=1, linestyle="--", zorder=2)
        _mark(axes, row.difference, place + 0.2, OURS, filled=row.low is not None)
        # Above its interval, as names of stages: two cells' names leave a phone no room beside it.
        axes.text(0.01, place - 0.1, _plain(row.label), va="bottom", transform=axes.get_yaxis_transform())
    ends = [end for row in chart.rows for end in (*_list_ends(row), row.bound) if end is not None]
    reach = max([1e-3, *map(abs, ends)]) * 1.08
    axes.set_xlim(-reach, reach)
    axes.set_ylim(len(chart.rows) - 0.45, -0.6)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.grid(visible=True, axis="x")
    axes.set_axisbelow(True)
    axes.set_xlabel(f"difference in {_plain(chart.measure)}, 95 % intervals")


def _draw_losses(axes: Axes, chart: LossChart) -> None:
    together = -(-max(len(curve.losses) for curve in chart.curves) // MOST_POINTS)
    curves = chart.curves if together == 1 else [_thin(curve, together) for curve in chart.curves]
    reach = max(len(curve.losses) for curve in curves) // 40
    for index, curve in enumerate(curves):
        colour = SERIES[index % len(SERIES)]
        if reach:
            axes.plot(curve.steps, curve.losses, color=colour, linewidth=0.7, alpha=0.3)
        parts = [curve.losses[max(0, place - reach) : place + reach + 1] for place in range(len(curve.losses))]
        style = ("-", "--", ":", "-.")[index // len(SERIES) % 4]
        smooth = [sum(part) / len(part) for part in parts]
        axes.plot(curve.steps, smooth, style, color=colour, linewidth=1.5, label=_plain(curve.label))
    axes.set_ylim(bottom=0)
    axes.grid(visible=True, axis="y")
    every = "every step" if together == 1 else f"mean of {together} steps"
    around = (2 * reach + 1) * together
    axes.set_xlabel("step" + (f" (thin: {every}, thick: mean of {around} steps around it)" if reach else ""))
    axes.set_ylabel("training loss")
    _add_legend(axes, columns=3)


def _thin(curve: Curve, together: int) -> Curve:
    """Return the means of so many points each, at the last one's step."""
    parts = [curve.losses[start : start + together] for start in range(0, len(curve.losses), together)]
    steps = [curve.steps[start : start + together][-1] for start in range(0, len(curve.losses), together)]
    return Curve(curve.label, tuple(steps), tuple(sum(part) / len(part) for part in parts))


def _draw_changes(axes: Axes, chart: ChangeChart) -> None:
    # Where most queries are tied, drawing them would leave the others no room.
    changes = [change for change in chart.changes if abs(change) > TIED]
    for sign, colour in ((1, OURS), (-1, PUBLISHED)):
        axes.stairs([max(change * sign, 0.0) * sign for change in changes], fill=True, color=colour, linewidth=0)
    axes.axhline(0, color=FAINT, linewidth=0.8)
    axes.set_xlim(0, max(len(changes), 1))
    axes.set_ylim(min([-0.05, *changes]) * 1.08, max([0.05, *changes]) * 1.08)
    axes.grid(visible=True, axis="y")
    axes.set_axisbelow(True)
    axes.set_xlabel(f"queries by change ({chart.ties} tied ones not drawn)")
    axes.set_ylabel(f"change in {_plain(chart.measure)}")
    axes.set_title(f"{chart.wins} won, {chart.ties} tied, {chart.losses} lost", loc="right", color=INK)


def _draw_history(axes: Axes, chart: HistoryChart) -> None:
    commits: list[tuple[str, str]] = []
    for _, points in chart.lines:
        commits += [(point.commit, point.date) for point in points if (point.commit, point.date) not in commits]
    commits = sorted(commits, key=lambda named: named[1])[-MOST_COMMITS:]
    for index, (label, points) in enumerate(chart.lines):
        colour = (FAINT, OURS)[index % 2] if len(chart.lines) > 1 else OURS
        shown = [point for point in points if (point.commit, point.date) in commits]
        places = [commits.index((point.commit, point.date)) for point in shown]
        axes.plot(places, [point.mean for point in shown], "o-", color=colour, markersize=4, label=_plain(label))
        for place, point in zip(places, shown, strict=True):
            if point.high > point.low:
                axes.plot([place, place], [point.low, point.high], color=colour, linewidth=1.2)
    if chart.bound is not None:
        axes.axhline(chart.bound, color=BAD, linewidth=1, linestyle="--", label=f"threshold {chart.bound:g}")
    axes.set_xticks(range(len(commits)), [_plain(f"{commit}\n{date}", lines=True) for commit, date in commits])
    if len(commits) > 4:  # noqa: PLR2004 - labels would touch
        axes.tick_params(axis="x", labelrotation=90)
    axes.set_xlim(-0.5, len(commits) - 0.5)
    axes.grid(visible=True, axis="y")
    axes.set_ylabel(_plain(chart.measure))
    _add_legend(axes, columns=3)


def _draw_stages(axes: Axes, chart: StageChart) -> None:
    totals = [sum(seconds for _, seconds in row.seconds) for row in chart.rows]
    longest = max([*totals, 0.0])
    unit, name = (HOUR, "hours") if longest > 2 * HOUR else (MINUTE, "minutes") if longest > 2 * MINUTE else (1, "s")
    drawn: set[str] = set()
    for place, (row, total) in enumerate(zip(chart.rows, totals, strict=True)):
        start = 0.0
        for stage, seconds in row.seconds:
            label = None if stage in drawn else stage
            drawn.add(stage)
            colour = STAGE_COLOURS[stage]
            axes.barh(place + 0.2, seconds / unit, 0.36, left=start, color=colour, linewidth=0, label=label)
            start += seconds / unit
        # Above its bar, since a name beside it would leave a phone no room for the bar.
        axes.text(0, place - 0.1, f"{_plain(row.label)}: {format_seconds(total)}", va="bottom")
    axes.set_ylim(len(chart.rows) - 0.45, -0.6)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("seconds" if name == "s" else name)
    axes.grid(visible=True, axis="x")
    axes.set_axisbelow(True)
    _add_legend(axes, columns=4)


def _mark(
    axes: Axes, x: float, y: float, colour: str, *, filled: bool, diamond: bool = False, label: str | None = None
) -> None:
    axes.plot(
        [x],
        [y],
        "D" if diamond else "o",
        color=colour,
        markerfacecolor=colour if filled else GROUND,
        markersize=4.2 if diamond else 5,
        linestyle="none",
        zorder=3,
        label=label,
    )


def _space_groups(kinds: Sequence[bool]) -> list[float]:
    """Return a place per row, with a gap where the kind changes."""
    places: list[float] = []
    for index, kind in enumerate(kinds):
        gap = 0.6 if index and kind != kinds[index - 1] else 0.0
        places.append(places[-1] + 1 + gap if places else 0.0)
    return places


def _name_rows(axes: Axes, labels: Sequence[str], places: Sequence[float] | None = None) -> None:
    shown = list(range(len(labels))) if places is None else places
    axes.set_yticks(shown, [_plain(label, most=ROW_CHARACTERS) for label in labels])
    axes.set_ylim(max([*shown, 0]) + 0.6, -0.6)


def _add_legend(axes: Axes, *, columns: int) -> None:
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, handlelength=1.4, columnspacing=1.2, borderpad=0
    )


def _list_ends(row: Any) -> list[float]:
    return [end for end in (row.difference, row.low, row.high) if end is not None]


def _plain(text: str, *, lines: bool = False, most: int = SHOWN_CHARACTERS) -> str:
    """Keep what every font has: a name from a record must not end the drawing."""
    keep = "\n" if lines else ""
    return "".join(letter if " " <= letter <= "~" or letter in keep else "?" for letter in clip(text, most))
