"""Quality: one measure of a model and variant, candidate against reference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from harness.analysis.paired_queries import holm, sign_flip_test
from harness.analysis.seeds import Summary, growth_p_value, summarize, t_quantile
from harness.experiment.claims import BASELINE
from harness.experiment.manifest import Variant
from harness.gate.policy import Quality
from harness.records.record import Record

ROUNDS = 10_000


class Status(StrEnum):
    """How a cell stands."""

    BETTER = "better"
    SAME = "same"
    WITHIN_CHANCE = "worse, within chance"
    REGRESSION = "regression"
    NOT_COMPARABLE = "not comparable"


class Family(StrEnum):
    """Cells whose false alarms are counted together; ``COSTS`` are judged in ``costs.py``."""

    PRIMARY = "primary measures"
    OTHER = "other measures"
    UNTRAINED = "untrained models"
    COSTS = "costs"


@dataclass(frozen=True, slots=True)
class Group:
    """The records of one model and variant on both sides, in the order of their seeds.

    ``measures`` are those that every record has; the queries are the same, in the same order, on both sides.
    """

    experiment: str
    model: str
    variant: Variant
    primary: str
    measures: tuple[str, ...]
    reference: tuple[Record, ...]
    candidate: tuple[Record, ...]

    @property
    def id(self) -> str:
        """The readable name, as in ``bioasq/all-mpnet-base-v2/finetuned``."""
        return f"{self.experiment}/{self.model}/{self.variant}"


@dataclass(frozen=True, slots=True)
class QualityCell:
    """One measure of a model and variant.

    ``change`` is the candidate's mean minus the reference's: below zero is worse. ``bound`` is what one more
    set of such seeds stays above with the policy's level, before any correction for many cells, and None where
    there are not two reference seeds that differ. ``seed_p_value`` and ``query_p_value`` are one-sided (worse);
    the latter is only computed for a drop that the policy minds. ``judged_by`` says which of the two decides,
    ``adjusted_p_value`` is that one after Holm's correction within ``family``.
    """

    group: str
    measure: str
    family: Family
    reference_seeds: tuple[int, ...]
    reference_values: tuple[float, ...]
    candidate_seeds: tuple[int, ...]
    candidate_values: tuple[float, ...]
    reference: Summary
    candidate: Summary
    change: float
    bound: float | None
    seed_p_value: float | None
    query_p_value: float | None
    judged_by: str
    adjusted_p_value: float
    status: Status
    reason: str


def judge_quality(groups: Sequence[Group], policy: Quality) -> list[QualityCell]:
    """Judge every measure of every group, higher being better.

    Where the reference has two seeds or more that differ, chance is what differs between them: the candidate's mean
    must not fall below what the reference's seeds predict. A model without seeds, with one, or with seeds that all
    agree (a spread of zero would make any drop certain) is judged by its queries: would the drop be as large had
    each query's change been as likely the other way? Both are computed wherever they can be. Cells are then
    corrected within their family; a drop is a regression if its adjusted p-value is at most 1 - level and it is
    larger than ``smallest_drop``.

    Args:
        groups: all that is gated together, since the corrections are over all of them.
        policy: the levels and the smallest drop.

    Raises:
        StatisticsError: a value is not finite.
    """
    drafts = [_draft(group, measure, policy) for group in groups for measure in group.measures]
    _, keys = zip(*drafts, strict=True) if drafts else ((), ())
    cells = _add_query_p_values([cell for cell, _ in drafts], groups, policy)
    adjusted = _adjust(cells, keys)
    return [_decide(cell, p_value, policy) for cell, p_value in zip(cells, adjusted, strict=True)]


def _draft(group: Group, measure: str, policy: Quality) -> tuple[QualityCell, tuple[object, ...]]:
    """Return a cell without its correction, and a key that is equal for cells that ask the same question."""
    before = tuple(record.values[measure] for record in group.reference)
    after = tuple(record.values[measure] for record in group.candidate)
    reference, candidate = summarize(before), summarize(after)
    trained = group.variant != BASELINE
    # Seeds that all agree, as a count of few queries may, do not say that there is no chance: queries have to.
    by_seeds = trained and bool(reference.sd)
    primary = policy.primary or (group.primary,)
    family = Family.PRIMARY if measure in primary else Family.OTHER
    cell = QualityCell(
        group=group.id,
        measure=measure,
        family=family if trained else Family.UNTRAINED,
        reference_seeds=_seeds(group.reference),
        reference_values=before,
        candidate_seeds=_seeds(group.candidate),
        candidate_values=after,
        reference=reference,
        candidate=candidate,
        change=candidate.mean - reference.mean,
        bound=_predict(before, policy.level, len(after)) if by_seeds else None,
        seed_p_value=growth_p_value([-one for one in before], [-one for one in after]) if by_seeds else None,
        query_p_value=None,
        judged_by="seeds" if by_seeds else "queries",
        adjusted_p_value=1.0,
        status=Status.SAME,
        reason="",
    )
    # With one relevant passage per query recall@k is accuracy@k and precision@k a k-th of it: one question asked
    # three times. Counting it once keeps Holm's correction from punishing the other measures for it.
    scale = max(map(abs, before)) or 1.0
    shape = tuple(round(value / scale, 9) for value in (*before, *after))
    return cell, (group.id, cell.family, shape)


def _add_query_p_values(cells: Sequence[QualityCell], groups: Sequence[Group], policy: Quality) -> list[QualityCell]:
    """Test the drops over queries, all at once and proportional ones (recall@k, precision@k) only once."""
    by_id = {group.id: group for group in groups}
    places: dict[bytes, list[int]] = {}
    rows: dict[bytes, np.ndarray] = {}
    for index, cell in enumerate(cells):
        if cell.change < -policy.smallest_drop:
            group = by_id[cell.group]
            row = _average(group.candidate, cell.measure) - _average(group.reference, cell.measure)
            row = np.round(row / np.abs(row).max(), 9) + 0.0  # scaled to 1, and no negative zeros
            places.setdefault(row.tobytes(), []).append(index)
            rows[row.tobytes()] = row
    found: dict[int, float] = {}
    for queries in {len(row) for row in rows.values()}:
        keys = [key for key, row in rows.items() if len(row) == queries]
        table = np.stack([rows[key] for key in keys])
        p_values = sign_flip_test(table, seed=0, rounds=ROUNDS, alternative="less")
        found.update({index: float(p) for key, p in zip(keys, p_values, strict=True) for index in places[key]})
    return [replace(cell, query_p_value=found.get(index)) for index, cell in enumerate(cells)]


def _average(records: Sequence[Record], measure: str) -> np.ndarray:
    return np.asarray(np.mean([record.per_query[measure] for record in records], axis=0))


def _adjust(cells: Sequence[QualityCell], keys: Sequence[tuple[object, ...]]) -> list[float]:
    """Correct within each family, cells that ask the same question counting once."""
    adjusted = [1.0] * len(cells)
    for family in Family:
        questions: dict[tuple[object, ...], list[int]] = {}
        for index, (cell, key) in enumerate(zip(cells, keys, strict=True)):
            if cell.family is family:
                questions.setdefault(key, []).append(index)
        p_values = [max(_p_value(cells[index]) for index in same) for same in questions.values()]
        for same, p_value in zip(questions.values(), holm(p_values).tolist(), strict=True):
            for index in same:
                adjusted[index] = p_value
    return adjusted


def _p_value(cell: QualityCell) -> float:
    if cell.seed_p_value is not None:
        return cell.seed_p_value
    return 1.0 if cell.query_p_value is None else cell.query_p_value


def _decide(cell: QualityCell, adjusted: float, policy: Quality) -> QualityCell:
    alpha = 1 - policy.level
    if abs(cell.change) <= policy.smallest_drop:
        status, reason = Status.SAME, f"changed by no more than {policy.smallest_drop:g}"
    elif cell.change > 0:
        status, reason = Status.BETTER, ""
    elif adjusted <= alpha:
        status = Status.REGRESSION
        reason = f"worse than chance between {cell.judged_by} explains (p = {adjusted:.3g})"
    else:
        status, reason = Status.WITHIN_CHANCE, f"chance between {cell.judged_by} explains it (p = {adjusted:.3g})"
        if cell.judged_by == "seeds" and cell.query_p_value is not None and cell.query_p_value <= alpha:
            reason += f"; the queries alone see a drop (p = {cell.query_p_value:.3g}): more seeds would tell"
    return replace(cell, adjusted_p_value=adjusted, status=status, reason=reason)


def _seeds(records: Sequence[Record]) -> tuple[int, ...]:
    return tuple(record.trial.seed for record in records if record.trial.seed is not None)


def _predict(values: Sequence[float], level: float, new: int) -> float:
    found = summarize(values)
    return found.mean - t_quantile(level, found.count - 1) * (found.sd or 0.0) * math.sqrt(1 / new + 1 / found.count)
