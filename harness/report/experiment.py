"""The report of an experiment: its records and their verdicts put into the sections that every renderer shows."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import ValidationError

from harness.analysis.paired_queries import ROUNDS
from harness.analysis.redundant_measures import find_disputes, find_repeats
from harness.analysis.verdict import ExperimentVerdict, judge
from harness.errors import RecordError
from harness.experiment.manifest import Experiment
from harness.experiment.trial import list_pairs
from harness.records.artifacts import Evidence
from harness.records.history import Snapshot
from harness.records.record import Record
from harness.records.record_set import Shelf
from harness.report.agreement_tables import list_agreements
from harness.report.comparison_tables import list_comparisons, list_forgetting
from harness.report.conclusions import list_conclusions
from harness.report.document import Case, Finding, Report, Section, order_findings
from harness.report.figures import draw_changes, draw_history, draw_losses, draw_stages, draw_values
from harness.report.findings import list_findings, name_cell, review_cell, review_threshold
from harness.report.model_tables import list_models, list_notes
from harness.report.run_tables import (
    list_commands,
    list_costs,
    list_data,
    list_environments,
    list_mixed_devices,
    list_poor_training,
    list_shared_queries,
    sort_records,
)
from harness.report.set_tables import list_test_sets
from harness.report.verdict_tables import (
    Assessment,
    count_verdicts,
    list_changes,
    list_decisions,
    list_thresholds,
    list_values,
    summarise_values,
)
from harness.report.worst_queries import list_worst_queries


def build_report(
    records: Sequence[Record],
    *,
    evidence: Evidence | None = None,
    history: Sequence[Snapshot] = (),
    rounds: int = ROUNDS,
) -> Report:
    """Say what the records of one experiment say.

    Args:
        records: at least one, all of one experiment.
        evidence: the records' runs and texts, from which the worst queries are shown; None leaves them out.
        history: accepted records by commit, oldest first.
        rounds: sign patterns of the randomization test.

    Raises:
        RecordError: no records, records of several experiments, recipes or data, or broken evidence.
        DataError: a run or qrels file breaks a rule.
    """
    experiment = find_experiment(records)
    shelf = Shelf(experiment, records)
    repeats = find_repeats(records, experiment.evaluation.measures)
    judged = judge(experiment, records, rounds=rounds)
    found = Assessment(shelf, judged, repeats)
    disputes = find_disputes(experiment, repeats)
    sections = [summarise_values(found), list_thresholds(found), list_comparisons(judged), list_forgetting(judged)]
    for pair in list_pairs(experiment):
        section = list_values(found, pair)
        sections.append(Section(section.heading, (*section.blocks, *draw_values(found, pair))))
    sections += [list_test_sets(found), list_decisions(found)]
    changes = list_changes(found)
    sections.append(Section(changes.heading, (*changes.blocks, *draw_changes(found))))
    sections.append(Section("Training", tuple(draw_losses(records))))
    if evidence is not None:
        # Before the worst queries, which then find what was kept of the same runs. Where the runs are not beside
        # the records there is nothing to compare; that they are missing is for `harness verify` to say.
        if all(evidence.has(view.run) for record in records for view in record.views):
            sections.append(list_agreements(shelf, evidence))
        sections += [list_worst_queries(shelf, pair, evidence) for pair in list_pairs(experiment)]
    costs = list_costs(records)
    sections.append(Section(costs.heading, (*costs.blocks, *draw_stages(records))))
    sections.append(Section("Over time", tuple(draw_history(found, history))))
    sections += [
        list_models(records),
        list_data(records, experiment),
        list_environments(records),
        list_commands(records, experiment),
    ]
    published = experiment.published
    source = () if published is None else (f"Published: {published.title}, {published.date}.",)
    mark = None
    if judged.not_comparable:
        mark = (
            f"These values were obtained on {judged.not_comparable}, so on other queries than the published ones. "
            "Differences are shown with their standard errors, and no verdict is given."
        )
    return Report(
        name=experiment.name,
        title=experiment.title,
        conclusions=list_conclusions(judged),
        lead=(" ".join(experiment.summary.split()), *source),
        mark=mark,
        verdicts=", ".join(f"{count} {word}" for word, count in count_verdicts(judged)),
        findings=order_findings(
            [
                *list_findings(judged, disputes),
                *list_notes(records),
                *list_shared_queries(records),
                *list_mixed_devices(records),
                *list_poor_training(records),
            ]
        ),
        sections=tuple(section for section in sections if section.blocks),
        cases=(*_list_trials(records), *_list_verdicts(judged)),
    )


def find_experiment(records: Sequence[Record]) -> Experiment:
    """Return the experiment that all records belong to, with the models and seeds of all.

    Raises:
        RecordError: no records, those of several experiments, or one of a model that does not go with the newest
            manifest.
    """
    if not records:
        raise RecordError("there are no records to report on")
    names = sorted({record.trial.experiment for record in records})
    if len(names) > 1:
        raise RecordError(f"records of several experiments: {', '.join(names)}")
    # The newest record tells the recipe: where a manifest was edited and run for one seed, the others are outdated.
    newest = max(records, key=lambda record: record.created).experiment
    same = [record for record in records if _agree(record.experiment, newest, record.device)]
    # Each record holds the manifest narrowed to what was run then; the fullest one knows every model and claim.
    fullest = max(
        (record.experiment for record in sorted(same, key=lambda record: record.created, reverse=True)),
        key=lambda found: (len(found.models), len(found.seeds)),
    )
    return _add_models(fullest, records)


def _add_models(experiment: Experiment, records: Sequence[Record]) -> Experiment:
    """Add the models that an edited manifest was not run for yet, as their own newest records declare them.

    Whether those records are outdated by the edit is for the shelf to say: a baseline is by no recipe.
    """
    for record in sorted(records, key=lambda record: record.created, reverse=True):
        own, name = record.experiment, record.trial.model
        known = {name, *(model.name for model in experiment.models)}
        if len(known) == len(experiment.models):
            continue
        compared = [(item, {model for model, _ in item.cells}) for item in own.comparisons]
        try:
            experiment = experiment.replace(
                models=(*experiment.models, own.model(name)),
                thresholds=(*experiment.thresholds, *(item for item in own.thresholds if item.model == name)),
                claims=(*experiment.claims, *(item for item in own.claims if item.model == name)),
                comparisons=(
                    *experiment.comparisons,
                    *(item for item, models in compared if name in models and models <= known),
                ),
            )
        except ValidationError as cause:
            raise RecordError(
                f"{record.trial.id}: recorded under another manifest than the newest record's: run it again"
            ) from cause
    return experiment


def _agree(one: Experiment, other: Experiment, device: str) -> bool:
    """Say whether two manifests have the same data and, where both name a recipe, the same recipe on a device."""
    shared = one.recipes.keys() & other.recipes.keys()
    return one.data == other.data and all(
        one.recipes[name].as_run_on(device) == other.recipes[name].as_run_on(device) for name in shared
    )


def _list_trials(records: Sequence[Record]) -> list[Case]:
    """List every trial with all its numbers as properties."""
    cases = []
    for record in sort_records(records):
        properties = [(measure, repr(value)) for measure, value in record.values.items()]
        for stage, cost in record.stages.items():
            properties += [
                (f"{stage}_seconds", repr(cost.seconds)),
                (f"{stage}_peak_memory_bytes", str(cost.peak_memory_bytes)),
            ]
            if cost.peak_device_memory_bytes is not None:
                properties.append((f"{stage}_peak_device_memory_bytes", str(cost.peak_device_memory_bytes)))
        if record.training_cost_usd is not None:
            properties.append(("training_cost_usd", repr(record.training_cost_usd)))
        properties += [("device", record.device_name), ("machine", record.environment.fingerprint)]
        seconds = sum(cost.seconds for cost in record.stages.values())
        cases.append(Case("trial", record.trial.id, seconds, tuple(properties)))
    return cases


def _list_verdicts(judged: ExperimentVerdict) -> list[Case]:
    """List every verdict and threshold."""
    cases = []
    for cell in judged.cells:
        claim = cell.claim
        properties = [("published", claim.printed), ("source", claim.source), ("verdict", str(cell.verdict))]
        if claim.mean is not None:
            properties += [("mean", repr(claim.mean)), ("difference", repr(claim.difference))]
        if cell.outcome is not None and cell.outcome.interval is not None:
            interval = cell.outcome.interval
            properties += [("interval_low", repr(interval.low)), ("interval_high", repr(interval.high))]
        if claim.z is not None:
            properties += [("standard_error", repr(claim.standard_error)), ("z", repr(claim.z))]
        properties.append(("seeds", ",".join(map(str, claim.seeds))))
        name = f"{judged.experiment.name}/{name_cell(claim.model, claim.variant)}/{claim.measure} ({claim.source})"
        cases.append(Case("claim", name, 0.0, tuple(properties), _word_failure(review_cell(cell), cell.missing)))
    for verdict in judged.thresholds:
        bound, outcome = verdict.threshold, verdict.outcome
        properties = [("above", repr(bound.above))]
        if outcome is not None:
            properties += [("mean", repr(outcome.mean)), ("lower_bound", repr(outcome.lower_bound))]
        name = f"{judged.experiment.name}/{name_cell(bound.model, bound.variant)}/{bound.measure}"
        failure = _word_failure(review_threshold(verdict), verdict.missing)
        cases.append(Case("threshold", name, 0.0, tuple(properties), failure))
    return cases


def _word_failure(finding: Finding | None, missing: Sequence[str]) -> str | None:
    if finding is not None and finding.level == "error":
        return finding.text
    return f"there is no record of {', '.join(missing)}" if missing else None
