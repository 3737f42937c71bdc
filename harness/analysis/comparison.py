"""The manifest's comparisons and what must not be forgotten, by the records of their cells."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from harness.analysis.contrast import Contrast, Side, contrast
from harness.analysis.paired_queries import holm
from harness.experiment.claims import BASELINE
from harness.experiment.comparisons import Comparison, Forgetting
from harness.experiment.manifest import Variant
from harness.experiment.trial import Pair, list_pairs
from harness.records.record import Record
from harness.records.record_set import Shelf, list_seeds, tabulate_queries

ALPHA = 0.05

CellName = tuple[str, Variant]


@dataclass(frozen=True, slots=True)
class ComparedCells:
    """Two cells by one measure on one test set.

    Attributes:
        a: model and variant.
        b: likewise.
        on: the result that both are seen from, DATA/PART or DATA/PART@DIM, of a.
        measure: its name.
        seeds: of a and of b.
        means: of a and of b, over queries and seeds; None where a record is missing.
        contrast: a minus b; None likewise.
        p_holm: corrected over all comparisons; None where there is no p-value.
        bound: what the interval must lie above, if anything.
    """

    a: CellName
    b: CellName
    on: str
    measure: str
    seeds: tuple[tuple[int, ...], tuple[int, ...]]
    means: tuple[float, float] | None
    contrast: Contrast | None
    p_holm: float | None
    bound: float | None

    @property
    def better(self) -> CellName | None:
        """The cell that is shown to be better, at 5 % over all comparisons."""
        if self.contrast is None or self.p_holm is None or self.p_holm > ALPHA:
            return None
        return self.a if self.contrast.difference > 0 else self.b

    @property
    def met(self) -> bool | None:
        """Whether the interval lies above the bound; None where there is no bound, or no interval and it may yet."""
        if self.bound is None or self.contrast is None:
            return None
        if self.contrast.interval is None:
            return None if self.contrast.difference > self.bound else False
        return self.contrast.interval.low > self.bound


@dataclass(frozen=True, slots=True)
class ComparisonVerdict:
    """One comparison of the manifest: ``deciding`` by the primary measure, ``others`` by the rest, on every test set.

    ``missing`` names the trials of both cells that have no record.
    """

    comparison: Comparison
    deciding: ComparedCells
    others: tuple[ComparedCells, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ForgettingVerdict:
    """One trained cell against its own baseline on a test set that training must not cost."""

    forgetting: Forgetting
    pair: Pair
    cells: ComparedCells
    missing: tuple[str, ...]


def judge_comparisons(shelf: Shelf) -> tuple[ComparisonVerdict, ...]:
    """Compare what the manifest wants compared, Holm over all comparisons by the primary measure.

    Raises:
        RecordError: a record lacks a test set or measure.
    """
    experiment = shelf.experiment
    verdicts = []
    for item in experiment.comparisons:
        a, b = item.cells
        missing = (*shelf.find_missing(*a), *shelf.find_missing(*b))
        deciding = _compare(shelf, (a, b), experiment.evaluation.primary, bound=item.above)
        verdicts.append(ComparisonVerdict(item, deciding, tuple(_list_others(shelf, a, b)), missing))
    corrected = correct([verdict.deciding for verdict in verdicts])
    return tuple(replace(verdict, deciding=one) for verdict, one in zip(verdicts, corrected, strict=True))


def judge_forgetting(shelf: Shelf) -> tuple[ForgettingVerdict, ...]:
    """Compare every trained cell with its own baseline, by the primary measure on each test set not to be forgotten.

    All must hold, so that no correction is needed (intersection-union: Berger 1982).

    Raises:
        RecordError: a record lacks a test set or measure.
    """
    primary = shelf.experiment.evaluation.primary
    verdicts = []
    for item in shelf.experiment.forgetting:
        for pair in list_pairs(shelf.experiment):
            if pair.recipe is None:
                continue
            tuned, base = (pair.model, pair.recipe), (pair.model, BASELINE)
            cells = _compare(shelf, (tuned, base), primary, bound=-item.max_drop, on=item.on)
            missing = (*shelf.find_missing(*tuned), *shelf.find_missing(*base))
            verdicts.append(ForgettingVerdict(item, pair, cells, missing))
    return tuple(verdicts)


def compare_records(
    a: Sequence[Record], b: Sequence[Record], measure: str, *, bound: float | None = None
) -> ComparedCells:
    """Compare the records of two cells, both as seen from one test set, whose queries are the same in the same order.

    Raises:
        RecordError: a record lacks the measure.
    """
    tables = [tabulate_queries(records, measure) for records in (a, b)]
    names = [(records[0].trial.model, records[0].trial.variant) for records in (a, b)]
    sides = [
        Side.of(table, trained=records[0].trial.variant != BASELINE)
        for table, records in zip(tables, (a, b), strict=True)
    ]
    return ComparedCells(
        a=names[0],
        b=names[1],
        on=a[0].result_name,
        measure=measure,
        seeds=(list_seeds(a), list_seeds(b)),
        means=(float(tables[0].mean()), float(tables[1].mean())),
        contrast=contrast(sides[0], sides[1], measure),
        p_holm=None,
        bound=bound,
    )


def correct(compared: Sequence[ComparedCells]) -> tuple[ComparedCells, ...]:
    """Correct the p-values that are there over all of them."""
    known = [one.contrast.p_value for one in compared if one.contrast is not None and one.contrast.p_value is not None]
    adjusted = iter(holm(known).tolist())
    return tuple(
        one if one.contrast is None or one.contrast.p_value is None else replace(one, p_holm=next(adjusted))
        for one in compared
    )


def _compare(
    shelf: Shelf, cells: tuple[CellName, CellName], measure: str, *, bound: float | None = None, on: str | None = None
) -> ComparedCells:
    a, b = (shelf.select(*cell, on=on) for cell in cells)
    if a and b:
        return compare_records(a, b, measure, bound=bound)
    place = on or shelf.experiment.evaluation.on[0]
    return ComparedCells(*cells, place, measure, (list_seeds(a), list_seeds(b)), None, None, None, bound)


def _list_others(shelf: Shelf, a: CellName, b: CellName) -> Iterator[ComparedCells]:
    evaluation = shelf.experiment.evaluation
    for on in evaluation.on:
        for measure in evaluation.measures:
            if (on, measure) != (evaluation.on[0], evaluation.primary):
                cells = _compare(shelf, (a, b), measure, on=on)
                if cells.contrast is not None:
                    yield cells
