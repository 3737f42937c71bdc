"""What the records say of what was published: one verdict per model, and every difference, threshold and gain."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from harness.analysis.comparison import ComparisonVerdict, ForgettingVerdict, judge_comparisons, judge_forgetting
from harness.analysis.effect_ratio import EffectRatio, effect_ratio
from harness.analysis.equivalence import (
    Agreement,
    ClaimOutcome,
    PublishedValue,
    Verdict,
    classify,
    judge_agreement,
)
from harness.analysis.paired_queries import BOOTSTRAP_ROUNDS, ROUNDS, ChangedCell, compare_tuned
from harness.analysis.planner import forecast_decision
from harness.analysis.redundant_measures import find_repeats
from harness.analysis.seeds import ROUNDING, ThresholdOutcome, judge_threshold
from harness.analysis.spread import Array, step_of
from harness.errors import StatisticsError
from harness.experiment.claims import BASELINE, Claims, Threshold
from harness.experiment.manifest import Experiment, Variant
from harness.experiment.trial import label_variant
from harness.records.record import Record
from harness.records.record_set import Shelf, list_seeds, list_values, tabulate_queries

STANDING: frozenset[Agreement | Verdict] = frozenset({Agreement.SAME, Agreement.CLOSE, Verdict.REPRODUCED})
OPEN: frozenset[Agreement | Verdict | None] = frozenset({Verdict.COMPATIBLE, Verdict.UNDECIDED, None})
ORDER = tuple(Agreement)


@dataclass(frozen=True, slots=True)
class Plan:
    """How many further seeds would decide a compatible claim, how probably, and what they would cost.

    ``further_seeds`` and ``probability`` are None where seeds cannot decide; ``cost_usd`` where a price is unknown.
    ``seconds`` are those of training and evaluating the further seeds at the mean pace of the recorded ones.
    """

    further_seeds: int | None
    probability: float | None
    seconds: float | None
    cost_usd: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class Place:
    """A test set and, where the model is evaluated at several, a dimension."""

    on: str
    dim: int | None

    def __str__(self) -> str:
        """Write it as records do."""
        return self.on if self.dim is None else f"{self.on}@{self.dim}"


@dataclass(frozen=True, slots=True)
class ClaimDifference:
    """One published value beside ours.

    Attributes:
        model: its name.
        variant: ``baseline`` or the recipe.
        label: the model, and the recipe where it has several.
        place: the test set and dimension; None for the primary ones.
        measure: what was printed.
        source: where.
        printed: the value as printed.
        published: the value as a number, with its rounding and its seeds.
        seeds: of our records.
        values: ours, one per seed.
        mean: ours; None where no record was there.
        repeats: whether this value follows from an earlier one or repeats another source, and so counts no second time.
        agreement: of an untrained model on the published queries.
        standard_error: of ours minus published on other queries than the published ones; None on the same.
    """

    model: str
    variant: Variant
    label: str
    place: Place | None
    measure: str
    source: str
    printed: str
    published: PublishedValue
    seeds: tuple[int, ...]
    values: tuple[float, ...]
    mean: float | None
    repeats: bool
    agreement: Agreement | None
    standard_error: float | None

    @property
    def difference(self) -> float | None:
        """Ours minus published."""
        return None if self.mean is None else self.mean - self.published.value

    @property
    def z(self) -> float | None:
        """The difference by its standard error, where that is known."""
        if self.difference is None or not self.standard_error:
            return None
        return self.difference / self.standard_error


@dataclass(frozen=True, slots=True)
class CellVerdict:
    """The one verdict on a model before or after fine-tuning.

    Attributes:
        claim: the primary claim, which decides: of an untrained model that of its worst measure.
        verdict: None where no record was there to judge, or the queries are not the published ones.
        outcome: what the verdict rests on, for a trained model.
        plan: what would decide it, where it is compatible.
        missing: the trials that have no record.
    """

    claim: ClaimDifference
    verdict: Agreement | Verdict | None
    outcome: ClaimOutcome | None
    plan: Plan | None
    missing: tuple[str, ...]

    @property
    def stands(self) -> bool | None:
        """Whether the claim was confirmed; None while it is open or nothing was judged."""
        return None if self.verdict in OPEN else self.verdict in STANDING


@dataclass(frozen=True, slots=True)
class ThresholdVerdict:
    """One declared threshold against ours; ``outcome`` is None where no record was there to judge."""

    threshold: Threshold
    seeds: tuple[int, ...]
    outcome: ThresholdOutcome | None
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EffectVerdict:
    """Our gain by fine-tuning as a share of the published gain, both of one source, in the primary measure."""

    model: str
    measure: str
    source: str
    published_gain: float
    gain: float
    ratio: EffectRatio


@dataclass(frozen=True, slots=True)
class ExperimentVerdict:
    """Everything that the statistics say of one experiment's records."""

    experiment: Experiment
    cells: tuple[CellVerdict, ...]
    claims: tuple[ClaimDifference, ...]
    thresholds: tuple[ThresholdVerdict, ...]
    effects: tuple[EffectVerdict, ...]
    changes: tuple[ChangedCell, ...]
    comparisons: tuple[ComparisonVerdict, ...]
    forgetting: tuple[ForgettingVerdict, ...]
    not_comparable: str | None


