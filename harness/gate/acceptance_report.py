"""What would change in the reference, shown before anybody says yes."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from harness.experiment.trial import Trial
from harness.gate.compare import GateOutcome
from harness.gate.quality import Status
from harness.gate.reference import Acceptance
from harness.records.record import Record
from harness.report.document import Finding, Paragraph, Report, Section, Table


def build_acceptance_report(acceptance: Acceptance) -> Report:
    """Say what accepting would change: trials, values, and what the gate says of it."""
    sections = (_list_trials(acceptance), _list_values(acceptance))
    return Report(
        name=f"accept-{acceptance.experiment}",
        title=f"New reference of {acceptance.experiment}",
        findings=tuple(_list_findings(acceptance)),
        sections=tuple(section for section in sections if section.blocks),
    )


def _list_findings(acceptance: Acceptance) -> list[Finding]:
    found = [Finding("warning", "old reference", f"{text}: it is replaced all the same") for text in acceptance.unread]
    if acceptance.removed:
        names = ", ".join(trial.id for trial in acceptance.removed)
        found.append(Finding("warning", "no longer in the reference", names))
    if acceptance.before and acceptance.gate.outcome in (GateOutcome.REGRESSION, GateOutcome.SUSPECT):
        found += [Finding("warning", "worse than the old reference", text) for text in acceptance.gate.regressions]
        found += [
            Finding("warning", "perhaps worse than the old reference", f"{cell.group}: {cell.measure}: {cell.reason}")
            for cell in acceptance.gate.quality
            if cell.status is Status.SUSPECT
        ]
    found += [Finding("notice", "for review", text) for text in acceptance.gate.notices if acceptance.before]
    return found


def _list_trials(acceptance: Acceptance) -> Section:
    """Count trials on both sides and name those that come and go."""
    before, after = len(acceptance.before), len(acceptance.after)
    texts = [f"{acceptance.folder}: {before} trials now, {after} then."]
    if acceptance.before:
        texts += [
            f"{word}: {_name(trials)}."
            for word, trials in (("Added", acceptance.added), ("Removed", acceptance.removed))
            if trials
        ]
    if not acceptance.changed:
        texts.append("Nothing changes.")
    return Section(f"Reference of {acceptance.experiment}", tuple(Paragraph(text) for text in texts), brief=True)


def _list_values(acceptance: Acceptance) -> Section:
    """Set old beside new, a table for each model and variant."""
    tables = []
    both = (*acceptance.before, *acceptance.after)
    for model, variant in dict.fromkeys((record.trial.model, record.trial.variant) for record in both):
        old, new = (
            [record for record in records if (record.trial.model, record.trial.variant) == (model, variant)]
            for records in (acceptance.before, acceptance.after)
        )
        measures = dict.fromkeys(measure for record in (*new, *old) for measure in record.values)
        rows = tuple((measure, *_show(old, new, measure)) for measure in measures)
        title = f"{model}/{variant}: {_name_seeds(old)} now, {_name_seeds(new)} then"
        tables.append(Table(("measure", "now", "then", "change"), rows, title=title))
    return Section("Values", tuple(tables), brief=True)


def _show(old: Sequence[Record], new: Sequence[Record], measure: str) -> tuple[str, str, str]:
    before, after = (
        [record.values[measure] for record in records if measure in record.values] for records in (old, new)
    )
    change = f"{statistics.fmean(after) - statistics.fmean(before):+.4f}" if before and after else ""
    return _spread(before), _spread(after), change


def _spread(values: Sequence[float]) -> str:
    if not values:
        return ""
    mean = f"{statistics.fmean(values):.4f}"
    return f"{mean} ± {statistics.stdev(values):.4f}" if len(values) > 1 else mean


def _name(trials: Sequence[Trial]) -> str:
    return ", ".join(trial.id for trial in trials)


def _name_seeds(records: Sequence[Record]) -> str:
    if not records:
        return "none"
    seeds = [str(record.trial.seed) for record in records if record.trial.seed is not None]
    if not seeds:
        return "1 record"
    return f"seeds {', '.join(seeds)}" if len(seeds) > 1 else f"seed {seeds[0]}"
