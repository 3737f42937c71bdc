"""The cases of an experiment: each trial is run and timed, then each model's claims are judged by what was recorded.

A manifest that is named to pytest becomes these two functions; a suite of its own imports them into a test file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from harness.analysis.redundant_measures import find_disputes, find_repeats
from harness.analysis.verdict import judge
from harness.engines.engine import Engine
from harness.errors import ClaimMissed, HarnessError
from harness.experiment.manifest import Variant
from harness.experiment.trial import Trial, list_trials
from harness.pipeline.run_trial import check_thresholds
from harness.pipeline.selection import Selected
from harness.records.record import Record
from harness.report.findings import list_findings, name_cell

# Only the claims are judged here, so the randomization test of what fine-tuning changed need not be exact.
ROUNDS = 100


def test_experiment_trial(
    trial: Trial,
    harness_engine: Engine,
    harness_keep: Callable[[Record], None],
    benchmark: Any,
) -> None:
    """Run one trial, time it, keep its record, and hold it against the manifest's thresholds."""
    # Elsewhere trials run beside each other, and how long one was waited for says nothing of it.
    benchmark.disabled = benchmark.disabled or not harness_engine.timed
    record = benchmark.pedantic(harness_engine.wait, args=(trial,), rounds=1, iterations=1)
    benchmark.extra_info.update(describe(record))
    harness_keep(record)
    check_thresholds(record)


def test_experiment_claims(cell: tuple[str, Variant], harness_selected: Selected, harness_stored: list[Record]) -> None:
    """Judge what was published of a model by the records of all its seeds, of this session or an earlier one.

    A record that is missing fails. Claims of data marked as not comparable are reported and never asserted.
    """
    model, variant = cell
    experiment = harness_selected.experiment
    recorded = {record.trial for record in harness_stored}
    missing = [
        f"{trial.id}: there is no record of this trial"
        for trial in list_trials(experiment)
        if (trial.model, trial.variant) == (model, variant) and trial not in recorded
    ]
    if missing:
        raise HarnessError("\n".join(missing))
    judgement = judge(experiment, harness_stored, rounds=ROUNDS)
    disputes = find_disputes(experiment, find_repeats(harness_stored, experiment.evaluation.measures))
    problems = [
        f"{finding.title}: {finding.sentence}"
        for finding in list_findings(judgement, disputes, most=None)
        if finding.level == "error" and finding.cell == name_cell(model, variant)
    ]
    if problems:
        raise ClaimMissed("\n".join(problems))


def describe(record: Record) -> dict[str, Any]:
    """Return what a benchmark's ``extra_info`` should carry of a record."""
    return {
        "trial": record.trial.id,
        "values": dict(record.values),
        "seconds": {stage: cost.seconds for stage, cost in record.stages.items()},
        "cached": {stage: cost.cached for stage, cost in record.stages.items()},
        "device": record.device_name,
    }