def judge(
    experiment: Experiment, records: Sequence[Record], *, rounds: int = ROUNDS, seed: int = 0
) -> ExperimentVerdict:
    """Judge an experiment's claims, thresholds, comparisons and gains by its records.

    One primary claim per model and variant is judged and counted: of a trained model that on the primary measure, of an
    untrained one its worst measure. All others are shown with their differences. On other queries than the published
    ones (``not_comparable``) nothing is judged. Absent records are no error here: each verdict names those it lacks.

    Args:
        experiment: the manifest, whose seeds are the ones expected.
        records: of this experiment, in any order.
        rounds: sign patterns of the randomization test; of the bootstraps at most 10,000.
        seed: of the random draws, so that the same records give the same numbers.

    Raises:
        RecordError: two records of one trial, one of another experiment, recipe or data, or a measure missing.
    """
    shelf = Shelf(experiment, records)
    not_comparable = None if experiment.published is None else experiment.published.not_comparable
    claims = tuple(_list_differences(shelf, records, comparable=not not_comparable))
    return ExperimentVerdict(
        experiment=experiment,
        cells=tuple(_list_cells(shelf, claims, comparable=not not_comparable, seed=seed)),
        claims=claims,
        thresholds=tuple(_judge_threshold(shelf, threshold) for threshold in experiment.thresholds),
        effects=tuple(
            _judge_effects(
                shelf, claims, same_queries=not not_comparable, rounds=min(rounds, BOOTSTRAP_ROUNDS), seed=seed
            )
        ),
        changes=compare_tuned(shelf, rounds=rounds, seed=seed),
        comparisons=judge_comparisons(shelf),
        forgetting=judge_forgetting(shelf),
        not_comparable=not_comparable,
    )


def half_last_digit(printed: str) -> float:
    """Return half the last printed digit: 0.00005 for ``0.8348``, 0.0005 for ``0.890``, 0.5 for ``12``.

    Raises:
        StatisticsError: the text is not a finite decimal number.
    """
    try:
        exponent = Decimal(printed).as_tuple().exponent
    except ArithmeticError as cause:
        raise StatisticsError(f"{printed!r} is not a printed number") from cause
    if not isinstance(exponent, int):
        raise StatisticsError(f"{printed!r} is not a finite number")
    return float(Decimal(5).scaleb(exponent - 1))


def _list_differences(shelf: Shelf, records: Sequence[Record], *, comparable: bool) -> Iterator[ClaimDifference]:
    measures = tuple(dict.fromkeys(measure for claims in shelf.experiment.claims for measure in claims.values))
    in_order = [measure for measure in shelf.experiment.evaluation.measures if measure in measures]
    roots = {name: repeat.of for name, repeat in find_repeats(records, in_order).items()} if records else {}
    seen: set[tuple[str, Variant, Place | None, str]] = set()
    for claims in shelf.experiment.claims:
        for measure, printed in claims.values.items():
            key = (claims.model, claims.variant, _find_place(shelf.experiment, claims), roots.get(measure, measure))
            yield _compare_claim(shelf, claims, measure, printed, repeats=key in seen, comparable=comparable)
            seen.add(key)


