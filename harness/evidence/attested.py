"""What verification cannot recompute is listed, so that nobody takes "all match" for more than it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from harness.evidence.binding import CommitsSeen
from harness.experiment.claims import BASELINE
from harness.experiment.manifest import Experiment
from harness.records.plan import PlannedTrial
from harness.records.record import Record

SHOWN = 5


def list_attested(
    records: Sequence[Record], plans: Sequence[PlannedTrial], commits: CommitsSeen, *, reran: bool = False
) -> Iterator[str]:
    """Say what rests on the word of whoever ran the trials, a line each.

    Args:
        records: all that were verified.
        plans: the trials that were listed before they ran.
        commits: whether the commits could be looked for.
        reran: whether the untrained trials were run again.
    """
    untrained = [record for record in records if record.trial.variant == BASELINE]
    trainings = len(records) - len(untrained)
    if untrained and not reran:
        yield (
            f"untrained values, queries and judgements ({len(untrained)} runs): they follow from the files here; that "
            "these are what the locked weights and data give, `--rerun baseline` checks"
        )
    if trainings:
        yield f"trained values: the weights of {trainings} trainings; `harness rerun` trains one again"
    yield f"time and memory: the seconds and bytes of {sum(len(record.stages) for record in records)} stages"
    yield f"the device, as records name it: {_join(record.device_name for record in records)}"
    if commits is not CommitsSeen.LOOKED:
        named = _join(record.environment.commit or "none" for record in records)
        yield f"the commit: {named}; {commits}"
    elif any(record.environment.dirty for record in records):
        yield f"the code: {_join(record.trial.id for record in records if record.environment.dirty)} had changes"
    yield from _list_tried(records, plans)


def list_untried(experiment: Experiment, records: Sequence[Record]) -> Iterator[str]:
    """Name the models of a manifest that have no record at all: nobody can say whether they were tried."""
    known = {record.trial.model for record in records if record.trial.experiment == experiment.name}
    if missing := [model.name for model in experiment.models if model.name not in known]:
        yield f"models of {experiment.name} without any record: {_join(missing)}"


def _list_tried(records: Sequence[Record], plans: Sequence[PlannedTrial]) -> Iterator[str]:
    planned = {one.trial.experiment for one in plans}
    unlisted = {record.trial.experiment for record in records} - planned
    if unlisted:
        yield f"which seeds were tried: no list was written before the trials of {_join(unlisted)}"
    if late := {one.trial.experiment for one in plans if one.afterwards}:
        yield f"which seeds were tried: the list of {_join(late)} was written afterwards"
    if early := planned - late:
        yield f"which seeds were tried: the list of {_join(early)} was written before; that it is whole is its word"


def _join(names: Iterable[str]) -> str:
    found = sorted(set(names))
    return ", ".join(found[:SHOWN]) + (f" and {len(found) - SHOWN} more" if len(found) > SHOWN else "")
