"""Comparisons of cells, and what fine-tuning cost elsewhere: tables and pictures."""

from __future__ import annotations

from collections.abc import Sequence

from harness.analysis.comparison import ComparedCells
from harness.analysis.verdict import ExperimentVerdict
from harness.core.text import format_p
from harness.report.comparison_words import name_compared, show_change, word_outcome
from harness.report.document import ContrastChart, ContrastRow, Paragraph, Picture, Report, Section, Table

METHOD = (
    "a minus b for each query, both averaged over their seeds. Interval and p allow for the chance of queries and of "
    "seeds; p is two-sided and corrected over all comparisons (Holm). d_z is the mean difference by the standard "
    "deviation of the queries' differences."
)


def list_comparisons(judged: ExperimentVerdict) -> Section:
    """Set the compared cells side by side: by the primary measure, which decides, then by all others."""
    verdicts = judged.comparisons
    if not verdicts:
        return Section("Comparisons", ())
    deciding = [verdict.deciding for verdict in verdicts]
    blocks: list[Paragraph | Table | Picture] = [Paragraph(METHOD), tabulate_comparisons(deciding)]
    blocks += draw_comparisons(deciding, name="comparisons")
    others = [cells for verdict in verdicts for cells in verdict.others]
    if others:
        rows = tuple(
            (name_compared(one.a), name_compared(one.b), one.on, one.measure, *show_change(one)) for one in others
        )
        columns = ("a", "b", "test set", "measure", "a - b", "95 % interval")
        blocks.append(Table(columns, rows, title="other measures and test sets, which decide nothing"))
    return Section("Comparisons", tuple(blocks), brief=True)


def tabulate_comparisons(compared: Sequence[ComparedCells]) -> Table:
    """One row a comparison, by one measure."""
    rows = tuple(
        (
            name_compared(one.a),
            name_compared(one.b),
            *_show_means(one),
            *show_change(one),
            "" if one.p_holm is None else format_p(one.p_holm),
            "" if one.contrast is None or one.contrast.effect_size is None else f"{one.contrast.effect_size:.2f}",
            _show_counts(one),
            word_outcome(one),
        )
        for one in compared
    )
    columns = (
        "a", "b", "mean of a", "mean of b", "a - b", "95 % interval", "p (Holm)", "d_z", "wins / ties / losses",
        "outcome",
    )  # fmt: skip
    titles = dict.fromkeys(f"{one.measure} on {one.on}" for one in compared)
    return Table(columns, rows, title=", ".join(titles), spare=("d_z", "wins / ties / losses"))


def report_sets(compared: Sequence[ComparedCells], a: str, b: str) -> Report:
    """Make a report of cells of two sets of records, which these are the names of."""
    return Report(
        name="comparison",
        title="Two sets of records",
        sections=(
            Section(
                "Comparison",
                (Paragraph(f"a is {a}, b is {b}."), Paragraph(METHOD), tabulate_comparisons(compared)),
                brief=True,
            ),
        ),
    )


def draw_comparisons(compared: Sequence[ComparedCells], *, name: str) -> list[Picture]:
    """Draw differences with their intervals, and the bounds that they must lie above."""
    rows = tuple(
        ContrastRow(
            label=f"{name_compared(one.a)} - {name_compared(one.b)}",
            difference=one.contrast.difference,
            low=None if one.contrast.interval is None else one.contrast.interval.low,
            high=None if one.contrast.interval is None else one.contrast.interval.high,
            bound=one.bound,
        )
        for one in compared
        if one.contrast is not None
    )
    if not rows:
        return []
    measure = compared[0].measure
    caption = f"Difference in {measure} of the compared cells, with 95 % intervals"
    if any(row.bound is not None for row in rows):
        caption += "; a dashed line is what the interval must lie above"
    return [Picture(name, caption, ContrastChart(measure, rows))]


def list_forgetting(judged: ExperimentVerdict) -> Section:
    """Say what training cost on the test sets that it must not cost."""
    rows = []
    for verdict in judged.forgetting:
        cells = verdict.cells
        kept = {True: "kept", False: "lost too much", None: "undecided"}[cells.met]
        rows.append(
            (
                verdict.pair.label,
                cells.on,
                *reversed(_show_means(cells)),
                *show_change(cells),
                f"{-verdict.forgetting.max_drop:+g}",
                "no record" if cells.contrast is None else kept,
            )
        )
    columns = ("model", "test set", "before", "after", "change", "95 % interval", "must lie above", "forgetting")
    if not rows:
        return Section("What must not be forgotten", ())
    primary = judged.experiment.evaluation.primary
    pictures = draw_comparisons([verdict.cells for verdict in judged.forgetting], name="forgetting")
    return Section("What must not be forgotten", (Table(columns, tuple(rows), title=primary), *pictures), brief=True)


def _show_means(cells: ComparedCells) -> tuple[str, str]:
    if cells.means is None:
        return "", ""
    a, b = (
        f"{mean:.4f}" + (f" ({len(seeds)} seed{'s' if len(seeds) > 1 else ''})" if seeds else "")
        for mean, seeds in zip(cells.means, cells.seeds, strict=True)
    )
    return a, b


def _show_counts(cells: ComparedCells) -> str:
    if cells.contrast is None:
        return ""
    counts = cells.contrast.counts
    return f"{counts.wins} / {counts.ties} / {counts.losses}"