def _compare_claim(
    shelf: Shelf, claims: Claims, measure: str, printed: str, *, repeats: bool, comparable: bool
) -> ClaimDifference:
    records = shelf.select(claims.model, claims.variant, on=claims.on, dim=claims.dim)
    values = list_values(records, measure)
    published = PublishedValue(float(printed), half_last_digit(printed), claims.seeds)
    mean = agreement = error = None
    if values:
        table = tabulate_queries(records, measure)
        mean = float(table.mean())
        if not comparable:
            error = _standard_error(table)
        elif claims.variant == BASELINE:
            agreement = judge_agreement(mean, published.value, published.half_digit, step_of(measure, table))
    return ClaimDifference(
        model=claims.model,
        variant=claims.variant,
        label=label_variant(shelf.experiment, claims.model, claims.variant),
        place=_find_place(shelf.experiment, claims),
        measure=measure,
        source=claims.source,
        printed=printed,
        published=published,
        seeds=list_seeds(records),
        values=values,
        mean=mean,
        repeats=repeats,
        agreement=agreement,
        standard_error=error,
    )


def _find_place(experiment: Experiment, claims: Claims) -> Place | None:
    """Return the test set and dimension that claims are on; None for the primary ones."""
    dims = experiment.model(claims.model).truncate_dims
    place = Place(claims.on or experiment.evaluation.on[0], claims.dim or (dims[0] if dims else None))
    first = Place(experiment.evaluation.on[0], dims[0] if dims else None)
    return None if place == first else place


def _standard_error(table: Array) -> float:
    """Return the standard error of the difference of two means over Q queries each, drawn apart: sqrt(2 Var / Q).

    Var is that of our queries' values, averaged over seeds; the published ones are taken to vary alike, and to be as
    many. The formula is that of two independent samples (Student 1908).
    """
    averaged = table.mean(axis=0)
    return math.sqrt(2 * float(averaged.var(ddof=1)) / len(averaged)) if len(averaged) > 1 else 0.0


def _list_cells(
    shelf: Shelf, claims: Sequence[ClaimDifference], *, comparable: bool, seed: int
) -> Iterator[CellVerdict]:
    for key in dict.fromkeys((claim.model, claim.variant, claim.place) for claim in claims):
        own = [claim for claim in claims if (claim.model, claim.variant, claim.place) == key]
        model, variant, place = key
        missing = shelf.find_missing(model, variant)
        primary = shelf.experiment.evaluation.primary
        chosen = next((claim for claim in own if claim.measure == primary), own[0])
        if chosen.mean is None or not comparable:
            yield CellVerdict(chosen, None, None, None, missing)
        elif variant == BASELINE:
            worst = _find_worst(own)
            yield CellVerdict(worst, worst.agreement, None, None, missing)
        else:
            records = shelf.select(
                model, variant, on=None if place is None else place.on, dim=None if place is None else place.dim
            )
            table = tabulate_queries(records, chosen.measure)
            step, margin = step_of(chosen.measure, table), shelf.experiment.verdicts.margin
            outcome = classify(table, chosen.published, margin=margin, step=step)
            plan = _plan(outcome, step, records, seed) if outcome.verdict in OPEN else None
            yield CellVerdict(chosen, outcome.verdict, outcome, plan, missing)


def _find_worst(claims: Sequence[ClaimDifference]) -> ClaimDifference:
    """Return the claim of the worst measure; where a publication contradicts itself, its better value speaks."""

    def rank(claim: ClaimDifference) -> int:
        return len(ORDER) if claim.agreement is None else ORDER.index(claim.agreement)

    groups: list[list[ClaimDifference]] = []
    for claim in claims:
        group = next((one for one in groups if claim.repeats and _say_the_same(one[0], claim)), None)
        if group is None:
            groups.append([claim])
        else:
            group.append(claim)
    return max((min(group, key=rank) for group in groups), key=rank)


