"""The gate: what passes, what is a regression, what cannot be compared, and how often it is wrong."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.errors import ManifestError
from harness.experiment.manifest import Experiment
from harness.gate.compare import GateOutcome, GateReport, compare
from harness.gate.policy import Policy, Quality, read_policy
from harness.gate.quality import Family, QualityCell, Status
from harness.records.record import Record
from tests.support.records import MACHINE, MODEL, change_result, make_cost, make_record, read_manifest, spread
from tests.support.tiny_training import change_recipe

MEASURE = "mrr@10"
REFERENCE = (0.888, 0.892, 0.896)
DEFAULT = Policy()


@pytest.fixture(scope="module")
def experiment() -> Experiment:
    found = read_manifest("bioasq", seeds=(0, 1, 2), claims=(), thresholds=())
    return found.replace(models=found.models[:1], evaluation=found.evaluation.replace(measures=(MEASURE,)))


def make_trials(experiment: Experiment, means: tuple[float, ...], base: float = 0.83, **changes: Any) -> list[Record]:
    records = [make_record({MEASURE: spread(base)}, experiment=experiment, variant="baseline")]
    for seed, mean in enumerate(means):
        values = {MEASURE: spread(mean, seed=seed)}
        records.append(make_record(values, experiment=experiment, seed=seed, **changes))
    return records


def tuned(report: GateReport, measure: str = MEASURE) -> QualityCell:
    return next(cell for cell in report.quality if cell.group.endswith("finetuned") and cell.measure == measure)


def test_the_same_records_pass(experiment: Experiment) -> None:
    records = make_trials(experiment, REFERENCE)
    report = compare(records, records, DEFAULT)
    assert (report.outcome, report.outcome.exit_code) == (GateOutcome.PASS, 0)
    assert {cell.status for cell in report.quality} == {Status.SAME}
    assert {cell.status for cell in report.costs} <= {Status.SAME, Status.NOT_COMPARABLE}
    assert report.problems == report.regressions == ()


def test_a_mean_below_the_prediction_bound_is_a_regression_that_names_its_cell(experiment: Experiment) -> None:
    report = compare(make_trials(experiment, REFERENCE), make_trials(experiment, (0.87, 0.872, 0.875)), DEFAULT)
    assert (report.outcome, report.outcome.exit_code) == (GateOutcome.REGRESSION, 1)
    (line,) = report.regressions
    assert "bioasq/all-mpnet-base-v2/finetuned: mrr@10 fell by 0.0197 to 0.8723" in line
    cell = tuned(report)
    assert cell.bound is not None
    assert cell.bound == pytest.approx(0.892 - 2.9200 * 0.004 * math.sqrt(1 / 3 + 1 / 3), abs=1e-5)
    assert (cell.reference_seeds, cell.candidate_seeds) == ((0, 1, 2), (0, 1, 2))
    assert (cell.family, cell.judged_by, cell.status) == (Family.PRIMARY, "seeds", Status.REGRESSION)


def test_one_primary_cell_is_judged_exactly_at_its_prediction_bound(experiment: Experiment) -> None:
    reference = make_trials(experiment, REFERENCE)
    policy = Policy(quality=Quality(seeds=(0,)))
    bound = tuned(compare(reference, make_trials(experiment, (0.89,)), policy)).bound
    assert bound is not None
    assert bound == pytest.approx(0.892 - 2.9200 * 0.004 * math.sqrt(1 + 1 / 3), abs=1e-5)
    above = compare(reference, make_trials(experiment, (bound + 1e-6,)), policy)
    below = compare(reference, make_trials(experiment, (bound - 1e-6,)), policy)
    assert (above.outcome, below.outcome) == (GateOutcome.PASS, GateOutcome.REGRESSION)


def test_a_drop_that_seeds_explain_passes_and_says_so(experiment: Experiment) -> None:
    report = compare(make_trials(experiment, REFERENCE), make_trials(experiment, (0.887, 0.889, 0.89)), DEFAULT)
    assert report.outcome is GateOutcome.PASS
    assert tuned(report).status is Status.WITHIN_CHANCE
    assert "between seeds" in tuned(report).reason


def test_a_drop_that_only_queries_see_passes_with_a_hint(experiment: Experiment) -> None:
    values = np.asarray(spread(0.9))
    lower = np.where(values > 0.1, values - 0.005, values)

    def trials(rows: list[np.ndarray]) -> list[Record]:
        return [make_record({MEASURE: row.tolist()}, experiment=experiment, seed=seed) for seed, row in enumerate(rows)]

    shifts = [values - 0.01 * (np.arange(len(values)) == 3), values * 0.99, values * 0.98]
    report = compare(trials(shifts), trials([shift - (values - lower) for shift in shifts]), DEFAULT)
    cell = tuned(report)
    assert cell.status is Status.WITHIN_CHANCE
    assert cell.query_p_value is not None
    assert cell.query_p_value <= 0.05
    assert "more seeds would tell" in cell.reason


def test_a_drop_smaller_than_the_policy_minds_is_the_same(experiment: Experiment) -> None:
    reference = make_trials(experiment, (0.892, 0.892, 0.892))
    candidate = make_trials(experiment, (0.8916, 0.8916, 0.8916))
    assert compare(reference, candidate, DEFAULT).outcome is GateOutcome.PASS
    strict = Policy(quality=Quality(smallest_drop=0.0001))
    assert compare(reference, candidate, strict).outcome is GateOutcome.REGRESSION


def test_better_is_no_regression(experiment: Experiment) -> None:
    report = compare(make_trials(experiment, REFERENCE), make_trials(experiment, (0.95, 0.95, 0.95), 0.9), DEFAULT)
    assert report.outcome is GateOutcome.PASS
    assert {cell.status for cell in report.quality} == {Status.BETTER}


def test_a_baseline_is_judged_by_its_queries(experiment: Experiment) -> None:
    reference = make_trials(experiment, REFERENCE, 0.83)
    worse = make_trials(experiment, REFERENCE, 0.80)
    report = compare(reference, worse, DEFAULT)
    assert report.outcome is GateOutcome.REGRESSION
    cell = report.quality[0]
    assert (cell.judged_by, cell.family, cell.bound) == ("queries", Family.UNTRAINED, None)
    # One query that fell by a half moves the mean by 0.0025, and is no evidence of anything.
    values = list(reference[0].per_query[MEASURE])
    values[values.index(max(values))] -= 0.5
    one = make_record({MEASURE: values}, experiment=experiment, variant="baseline")
    assert compare(reference, [one, *reference[1:]], DEFAULT).quality[0].status is Status.WITHIN_CHANCE


def test_one_reference_seed_is_judged_by_queries_and_said_so(experiment: Experiment) -> None:
    report = compare(make_trials(experiment, (0.9,)), make_trials(experiment, (0.8,)), DEFAULT)
    assert report.outcome is GateOutcome.REGRESSION
    assert tuned(report).judged_by == "queries"
    assert any("one reference seed" in notice for notice in report.notices)


def test_measures_that_ask_the_same_question_are_corrected_once(experiment: Experiment) -> None:
    values = dict.fromkeys(("accuracy@1", "recall@1", "precision@1"))

    def trials(means: tuple[float, ...]) -> list[Record]:
        records = []
        for seed, mean in enumerate(means):
            row = spread(mean, seed=seed)
            rows = {MEASURE: row} | dict.fromkeys(values, spread(mean - 0.1, seed=seed))
            records.append(make_record(rows, experiment=experiment, seed=seed))
        return records

    report = compare(trials(REFERENCE), trials((0.87, 0.872, 0.875)), DEFAULT)
    others = [cell for cell in report.quality if cell.family is Family.OTHER]
    assert len(others) == 3
    assert {cell.adjusted_p_value for cell in others} == {others[0].seed_p_value}


def test_other_measures_are_corrected_for_their_number(experiment: Experiment) -> None:
    def trials(offset: float) -> list[Record]:
        records = []
        for seed, mean in enumerate(REFERENCE):
            rows = {MEASURE: spread(0.9, seed=seed), "ndcg@10": spread(mean - offset, seed=seed)}
            rows["map@100"] = spread(mean**2 - offset, seed=seed)
            records.append(make_record(rows, experiment=experiment, seed=seed))
        return records

    report = compare(trials(0.0), trials(0.01), DEFAULT)
    cell = tuned(report, "ndcg@10")
    assert cell.seed_p_value is not None
    assert cell.seed_p_value < 0.05
    assert cell.adjusted_p_value == pytest.approx(2 * cell.seed_p_value)
    assert report.false_alarm_bound == pytest.approx(0.15)  # primary, others and costs


def replace_last(records: list[Record], **changes: Any) -> list[Record]:
    if trial := changes.pop("trial", None):
        return [*records[:-1], records[-1].replace(trial=trial)]
    return [*records[:-1], change_result(records[-1], **changes)]


def test_a_missing_trial_or_seed_is_named_and_cannot_be_compared(experiment: Experiment) -> None:
    reference = make_trials(experiment, REFERENCE)
    report = compare(reference, reference[1:-1], DEFAULT)
    assert (report.outcome, report.outcome.exit_code) == (GateOutcome.NOT_COMPARABLE, 2)
    assert report.problems == (
        "candidate: bioasq/all-mpnet-base-v2/baseline: missing",
        "candidate: bioasq/all-mpnet-base-v2/finetuned/seed=2: missing",
    )


def test_the_policy_may_ask_for_fewer_seeds_or_for_others(experiment: Experiment) -> None:
    reference = make_trials(experiment, REFERENCE)
    one = Policy(quality=Quality(seeds=(0,)))
    assert compare(reference, reference[:2], one).outcome is GateOutcome.PASS
    seven = Policy(quality=Quality(seeds=(7,)))
    report = compare(reference, reference, seven)
    assert report.problems == ("candidate: bioasq/all-mpnet-base-v2/finetuned/seed=7: missing",)


def test_an_empty_reference_or_candidate_cannot_be_compared(experiment: Experiment) -> None:
    records = make_trials(experiment, REFERENCE)
    assert compare([], records, DEFAULT).outcome is GateOutcome.NOT_COMPARABLE
    assert len(compare(records, [], DEFAULT).problems) == 4
    assert compare([], [], DEFAULT).outcome is GateOutcome.NOT_COMPARABLE


@pytest.mark.parametrize("side", ["reference", "candidate"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("data", "data bbbbbbbbbbbb, expected"),
        ("queries", "other queries than"),
        ("measure", "no mrr@10"),
        ("mean", "not the mean over its queries"),
        ("unknown", "unknown measure 'bogus@3'"),
        ("twice", "two records of this trial"),
        ("seedless", "a trained trial has a seed"),
        ("no query", "no queries"),
        ("same query", "or one of them twice"),
        ("nothing", "no measure"),
    ],
)
def test_records_that_cannot_be_compared_are_named(
    experiment: Experiment, side: str, change: str, message: str
) -> None:
    records = make_trials(experiment, REFERENCE)
    last = records[-1]
    per_query = last.per_query[MEASURE]
    ids = last.query_ids
    changes: dict[str, dict[str, Any]] = {
        "data": {"data": last.data.replace(digest="b" * 64)},
        "queries": {"query_ids": tuple(reversed(ids))},
        "measure": {"values": {"map@100": last.values[MEASURE]}, "per_query": {"map@100": per_query}},
        "mean": {"values": {MEASURE: 0.99}},
        "unknown": {"values": {"bogus@3": last.values[MEASURE]}, "per_query": {"bogus@3": per_query}},
        "twice": {},
        "seedless": {"trial": last.trial.replace(seed=None)},
        "no query": {"query_ids": (), "per_query": {MEASURE: ()}},
        "same query": {"query_ids": (ids[0], *ids[:-1])},
        "nothing": {"values": {}, "per_query": {}},
    }
    broken = [*records, last] if change == "twice" else replace_last(records, **changes[change])
    report = compare(*((broken, records) if side == "reference" else (records, broken)), DEFAULT)
    assert report.outcome is GateOutcome.NOT_COMPARABLE
    assert any(message in problem and "finetuned" in problem for problem in report.problems), report.problems


def test_a_regression_beside_a_problem_is_still_listed(experiment: Experiment) -> None:
    reference = make_trials(experiment, REFERENCE)
    report = compare(reference, make_trials(experiment, (0.8, 0.8, 0.8))[1:], DEFAULT)
    assert report.outcome is GateOutcome.NOT_COMPARABLE
    assert len(report.regressions) == 1


def test_a_primary_measure_that_no_record_has_is_named(experiment: Experiment) -> None:
    records = make_trials(experiment, REFERENCE)
    report = compare(records, records, Policy(quality=Quality(primary=("ndcg@10",))))
    assert report.outcome is GateOutcome.NOT_COMPARABLE
    assert "reference: bioasq/all-mpnet-base-v2/baseline: no ndcg@10" in report.problems


def test_what_only_the_candidate_has_is_a_notice(experiment: Experiment) -> None:
    reference = make_trials(experiment, REFERENCE)
    wider = experiment.replace(models=(*experiment.models, experiment.models[0].replace(name="new")))
    extra = make_record({MEASURE: spread(0.1)}, experiment=wider, model="new", variant="baseline")
    report = compare(reference, [*reference, extra], DEFAULT)
    assert report.outcome is GateOutcome.PASS
    assert report.notices == ("bioasq/new/baseline: only the candidate has it, so it is not judged",)


def test_another_recipe_model_or_device_is_a_notice(experiment: Experiment) -> None:
    reference = make_trials(experiment, REFERENCE)
    recipe = experiment.replace(
        recipes={"finetuned": change_recipe(experiment.recipes["finetuned"], learning_rate=1e-4)}
    )
    source = reference[0].sources[f"model:{MODEL}"].replace(origin="elsewhere")
    candidate = make_trials(recipe, REFERENCE, device_name="other CPU", sources={f"model:{MODEL}": source})
    notices = "\n".join(compare(reference, candidate, DEFAULT).notices)
    for part in ("training recipe", "model's files", "run on other CPU"):
        assert part in notices


def with_costs(experiment: Experiment, seconds: list[float], memory: int = 2**30, **changes: Any) -> list[Record]:
    return [
        make_record(
            {MEASURE: spread(0.9)},
            experiment=experiment,
            seed=seed,
            stages={"train": make_cost(second, memory, **changes), "evaluate": make_cost(20.0, memory)},
        )
        for seed, second in enumerate(seconds)
    ]


def test_slower_training_on_the_same_machine_is_a_regression(experiment: Experiment) -> None:
    report = compare(with_costs(experiment, [99, 100, 101]), with_costs(experiment, [150, 151, 152]), DEFAULT)
    assert report.outcome is GateOutcome.REGRESSION
    assert "train_seconds: grew by 51" in report.regressions[0]


def test_more_memory_is_a_regression(experiment: Experiment) -> None:
    before, after = with_costs(experiment, [100] * 3, 2**30), with_costs(experiment, [100] * 3, 2**31)
    report = compare(before, after, DEFAULT)
    assert [cell.cost for cell in report.costs if cell.status is Status.REGRESSION] == ["peak_memory_bytes"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([99, 100, 101], [110, 111, 112]),  # within the relative limit
        ([9.9, 10, 10.1], [14, 14, 14]),  # within the floor
        ([60, 100, 140], [150, 130, 140]),  # within the noise
        ([100], [200]),  # no noise known
        ([99, 100, 101], [50, 51, 52]),  # faster
    ],
)
def test_a_cost_within_limits_floor_or_noise_passes(
    experiment: Experiment, before: list[float], after: list[float]
) -> None:
    assert compare(with_costs(experiment, before), with_costs(experiment, after), DEFAULT).outcome is GateOutcome.PASS


def test_costs_of_another_machine_or_of_a_cached_stage_are_not_compared(experiment: Experiment) -> None:
    reference = with_costs(experiment, [99, 100, 101])
    slow = with_costs(experiment, [300, 300, 300])
    elsewhere = [record.replace(environment=MACHINE.replace(cpu="another CPU")) for record in slow]
    cached = with_costs(experiment, [300, 300, 300], cached=True)
    for candidate, reason in ((elsewhere, "different machines"), (cached, "another time")):
        report = compare(reference, candidate, DEFAULT)
        assert report.outcome is GateOutcome.PASS
        cell = next(cell for cell in report.costs if cell.cost == "train_seconds")
        assert cell.status is Status.NOT_COMPARABLE
        assert reason in cell.reason


def test_a_cost_that_one_side_did_not_measure_is_not_compared(experiment: Experiment) -> None:
    reference = with_costs(experiment, [99, 100, 101])
    candidate = [record.replace(stages={"evaluate": record.stages["evaluate"]}) for record in reference]
    cells = {cell.cost: cell for cell in compare(reference, candidate, DEFAULT).costs}
    assert cells["train_seconds"].status is Status.NOT_COMPARABLE
    assert "peak_device_memory_bytes" not in cells  # no device on either side


def test_a_policy_reads_as_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(
        """
        schema_version = 1
        [quality]
        level = 0.99
        smallest_drop = 0.001
        primary = ["mrr@10", "ndcg@10"]
        seeds = [0]
        [costs]
        train_seconds = { relative = 0.5, floor = 10.0 }
        """
    )
    policy = read_policy(path)
    assert policy.quality == Quality(level=0.99, smallest_drop=0.001, primary=("mrr@10", "ndcg@10"), seeds=(0,))
    assert policy.costs.train_seconds.relative == 0.5
    assert policy.costs.evaluate_seconds == DEFAULT.costs.evaluate_seconds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[quality]\nlevle = 0.9", "unknown key 'quality.levle'; did you mean 'level'"),
        ("[quality]\nlevel = 95", "quality.level"),
        ("[quality]\nlevel = '0.95'", "quality.level"),
        ("[quality]\nsmallest_drop = -0.1", "quality.smallest_drop"),
        ("[quality]\nseeds = []", "quality.seeds"),
        ("[quality]\nseeds = [1, 1]", "quality.seeds"),
        ("[quality]\nseeds = [-1]", "quality.seeds"),
        ("[costs.train_seconds]\nrelative = 0.1", "costs.train_seconds.floor"),
        ("[costs.train_seconds]\nrelative = inf\nfloor = 0.0", "policy.toml"),
        ("schema_version = 2", "schema_version"),
        ("= 3", "not valid TOML"),
        ("# " + "x" * 70_000, "larger than"),
    ],
)
def test_a_wrong_policy_names_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(text)
    with pytest.raises(ManifestError, match=r"policy\.toml") as caught:
        read_policy(path)
    assert message in str(caught.value)


def test_an_unchanged_pipeline_fails_no_more_often_than_the_report_says(experiment: Experiment) -> None:
    generator = np.random.default_rng(20260102)
    experiments, failures, primary_failures = 150, 0, 0
    bound = 1.0
    for _ in range(experiments):
        means = np.clip(generator.normal(0.85, 0.01, size=(4, 3)), 0, 1)
        records = []
        for seed, row in enumerate(means):
            shared = {measure: (mean,) * 2 for measure, mean in zip((MEASURE, "ndcg@10", "map@100"), row, strict=True)}
            second = float(generator.normal(100, 10))
            stages = {"train": make_cost(second), "evaluate": make_cost(20.0)}
            records.append(make_record(shared, experiment=experiment, seed=seed % 3, stages=stages))
        report = compare(records[:3], records[3:], Policy(quality=Quality(seeds=(0,))))
        bound = report.false_alarm_bound
        failures += report.outcome is not GateOutcome.PASS
        primary_failures += tuned(report).status is Status.REGRESSION
    for count, rate in ((failures, bound), (primary_failures, 0.05)):
        assert count / experiments <= rate + 4 * math.sqrt(rate * (1 - rate) / experiments)
    assert failures > 0  # a gate that never fails is calibrated too, and useless


def test_the_gate_finds_a_large_drop_nearly_always(experiment: Experiment) -> None:
    generator = np.random.default_rng(20260103)
    found = 0
    for _ in range(50):
        means = np.clip(generator.normal(0.85, 0.003, size=6), 0, 1) - [0, 0, 0, 0.03, 0.03, 0.03]
        records = [
            make_record({MEASURE: (float(mean),) * 2}, experiment=experiment, seed=place % 3)
            for place, mean in enumerate(means)
        ]
        found += compare(records[:3], records[3:], DEFAULT).outcome is GateOutcome.REGRESSION
    # noncentral t: a drop of 12 standard errors against t(0.95, 2) = 2.92 is found in 99 % of cases.
    assert found >= 45


def test_the_model_is_named_in_every_group(experiment: Experiment) -> None:
    records = make_trials(experiment, REFERENCE)
    assert {cell.group.split("/")[1] for cell in compare(records, records, DEFAULT).quality} == {MODEL}
