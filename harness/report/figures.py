"""Which charts are drawn of an experiment, from which numbers, with which caption."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import numpy as np

from harness.analysis.seeds import mean_interval
from harness.experiment.claims import BASELINE
from harness.experiment.manifest import Variant
from harness.experiment.trial import Pair, label_variant
from harness.records.history import Snapshot, TrialValues
from harness.records.record import Record
from harness.report.document import (
    ChangeChart,
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
from harness.report.run_tables import STAGES, name_trial, sort_records
from harness.report.verdict_tables import Assessment

MOST_DIFFERENCES = 40
MOST_STAGE_ROWS = 30
LEVEL = 0.90


def draw_values(found: Assessment, pair: Pair) -> list[Picture]:
    """Draw published and ours per measure, and their differences beside the margin."""
    base, tuned = found.shelf.select_pair(pair)
    if not base and not tuned:
        return []
    rows = []
    for measure in found.measures:
        values = [record.values[measure] for record in tuned]
        interval = mean_interval(values, LEVEL) if len(values) > 1 else None
        published = {
            variant: next((claim.published.value for claim in found.list_claims(pair.model, variant, measure)), None)
            for variant in pair.variants
        }
        rows.append(
            ValueRow(
                label=measure,
                before=base[0].values[measure] if base else None,
                after=statistics.fmean(values) if values else None,
                low=interval.low if interval else None,
                high=interval.high if interval else None,
                published_before=published[BASELINE],
                published_after=None if pair.recipe is None else published[pair.recipe],
            )
        )
    claimed = any(row.published_before is not None or row.published_after is not None for row in rows)
    whose = "Published and ours" if claimed else "Ours"
    chart = ValueChart(tuple(rows), note="whiskers: 90 % interval of the mean over seeds" if len(tuned) > 1 else "")
    caption = f"{whose} per measure, {pair.label}" + (", before and after fine-tuning" if base and tuned else "")
    pictures = [Picture(f"values-{pair.slug}", caption, chart, mark=found.mark if claimed else None)]
    # On other queries a band that counts as reproduced would be a verdict.
    differences = () if found.judged.not_comparable else _list_differences(found, pair)
    if differences:
        margin = found.shelf.experiment.verdicts.margin
        pictures.append(
            Picture(
                f"differences-{pair.slug}",
                f"Ours minus published per claim, {pair.label}; the band is the margin ±{margin:g}",
                DifferenceChart(differences, margin),
                mark=found.mark,
            )
        )
    return pictures


def draw_changes(found: Assessment) -> list[Picture]:
    """Draw every query's change in the primary measure, sorted."""
    measure = found.shelf.experiment.evaluation.primary
    pictures = []
    for cell in found.judged.changes:
        if cell.measure == measure:
            base, tuned = found.shelf.select_pair(cell.pair)
            after = np.mean([record.per_query[measure] for record in tuned], axis=0)
            changes = np.sort(after - np.asarray(base[0].per_query[measure]))[::-1]
            counts = cell.counts
            chart = ChangeChart(measure, tuple(changes.tolist()), counts.wins, counts.ties, counts.losses)
            caption = (
                f"Change in {measure} by fine-tuning for each of {cell.queries} queries, sorted, {cell.pair.label}"
            )
            pictures.append(Picture(f"changes-{cell.pair.slug}", caption, chart))
    return pictures


def draw_losses(records: Sequence[Record]) -> list[Picture]:
    """Draw the loss curves of every fine-tuned model and recipe, one per seed."""
    pictures = []
    for model, variant in sorted({(record.trial.model, record.trial.variant) for record in records}):
        curves = tuple(
            Curve(
                f"seed {record.trial.seed}",
                tuple(point.step for point in record.training.loss),
                tuple(point.loss for point in record.training.loss),
            )
            for record in sort_records(records)
            if (record.trial.model, record.trial.variant) == (model, variant)
            and record.training is not None
            and record.training.loss
        )
        if curves:
            # Others may be of a run that left this model out.
            own = next(record.experiment for record in records if record.trial.model == model)
            label = label_variant(own, model, variant)
            name = f"loss-{label.replace('/', '.')}"
            pictures.append(Picture(name, f"Training loss by step and seed, {label}", LossChart(curves)))
    return pictures


def draw_stages(records: Sequence[Record]) -> list[Picture]:
    """Draw what each stage of each trial took."""
    rows = tuple(
        StageRow(
            name_trial(record),
            tuple((stage, record.stages[stage].seconds) for stage in STAGES if stage in record.stages),
        )
        for record in sort_records(records)[:MOST_STAGE_ROWS]
    )
    return [Picture("stages", "Where time goes: seconds by stage of each trial", StageChart(rows))] if rows else []


def draw_history(found: Assessment, history: Sequence[Snapshot]) -> list[Picture]:
    """Draw the primary measure over the commits whose records were accepted."""
    experiment = found.shelf.experiment
    measure = experiment.evaluation.primary
    pictures = []
    for model in experiment.models:
        lines = []
        for variant in (BASELINE, *model.recipes):
            points = tuple(
                HistoryPoint(snapshot.label, snapshot.date, statistics.fmean(values), min(values), max(values))
                for snapshot in history
                if (values := _list_values(snapshot.trials, model.name, variant, measure))
            )
            if points:
                lines.append((variant, points))
        bounds = [
            bound.above
            for bound in experiment.thresholds
            if (bound.model, bound.measure) == (model.name, measure) and bound.variant != BASELINE and bound.on is None
        ]
        if lines:
            chart = HistoryChart(measure, tuple(lines), bounds[0] if bounds else None)
            caption = f"{measure} over accepted commits, {model.name}; whiskers from the lowest to the highest seed"
            pictures.append(Picture(f"history-{model.name}", caption, chart))
    return pictures


def _list_differences(found: Assessment, pair: Pair) -> tuple[DifferenceRow, ...]:
    """One row per measure and variant, against the first source that prints it."""
    rows = []
    for variant in pair.variants:
        for measure in found.measures:
            claim = next(iter(found.list_claims(pair.model, variant, measure)), None)
            if claim is None or claim.mean is None:
                continue
            cell = next((cell for cell in found.judged.cells if cell.claim is claim), None)
            interval = cell.outcome.interval if cell is not None and cell.outcome is not None else None
            rows.append(
                DifferenceRow(
                    measure,
                    variant != BASELINE,
                    claim.mean - claim.published.value,
                    None if interval is None else interval.low,
                    None if interval is None else interval.high,
                )
            )
    return tuple(rows[:MOST_DIFFERENCES])


def _list_values(trials: Sequence[TrialValues], model: str, variant: Variant, measure: str) -> list[float]:
    return [
        trial.values[measure]
        for trial in trials
        if (trial.model, trial.variant) == (model, variant) and measure in trial.values
    ]