def _say_the_same(first: ClaimDifference, other: ClaimDifference) -> bool:
    """Say whether two claims are on values of ours that are fixed multiples of each other, at the same cut-off."""
    if first.measure == other.measure:
        return True
    if first.measure.partition("@")[2] != other.measure.partition("@")[2] or not first.values or not first.values[0]:
        return False
    factor = other.values[0] / first.values[0]
    return bool(factor) and np.allclose(other.values, np.asarray(first.values) * factor, rtol=0, atol=ROUNDING)


def _plan(outcome: ClaimOutcome, step: float, records: Sequence[Record], seed: int) -> Plan:
    if outcome.spread is None:
        return Plan(None, None, None, None, "one seed shows no spread to plan with: add two and ask again")
    forecast = forecast_decision(
        outcome.count,
        outcome.mean - outcome.published.value,
        outcome.spread,
        published=outcome.published,
        margin=outcome.margin,
        step=step,
        seed=seed,
    )
    if forecast is None:
        draws = "one printed draw" if outcome.published.seeds == 1 else f"{outcome.published.seeds} printed draws"
        return Plan(None, None, None, None, f"{draws} cannot establish {outcome.margin:g} at this spread")
    further = forecast.further_seeds
    seconds = [sum(cost.seconds for name, cost in record.stages.items() if name != "prepare") for record in records]
    costs = [record.training_cost_usd for record in records if record.training_cost_usd is not None]
    return Plan(
        further_seeds=further,
        probability=forecast.probability,
        seconds=further * math.fsum(seconds) / len(seconds),
        cost_usd=further * math.fsum(costs) / len(costs) if len(costs) == len(records) else None,
        reason=f"{further} more would decide it with a probability of {forecast.probability:.0%}",
    )


def _judge_threshold(shelf: Shelf, threshold: Threshold) -> ThresholdVerdict:
    records = shelf.select(threshold.model, threshold.variant, on=threshold.on, dim=threshold.dim)
    values = list_values(records, threshold.measure)
    outcome = None
    if values and threshold.variant == BASELINE:
        met = values[0] > threshold.above
        word = "above" if met else "not above"
        outcome = ThresholdOutcome(met, values[0], None, threshold.above, 0.95, f"no seeds: the value is {word} it")
    elif values:
        outcome = judge_threshold(values, threshold.above)
    missing = shelf.find_missing(threshold.model, threshold.variant)
    return ThresholdVerdict(threshold, list_seeds(records), outcome, missing)


def _judge_effects(
    shelf: Shelf, claims: Sequence[ClaimDifference], *, same_queries: bool, rounds: int, seed: int
) -> Iterator[EffectVerdict]:
    """Yield one ratio for each gain in the primary measure: of the first source that prints both of its values."""
    primary = shelf.experiment.evaluation.primary
    told: set[tuple[str, Variant]] = set()
    for after in claims:
        key = (after.model, after.variant)
        if after.variant == BASELINE or after.measure != primary or after.place is not None or key in told:
            continue
        before = next(
            (
                claim
                for claim in claims
                if (claim.source, claim.model, claim.variant, claim.measure, claim.place)
                == (after.source, after.model, BASELINE, primary, None)
            ),
            None,
        )
        if before is None or before.mean is None or after.mean is None:
            continue
        gain = after.published.value - before.published.value
        if abs(gain) <= after.published.half_digit + before.published.half_digit + ROUNDING:
            continue  # no gain was published that its own rounding could not hide
        told.add(key)
        tuned = tabulate_queries(shelf.select(*key), primary)
        ratio = effect_ratio(
            tuned,
            tabulate_queries(shelf.select(after.model, BASELINE), primary)[0],
            published=(after.published, before.published),
            step=step_of(primary, tuned),
            same_queries=same_queries,
            rounds=rounds,
            seed=seed,
        )
        yield EffectVerdict(after.label, primary, after.source, gain, after.mean - before.mean, ratio)
