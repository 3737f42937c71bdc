"""Verdicts over records: each claim judged by the right rule, and nothing absent passed over."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from harness.analysis.equivalence import Agreement, Verdict
from harness.analysis.verdict import CellVerdict, ExperimentVerdict, half_last_digit, judge
from harness.errors import RecordError, StatisticsError
from harness.experiment.claims import Claims, Published, Threshold
from harness.experiment.manifest import Experiment
from harness.records.record import Record
from tests.support.records import MODEL, change_result, make_cost, make_record, read_manifest, spread
from tests.support.tiny_training import change_recipe

MEASURE = "mrr@10"
BASE, TUNED = "0.8348", "0.8920"
SOURCE = "article"


def manifest(**changes: Any) -> Experiment:
    experiment = read_manifest("bioasq", seeds=(0, 1, 2))
    parts: dict[str, Any] = {
        "models": experiment.models[:1],
        "evaluation": experiment.evaluation.replace(measures=(MEASURE, "ndcg@10")),
        "claims": (
            Claims(model=MODEL, source=SOURCE, values={MEASURE: BASE}),
            Claims(model=MODEL, recipe="finetuned", source=SOURCE, values={MEASURE: TUNED}),
        ),
        "thresholds": (Threshold(model=MODEL, recipe="finetuned", measure=MEASURE, above=0.88),),
    }
    return experiment.replace(**{**parts, **changes})


def make_records(
    experiment: Experiment, tuned: list[float], base: float | None = 0.8348, **changes: Any
) -> list[Record]:
    records = []
    if base is not None:
        values = {MEASURE: spread(base), "ndcg@10": spread(0.85)}
        records.append(make_record(values, experiment=experiment, variant="baseline"))
    for seed, mean in enumerate(tuned):
        # The same queries are hard for every seed, as in real runs.
        values = {MEASURE: spread(mean), "ndcg@10": spread(0.9)}
        records.append(make_record(values, experiment=experiment, seed=seed, **changes))
    return records


def ask(tuned: list[float], base: float | None = 0.8348, **changes: Any) -> ExperimentVerdict:
    experiment = manifest(**changes)
    return judge(experiment, make_records(experiment, tuned, base), rounds=2000)


def tuned_cell(judged: ExperimentVerdict) -> CellVerdict:
    return next(cell for cell in judged.cells if cell.claim.variant == "finetuned")


@pytest.mark.parametrize(
    ("printed", "expected"), [("0.8348", 0.00005), ("0.890", 0.0005), ("12", 0.5), ("0.785007072135785", 5e-16)]
)
def test_half_the_last_digit_counts_the_printed_decimals(printed: str, expected: float) -> None:
    assert half_last_digit(printed) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("printed", ["nan", "Infinity", "much"])
def test_what_is_no_printed_number_has_no_last_digit(printed: str) -> None:
    with pytest.raises(StatisticsError, match="number"):
        half_last_digit(printed)


@pytest.mark.parametrize(
    ("base", "expected", "stands"),
    [
        (0.8348, Agreement.SAME, True),
        (0.8390, Agreement.CLOSE, True),  # 200 queries: two steps of a half are 0.005
        (0.8000, Agreement.DIFFERENT, False),
        (0.9000, Agreement.DIFFERENT, False),
    ],
)
def test_a_baseline_is_judged_by_agreement(base: float, expected: Agreement, stands: object) -> None:
    judged = ask([0.892], base)
    cell = judged.cells[0]
    assert (cell.claim.variant, cell.verdict, cell.stands) == ("baseline", expected, stands)
    assert cell.outcome is None
    assert judged.claims[0].agreement is expected
    assert judged.claims[0].difference == pytest.approx(base - 0.8348)


@pytest.mark.parametrize(
    ("other", "expected"),
    [("0.8500", Agreement.SAME), ("0.8450", Agreement.DIFFERENT)],
)
def test_an_untrained_model_gets_its_worst_measure(other: str, expected: Agreement) -> None:
    claims = Claims(model=MODEL, source=SOURCE, values={MEASURE: BASE, "ndcg@10": other})
    judged = ask([0.892], claims=(claims,))
    assert [claim.agreement for claim in judged.claims] == [Agreement.SAME, expected]
    (cell,) = judged.cells
    assert cell.verdict is expected
    if expected is Agreement.DIFFERENT:
        assert cell.claim.measure == "ndcg@10"


def test_values_that_repeat_another_source_count_once_and_the_better_of_a_contradiction_speaks() -> None:
    claims = tuple(
        Claims(model=MODEL, source=source, values={MEASURE: text})
        for source, text in (("a", "0.8348"), ("b", "0.8348"), ("c", "0.9000"))
    )
    judged = ask([0.892], claims=claims)
    assert [claim.repeats for claim in judged.claims] == [False, True, True]
    assert judged.claims[2].agreement is Agreement.DIFFERENT
    (cell,) = judged.cells
    assert (cell.verdict, cell.claim.source) == (Agreement.SAME, "a")


def test_measures_that_follow_from_another_count_once() -> None:
    experiment = manifest()
    measures = ("accuracy@5", "precision@5", "recall@5")
    claims = Claims(model=MODEL, source=SOURCE, values=dict.fromkeys(measures, "0.80"))
    experiment = experiment.replace(
        evaluation=experiment.evaluation.replace(measures=measures, primary="accuracy@5"),
        claims=(claims,),
        thresholds=(),
    )
    values = spread(0.8)
    rows = {"accuracy@5": values, "recall@5": values, "precision@5": tuple(value / 5 for value in values)}
    judged = judge(experiment, [make_record(rows, experiment=experiment, variant="baseline")], rounds=10)
    assert [claim.repeats for claim in judged.claims] == [False, True, True]


def test_one_primary_claim_per_trained_model_is_judged() -> None:
    claims = Claims(model=MODEL, recipe="finetuned", source=SOURCE, values={"ndcg@10": "0.5", MEASURE: TUNED})
    judged = ask([0.891, 0.892, 0.893], claims=(claims,))
    (cell,) = judged.cells
    assert (cell.claim.measure, cell.verdict) == (MEASURE, Verdict.REPRODUCED)
    assert judged.claims[0].difference == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("tuned", "expected", "stands"),
    [
        ([0.891, 0.892, 0.893], Verdict.REPRODUCED, True),
        ([0.882, 0.892, 0.899], Verdict.COMPATIBLE, None),
        ([0.960, 0.961, 0.962], Verdict.EXCEEDS, False),
        ([0.822, 0.823, 0.824], Verdict.NOT_REPRODUCED, False),
        ([0.9020, 0.9030, 0.9040], Verdict.DIFFERS, False),
        ([0.892], Verdict.UNDECIDED, None),
    ],
)
def test_a_tuned_model_is_judged_over_its_seeds(tuned: list[float], expected: Verdict, stands: object) -> None:
    cell = tuned_cell(ask(tuned))
    assert (cell.verdict, cell.stands) == (expected, stands)
    assert cell.claim.seeds == tuple(range(len(tuned)))
    assert cell.claim.values == pytest.approx(tuned)
    assert (cell.plan is not None) is (stands is None)


def test_a_compatible_claim_says_how_many_seeds_would_decide_it_and_what_they_cost() -> None:
    experiment = manifest()
    records = make_records(experiment, [0.884, 0.892, 0.899], training_cost_usd=0.05)
    plan = tuned_cell(judge(experiment, records, rounds=100)).plan
    assert plan is not None
    assert plan.further_seeds is not None
    assert plan.further_seeds > 0
    assert plan.probability is not None
    assert 0 < plan.probability < 1
    assert plan.seconds == pytest.approx(plan.further_seeds * 120.0)  # training and evaluation, not preparation
    assert plan.cost_usd == pytest.approx(plan.further_seeds * 0.05)


def test_a_plan_has_no_cost_unless_every_trials_price_is_known() -> None:
    experiment = manifest()
    records = make_records(experiment, [0.884, 0.892, 0.899])
    for known in (records, [*records[:-1], records[-1].replace(training_cost_usd=0.05)]):
        plan = tuned_cell(judge(experiment, known, rounds=100)).plan
        assert plan is not None
        assert plan.further_seeds is not None
        assert plan.cost_usd is None


def test_one_seed_is_undecided_and_has_no_plan() -> None:
    plan = tuned_cell(ask([0.892])).plan
    assert plan is not None
    assert plan.further_seeds is None
    assert "one seed" in plan.reason


def test_absent_trials_are_named() -> None:
    judgement = ask([0.891, 0.892], None)
    baseline, tuned = judgement.cells
    assert baseline.verdict is None
    assert baseline.stands is None
    assert baseline.missing == ("bioasq/all-mpnet-base-v2/baseline",)
    assert tuned.verdict is not None
    assert tuned.missing == ("bioasq/all-mpnet-base-v2/finetuned/seed2",)
    assert judgement.thresholds[0].missing == tuned.missing
    assert judgement.effects == ()
    assert judgement.changes == ()


def test_no_record_at_all_leaves_every_claim_and_threshold_open() -> None:
    experiment = manifest()
    judgement = judge(experiment, [])
    assert [cell.verdict for cell in judgement.cells] == [None, None]
    assert [threshold.outcome for threshold in judgement.thresholds] == [None]


def test_on_other_queries_nothing_is_judged_and_differences_have_their_errors() -> None:
    published = Published(title="x", date="2024", not_comparable="rebuilt data")
    judgement = ask([0.891, 0.892, 0.893], published=published)
    assert judgement.not_comparable == "rebuilt data"
    assert [cell.verdict for cell in judgement.cells] == [None, None]
    assert [claim.agreement for claim in judgement.claims] == [None, None]
    variance = np.mean([spread(mean) for mean in (0.891, 0.892, 0.893)], axis=0).var(ddof=1)
    claim = judgement.claims[1]
    assert claim.standard_error == pytest.approx((2 * variance / 200) ** 0.5)
    assert claim.z == pytest.approx(0.0, abs=1e-9)
    assert [claim.standard_error for claim in ask([0.892]).claims] == [None, None]


@pytest.mark.parametrize(
    ("tuned", "expected"),
    [([0.891, 0.892, 0.893], True), ([0.87, 0.882, 0.899], False), ([0.892], None), ([0.87], False)],
)
def test_a_threshold_is_met_by_its_lower_bound(tuned: list[float], expected: object) -> None:
    outcome = ask(tuned).thresholds[0].outcome
    assert outcome is not None
    assert outcome.met is expected


def test_a_baselines_threshold_needs_no_seeds() -> None:
    thresholds = tuple(Threshold(model=MODEL, measure=MEASURE, above=above) for above in (0.8, 0.84))
    found = [item.outcome for item in ask([0.892], thresholds=thresholds).thresholds]
    assert [outcome.met for outcome in found if outcome is not None] == [True, False]


def test_the_effect_is_our_gain_by_the_published_gain_of_the_same_source() -> None:
    (effect,) = ask([0.891, 0.892, 0.893]).effects
    assert effect.source == SOURCE
    assert effect.published_gain == pytest.approx(0.0572)
    assert effect.gain == pytest.approx(0.0572)
    assert effect.ratio.ratio == pytest.approx(1.0)
    assert effect.ratio.interval is not None
    assert effect.ratio.interval.low < 1 < effect.ratio.interval.high
    other = Claims(model=MODEL, recipe="finetuned", source="elsewhere", values={MEASURE: TUNED})
    assert ask([0.892], claims=(manifest().claims[0], other)).effects == ()


def test_a_published_gain_that_its_rounding_hides_has_no_effect_ratio() -> None:
    claims = (
        Claims(model=MODEL, source=SOURCE, values={MEASURE: "0.83"}),
        Claims(model=MODEL, recipe="finetuned", source=SOURCE, values={MEASURE: "0.84"}),
    )
    assert ask([0.892], claims=claims).effects == ()


def test_a_change_is_averaged_over_seeds_and_tested_over_queries() -> None:
    experiment = manifest()
    base = np.asarray(spread(0.8348))
    same = base.tolist()
    records = [make_record({MEASURE: same, "ndcg@10": same}, experiment=experiment, variant="baseline")]
    for seed, gain in enumerate((0.02, 0.04)):
        better = np.clip(base + gain * (np.arange(len(base)) % 2), 0, 1)
        records.append(make_record({MEASURE: better.tolist(), "ndcg@10": same}, experiment=experiment, seed=seed))
    changed, unchanged = judge(experiment, records, rounds=2000).changes
    differences = np.mean([record.per_query[MEASURE] for record in records[1:]], axis=0) - base
    assert changed.difference == pytest.approx(differences.mean())
    assert changed.counts.wins == np.count_nonzero(differences)
    assert changed.counts.losses == 0
    assert changed.interval.low < changed.difference < changed.interval.high
    assert changed.effect_size == pytest.approx(differences.mean() / differences.std(ddof=1))
    assert changed.p_value == pytest.approx(1 / 2001)
    assert changed.p_holm == pytest.approx(2 / 2001)
    assert (changed.seeds, changed.queries) == ((0, 1), 200)
    assert (unchanged.p_value, unchanged.effect_size, unchanged.counts.ties) == (1.0, None, 200)


def test_the_same_records_in_any_order_give_the_same_judgement() -> None:
    experiment = manifest()
    records = make_records(experiment, [0.884, 0.892, 0.899])
    orders = itertools.islice(itertools.permutations(records), 0, None, 5)
    first, *others = (judge(experiment, order, rounds=200) for order in orders)
    assert all(other == first for other in others)


def tamper(change: str, records: list[Record], experiment: Experiment) -> list[Record]:
    last = records[-1]
    recipe = experiment.replace(
        recipes={"finetuned": change_recipe(experiment.recipes["finetuned"], learning_rate=1e-3)}
    )
    other = experiment.replace(name="other")
    wider = experiment.replace(models=(*experiment.models, experiment.models[0].replace(name="unknown")))
    changed = {
        "twice": last,
        "another experiment": last.replace(trial=last.trial.replace(experiment="other"), experiment=other),
        "an unknown model": last.replace(trial=last.trial.replace(model="unknown"), experiment=wider),
        "another recipe": last.replace(experiment=recipe),
        "other data": change_result(last, data=last.data.replace(digest="b" * 64)),
        "other queries": change_result(last, query_ids=tuple(reversed(last.query_ids))),
        "a missing measure": change_result(
            last, values={"ndcg@10": last.values["ndcg@10"]}, per_query={"ndcg@10": last.per_query["ndcg@10"]}
        ),
    }[change]
    return [*records, changed] if change == "twice" else [*records[:-1], changed]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("twice", "two records of this trial"),
        ("another experiment", "expected 'bioasq'"),
        ("an unknown model", "no model 'unknown'"),
        ("another recipe", r"another recipe"),
        ("other data", "expected aaaaaaaaaaaa"),
        ("other queries", "expected aaaaaaaaaaaa"),
        ("a missing measure", "has no 'mrr@10'"),
    ],
)
def test_records_that_do_not_belong_together_are_refused_by_name(change: str, message: str) -> None:
    experiment = manifest()
    records = tamper(change, make_records(experiment, [0.891, 0.892, 0.893]), experiment)
    with pytest.raises(RecordError, match=message) as caught:
        judge(experiment, records, rounds=10)
    assert "seed2" in str(caught.value)


def test_a_records_cached_stages_count_in_the_plan_as_they_were_when_done() -> None:
    experiment = manifest()
    stages = {"prepare": make_cost(5.0), "train": make_cost(300.0, cached=True), "evaluate": make_cost(30.0)}
    records = make_records(experiment, [0.884, 0.892, 0.899], stages=stages)
    plan = tuned_cell(judge(experiment, records, rounds=100)).plan
    assert plan is not None
    assert plan.further_seeds is not None
    assert plan.seconds == pytest.approx(330.0 * plan.further_seeds)
