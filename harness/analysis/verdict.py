"""What the records say of what was published: a verdict for every claim, threshold, gain and changed cell."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal

from harness.analysis.equivalence import (
    Agreement,
    Outcome,
    Verdict,
    classify,
    judge_agreement,
    plan_further_seeds,
)
from harness.analysis.paired_queries import ROUNDS, ChangedCell, compare_tuned
from harness.analysis.seeds import (
    ROUNDING,
    EffectRatio,
    Interval,
    ThresholdOutcome,
    effect_ratio,
    judge_threshold,
    summarize,
)
from harness.errors import StatisticsError
from harness.experiment.claims import BASELINE, Claims, Threshold
from harness.experiment.manifest import Experiment, Variant
from harness.records.record import Record
from harness.records.record_set import Shelf, list_seeds, list_values

STANDING: frozenset[Agreement | Verdict] = frozenset({Agreement.SAME, Agreement.CLOSE, Verdict.REPRODUCED})


@dataclass(frozen=True, slots=True)
class Plan:
    """How many further seeds would decide an inconclusive claim with 80 % power, and what they would cost.

    ``further_seeds`` is None where no sensible number would; ``cost_usd`` where a price or a time is unknown.
    ``seconds`` are those of training and evaluating the further seeds at the mean pace of the recorded ones.
    """

    further_seeds: int | None
    seconds: float | None
    cost_usd: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class ClaimVerdict:
    """One published value against ours.

    ``verdict`` is None where no record was there to judge; ``outcome`` and ``plan`` belong to trained models
    only. ``comparable`` is False for data marked as not comparable: such a verdict is shown, never asserted.
    """

    model: str
    variant: Variant
    measure: str
    source: str
    printed: str
    published: float
    half_digit: float
    seeds: tuple[int, ...]
    values: tuple[float, ...]
    mean: float | None
    verdict: Agreement | Verdict | None
    outcome: Outcome | None
    plan: Plan | None
    missing: tuple[str, ...]
    comparable: bool

    @property
    def interval(self) -> Interval | None:
        """The 90 % interval of our mean, where there are seeds."""
        return None if self.outcome is None else self.outcome.interval

    @property
    def stands(self) -> bool | None:
        """Whether the claim was confirmed; None while it is inconclusive or nothing was measured."""
        if self.verdict is None or self.verdict is Verdict.INCONCLUSIVE:
            return None
        return self.verdict in STANDING


@dataclass(frozen=True, slots=True)
class ThresholdVerdict:
    """One declared threshold against ours; ``outcome`` is None where no record was there to judge."""

    threshold: Threshold
    seeds: tuple[int, ...]
    outcome: ThresholdOutcome | None
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EffectVerdict:
    """Our gain by fine-tuning as a share of the published gain, both of one source."""

    model: str
    measure: str
    source: str
    published_gain: float
    gain: float
    ratio: EffectRatio
    comparable: bool


@dataclass(frozen=True, slots=True)
class Judgement:
    """Everything that the statistics say of one experiment's records."""

    experiment: Experiment
    claims: tuple[ClaimVerdict, ...]
    thresholds: tuple[ThresholdVerdict, ...]
    effects: tuple[EffectVerdict, ...]
    changes: tuple[ChangedCell, ...]
    not_comparable: str | None


