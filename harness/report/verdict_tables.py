"""The tables of values and verdicts: in short, and measure by measure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from harness.analysis.redundant_measures import Repeat
from harness.analysis.seeds import Interval
from harness.analysis.verdict import CellVerdict, ClaimDifference, ExperimentVerdict
from harness.core.text import format_p
from harness.experiment.claims import BASELINE
from harness.experiment.manifest import Variant
from harness.experiment.trial import Pair, label_variant, list_pairs
from harness.records.record import Record
from harness.records.record_set import Shelf
from harness.report.conclusions import describe_change
from harness.report.document import Paragraph, Section, Table
from harness.report.findings import SHOWN_DECIMALS, cut_source, describe_plan, name_place, shorten


def name_when(variant: Variant, pair: Pair | None = None) -> str:
    """Say whether a variant is the untrained model or what training made of it, by which recipe where that is open."""
    if variant == BASELINE:
        return "before fine-tuning"
    return "after fine-tuning" if pair is None or pair.label == pair.model else f"after fine-tuning by {variant}"


@dataclass(frozen=True)
class Assessment:
    """What the tables are made from: records on a shelf, the verdicts on them, and measures that repeat another."""

    shelf: Shelf
    judged: ExperimentVerdict
    repeats: dict[str, Repeat]

    @property
    def measures(self) -> tuple[str, ...]:
        """The measures that do not repeat another one."""
        return tuple(name for name in self.shelf.experiment.evaluation.measures if name not in self.repeats)

    @property
    def mark(self) -> str | None:
        """The reservation on published values beside ours."""
        reason = self.judged.not_comparable
        return None if reason is None else f"{reason}: other queries than the published ones, so no verdict"

    def list_claims(self, model: str, variant: Variant, measure: str) -> list[ClaimDifference]:
        """Return the claims on one cell of the primary test set, in the manifest's order."""
        key = (model, variant, measure, None)
        return [
            claim for claim in self.judged.claims if (claim.model, claim.variant, claim.measure, claim.place) == key
        ]

    def list_all_claims(self, pair: Pair) -> list[ClaimDifference]:
        """Return all claims on a model before and after training by one recipe, on the primary test set."""
        return [
            claim
            for claim in self.judged.claims
            if claim.model == pair.model and claim.variant in pair.variants and claim.place is None
        ]


def label_sources(sources: Sequence[str]) -> dict[str, str]:
    """Give each source a short name: its words up to the first comma, numbered where two would be alike."""
    labels: dict[str, str] = {}
    for source in sources:
        if source not in labels:
            short = cut_source(source)
            alike = sum(1 for known in labels if cut_source(known) == short)
            labels[source] = short if not alike else f"{short} {alike + 1}"
    return labels


def word_verdict(found: Assessment, claims: Sequence[ClaimDifference]) -> str:
    """Name the verdict that rests on one of these claims, where one does."""
    cell = find_cell(found.judged, claims)
    return "" if cell is None or cell.verdict is None else str(cell.verdict)


def find_cell(judged: ExperimentVerdict, claims: Sequence[ClaimDifference]) -> CellVerdict | None:
    """Return the verdict that rests on one of these claims."""
    return next((cell for cell in judged.cells if any(cell.claim is claim for claim in claims)), None)


def count_verdicts(judged: ExperimentVerdict) -> list[tuple[str, int]]:
    """Count the verdicts, one per model before and one after fine-tuning, in the order in which they first appear."""
    counts: dict[str, int] = {}
    for cell in judged.cells:
        if cell.claim.mean is not None and judged.not_comparable:
            continue
        word = "without record" if cell.verdict is None else str(cell.verdict)
        counts[word] = counts.get(word, 0) + 1
    return list(counts.items())


def format_mean(values: Sequence[float]) -> str:
    """Write the mean of values, or nothing where there are none."""
    return f"{statistics.fmean(values):.4f}" if values else ""


def format_spread(values: Sequence[float]) -> str:
    """Write mean and standard deviation over seeds, or just the value where there is one."""
    return f"{format_mean(values)} ± {statistics.stdev(values):.4f}" if len(values) > 1 else format_mean(values)


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
    others = experiment.evaluation.on[1:]
    if others:
        blocks.append(Paragraph(f"On {experiment.primary_set}; on {', '.join(others)} below, by test set."))
    for pair in list_pairs(experiment):
        base, tuned = found.shelf.select_pair(pair)
        if base or tuned:
            blocks.append(_summarise_model(found, pair, base, tuned))
    blocks += [
        Paragraph(
            f"{effect.model}: our gain in {effect.measure} is {effect.ratio.ratio:.0%} of the published "
            f"{effect.published_gain:+.4f} ({_word_ratio(effect.ratio.interval)}), "
            f"{label_sources([effect.source])[effect.source]}."
        )
        for effect in found.judged.effects
    ]
    blocks += [
        Paragraph(describe_change(cell, experiment))
        for cell in found.judged.changes
        if cell.measure == experiment.evaluation.primary and found.list_all_claims(cell.pair)
    ]
    counted = _count_claims(found)
    if counted:
        blocks.append(Paragraph(counted))
    if found.repeats:
        names = ", ".join(found.repeats)
        blocks.append(Paragraph(f"Left out here, being a fixed multiple of another measure on this data: {names}."))
    return Section("In short", tuple(blocks), brief=True)


