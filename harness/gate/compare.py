"""The gate decides whether candidate records are worse than the accepted reference, or cannot be compared with it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import count, islice

from harness.errors import ManifestError
from harness.experiment.claims import BASELINE
from harness.experiment.manifest import Variant
from harness.experiment.measure import parse_measure
from harness.gate.costs import CostCell, judge_costs
from harness.gate.policy import Policy
from harness.gate.quality import Group, QualityCell, Status, judge_quality
from harness.gate.simulation import FRESH_SEEDS, ErrorRates, simulate_gate
from harness.records.record import Record

MEAN_TOLERANCE = 1e-9

Key = tuple[str, str, Variant, int | None]
RecordsByTrial = dict[Key, Record]


class GateOutcome(StrEnum):
    """What the gate says; ``exit_code`` is what the command line ends with."""

    PASS = "pass"  # noqa: S105 - not a password
    REGRESSION = "regression"
    NOT_COMPARABLE = "not comparable"
    SUSPECT = "suspect"

    @property
    def exit_code(self) -> int:
        """0 for pass, 1 for regression, 2 for not comparable, 3 for suspect: further seeds are to be run."""
        return list(GateOutcome).index(self)


@dataclass(frozen=True, slots=True)
class GateReport:
    """The gate's answer and all that it rests on.

    Attributes:
        outcome: *not comparable* as soon as there is a problem, else *regression* as soon as one cell is, else
            *suspect* as soon as one cell is.
        problems: what keeps the two sides from being compared, each naming trial or cell.
        notices: what a reviewer should know and what fails nothing.
        quality: one cell per model, variant and measure that could be compared.
        costs: one cell per model, variant and cost.
        rates: how often this gate errs, simulated for its own seeds and spreads.
        further_seeds: experiment -> the seeds that decide what is suspect.
        policy: what was asked for.
    """

    outcome: GateOutcome
    problems: tuple[str, ...]
    notices: tuple[str, ...]
    quality: tuple[QualityCell, ...]
    costs: tuple[CostCell, ...]
    rates: ErrorRates
    further_seeds: dict[str, tuple[int, ...]]
    policy: Policy

    @property
    def regressions(self) -> tuple[str, ...]:
        """Each cell that is a regression, named, with the reason."""
        worse_quality = [
            f"{cell.group}: {cell.measure} fell by {-cell.change:.4f} to {cell.candidate.mean:.4f} "
            f"against the {cell.against} reference: {cell.reason}"
            for cell in self.quality
            if cell.status is Status.REGRESSION
        ]
        worse_costs = [
            f"{cell.group}: {cell.cost}: {cell.reason}" for cell in self.costs if cell.status is Status.REGRESSION
        ]
        return (*worse_quality, *worse_costs)


def compare(
    reference: Sequence[Record],
    candidate: Sequence[Record],
    policy: Policy,
    *,
    golden: Sequence[Record] = (),
    rerun: Sequence[Record] = (),
    unread: Sequence[str] = (),
) -> GateReport:
    """Compare candidate records with the reference, trial by trial and over seeds.

    Every trial of the reference must be there on the candidate's side (of its seeds, those the policy asks for),
    with the same data, queries and measures. Of further seeds on the candidate's side only the three fresh ones that
    a suspect candidate is told to run count, all of them or none; the rest, and models and experiments that only the
    candidate has, are a notice.

    Args:
        reference: accepted records, of one experiment or several.
        candidate: the records to be judged.
        policy: limits and levels.
        golden: records of the fixed reference beside the accepted one, which many small accepted drops cannot move.
        rerun: the reference's trials as run in the candidate's own job, in turns with it, for costs.
        unread: what kept records of any side from being read; each is a problem.

    Returns:
        The report; what cannot be compared is named there, not raised.
    """
    problems = list(unread)
    before = _shelve(reference, "reference", problems)
    after = _shelve(candidate, "candidate", problems)
    fixed = _shelve(golden, "golden", problems)
    again = _shelve(rerun, "rerun reference", problems)
    sides = Sides(before, after, fixed)
    if not before:
        problems.append("reference: no record that could be compared with")
    notices: list[str] = []
    groups = []
    for experiment, model, variant in sorted({key[:3] for key in before}):
        group = _pair(sides, (experiment, model, variant), policy, problems)
        if group is not None:
            groups.append(group)
            notices.extend(_list_notices(group))
    notices.extend(
        f"{_name(key)}: only the candidate has it, so it is not judged"
        for key in sorted(after, key=_order)
        if key[:3] not in {known[:3] for known in before}
    )
    quality = judge_quality(groups, policy.quality)
    problems += _check_rerun(rerun, candidate, policy)
    costs = judge_costs(_replace_costs(groups, again), policy.costs, rerun=bool(rerun))
    suspect = {cell.group for cell in quality if cell.status is Status.SUSPECT}
    return GateReport(
        outcome=_decide(problems, quality, costs),
        problems=tuple(problems),
        notices=tuple(notices),
        quality=tuple(quality),
        costs=tuple(costs),
        rates=simulate_gate(quality, policy.quality),
        further_seeds=_find_further_seeds(groups, suspect, sides),
        policy=policy,
    )


def _shelve(records: Sequence[Record], side: str, problems: list[str]) -> RecordsByTrial:
    shelf: RecordsByTrial = {}
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
    for measure, values in record.per_query.items():
        try:
            parse_measure(measure)
        except ManifestError as cause:
            yield str(cause)
            continue
        if abs(math.fsum(values) / len(values) - record.values[measure]) > MEAN_TOLERANCE:
            yield f"{measure} is {record.values[measure]!r}, not the mean over its queries"


def choose_fresh_seeds(used: Iterable[int | None]) -> tuple[int, ...]:
    """Return the three lowest seeds that were not used before, so that everybody runs the same ones."""
    taken = set(used)
    return tuple(islice((seed for seed in count() if seed not in taken), FRESH_SEEDS))


@dataclass(frozen=True, slots=True)
class Sides:
    """The records of all sides, by trial."""

    reference: RecordsByTrial
    candidate: RecordsByTrial
    golden: RecordsByTrial

    def select(self, side: str, group: tuple[str, str, Variant]) -> dict[int | None, Record]:
        """Return the records of a model and variant on one side, by seed."""
        records: RecordsByTrial = getattr(self, side)
        return {key[3]: record for key, record in records.items() if key[:3] == group}


def _pair(sides: Sides, group: tuple[str, str, Variant], policy: Policy, problems: list[str]) -> Group | None:
    """Collect all sides of a model and variant, or note why they cannot be compared."""
    known, found, fixed = (sides.select(side, group) for side in ("reference", "candidate", "golden"))
    trained = group[2] != BASELINE
    wanted: Sequence[int | None] = sorted(known, key=_seed_order)
    if trained and policy.quality.seeds is not None:
        wanted = policy.quality.seeds
    faults = [f"candidate: {_name((*group, seed))}: missing" for seed in wanted if seed not in found]
    first = next(iter(known.values()))
    for side, records in (("reference", known), ("candidate", found), ("golden", fixed)):
        faults += _list_differing(side, records.values(), first)
        if trained and side != "candidate" and len(records) == len(wanted) == 1:
            faults.append(
                f"{side}: {_name(group)}: one seed, and one of the candidate, show no spread: accept two seeds or more"
            )
    problems += faults
    if faults or not found:
        return None
    extra = choose_fresh_seeds(_list_used(group[0], sides, wanted)) if trained else ()
    if not all(seed in found for seed in extra):
        extra = ()
    old, new, more, golden = (
        tuple(records[seed] for seed in sorted(seeds, key=_seed_order))
        for records, seeds in ((known, known), (found, wanted), (found, extra), (fixed, fixed))
    )
    primary = first.experiment.evaluation.primary
    deciding = policy.quality.primary or (primary,)
    measures = _share_measures(
        {"reference": old, "candidate": (*new, *more)}, tuple(dict.fromkeys((*old[0].values, *deciding))), problems
    )
    if len(_share_measures({"golden": golden}, deciding, problems)) < len(deciding):
        golden = ()
    return Group(*group, primary, measures, reference=old, candidate=new, fresh=more, golden=golden)


def _list_differing(side: str, records: Iterable[Record], first: Record) -> Iterator[str]:
    for record in records:
        if record.data.digest != first.data.digest:
            yield (
                f"{side}: {record.trial.id}: data {record.data.digest[:12]}, "
                f"expected {first.data.digest[:12]} as in the reference's {first.trial.id}"
            )
        elif record.query_ids != first.query_ids:
            yield f"{side}: {record.trial.id}: other queries than the reference's {first.trial.id}"


def _list_used(experiment: str, sides: Sides, wanted: Sequence[int | None]) -> Iterator[int | None]:
    yield from wanted
    yield from (key[3] for key in (*sides.reference, *sides.golden) if key[0] == experiment)


def _find_further_seeds(groups: Sequence[Group], suspect: AbstractSet[str], sides: Sides) -> dict[str, tuple[int, ...]]:
    return {
        group.experiment: choose_fresh_seeds(
            _list_used(group.experiment, sides, [record.trial.seed for record in group.candidate])
        )
        for group in groups
        if group.id in suspect
    }


def _replace_costs(groups: Sequence[Group], again: RecordsByTrial) -> list[Group]:
    """Put the rerun reference in the place of the accepted one, where there is one."""
    if not again:
        return list(groups)
    found = []
    for group in groups:
        keys = [key for key in again if key[:3] == (group.experiment, group.model, group.variant)]
        records = tuple(again[key] for key in sorted(keys, key=_order))
        found.append(replace(group, reference=records) if records else group)
    return found


def _check_rerun(rerun: Sequence[Record], candidate: Sequence[Record], policy: Policy) -> Iterator[str]:
    """Say why costs cannot fail where the policy asks that they do."""
    if not policy.costs.fail:
        return
    if not rerun:
        yield "costs.fail needs the reference run in this job, in turns with the candidate: --rerun-reference DIR"
        return
    sides = [sorted(record.created for record in records) for records in (rerun, candidate)]
    if candidate and (sides[0][-1] < sides[1][0] or sides[1][-1] < sides[0][0]):
        yield "rerun reference: run before or after all of the candidate, expected in turns with it"


def _share_measures(
    sides: Mapping[str, Sequence[Record]], wanted: Sequence[str], problems: list[str]
) -> tuple[str, ...]:
    """Return the wanted measures that every record has, noting each that one lacks."""
    problems.extend(
        f"{side}: {record.trial.id}: no {measure}"
        for side, records in sides.items()
        for record in records
        for measure in wanted
        if measure not in record.values
    )
    every = [record for records in sides.values() for record in records]
    return tuple(measure for measure in wanted if all(measure in record.values for record in every))


def _list_notices(group: Group) -> Iterator[str]:
    old, new = group.reference[0], group.candidate[0]
    recipes = [one.experiment.recipes.get(group.variant) for one in (old, new)]
    seen = [[one and one.as_run_on(device) for device in (old.device, new.device)] for one in recipes]
    if seen[0] != seen[1]:
        yield f"{group.id}: the training recipe is not the reference's"
    if old.model_source != new.model_source:
        yield f"{group.id}: the model's files are not the reference's"
    if old.device_name != new.device_name:
        yield f"{group.id}: run on {new.device_name}, the reference on {old.device_name}"
    added = sorted(set(new.values) - set(old.values))
    if added:
        yield f"{group.id}: only the candidate has {', '.join(added)}, so it is not judged"


def _decide(problems: Sequence[str], quality: Sequence[QualityCell], costs: Sequence[CostCell]) -> GateOutcome:
    if problems:
        return GateOutcome.NOT_COMPARABLE
    worse = [cell.status for cell in quality] + [cell.status for cell in costs]
    if Status.REGRESSION in worse:
        return GateOutcome.REGRESSION
    return GateOutcome.SUSPECT if Status.SUSPECT in worse else GateOutcome.PASS


def _name(key: Key | tuple[str, str, Variant]) -> str:
    return "/".join(key[:3] if len(key) == 3 or key[3] is None else (*key[:3], f"seed{key[3]}"))  # noqa: PLR2004


def _seed_order(seed: int | None) -> int:
    return -1 if seed is None else seed


def _order(key: Key) -> tuple[str, str, str, int]:
    return (*key[:3], _seed_order(key[3]))
