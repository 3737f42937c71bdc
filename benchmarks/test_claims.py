"""Every model and variant is one case: all its trials are recorded, and claims and thresholds hold over the seeds."""

from __future__ import annotations

import pytest

from harness.analysis.redundant_measures import find_disputes, find_repeats
from harness.analysis.verdict import judge
from harness.errors import HarnessError
from harness.experiment.manifest import Variant
from harness.experiment.trial import list_trials
from harness.pipeline.selection import Selected
from harness.records.record import Record
from harness.report.findings import list_findings, name_cell

# Only the claims are judged here, so the randomization test of what fine-tuning changed need not be exact.
ROUNDS = 100


def test_claims(cell: tuple[str, Variant], selected: Selected, stored_records: list[Record]) -> None:
    """What is different, differs or is not reproduced fails; what is compatible is said at the end of the session.

    On other queries than the published ones nothing is asserted.
    """
    model, variant = cell
    experiment = selected.experiment
    recorded = {record.trial for record in stored_records}
    problems = [
        f"{trial.id}: there is no record of this trial"
        for trial in list_trials(experiment)
        if (trial.model, trial.variant) == (model, variant) and trial not in recorded
    ]
    if not problems:
        try:
            judged = judge(experiment, stored_records, rounds=ROUNDS)
            disputes = find_disputes(experiment, find_repeats(stored_records, experiment.evaluation.measures))
        except HarnessError as error:
            problems.append(f"{type(error).__name__}: {error}")
        else:
            problems += [
                f"{finding.title}: {finding.sentence}"
                for finding in list_findings(judged, disputes, most=None)
                if finding.level == "error" and finding.cell == name_cell(model, variant)
            ]
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)