def judge(experiment: Experiment, records: Sequence[Record], *, rounds: int = ROUNDS, seed: int = 0) -> Judgement:
    """Judge an experiment's claims, thresholds and gains by its records.

    Absent records are not an error here: each claim and threshold names the trials it lacks.

    Args:
        experiment: the manifest, whose seeds are the ones expected.
        records: of this experiment, in any order.
        rounds: sign patterns of the randomization test; of the bootstrap at most 10,000.
        seed: of the random draws, so that the same records give the same numbers.

    Raises:
        RecordError: two records of one trial, one of another experiment, recipe or data, or a measure missing.
    """
    shelf = Shelf(experiment, records)
    comparable = experiment.published is None or not experiment.published.not_comparable
    return Judgement(
        experiment=experiment,
        claims=tuple(
            _judge_claim(shelf, claims, measure, printed, comparable=comparable)
            for claims in experiment.claims
            for measure, printed in claims.values.items()
        ),
        thresholds=tuple(_judge_threshold(shelf, threshold) for threshold in experiment.thresholds),
        effects=tuple(_judge_effects(shelf, comparable=comparable)),
        changes=compare_tuned(shelf, rounds=rounds, seed=seed),
        not_comparable=None if experiment.published is None else experiment.published.not_comparable,
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


def _judge_claim(shelf: Shelf, claims: Claims, measure: str, printed: str, *, comparable: bool) -> ClaimVerdict:
    records = shelf.select(claims.model, claims.variant)
    values = list_values(records, measure)
    published, half_digit = float(printed), half_last_digit(printed)
    verdict: Agreement | Verdict | None = None
    outcome: Outcome | None = None
    plan: Plan | None = None
    if values and claims.variant == BASELINE:
        verdict = judge_agreement(values[0], published, half_digit)
    elif values:
        outcome = classify(values, published, half_digit, shelf.experiment.verdicts.margin)
        verdict = outcome.verdict
        plan = _plan(outcome, records) if verdict is Verdict.INCONCLUSIVE else None
    return ClaimVerdict(
        model=claims.model,
        variant=claims.variant,
        measure=measure,
        source=claims.source,
        printed=printed,
        published=published,
        half_digit=half_digit,
        seeds=list_seeds(records),
        values=values,
        mean=summarize(values).mean if values else None,
        verdict=verdict,
        outcome=outcome,
        plan=plan,
        missing=shelf.find_missing(claims.model, claims.variant),
        comparable=comparable,
    )


def _plan(outcome: Outcome, records: Sequence[Record]) -> Plan:
    if outcome.sd is None:
        return Plan(None, None, None, "one seed shows no variance to plan with: add two and ask again")
    further = plan_further_seeds(
        outcome.count,
        outcome.mean - outcome.published,
        outcome.sd,
        margin=outcome.margin,
        half_digit=outcome.half_digit,
    )
    if further is None:
        return Plan(None, None, None, "at this mean and spread more seeds cannot be expected to decide it")
    seconds = [sum(cost.seconds for name, cost in record.stages.items() if name != "prepare") for record in records]
    costs = [record.training_cost_usd for record in records if record.training_cost_usd is not None]
    return Plan(
        further_seeds=further,
        seconds=further * math.fsum(seconds) / len(seconds),
        cost_usd=further * math.fsum(costs) / len(costs) if len(costs) == len(records) else None,
        reason=f"{further} further seed(s) would decide it with 80% power",
    )


def _judge_threshold(shelf: Shelf, threshold: Threshold) -> ThresholdVerdict:
    records = shelf.select(threshold.model, threshold.variant)
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


def _judge_effects(shelf: Shelf, *, comparable: bool) -> Iterator[EffectVerdict]:
    """Pair each source's tuned values with the same source's values of the base."""
    printed = {
        (claims.source, claims.model, claims.variant, measure): text
        for claims in shelf.experiment.claims
        for measure, text in claims.values.items()
    }
    for (source, model, variant, measure), tuned_text in printed.items():
        base_text = printed.get((source, model, BASELINE, measure))
        base, tuned = shelf.select(model, BASELINE), shelf.select(model, variant)
        if variant == BASELINE or base_text is None or not base or not tuned:
            continue
        ours, (start,) = list_values(tuned, measure), list_values(base, measure)
        half_digits = (half_last_digit(tuned_text), half_last_digit(base_text))
        published_gain = float(tuned_text) - float(base_text)
        if abs(published_gain) <= sum(half_digits) + ROUNDING:
            continue  # no gain was published that its own rounding could not hide
        ratio = effect_ratio(
            ours,
            start,
            published_tuned=float(tuned_text),
            published_base=float(base_text),
            half_digits=half_digits,
        )
        gain = summarize(ours).mean - start
        yield EffectVerdict(model, measure, source, published_gain, gain, ratio, comparable)
