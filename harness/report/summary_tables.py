"""The tables a person looks for first: published, ours and verdict, thresholds, and what would decide the rest."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from harness.analysis.change import ChangedCell
from harness.analysis.equivalence import Verdict
from harness.analysis.verdict import ClaimVerdict
from harness.experiment.manifest import Variant
from harness.records.record import Record
from harness.report.assessment import (
    WHEN,
    Assessment,
    count_verdicts,
    drop_empty,
    format_interval,
    format_mean,
    format_p,
    format_percent,
    format_spread,
    label_sources,
    list_measure,
    word_verdict,
)
from harness.report.document import Paragraph, Section, Table
from harness.report.findings import describe_plan, shorten


def summarise_values(found: Assessment) -> Section:
    """Set published values beside ours in one narrow table per model: what a person looks for first."""
    blocks: list[Paragraph | Table] = []
    experiment = found.shelf.experiment
    for model in experiment.models:
        base, tuned = found.shelf.select(model.name, "baseline"), found.shelf.select(model.name, "finetuned")
        if base or tuned:
            blocks.append(_summarise_model(found, model.name, base, tuned))
    told: set[str] = set()
    for effect in found.judgement.effects:
        if effect.measure == experiment.evaluation.primary and effect.model not in told:
            told.add(effect.model)  # one source suffices here: all have a table of their own
            interval = (
                "" if effect.ratio.interval is None else f" (95 % interval {format_percent(effect.ratio.interval)})"
            )
            blocks.append(
                Paragraph(
                    f"{effect.model}: our gain in {effect.measure} is {effect.gain:+.4f}, "
                    f"{effect.ratio.ratio:.0%} of the published {effect.published_gain:+.4f}{interval}, "
                    f"{label_sources([effect.source])[effect.source]}."
                )
            )
    blocks += [
        Paragraph(_describe_change(cell))
        for cell in found.judgement.changes
        if cell.measure == experiment.evaluation.primary
    ]
    counted = _count_verdicts(found)
    if counted:
        blocks.append(Paragraph(counted))
    if found.repeats:
        names = ", ".join(found.repeats)
        blocks.append(Paragraph(f"Left out here, being a fixed multiple of another measure on this data: {names}."))
    return Section("In short", tuple(blocks), brief=True)


def list_thresholds(found: Assessment) -> Section:
    """Hold the manifest's own bounds against the lower confidence bounds of our means."""
    rows = []
    for verdict in found.judgement.thresholds:
        outcome, bound = verdict.outcome, verdict.threshold
        if outcome is None:
            rows.append((bound.model, WHEN[bound.variant], bound.measure, f"{bound.above:g}", "", "", "no record"))
            continue
        met = {True: "met", False: "not met", None: "undecided"}[outcome.met]
        low = "" if outcome.lower_bound is None else f"{outcome.lower_bound:.4f}"
        rows.append(
            (bound.model, WHEN[bound.variant], bound.measure, f"{bound.above:g}", f"{outcome.mean:.4f}", low, met)
        )
    columns = ("model", "when", "measure", "above", "mean", "lower 95 % bound", "threshold")
    return Section("Thresholds", (Table(columns, tuple(rows), spare=("when",)),) if rows else (), brief=True)


def list_decisions(found: Assessment) -> Section:
    """Say what would decide the claims that are inconclusive."""
    claims = [claim for claim in found.judgement.claims if claim.verdict is Verdict.INCONCLUSIVE and claim.plan]
    labels = label_sources([claim.source for claim in found.judgement.claims])
    rows = tuple(
        (
            claim.model,
            claim.measure,
            labels[claim.source],
            shorten(claim.printed),
            format_mean(claim.values),
            format_interval(claim.interval),
            describe_plan(claim.plan) if claim.plan else "",
        )
        for claim in claims
    )
    columns = ("model", "measure", "source", "published", "ours", "90 % interval", "further seeds (time, cost)")
    table = Table(columns, rows, mark=found.mark, spare=("90 % interval", "source"))
    note = Paragraph(
        "Further seeds that would decide an inconclusive claim with 80 % power, if mean and spread stay as measured."
    )
    return Section("What would decide the rest", (note, table) if rows else ())


def _summarise_model(found: Assessment, model: str, base: Sequence[Record], tuned: Sequence[Record]) -> Table:
    rows = []
    last: Variant = "finetuned" if tuned else "baseline"
    for measure in found.measures:
        before, after = (_show_first(found.list_claims(model, variant, measure)) for variant in WHEN)
        gain = (
            f"{statistics.fmean(list_measure(tuned, measure)) - base[0].values[measure]:+.4f}" if base and tuned else ""
        )
        rows.append(
            (
                measure,
                before,
                format_mean(list_measure(base, measure)),
                after,
                format_spread(list_measure(tuned, measure)),
                gain,
                word_verdict(found.list_claims(model, last, measure)[:1]),
            )
        )
    seeds = f"after, {len(tuned)} seeds" if len(tuned) > 1 else "after, 1 seed"
    columns = ("measure", "published", "before", "published", seeds, "gain", "verdict")
    table = drop_empty(Table(columns, tuple(rows), title=model, mark=found.mark, spare=("gain",)))
    claimed = any(row[1] or row[3] for row in rows)
    return table if claimed else Table(table.columns, table.rows, table.title, None, table.spare)


def _count_verdicts(found: Assessment) -> str:
    parts = [f"{count} {word}" for word, count in count_verdicts(found.judgement)]
    total = len(found.judgement.claims)
    if not parts:
        return ""
    reason = found.judgement.not_comparable
    suffix = f" Verdicts stand in parentheses, for orientation: {reason}." if reason else ""
    return f"Of {total} published values: {', '.join(parts)}.{suffix}"


def _describe_change(cell: ChangedCell) -> str:
    return (
        f"{cell.model}: fine-tuning changes {cell.measure} by {cell.difference:+.4f} per query (95 % interval "
        f"{cell.interval.low:+.4f} to {cell.interval.high:+.4f}, p {_relate(cell.p_holm)} after Holm): "
        f"{cell.counts.wins} queries won, {cell.counts.ties} tied, {cell.counts.losses} lost."
    )


def _relate(p_value: float) -> str:
    text = format_p(p_value)
    return text if text.startswith("<") else f"= {text}"


def _show_first(claims: Sequence[ClaimVerdict]) -> str:
    return shorten(claims[0].printed) if claims else ""
