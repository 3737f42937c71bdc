"""Quality: the primary measure of a model decides, in two stages; every other measure is reported beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

from harness.analysis.paired_queries import holm
from harness.analysis.seeds import ROUNDING, Summary, summarize
from harness.analysis.spread import Spread, drop_p_value, estimate_spread, step_of
from harness.experiment.claims import BASELINE
from harness.experiment.manifest import Variant
from harness.gate.policy import Quality
from harness.records.record import Record
from harness.records.record_set import tabulate_queries

UNTRAINED_STEPS = 2  # what an untrained model's value may fall by: that of `judge_agreement` for "close"

Against = Literal["accepted", "golden"]


class Status(StrEnum):
    """How a cell stands."""

    BETTER = "better"
    SAME = "same"
    WITHIN_CHANCE = "worse, within chance"
    WORSE = "worse, for review"
    SUSPECT = "suspect"
    REGRESSION = "regression"
    NOT_COMPARABLE = "not comparable"


@dataclass(frozen=True, slots=True)
class Group:
    """The records of one model and variant on both sides, in the order of their seeds.

    ``measures`` are those that every record has; the queries are the same, in the same order, on all sides. ``fresh``
    are the candidate's records of the further seeds, all of them or none.
    """

    experiment: str
    model: str
    variant: Variant
    primary: str
    measures: tuple[str, ...]
    reference: tuple[Record, ...]
    candidate: tuple[Record, ...]
    fresh: tuple[Record, ...] = ()
    golden: tuple[Record, ...] = ()

    @property
    def id(self) -> str:
        """The readable name, as in ``bioasq/all-mpnet-base-v2/finetuned``."""
        return f"{self.experiment}/{self.model}/{self.variant}"

    def select(self, against: Against) -> tuple[Record, ...]:
        """Return the records of a reference."""
        return self.reference if against == "accepted" else self.golden


@dataclass(frozen=True, slots=True)
class QualityCell:
    """One measure of a model and variant against one reference.

    Attributes:
        group: the model and variant.
        measure: its name.
        against: which reference.
        deciding: whether it is the primary measure, which alone can fail.
        stage: 1, or 2 where further seeds were pooled.
        reference_seeds: of the reference.
        reference_values: one per seed.
        candidate_seeds: of the candidate, those of stage 2 included.
        candidate_values: one per seed.
        reference: their summary.
        candidate: their summary.
        change: the candidate's mean minus the reference's: below zero is worse.
        spread: between seeds, pooled over both sides; None without training.
        p_value: one-sided (worse), of this stage; None without training.
        adjusted_p_value: after Holm's correction over all deciding cells; None for the others.
        status: how it stands.
        reason: in words.
    """

    group: str
    measure: str
    against: Against
    deciding: bool
    stage: int
    reference_seeds: tuple[int, ...]
    reference_values: tuple[float, ...]
    candidate_seeds: tuple[int, ...]
    candidate_values: tuple[float, ...]
    reference: Summary
    candidate: Summary
    change: float
    spread: Spread | None
    p_value: float | None
    adjusted_p_value: float | None
    status: Status
    reason: str


def judge_quality(groups: Sequence[Group], policy: Quality) -> list[QualityCell]:
    """Judge every group, higher being better.

    The primary measure of each trained model is tested against each reference, with the moderated spread s of both
    sides (see `pool_spread`) and t = (mean_ref - mean_cand) / (s sqrt(1/n + 1/k)), Holm (1979) over all of these at
    both stages. p above 1 - ``level``: passed. Otherwise *suspect*, until three fresh seeds are there; pooled with
    them it is a *regression* if that p is at most 1 - ``final_level`` and the drop is larger than ``smallest_drop``.
    To fail at once at the second level was measured to cost three times the false alarms.

    An untrained model has no chance in it: its primary measure is a regression once it fell by more than
    ``smallest_drop`` and two of the measure's smallest steps. All other measures have a p-value of their own and fail
    nothing.

    Args:
        groups: all that is gated together, since the correction is over all of them.
        policy: the levels and the smallest drop.

    Raises:
        StatisticsError: a value is not finite.
    """
    first = [cell for group in groups for cell in _list_cells(group, policy, stage=1)]
    cells = _decide_first(first, policy)
    again = {
        (cell.group, cell.measure, cell.against): cell
        for group in groups
        if group.fresh
        for cell in _list_cells(group, policy, stage=2)
    }
    if not again:
        return cells
    pooled = [
        again[key]
        if cell.status is Status.SUSPECT and (key := (cell.group, cell.measure, cell.against)) in again
        else cell
        for cell in cells
    ]
    return _decide_second(pooled, policy)


def _list_cells(group: Group, policy: Quality, *, stage: int) -> Iterator[QualityCell]:
    primary = policy.primary or (group.primary,)
    for measure in group.measures:
        yield _make_cell(group, measure, "accepted", deciding=measure in primary, stage=stage)
    if _differs(group):
        for measure in primary:
            yield _make_cell(group, measure, "golden", deciding=True, stage=stage)


def _differs(group: Group) -> bool:
    """Say whether there is a golden reference that is not the accepted one: the same test twice would be no more."""
    return bool(group.golden) and [record.per_query for record in group.golden] != [
        record.per_query for record in group.reference
    ]


def _make_cell(group: Group, measure: str, against: Against, *, deciding: bool, stage: int) -> QualityCell:
    old = group.select(against)
    new = group.candidate if stage == 1 else (*group.candidate, *group.fresh)
    before, after = (tuple(record.values[measure] for record in records) for records in (old, new))
    reference, candidate = summarize(before), summarize(after)
    change = candidate.mean - reference.mean
    spread = p_value = None
    if group.variant != BASELINE:
        spread = estimate_spread([tabulate_queries(records, measure) for records in (old, new)], measure)
        p_value = float(drop_p_value(-change, spread.sd**2, spread.degrees, (len(old), len(new))))
    return QualityCell(
        group=group.id,
        measure=measure,
        against=against,
        deciding=deciding,
        stage=stage,
        reference_seeds=_seeds(old),
        reference_values=before,
        candidate_seeds=_seeds(new),
        candidate_values=after,
        reference=reference,
        candidate=candidate,
        change=change,
        spread=spread,
        p_value=p_value,
        adjusted_p_value=None,
        status=_allow_untrained(old, new, measure, change) if p_value is None else Status.SAME,
        reason="",
    )


def _allow_untrained(old: Sequence[Record], new: Sequence[Record], measure: str, change: float) -> Status:
    if change == 0:
        return Status.SAME
    step = step_of(measure, tabulate_queries((*old, *new), measure))
    if abs(change) <= UNTRAINED_STEPS * step + ROUNDING:
        return Status.SAME
    return Status.BETTER if change > 0 else Status.WORSE


def _decide_first(cells: Sequence[QualityCell], policy: Quality) -> list[QualityCell]:
    adjusted = _adjust([cell.p_value if cell.deciding else None for cell in cells])
    return [_decide(cell, p_value, policy) for cell, p_value in zip(cells, adjusted, strict=True)]


def _decide(cell: QualityCell, adjusted: float | None, policy: Quality) -> QualityCell:
    """Decide stage 1, and what no stage decides."""
    if cell.p_value is None:
        return _decide_untrained(cell, policy)
    alpha = 1 - policy.level
    p_value = cell.p_value if adjusted is None else adjusted
    if p_value <= alpha:
        status = Status.SUSPECT if cell.deciding else Status.WORSE
        reason = f"chance between seeds explains it with p = {p_value:.2g}"
        reason += ": further seeds decide" if cell.deciding else ", reported for review"
    elif abs(cell.change) <= policy.smallest_drop:
        status, reason = Status.SAME, f"changed by no more than {policy.smallest_drop:g}"
    elif cell.change > 0:
        status, reason = Status.BETTER, ""
    else:
        status, reason = Status.WITHIN_CHANCE, f"chance between seeds explains it (p = {p_value:.2g})"
    return replace(cell, adjusted_p_value=adjusted, status=status, reason=reason)


def _decide_untrained(cell: QualityCell, policy: Quality) -> QualityCell:
    if cell.status is not Status.WORSE:
        return cell
    if not cell.deciding:
        return replace(cell, reason="untrained, so no seed explains it; reported for review")
    if -cell.change <= policy.smallest_drop:
        return replace(cell, status=Status.SAME, reason=f"changed by no more than {policy.smallest_drop:g}")
    return replace(cell, status=Status.REGRESSION, reason="untrained, so neither a seed nor rounding explains it")


def _decide_second(cells: Sequence[QualityCell], policy: Quality) -> list[QualityCell]:
    """Decide stage 2; what passed stage 1 counts in the correction with a p-value of 1."""
    p_values = [
        None if cell.p_value is None or not cell.deciding else cell.p_value if cell.stage > 1 else 1.0 for cell in cells
    ]
    decided = []
    for cell, adjusted in zip(cells, _adjust(p_values), strict=True):
        if cell.stage == 1 or adjusted is None:
            decided.append(cell)
        elif adjusted <= 1 - policy.final_level and -cell.change > policy.smallest_drop:
            reason = f"with {len(cell.candidate_seeds)} seeds chance explains it with p = {adjusted:.2g}"
            decided.append(replace(cell, adjusted_p_value=adjusted, status=Status.REGRESSION, reason=reason))
        else:
            reason = f"suspect at first; with the further seeds chance explains it (p = {adjusted:.2g})"
            if -cell.change <= policy.smallest_drop:
                reason = f"suspect at first; with the further seeds changed by no more than {policy.smallest_drop:g}"
            decided.append(replace(cell, adjusted_p_value=adjusted, status=Status.WITHIN_CHANCE, reason=reason))
    return decided


def _adjust(p_values: Sequence[float | None]) -> list[float | None]:
    """Correct the p-values that are there, over all of them."""
    corrected = iter(holm([p_value for p_value in p_values if p_value is not None]).tolist())
    return [None if p_value is None else next(corrected) for p_value in p_values]


def _seeds(records: Sequence[Record]) -> tuple[int, ...]:
    return tuple(record.trial.seed for record in records if record.trial.seed is not None)
