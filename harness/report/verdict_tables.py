"""The tables of values and verdicts: in short, and measure by measure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from harness.analysis.equivalence import EQUIVALENCE_LEVEL, Verdict
from harness.analysis.paired_queries import ChangedCell
from harness.analysis.redundant_measures import Repeat
from harness.analysis.seeds import Interval, mean_interval
from harness.analysis.verdict import ClaimVerdict, Judgement
from harness.experiment.manifest import Variant
from harness.records.record import Record
from harness.records.record_set import Shelf
from harness.report.document import Paragraph, Section, Table
from harness.report.findings import SHOWN_DECIMALS, cut_source, describe_plan, shorten

SMALL_P = 0.001
WHEN: dict[Variant, str] = {"baseline": "before fine-tuning", "finetuned": "after fine-tuning"}


@dataclass(frozen=True)
class Assessment:
    """What the tables are made from: records on a shelf, the verdicts on them, and measures that repeat another."""

    shelf: Shelf
    judgement: Judgement
    repeats: dict[str, Repeat]

    @property
    def measures(self) -> tuple[str, ...]:
        """The measures that do not repeat another one."""
        return tuple(name for name in self.shelf.experiment.evaluation.measures if name not in self.repeats)

    @property
    def mark(self) -> str | None:
        """The reservation on published values beside ours."""
        reason = self.judgement.not_comparable
        return None if reason is None else f"{reason}: published values stand here for orientation"

    def list_claims(self, model: str, variant: Variant, measure: str) -> list[ClaimVerdict]:
        """Return the claims on one cell, in the manifest's order."""
        key = (model, variant, measure)
        return [claim for claim in self.judgement.claims if (claim.model, claim.variant, claim.measure) == key]


def label_sources(sources: Sequence[str]) -> dict[str, str]:
    """Give each source a short name: its words up to the first comma, numbered where two would be alike."""
    labels: dict[str, str] = {}
    for source in sources:
        if source not in labels:
            short = cut_source(source)
            alike = sum(1 for known in labels if cut_source(known) == short)
            labels[source] = short if not alike else f"{short} {alike + 1}"
    return labels


def word_verdict(claims: Sequence[ClaimVerdict]) -> str:
    """Name the verdicts on one cell: once where all sources agree; in parentheses where data are not comparable."""
    labels = label_sources([claim.source for claim in claims])
    words = {labels[claim.source]: str(claim.verdict) for claim in claims if claim.verdict is not None}
    if len(set(words.values())) <= 1:
        text = next(iter(words.values()), "")
    else:
        text = "; ".join(f"{word} ({label})" for label, word in words.items())
    return f"({text})" if text and not all(claim.comparable for claim in claims) else text


def count_verdicts(judgement: Judgement) -> list[tuple[str, int]]:
    """Count the verdicts on claims, in the order in which they first appear."""
    counts: dict[str, int] = {}
    for claim in judgement.claims:
        word = "without record" if claim.verdict is None else str(claim.verdict)
        counts[word] = counts.get(word, 0) + 1
    return list(counts.items())


def format_p(p_value: float) -> str:
    """Write a p-value with three decimals, or as below the smallest that these can tell."""
    return f"< {SMALL_P:g}" if p_value < SMALL_P else f"{p_value:.3f}"


def format_mean(values: Sequence[float]) -> str:
    """Write the mean of values, or nothing where there are none."""
    return f"{statistics.fmean(values):.4f}" if values else ""


def format_spread(values: Sequence[float]) -> str:
    """Write mean and standard deviation, or just the value where there is one."""
    return f"{format_mean(values)} ± {statistics.stdev(values):.4f}" if len(values) > 1 else format_mean(values)


def format_interval(interval: Interval | None) -> str:
    """Write an interval, or nothing where there is none."""
    return "" if interval is None else f"{interval.low:.4f} to {interval.high:.4f}"


def list_measure(records: Sequence[Record], measure: str) -> tuple[float, ...]:
    """Return each record's value of a measure."""
    return tuple(record.values[measure] for record in records)


def drop_empty(table: Table) -> Table:
    """Leave out the columns in which no row has anything."""
    kept = [index for index in range(len(table.columns)) if index == 0 or any(row[index] for row in table.rows)]
    return Table(
        tuple(table.columns[index] for index in kept),
        tuple(tuple(row[index] for index in kept) for row in table.rows),
        table.title,
        table.mark,
        table.spare,
    )


def format_percent(interval: Interval) -> str:
    """Write an interval of a ratio."""
    return f"{interval.low:.0%} to {interval.high:.0%}"


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
