"""Comparisons of an experiment's cells: corrected over all, bounds met or not, nothing absent passed over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import ArrayLike

from harness.analysis.comparison import judge_comparisons, judge_forgetting
from harness.analysis.contrast import Side, contrast
from harness.analysis.verdict import judge
from harness.experiment.manifest import Experiment
from harness.records.record import Record
from harness.records.record_set import Shelf
from harness.report.comparison_tables import list_comparisons, list_forgetting
from harness.report.document import ContrastChart, Finding, Picture, Table
from harness.report.experiment import build_report
from harness.report.findings import list_findings
from tests.support.manifests import change, parse
from tests.support.records import make_record

QUERIES = 60
BASE = np.random.default_rng(0).choice([0.25, 0.5], QUERIES)
TINY_SET = "tiny/test"


def declare(**keys: Any) -> Experiment:
    data = change("thresholds", [])
    data["claims"] = []
    return parse({**data, **keys})


def record(experiment: Experiment, model: str, variant: str, seed: int | None, gain: ArrayLike) -> Record:
    """Return a record whose primary measure is the base's plus a gain, with noise of each query's own."""
    noise = 0.0 if seed is None else np.random.default_rng(seed).normal(0, 0.02, QUERIES)
    values = tuple(np.clip(BASE + np.asarray(gain) + noise, 0, 1).tolist())
    per_query = {"mrr@10": values, "accuracy@1": tuple(0.0 for _ in values), "map@100": tuple(0.5 for _ in values)}
    return make_record(per_query, experiment=experiment, model=model, variant=variant, seed=seed)


def make_records(experiment: Experiment, gain: float = 0.1, seeds: Sequence[int] = (0, 1)) -> list[Record]:
    return [
        record(experiment, "small", "baseline", None, 0.0),
        record(experiment, "other", "baseline", None, 0.05 * (np.arange(QUERIES) % 2 * 2 - 1)),
        *(record(experiment, "small", "finetuned", seed, gain) for seed in seeds),
    ]


def find(experiment: Experiment, records: Sequence[Record]) -> list[Finding]:
    return list(list_findings(judge(experiment, records, rounds=10)))


def test_the_better_cell_is_named_and_p_values_are_corrected_over_all_comparisons() -> None:
    items = [{"a": "small", "b": "small/finetuned"}, {"a": "other", "b": "small"}]
    experiment = declare(comparisons=items)
    records = make_records(experiment)
    first, second = judge_comparisons(Shelf(experiment, records))
    assert first.deciding.better == ("small", "finetuned")
    assert second.deciding.better is None
    assert first.deciding.seeds == ((), (0, 1))
    assert first.deciding.contrast is not None
    assert first.deciding.contrast.p_value is not None
    assert first.deciding.p_holm == pytest.approx(2 * first.deciding.contrast.p_value)
    # As computed from the values at hand.
    tuned = [one.per_query["mrr@10"] for one in records[2:]]
    sides = (Side.of(BASE, trained=False), Side.of(tuned, trained=True))
    assert first.deciding.contrast == contrast(*sides, "mrr@10")
    assert [(one.on, one.measure) for one in first.others] == [(TINY_SET, "accuracy@1"), (TINY_SET, "map@100")]
    texts = [finding.text for finding in find(experiment, records) if finding.title == "comparison"]
    assert texts[0].startswith("mrr@10 of small minus that of small/finetuned on tiny/test is -0.")
    assert texts[0].endswith("small/finetuned is better")
    assert texts[1].endswith("no difference is shown")


@pytest.mark.parametrize(
    ("above", "level", "title"),
    [(0.0, "notice", "comparison"), (0.2, "error", "bound of the comparison not met"), (None, "notice", "comparison")],
)
def test_a_bound_that_the_interval_does_not_exceed_is_an_error(above: float | None, level: str, title: str) -> None:
    asked = {"a": "small/finetuned", "b": "small"} | ({} if above is None else {"above": above})
    experiment = declare(comparisons=[asked])
    (finding,) = find(experiment, make_records(experiment))
    assert (finding.level, finding.title, finding.cell) == (level, title, "small/finetuned")


def test_a_mean_above_the_bound_is_not_enough() -> None:
    experiment = declare(comparisons=[{"a": "small/finetuned", "b": "small", "above": 0.0}])
    records = make_records(experiment, gain=0.003)
    (verdict,) = judge_comparisons(Shelf(experiment, records))
    assert verdict.deciding.contrast is not None
    assert verdict.deciding.contrast.difference > 0
    assert verdict.deciding.met is False


@pytest.mark.parametrize(("gain", "level"), [(0.1, "warning"), (-0.1, "error")])
def test_one_seed_is_undecided_unless_even_its_own_value_is_too_low(gain: float, level: str) -> None:
    experiment = declare(seeds=[0], comparisons=[{"a": "small/finetuned", "b": "small", "above": 0.0}])
    (finding,) = find(experiment, make_records(experiment, gain=gain, seeds=[0]))
    assert finding.level == level
    assert "one seed does not tell of the next one" in finding.text


def test_a_cell_without_records_is_named_once_and_compared_with_nothing() -> None:
    experiment = declare(comparisons=[{"a": "small/finetuned", "b": "small"}, {"a": "small/finetuned", "b": "other"}])
    records = [one for one in make_records(experiment) if one.trial.variant == "baseline"]
    found = find(experiment, records)
    assert [(one.level, one.title, one.text) for one in found] == [
        ("error", "missing record", f"there is no record of tiny/small/finetuned/seed{seed}") for seed in (0, 1)
    ]
    section = list_comparisons(judge(experiment, records, rounds=10))
    tables = [block for block in section.blocks if isinstance(block, Table)]
    assert [row[-1] for row in tables[0].rows] == ["no record", "no record"]


@pytest.mark.parametrize(
    ("gain", "most", "levels"), [(0.1, 0.0, []), (0.0, 0.05, []), (-0.1, 0.05, ["error"]), (0.0, 0.0, ["error"])]
)
def test_what_training_costs_is_held_against_what_it_may(gain: float, most: float, levels: list[str]) -> None:
    experiment = declare(forgetting=[{"on": TINY_SET, "max_drop": most}])
    records = make_records(experiment, gain=gain)
    (verdict,) = judge_forgetting(Shelf(experiment, records))
    assert (verdict.cells.a, verdict.cells.b) == (("small", "finetuned"), ("small", "baseline"))
    found = [one for one in find(experiment, records) if one.title == "forgetting"]
    assert [one.level for one in found] == levels
    section = list_forgetting(judge(experiment, records, rounds=10))
    table = next(block for block in section.blocks if isinstance(block, Table))
    assert table.rows[0][-1] == ("lost too much" if levels else "kept")


def test_the_report_shows_table_and_picture_and_begins_with_what_was_found() -> None:
    experiment = declare(
        comparisons=[{"a": "small/finetuned", "b": "small", "above": 0.01}],
        forgetting=[{"on": TINY_SET, "max_drop": 0.01}],
    )
    report = build_report(make_records(experiment), rounds=10)
    pictures = {picture.name: picture for picture in report.pictures if isinstance(picture.chart, ContrastChart)}
    assert set(pictures) == {"comparisons", "forgetting"}
    chart = pictures["comparisons"].chart
    assert isinstance(chart, ContrastChart)
    assert [(row.label, row.bound) for row in chart.rows] == [("small/finetuned - small", 0.01)]
    assert any("small/finetuned is better" in sentence for sentence in report.conclusions)
    section = next(section for section in report.sections if section.heading == "Comparisons")
    (table, _) = [block for block in section.blocks if isinstance(block, Table)]
    assert table.columns[:4] == ("a", "b", "mean of a", "mean of b")
    assert table.rows[0][-1] == "a is better"
    assert any(isinstance(block, Picture) for block in section.blocks)


def test_a_report_without_comparisons_has_no_such_section() -> None:
    experiment = declare()
    headings = [section.heading for section in build_report(make_records(experiment), rounds=10).sections]
    assert not {"Comparisons", "What must not be forgotten"} & set(headings)
