"""The gate decides whether candidate records are worse than the accepted reference, or cannot be compared with it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from harness.errors import ManifestError
from harness.experiment.claims import BASELINE
from harness.experiment.manifest import Variant
from harness.experiment.measure import parse_measure
from harness.gate.costs import CostCell, judge_costs
from harness.gate.policy import Policy
from harness.gate.quality import Family, Group, QualityCell, Status, judge_quality
from harness.records.record import Record

MEAN_TOLERANCE = 1e-9

Key = tuple[str, str, Variant, int | None]
Shelf = dict[Key, Record]


class GateOutcome(StrEnum):
    """What the gate says; ``exit_code`` is what the command line ends with."""

    PASS = "pass"  # noqa: S105 - not a password
    REGRESSION = "regression"
    NOT_COMPARABLE = "not comparable"

    @property
    def exit_code(self) -> int:
        """0 for pass, 1 for regression, 2 for not comparable."""
        return list(GateOutcome).index(self)


@dataclass(frozen=True, slots=True)
class GateReport:
    """The gate's answer and all that it rests on.

    Attributes:
        outcome: *not comparable* as soon as there is a problem, else *regression* as soon as one cell is.
        problems: what keeps the two sides from being compared, each naming trial or cell.
        notices: what a reviewer should know and what fails nothing.
        quality: one cell per model, variant and measure that could be compared.
        costs: one cell per model, variant and cost.
        false_alarm_bound: the chance that an unchanged pipeline fails is at most this.
        policy: what was asked for.
    """

    outcome: GateOutcome
    problems: tuple[str, ...]
    notices: tuple[str, ...]
    quality: tuple[QualityCell, ...]
    costs: tuple[CostCell, ...]
    false_alarm_bound: float
    policy: Policy

    @property
    def regressions(self) -> tuple[str, ...]:
        """Each cell that is a regression, named, with the reason."""
        worse_quality = [
            f"{cell.group}: {cell.measure} fell by {-cell.change:.4f} to {cell.candidate.mean:.4f}: {cell.reason}"
            for cell in self.quality
            if cell.status is Status.REGRESSION
        ]
        worse_costs = [
            f"{cell.group}: {cell.cost}: {cell.reason}" for cell in self.costs if cell.status is Status.REGRESSION
        ]
        return (*worse_quality, *worse_costs)


def compare(
    reference: Sequence[Record], candidate: Sequence[Record], policy: Policy, *, unread: Sequence[str] = ()
) -> GateReport:
    """Compare candidate records with the reference, trial by trial and over seeds.

    Every trial of the reference must be there on the candidate's side (of its seeds, those the policy asks for),
    with the same data, queries and measures. Trials that only the candidate has are a notice: seeds among them
    count, models and experiments among them do not, having nothing to be compared with.

    Args:
        reference: accepted records, of one experiment or several.
        candidate: the records to be judged.
        policy: limits and levels.
        unread: what kept records of either side from being read; each is a problem.

    Returns:
        The report; what cannot be compared is named there, not raised.
    """
    problems = list(unread)
    before = _shelve(reference, "reference", problems)
    after = _shelve(candidate, "candidate", problems)
    if not before:
        problems.append("reference: no record that could be compared with")
    notices: list[str] = []
    groups = []
    for experiment, model, variant in sorted({key[:3] for key in before}):
        group = _pair(before, after, (experiment, model, variant), policy, problems)
        if group is not None:
            groups.append(group)
            notices.extend(_list_notices(group))
    notices.extend(
        f"{_name(key)}: only the candidate has it, so it is not judged"
        for key in sorted(after, key=_order)
        if key[:3] not in {known[:3] for known in before}
    )
    quality = judge_quality(groups, policy.quality)
    costs = judge_costs(groups, policy.costs)
    return GateReport(
        outcome=_decide(problems, quality, costs),
        problems=tuple(problems),
        notices=tuple(notices),
        quality=tuple(quality),
        costs=tuple(costs),
        false_alarm_bound=_bound_false_alarms(quality, costs, policy),
        policy=policy,
    )


def _shelve(records: Sequence[Record], side: str, problems: list[str]) -> Shelf:
    shelf: Shelf = {}
    for record in records:
        trial = record.trial
        key: Key = (trial.experiment, trial.model, trial.variant, trial.seed)
        if key in shelf:
            problems.append(f"{side}: {trial.id}: two records of this trial, expected one")
            continue
        faults = [f"{side}: {trial.id}: broken record: {fault}" for fault in _list_faults(record)]
        problems.extend(faults)
        if not faults:
            shelf[key] = record
    return shelf


def _list_faults(record: Record) -> Iterator[str]:
    """Say what is wrong with a record that its own types could not see."""
    if not record.query_ids or len(set(record.query_ids)) != len(record.query_ids):
        yield "no queries, or one of them twice"
        return
    if not record.values:
        yield "no measure"
    if (record.trial.variant == BASELINE) != (record.trial.seed is None):
        yield "a trained trial has a seed and a baseline has none"
    for measure, values in record.per_query.items():
        try:
            parse_measure(measure)
        except ManifestError as cause:
            yield str(cause)
            continue
        if abs(math.fsum(values) / len(values) - record.values[measure]) > MEAN_TOLERANCE:
            yield f"{measure} is {record.values[measure]!r}, not the mean over its queries"


def _pair(
    before: Shelf, after: Shelf, group: tuple[str, str, Variant], policy: Policy, problems: list[str]
) -> Group | None:
    """Collect both sides of a model and variant, or note why they cannot be compared."""
    known = {key[3]: record for key, record in before.items() if key[:3] == group}
    found = {key[3]: record for key, record in after.items() if key[:3] == group}
    wanted: Sequence[int | None] = sorted(known, key=_seed_order)
    if group[2] != BASELINE and policy.quality.seeds is not None:
        wanted = policy.quality.seeds
    missing = [seed for seed in wanted if seed not in found]
    problems.extend(f"candidate: {_name((*group, seed))}: missing" for seed in missing)
    comparable = not missing
    first = next(iter(known.values()))
    for side, records in (("reference", known), ("candidate", found)):
        for record in records.values():
            if record.data.digest != first.data.digest:
                problems.append(
                    f"{side}: {record.trial.id}: data {record.data.digest[:12]}, "
                    f"expected {first.data.digest[:12]} as in the reference's {first.trial.id}"
                )
                comparable = False
            elif record.query_ids != first.query_ids:
                problems.append(f"{side}: {record.trial.id}: other queries than the reference's {first.trial.id}")
                comparable = False
    if not comparable or not found:
        return None
    old = tuple(known[seed] for seed in sorted(known, key=_seed_order))
    new = tuple(found[seed] for seed in sorted(found, key=_seed_order))
    primary = first.experiment.evaluation.primary
    wanted_measures = dict.fromkeys((*old[0].values, *(policy.quality.primary or (primary,))))
    measures = _share_measures(old, new, tuple(wanted_measures), problems)
    return Group(*group, primary=primary, measures=measures, reference=old, candidate=new)


def _share_measures(
    before: Sequence[Record], after: Sequence[Record], wanted: Sequence[str], problems: list[str]
) -> tuple[str, ...]:
    """Return the wanted measures that every record has, noting each that one lacks."""
    problems.extend(
        f"{side}: {record.trial.id}: no {measure}"
        for side, records in (("reference", before), ("candidate", after))
        for record in records
        for measure in wanted
        if measure not in record.values
    )
    return tuple(measure for measure in wanted if all(measure in record.values for record in (*before, *after)))


def _list_notices(group: Group) -> Iterator[str]:
    old, new = group.reference[0], group.candidate[0]
    if old.experiment.recipes.get(group.variant) != new.experiment.recipes.get(group.variant):
        yield f"{group.id}: the training recipe is not the reference's"
    if old.model_source != new.model_source:
        yield f"{group.id}: the model's files are not the reference's"
    if old.device_name != new.device_name:
        yield f"{group.id}: run on {new.device_name}, the reference on {old.device_name}"
    if group.variant != BASELINE and len(group.reference) == 1:
        yield f"{group.id}: one reference seed, so judged by queries alone: chance between seeds is unknown"
    added = sorted(set(new.values) - set(old.values))
    if added:
        yield f"{group.id}: only the candidate has {', '.join(added)}, so it is not judged"


def _decide(problems: Sequence[str], quality: Sequence[QualityCell], costs: Sequence[CostCell]) -> GateOutcome:
    if problems:
        return GateOutcome.NOT_COMPARABLE
    worse = [cell.status for cell in quality] + [cell.status for cell in costs]
    return GateOutcome.REGRESSION if Status.REGRESSION in worse else GateOutcome.PASS


def _bound_false_alarms(quality: Sequence[QualityCell], costs: Sequence[CostCell], policy: Policy) -> float:
    """Add up the families' false alarm rates.

    Models without training give an unchanged pipeline the same values again, so they cannot raise a false alarm.
    """
    families = {cell.family for cell in quality if cell.family is not Family.UNTRAINED}
    bound = len(families) * (1 - policy.quality.level)
    if any(cell.adjusted_p_value is not None for cell in costs):
        bound += 1 - policy.costs.level
    return min(bound, 1.0)


def _name(key: Key) -> str:
    parts = key[:3]
    return "/".join(parts if key[3] is None else (*parts, f"seed={key[3]}"))


def _seed_order(seed: int | None) -> int:
    return -1 if seed is None else seed


def _order(key: Key) -> tuple[str, str, str, int]:
    return (*key[:3], _seed_order(key[3]))