def list_thresholds(found: Assessment) -> Section:
    """Hold the manifest's own bounds against the lower confidence bounds of our means."""
    rows = []
    for verdict in found.judged.thresholds:
        outcome, bound = verdict.outcome, verdict.threshold
        model = label_variant(found.shelf.experiment, bound.model, bound.variant)
        measure = f"{bound.measure}{name_place(bound)}"
        if outcome is None:
            rows.append((model, name_when(bound.variant), measure, f"{bound.above:g}", "", "", "no record"))
            continue
        met = {True: "met", False: "not met", None: "undecided"}[outcome.met]
        low = "" if outcome.lower_bound is None else f"{outcome.lower_bound:.4f}"
        rows.append((model, name_when(bound.variant), measure, f"{bound.above:g}", f"{outcome.mean:.4f}", low, met))
    columns = ("model", "when", "measure", "above", "mean", "lower 95 % bound", "threshold")
    return Section("Thresholds", (Table(columns, tuple(rows), spare=("when",)),) if rows else (), brief=True)


def list_decisions(found: Assessment) -> Section:
    """Say what would decide the verdicts that are open."""
    cells = [cell for cell in found.judged.cells if cell.plan is not None]
    labels = label_sources([cell.claim.source for cell in cells])
    rows = tuple(
        (
            cell.claim.label,
            cell.claim.measure,
            labels[cell.claim.source],
            shorten(cell.claim.printed),
            format_spread(cell.claim.values),
            describe_plan(cell.plan) if cell.plan else "",
        )
        for cell in cells
    )
    seeds = max((len(cell.claim.values) for cell in cells), default=1)
    columns = ("model", "measure", "source", "published", name_seeds("ours", seeds), "further seeds (time, cost)")
    table = Table(columns, rows, spare=("source",))
    note = Paragraph(
        "The probability is averaged over what is not known: the spread, and the mean that further seeds will have."
    )
    return Section("What would decide the rest", (note, table) if rows else ())


def name_seeds(word: str, seeds: int) -> str:
    """Head a column of means, saying over how many seeds, and what ± is."""
    return f"{word} (± sd over {seeds} seeds)" if seeds > 1 else f"{word}, 1 seed"


def _summarise_model(found: Assessment, pair: Pair, base: Sequence[Record], tuned: Sequence[Record]) -> Table:
    rows = []
    last = pair.recipe if tuned and pair.recipe is not None else BASELINE
    for measure in found.measures:
        before = _show_first(found.list_claims(pair.model, BASELINE, measure))
        after = "" if pair.recipe is None else _show_first(found.list_claims(pair.model, pair.recipe, measure))
        gain = (
            f"{statistics.fmean(list_measure(tuned, measure)) - base[0].values[measure]:+.4f}" if base and tuned else ""
        )
        claims = found.list_claims(pair.model, last, measure)
        rows.append(
            (
                measure,
                before,
                format_mean(list_measure(base, measure)),
                after,
                format_spread(list_measure(tuned, measure)),
                gain,
                *show_difference(claims[:1]),
                word_verdict(found, claims),
            )
        )
    difference = name_difference(found)
    columns = (
        "measure", "published", "before", "published", name_seeds("after", len(tuned)), "gain", difference, "z",
        "verdict",
    )  # fmt: skip
    table = drop_empty(Table(columns, tuple(rows), title=pair.label, mark=found.mark, spare=("gain", difference)))
    claimed = any(row[1] or row[3] for row in rows)
    return table if claimed else Table(table.columns, table.rows, table.title, None, table.spare)


def name_difference(found: Assessment) -> str:
    """Head a column of differences, saying what ± is where it is there."""
    return "ours - published (± standard error)" if found.judged.not_comparable else "ours - published"


def show_difference(claims: Sequence[ClaimDifference]) -> tuple[str, str]:
    """Write the difference from the first claim, with its standard error where that is known, and z."""
    if not claims or claims[0].difference is None:
        return "", ""
    claim = claims[0]
    error = "" if claim.standard_error is None else f" ± {claim.standard_error:.4f}"
    return f"{claim.difference:+.4f}{error}", "" if claim.z is None else f"{claim.z:+.1f}"


