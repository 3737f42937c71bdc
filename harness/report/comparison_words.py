"""What comparisons showed, in words: names of cells, outcomes, sentences and findings."""

from __future__ import annotations

from collections.abc import Iterator

from harness.analysis.comparison import ComparedCells, ComparisonVerdict, ForgettingVerdict
from harness.core.text import relate_p
from harness.experiment.claims import BASELINE
from harness.experiment.manifest import Variant
from harness.report.document import Finding, Level


def name_compared(cell: tuple[str, Variant]) -> str:
    """Name a cell as comparisons do: the model, and the recipe where it is trained."""
    model, variant = cell
    return model if variant == BASELINE else f"{model}/{variant}"


def show_change(cells: ComparedCells) -> tuple[str, str]:
    """Write a minus b and its interval, or nothing where there is none."""
    if cells.contrast is None:
        return "", ""
    interval = cells.contrast.interval
    shown = "" if interval is None else f"{interval.low:+.4f} to {interval.high:+.4f}"
    return f"{cells.contrast.difference:+.4f}", shown


def word_outcome(cells: ComparedCells) -> str:
    """Say in a few words which of both is better."""
    if cells.contrast is None:
        return "no record"
    if cells.contrast.p_value is None:
        return "undecided, one seed"
    if cells.better is None:
        return "no difference shown"
    return f"{'a' if cells.better == cells.a else 'b'} is better"


def word_difference(cells: ComparedCells) -> str:
    """Say in one sentence how two cells with records differ."""
    a, b = name_compared(cells.a), name_compared(cells.b)
    change, interval = show_change(cells)
    start = f"{cells.measure} of {a} minus that of {b} on {cells.on} is {change}"
    if cells.p_holm is None:
        return f"{start}; one seed does not tell of the next one, so which is better is undecided"
    better = "no difference is shown" if cells.better is None else f"{name_compared(cells.better)} is better"
    return f"{start} (95 % interval {interval}, p {relate_p(cells.p_holm)} after Holm): {better}"


def review_comparison(verdict: ComparisonVerdict) -> Iterator[Finding]:
    """Yield what is to be said of one comparison: an error where the manifest asks for more than was shown."""
    cells = verdict.deciding
    if cells.contrast is None:
        return
    level: Level = "notice" if cells.contrast.p_value is not None else "warning"
    title, text = "comparison", word_difference(cells)
    if cells.bound is not None and not cells.met:
        level = "warning" if cells.met is None else "error"
        title, text = "bound of the comparison not met", f"{text}; the interval must lie above {cells.bound:g}"
    yield Finding(level, title, text, "/".join(cells.a))


def review_forgetting(verdict: ForgettingVerdict) -> Iterator[Finding]:
    """Yield what is to be said of one trained cell on a test set that it must not cost, or nothing where it is kept."""
    cells = verdict.cells
    if cells.contrast is None or cells.met:
        return
    change, interval = show_change(cells)
    shown = f"95 % interval {interval}" if interval else "one seed, so no interval"
    text = (
        f"fine-tuning changes {cells.measure} on {cells.on} by {change} ({shown}), "
        f"which must lie above {-verdict.forgetting.max_drop:g}"
    )
    level: Level = "warning" if cells.met is None else "error"
    yield Finding(level, "forgetting" if level == "error" else "forgetting undecided", text, "/".join(cells.a))
