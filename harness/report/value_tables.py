"""The tables of values: every measure published and ours, what fine-tuning changed, and how much of the gain."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from harness.analysis.equivalence import EQUIVALENCE_LEVEL
from harness.analysis.seeds import mean_interval
from harness.experiment.manifest import Variant
from harness.records.record import Record
from harness.report.assessment import (
    WHEN,
    Assessment,
    drop_empty,
    format_interval,
    format_mean,
    format_p,
    format_percent,
    label_sources,
    list_measure,
    word_verdict,
)
from harness.report.document import Paragraph, Section, Table
from harness.report.findings import SHOWN_DECIMALS, shorten


def list_values(found: Assessment, model: str) -> Section:
    """List every measure of one model: a table before, one after fine-tuning, or one in all if nothing is claimed."""
    claims = [claim for claim in found.judgement.claims if claim.model == model]
    records = {variant: found.shelf.select(model, variant) for variant in WHEN}
    blocks: list[Paragraph | Table] = []
    if not claims and all(records.values()):
        blocks.append(_list_both(found, records["baseline"], records["finetuned"]))
    else:
        blocks += [_list_variant(found, model, variant, records[variant]) for variant in WHEN if records[variant]]
    labels = label_sources([claim.source for claim in claims])
    if labels and blocks:
        printed = "; ".join(f"{label} = {source}" for source, label in labels.items())
        long = any(shorten(claim.printed) != claim.printed for claim in claims)
        rounded = f" Values printed with more digits are rounded to {SHOWN_DECIMALS} here." if long else ""
        blocks.append(Paragraph(f"Published: {printed}.{rounded}"))
    return Section(model, tuple(blocks))


def list_effects(found: Assessment) -> Section:
    """Say how much of each published gain was found."""
    labels = label_sources([effect.source for effect in found.judgement.effects])
    rows = tuple(
        (
            effect.model,
            effect.measure,
            labels[effect.source],
            f"{effect.published_gain:+.4f}",
            f"{effect.gain:+.4f}",
            f"{effect.ratio.ratio:.0%}",
            "one seed" if effect.ratio.interval is None else format_percent(effect.ratio.interval),
        )
        for effect in found.judgement.effects
    )
    columns = ("model", "measure", "source", "published gain", "our gain", "ratio", "95 % interval")
    table = Table(columns, rows, mark=found.mark)
    return Section("How much of the published gain", (table,) if rows else ())


def list_changes(found: Assessment) -> Section:
    """Say what fine-tuning changed query by query."""
    tables = []
    for model in found.shelf.experiment.models:
        cells = [cell for cell in found.judgement.changes if cell.model == model.name]
        rows = tuple(
            (
                cell.measure,
                f"{cell.difference:+.4f}",
                f"{cell.interval.low:+.4f} to {cell.interval.high:+.4f}",
                format_p(cell.p_holm),
                "" if cell.effect_size is None else f"{cell.effect_size:.2f}",
                f"{cell.counts.wins} / {cell.counts.ties} / {cell.counts.losses}",
            )
            for cell in cells
        )
        columns = ("measure", "change", "95 % interval", "p (Holm)", "effect size", "wins / ties / losses")
        if rows:
            tables.append(Table(columns, rows, title=model.name, spare=("effect size",)))
    queries = max((cell.queries for cell in found.judgement.changes), default=0)
    note = Paragraph(
        f"Tuned minus base for each of {queries} queries, averaged over seeds first, so that more seeds do not "
        "manufacture significance: paired bootstrap interval, two-sided sign-flip test corrected over all rows "
        "(Holm), Cohen's d."
    )
    return Section("What fine-tuning changed", (note, *tables) if tables else ())


def _list_variant(found: Assessment, model: str, variant: Variant, records: Sequence[Record]) -> Table:
    all_claims = [claim for claim in found.judgement.claims if (claim.model, claim.variant) == (model, variant)]
    labels = label_sources([claim.source for claim in found.judgement.claims if claim.model == model])
    sources = [source for source in labels if any(claim.source == source for claim in all_claims)]
    rows = []
    for measure in found.shelf.experiment.evaluation.measures:
        claims = found.list_claims(model, variant, measure)
        printed = {claim.source: shorten(claim.printed) for claim in claims}
        values = list_measure(records, measure)
        interval = next((claim.interval for claim in claims), None)
        rows.append(
            (
                measure,
                *(printed.get(source, "") for source in sources),
                format_mean(values),
                f"{statistics.stdev(values):.4f}" if len(values) > 1 else "",
                format_interval(interval),
                word_verdict(claims),
            )
        )
    seeds = ", ".join(str(record.trial.seed) for record in records)
    many = f", mean over seeds {seeds}" if len(records) > 1 else f", seed {seeds}"
    title = WHEN[variant] + ("" if variant == "baseline" else many)
    columns = ("measure", *(labels[source] for source in sources), "ours", "sd", "90 % interval", "verdict")
    return drop_empty(
        Table(columns, tuple(rows), title=title, mark=found.mark if sources else None, spare=("sd", "90 % interval"))
    )


def _list_both(found: Assessment, base: Sequence[Record], tuned: Sequence[Record]) -> Table:
    rows = []
    for measure in found.shelf.experiment.evaluation.measures:
        values = list_measure(tuned, measure)
        interval = mean_interval(values, EQUIVALENCE_LEVEL) if len(values) > 1 else None
        before, after = base[0].values[measure], statistics.fmean(values)
        sd = f"{statistics.stdev(values):.4f}" if len(values) > 1 else ""
        rows.append(
            (
                measure,
                format_mean([before]),
                format_mean(values),
                sd,
                format_interval(interval),
                f"{after - before:+.4f}",
            )
        )
    seeds = ", ".join(str(record.trial.seed) for record in tuned)
    title = f"before and after fine-tuning, {'mean over seeds' if len(tuned) > 1 else 'seed'} {seeds}"
    columns = ("measure", "before", "after", "sd", "90 % interval", "gain")
    return drop_empty(Table(columns, tuple(rows), title=title, spare=("sd", "90 % interval")))