def _count_claims(found: Assessment) -> str:
    judged, claims = found.judged, found.judged.claims
    if not claims:
        return ""
    distinct = sum(not claim.repeats for claim in claims)
    text = f"{len(claims)} values were published, {distinct} that do not repeat another or follow from it."
    if judged.not_comparable:
        largest = max((abs(claim.z) for claim in claims if claim.z is not None), default=None)
        errors = "" if largest is None else f" The largest difference is {largest:.1f} standard errors."
        return f"{text} None has a verdict: {judged.not_comparable}.{errors}"
    counts = ", ".join(f"{count} {word}" for word, count in count_verdicts(judged))
    return f"{text} One verdict per model before and one after fine-tuning: {counts}."


def _word_ratio(interval: Interval | None) -> str:
    return "no interval" if interval is None else f"95 % interval {format_percent(interval)}"


def _show_first(claims: Sequence[ClaimDifference]) -> str:
    return shorten(claims[0].printed) if claims else ""


def list_values(found: Assessment, pair: Pair) -> Section:
    """List every measure of one model: a table before, one after fine-tuning, or one in all if nothing is claimed."""
    claims = found.list_all_claims(pair)
    base, tuned = found.shelf.select_pair(pair)
    blocks: list[Paragraph | Table] = []
    if not claims and base and tuned:
        blocks.append(_list_both(found, base, tuned))
    else:
        kinds = zip(pair.variants, (base, tuned), strict=False)
        blocks += [_list_variant(found, pair, variant, records) for variant, records in kinds if records]
    labels = label_sources([claim.source for claim in claims])
    if labels and blocks:
        printed = "; ".join(f"{label} = {source}" for source, label in labels.items())
        long = any(shorten(claim.printed) != claim.printed for claim in claims)
        rounded = f" Values printed with more digits are rounded to {SHOWN_DECIMALS} here." if long else ""
        blocks.append(Paragraph(f"Published: {printed}.{rounded}"))
    return Section(pair.label, tuple(blocks))


def list_changes(found: Assessment) -> Section:
    """Say what fine-tuning changed query by query."""
    tables = []
    for pair in list_pairs(found.shelf.experiment):
        cells = [cell for cell in found.judged.changes if cell.pair == pair]
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
        columns = ("measure", "change", "95 % interval", "p (Holm)", "d_z", "wins / ties / losses")
        if rows:
            tables.append(Table(columns, rows, title=pair.label, spare=("d_z",)))
    queries = max((cell.queries for cell in found.judged.changes), default=0)
    note = Paragraph(
        f"Tuned minus base for each of {queries} queries, averaged over seeds first, so that more seeds do not "
        "manufacture significance: paired bootstrap interval, two-sided sign-flip test corrected over all rows "
        "(Holm); d_z is the mean difference by the standard deviation of the differences."
    )
    return Section("What fine-tuning changed", (note, *tables) if tables else ())


def _list_variant(found: Assessment, pair: Pair, variant: Variant, records: Sequence[Record]) -> Table:
    both = found.list_all_claims(pair)
    all_claims = [claim for claim in both if claim.variant == variant]
    labels = label_sources([claim.source for claim in both])
    sources = [source for source in labels if any(claim.source == source for claim in all_claims)]
    rows = []
    for measure in found.shelf.experiment.evaluation.measures:
        claims = found.list_claims(pair.model, variant, measure)
        printed = {claim.source: shorten(claim.printed) for claim in claims}
        values = list_measure(records, measure)
        rows.append(
            (
                measure,
                *(printed.get(source, "") for source in sources),
                format_spread(values),
                *show_difference(claims[:1]),
                word_verdict(found, claims),
            )
        )
    seeds = ", ".join(str(record.trial.seed) for record in records)
    many = f", mean over seeds {seeds}" if len(records) > 1 else f", seed {seeds}"
    title = name_when(variant) + ("" if variant == BASELINE else many)
    ours = name_seeds("ours", len(records)) if variant != BASELINE else "ours"
    columns = ("measure", *(labels[source] for source in sources), ours, name_difference(found), "z", "verdict")
    return drop_empty(
        Table(columns, tuple(rows), title=title, mark=found.mark if sources else None, spare=(name_difference(found),))
    )


def _list_both(found: Assessment, base: Sequence[Record], tuned: Sequence[Record]) -> Table:
    rows = []
    for measure in found.shelf.experiment.evaluation.measures:
        values = list_measure(tuned, measure)
        before, after = base[0].values[measure], statistics.fmean(values)
        rows.append((measure, format_mean([before]), format_spread(values), f"{after - before:+.4f}"))
    seeds = ", ".join(str(record.trial.seed) for record in tuned)
    title = f"before and after fine-tuning, {'mean over seeds' if len(tuned) > 1 else 'seed'} {seeds}"
    columns = ("measure", "before", name_seeds("after", len(tuned)), "gain")
    return Table(columns, tuple(rows), title=title)
