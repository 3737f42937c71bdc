"""The gate: what passes, what is a regression, what cannot be compared, and how often it is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.errors import ManifestError
from harness.experiment.manifest import Experiment
from harness.gate.compare import GateOutcome, GateReport, choose_fresh_seeds, compare
from harness.gate.policy import Costs, Policy, Quality, read_policy
from harness.gate.quality import QualityCell, Status
from harness.gate.simulation import ErrorRates
from harness.records.record import Execution, Record
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
        # The same queries are hard for every seed, as in real runs.
        values = {MEASURE: spread(mean)}
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


def test_better_is_no_regression(experiment: Experiment) -> None:
    report = compare(make_trials(experiment, REFERENCE), make_trials(experiment, (0.95, 0.95, 0.95), 0.9), DEFAULT)
    assert report.outcome is GateOutcome.PASS
    assert {cell.status for cell in report.quality} == {Status.BETTER}


DROPPED = (0.872, 0.876, 0.88)


def add_fresh(experiment: Experiment, records: list[Record], means: tuple[float, ...]) -> list[Record]:
    more = [
        make_record({MEASURE: spread(mean)}, experiment=experiment, seed=seed)
        for seed, mean in enumerate(means, start=3)
    ]
    return [*records, *more]


def test_a_large_drop_is_suspect_first_and_names_three_fresh_seeds(experiment: Experiment) -> None:
    report = compare(make_trials(experiment, REFERENCE), make_trials(experiment, DROPPED), DEFAULT)
    assert (report.outcome, report.outcome.exit_code) == (GateOutcome.SUSPECT, 3)
    assert report.further_seeds == {"bioasq": (3, 4, 5)}
    assert report.regressions == ()
    cell = tuned(report)
    assert (cell.status, cell.stage, cell.deciding) == (Status.SUSPECT, 1, True)
    assert cell.spread is not None
    assert cell.p_value is not None
    assert cell.adjusted_p_value == cell.p_value <= 0.05


def test_fresh_seeds_that_fell_too_make_a_regression_that_names_its_cell(experiment: Experiment) -> None:
    candidate = add_fresh(experiment, make_trials(experiment, DROPPED), DROPPED)
    report = compare(make_trials(experiment, REFERENCE), candidate, DEFAULT)
    assert (report.outcome, report.outcome.exit_code) == (GateOutcome.REGRESSION, 1)
    (line,) = report.regressions
    assert "bioasq/all-mpnet-base-v2/finetuned: mrr@10 fell by 0.0160 to 0.8760" in line
    cell = tuned(report)
    assert (cell.stage, cell.candidate_seeds) == (2, (0, 1, 2, 3, 4, 5))


def test_fresh_seeds_as_good_as_ever_acquit(experiment: Experiment) -> None:
    candidate = add_fresh(experiment, make_trials(experiment, DROPPED), (0.896, 0.9, 0.904))
    report = compare(make_trials(experiment, REFERENCE), candidate, DEFAULT)
    assert report.outcome is GateOutcome.PASS
    assert tuned(report).stage == 2
    assert "suspect at first" in tuned(report).reason


def test_fresh_seeds_decide_only_what_was_suspect_and_only_all_three(experiment: Experiment) -> None:
    bad = (0.5, 0.5, 0.5)
    passed = compare(
        make_trials(experiment, REFERENCE), add_fresh(experiment, make_trials(experiment, REFERENCE), bad), DEFAULT
    )
    assert (passed.outcome, tuned(passed).stage) == (GateOutcome.PASS, 1)
    two = add_fresh(experiment, make_trials(experiment, DROPPED), bad[:2])
    assert compare(make_trials(experiment, REFERENCE), two, DEFAULT).outcome is GateOutcome.SUSPECT


def test_fresh_seeds_are_the_lowest_that_nobody_used() -> None:
    assert choose_fresh_seeds([None, 0, 1, 2]) == (3, 4, 5)
    assert choose_fresh_seeds([0, 2, 7]) == (1, 3, 4)


def test_a_certain_but_small_drop_is_no_regression(experiment: Experiment) -> None:
    means = (0.892, 0.892, 0.892)
    lower = tuple(mean - 0.004 for mean in means)
    candidate = add_fresh(experiment, make_trials(experiment, lower), lower)
    for smallest, outcome in ((0.005, GateOutcome.PASS), (0.0005, GateOutcome.REGRESSION)):
        policy = Policy(quality=Quality(smallest_drop=smallest))
        assert compare(make_trials(experiment, means), candidate, policy).outcome is outcome


def test_a_drop_that_seeds_explain_passes_and_says_so(experiment: Experiment) -> None:
    report = compare(make_trials(experiment, REFERENCE), make_trials(experiment, (0.889, 0.891, 0.892)), DEFAULT)
    assert report.outcome is GateOutcome.PASS
    assert tuned(report).status is Status.WITHIN_CHANCE
    assert "between seeds" in tuned(report).reason


def test_one_seed_against_one_cannot_be_compared_and_says_what_to_accept(experiment: Experiment) -> None:
    report = compare(make_trials(experiment, (0.9,)), make_trials(experiment, (0.8,)), DEFAULT)
    assert report.outcome is GateOutcome.NOT_COMPARABLE
    assert "accept two seeds or more" in report.problems[0]
    several = Policy(quality=Quality(seeds=(0, 1)))
    assert (
        compare(make_trials(experiment, (0.9,)), make_trials(experiment, (0.9, 0.9)), several).outcome
        is GateOutcome.PASS
    )


def test_an_untrained_model_may_fall_by_two_steps_and_no_further(experiment: Experiment) -> None:
    reference = make_trials(experiment, REFERENCE, 0.83)
    values = np.asarray(reference[0].per_query[MEASURE])
    for lost, outcome in ((2 / 400, GateOutcome.PASS), (3 / 400, GateOutcome.REGRESSION)):
        lower = values.copy()
        lower[np.argsort(-values)[:10]] -= lost * len(values) / 10
        one = make_record({MEASURE: lower.tolist()}, experiment=experiment, variant="baseline")
        assert compare(reference, [one, *reference[1:]], DEFAULT).outcome is outcome


def test_only_the_primary_measure_decides(experiment: Experiment) -> None:
    def trials(offset: float) -> list[Record]:
        return [
            make_record({MEASURE: spread(0.9), "ndcg@10": spread(mean - offset)}, experiment=experiment, seed=seed)
            for seed, mean in enumerate(REFERENCE)
        ]

    report = compare(trials(0.0), trials(0.05), DEFAULT)
    assert report.outcome is GateOutcome.PASS
    cell = tuned(report, "ndcg@10")
    assert (cell.status, cell.deciding, cell.adjusted_p_value) == (Status.WORSE, False, None)


def test_models_and_references_share_one_correction(experiment: Experiment) -> None:
    reference, candidate = make_trials(experiment, REFERENCE), make_trials(experiment, (0.884, 0.886, 0.888))
    alone = tuned(compare(reference, candidate, DEFAULT))
    golden = make_trials(experiment, (0.894, 0.896, 0.898))
    report = compare(reference, candidate, DEFAULT, golden=golden)
    cells = [cell for cell in report.quality if cell.deciding and cell.p_value is not None]
    assert [cell.against for cell in cells] == ["accepted", "golden"]
    assert alone.p_value is not None
    assert cells[0].adjusted_p_value == pytest.approx(max(alone.p_value, 2 * (cells[1].p_value or 0)))


def test_small_drops_accepted_one_by_one_are_seen_by_the_golden_reference(experiment: Experiment) -> None:
    golden = make_trials(experiment, REFERENCE)
    reference = make_trials(experiment, tuple(mean - 0.03 for mean in REFERENCE))
    candidate = make_trials(experiment, tuple(mean - 0.031 for mean in REFERENCE))
    assert compare(reference, candidate, DEFAULT).outcome is GateOutcome.PASS
    assert compare(reference, candidate, DEFAULT, golden=golden).outcome is GateOutcome.SUSPECT
    fresh = add_fresh(experiment, candidate, tuple(mean - 0.031 for mean in REFERENCE))
    report = compare(reference, fresh, DEFAULT, golden=golden)
    assert report.outcome is GateOutcome.REGRESSION
    assert "against the golden reference" in report.regressions[0]


def test_a_golden_reference_that_is_the_accepted_one_is_no_second_test(experiment: Experiment) -> None:
    reference = make_trials(experiment, REFERENCE)
    report = compare(reference, reference, DEFAULT, golden=reference)
    assert {cell.against for cell in report.quality} == {"accepted"}


def test_the_report_states_simulated_rates_that_a_larger_reference_improves(experiment: Experiment) -> None:
    def rates(count: int) -> ErrorRates:
        generator = np.random.default_rng(5)
        records = [
            make_record(
                {MEASURE: np.clip(np.asarray(spread(0.9)) + generator.normal(0, 0.03, 200), 0, 1).tolist()},
                experiment=experiment,
                seed=seed,
            )
            for seed in range(count)
        ]
        return compare(records, records, DEFAULT).rates

    few, many = rates(2), rates(6)
    assert 0 <= few.false_alarm <= 0.02
    assert few.false_alarm <= few.suspect <= 0.05 + 4 * (0.05 * 0.95 / 4000) ** 0.5
    assert many.power[0.005] > few.power[0.005]
    assert few.power[0.01] > few.power[0.005]


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
        "candidate: bioasq/all-mpnet-base-v2/finetuned/seed2: missing",
    )


def test_the_policy_may_ask_for_fewer_seeds_or_for_others(experiment: Experiment) -> None:
    reference = make_trials(experiment, REFERENCE)
    one = Policy(quality=Quality(seeds=(0,)))
    assert compare(reference, reference[:2], one).outcome is GateOutcome.PASS
    seven = Policy(quality=Quality(seeds=(7,)))
    report = compare(reference, reference, seven)
    assert report.problems == ("candidate: bioasq/all-mpnet-base-v2/finetuned/seed7: missing",)


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
    }
    broken = [*records, last] if change == "twice" else replace_last(records, **changes[change])
    report = compare(*((broken, records) if side == "reference" else (records, broken)), DEFAULT)
    assert report.outcome is GateOutcome.NOT_COMPARABLE
    assert any(message in problem and "finetuned" in problem for problem in report.problems), report.problems


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


def test_another_way_of_a_device_that_neither_side_ran_on_is_no_notice(experiment: Experiment) -> None:
    recipe = experiment.recipes["finetuned"]
    other = recipe.replace(embedding=recipe.embedding.replace(cuda="grouped"))
    later = experiment.replace(recipes={"finetuned": other})
    assert compare(make_trials(experiment, REFERENCE), make_trials(later, REFERENCE), DEFAULT).notices == ()
    old, new = (make_trials(one, REFERENCE, device="cuda:0") for one in (experiment, later))
    report = compare(old, new, DEFAULT)
    assert any("training recipe" in notice for notice in report.notices)


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


def test_a_cost_that_grew_is_shown_and_fails_only_beside_a_reference_run_in_turns(experiment: Experiment) -> None:
    before, after = with_costs(experiment, [99, 100, 101]), with_costs(experiment, [150, 151, 152])
    report = compare(before, after, DEFAULT)
    assert report.outcome is GateOutcome.PASS
    assert next(cell for cell in report.costs if cell.cost == "train_seconds").status is Status.WORSE
    strict = Policy(costs=Costs(fail=True))
    refused = compare(before, after, strict)
    assert refused.outcome is GateOutcome.NOT_COMPARABLE
    assert "--rerun-reference" in refused.problems[0]
    rerun = compare(before, after, strict, rerun=before)
    assert rerun.outcome is GateOutcome.REGRESSION
    assert "train_seconds: grew by 51" in rerun.regressions[0]
    same = compare(before, after, strict, rerun=after)
    assert same.outcome is GateOutcome.PASS
    earlier = [record.replace(created="2025-01-01T00:00:00+00:00") for record in before]
    assert "in turns" in compare(before, after, strict, rerun=earlier).problems[0]


def test_more_memory_is_shown(experiment: Experiment) -> None:
    before, after = with_costs(experiment, [100] * 3, 2**30), with_costs(experiment, [100] * 3, 2**31)
    report = compare(before, after, DEFAULT)
    assert [cell.cost for cell in report.costs if cell.status is Status.WORSE] == ["peak_memory_bytes"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([99, 100, 101], [110, 111, 112]),  # within the relative limit
        ([9.9, 10, 10.1], [14, 14, 14]),  # within the floor
        ([60, 100, 140], [150, 130, 140]),  # within the noise
        ([99, 100, 101], [50, 51, 52]),  # faster
    ],
)
def test_a_cost_within_limits_floor_or_noise_passes(
    experiment: Experiment, before: list[float], after: list[float]
) -> None:
    assert compare(with_costs(experiment, before), with_costs(experiment, after), DEFAULT).outcome is GateOutcome.PASS


def test_costs_of_another_machine_a_cached_stage_or_a_shared_machine_are_not_compared(experiment: Experiment) -> None:
    reference = with_costs(experiment, [99, 100, 101])
    slow = with_costs(experiment, [300, 300, 300])
    elsewhere = [record.replace(environment=MACHINE.replace(cpu="another CPU")) for record in slow]
    cached = with_costs(experiment, [300, 300, 300], cached=True)
    beside = Execution(engine="ray", attempts=1, trials_on_machine=2, gpus_per_trial=0.0)
    shared = [record.replace(execution=beside) for record in slow]
    alone = [record.replace(execution=beside.replace(trials_on_machine=1, attempts=2)) for record in slow]
    (cell,) = (cell for cell in compare(reference, alone, DEFAULT).costs if cell.cost == "train_seconds")
    assert cell.status is not Status.NOT_COMPARABLE
    obstacles = ((elsewhere, "different machines"), (cached, "another time"), (shared, "shared its machine"))
    for candidate, reason in obstacles:
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


def test_the_model_is_named_in_every_group(experiment: Experiment) -> None:
    records = make_trials(experiment, REFERENCE)
    assert {cell.group.split("/")[1] for cell in compare(records, records, DEFAULT).quality} == {MODEL}
