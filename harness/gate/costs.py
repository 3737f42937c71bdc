"""Costs: seconds and peak memory of a model and variant, candidate against reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.analysis.paired_queries import holm
from harness.analysis.seeds import CostOutcome, cost_regression
from harness.gate.policy import Costs
from harness.gate.quality import Group, Status
from harness.records.record import Record, StageCost

COSTS = ("train_seconds", "evaluate_seconds", "peak_memory_bytes", "peak_device_memory_bytes")


@dataclass(frozen=True, slots=True)
class CostCell:
    """One cost of a model and variant; ``outcome`` is None where the two sides cannot be compared."""

    group: str
    cost: str
    outcome: CostOutcome | None
    adjusted_p_value: float | None
    status: Status
    reason: str


def judge_costs(groups: Sequence[Group], policy: Costs, *, rerun: bool) -> list[CostCell]:
    """Judge seconds and peak memory of every group, lower being better.

    Only work done for these records on one and the same kind of machine is compared: a cached stage reports
    the seconds of another time. See `cost_regression` for the rule; its p-values are corrected over all costs. A cost
    that grew is shown for review; it is a regression only where the policy asks for that and the reference was run
    in the same job (with 15 % noise between sessions an unchanged pipeline was accused in 19 to 22 % of cases).

    Args:
        groups: with the reference's records that the candidate's are compared with.
        policy: the limits.
        rerun: whether these were run in the same job as the candidate's.

    Raises:
        StatisticsError: a cost is negative or not finite.
    """
    cells = []
    for group in groups:
        records = (*group.reference, *group.candidate)
        machines = {record.environment.fingerprint for record in records}
        devices = {record.device_name for record in records}
        for cost in COSTS:
            cell = _judge_cost(group, cost, policy, machines, devices)
            if cell is not None:
                cells.append(cell)
    tested = [cell.outcome.p_value for cell in cells if cell.outcome and cell.outcome.p_value is not None]
    adjusted = iter(holm(tested).tolist())
    return [
        _decide_cost(cell, next(adjusted), policy, fails=policy.fail and rerun)
        if cell.outcome is not None and cell.outcome.p_value is not None
        else cell
        for cell in cells
    ]


def _judge_cost(group: Group, cost: str, policy: Costs, machines: set[str], devices: set[str]) -> CostCell | None:
    """Return the cell before correction, or None where the group has no such cost on either side."""
    before = [_cost(record, cost) for record in group.reference]
    after = [_cost(record, cost) for record in group.candidate]
    if all(value is None for value in (*before, *after)):
        return None
    obstacle = None
    if len(machines) > 1 or len(devices) > 1:
        obstacle = f"measured on different machines: {', '.join(sorted(machines | devices))}"
    elif any(value is None for value in (*before, *after)):
        obstacle = "not measured in every trial"
    elif any(_is_cached(record, cost) for record in (*group.reference, *group.candidate)):
        obstacle = "a stage came from the store, so its cost is that of another time"
    elif any(_is_shared(record) for record in (*group.reference, *group.candidate)):
        obstacle = "a trial shared its machine with others, so its cost is also theirs"
    if obstacle is not None:
        return CostCell(group.id, cost, None, None, Status.NOT_COMPARABLE, obstacle)
    limit = getattr(policy, cost)
    outcome = cost_regression(
        [value for value in before if value is not None],
        [value for value in after if value is not None],
        relative=limit.relative,
        floor=limit.floor,
        level=policy.level,
    )
    growth = outcome.candidate_mean - outcome.reference_mean
    if outcome.regression is None:
        status = Status.NOT_COMPARABLE
    elif abs(growth) <= max(limit.relative * outcome.reference_mean, limit.floor):
        status = Status.SAME
    elif growth < 0:
        status = Status.BETTER
    else:
        status = Status.WORSE if outcome.regression else Status.WITHIN_CHANCE
    return CostCell(group.id, cost, outcome, None, status, outcome.reason)


def _decide_cost(cell: CostCell, adjusted: float, policy: Costs, *, fails: bool) -> CostCell:
    if cell.status is Status.WORSE and adjusted > 1 - policy.level:
        reason = f"within what noise explains over all costs (p = {adjusted:.3g})"
        return replace(cell, adjusted_p_value=adjusted, status=Status.WITHIN_CHANCE, reason=reason)
    status = Status.REGRESSION if cell.status is Status.WORSE and fails else cell.status
    return replace(cell, adjusted_p_value=adjusted, status=status)


def _stages(record: Record, cost: str) -> list[StageCost]:
    """Return the stages that a cost is made of."""
    if cost == "train_seconds":
        names = ["train"]
    elif cost == "evaluate_seconds":
        names = ["baseline", "evaluate"]
    else:
        names = ["baseline", "train", "evaluate"]
    return [stage for name, stage in record.stages.items() if name in names]


def _cost(record: Record, cost: str) -> float | None:
    stages = _stages(record, cost)
    if cost.endswith("_seconds"):
        return sum(stage.seconds for stage in stages) if stages else None
    found = [getattr(stage, cost) for stage in stages]
    return max((float(value) for value in found if value is not None), default=None)


def _is_cached(record: Record, cost: str) -> bool:
    return any(stage.cached for stage in _stages(record, cost))


def _is_shared(record: Record) -> bool:
    return record.execution is not None and record.execution.trials_on_machine > 1
