"""Findings fail what should fail, warn of what is open, and hold nothing against data that cannot be compared."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from harness.analysis.redundant_measures import find_disputes, find_repeats
from harness.analysis.verdict import judge
from harness.experiment.claims import Claims, Published, Threshold
from harness.experiment.manifest import Experiment
from harness.records.record import Record
from harness.report.document import Finding
from harness.report.findings import list_findings
from tests.support.records import MODEL, make_record, read_manifest, spread

SEEDS = (0, 1, 2, 3, 4)


def declare(claims: Mapping[tuple[str, str], Mapping[str, str]], **changes: object) -> Experiment:
    """Return an experiment on one model with these claims: (variant, source) -> measure -> printed value."""
    whole = read_manifest("bioasq")
    return whole.replace(
        models=(whole.model(MODEL),),
        thresholds=(),
        claims=tuple(
            Claims(
                model=MODEL,
                recipe=None if variant == "baseline" else "finetuned",
                source=source,
                values=dict(values),
            )
            for (variant, source), values in claims.items()
        ),
        **changes,
    )


def run(experiment: Experiment, base: float, tuned: tuple[float, ...]) -> list[Record]:
    """Return records whose accuracy@5 has these means; recall@5 says the same, the other measures are constant."""

    def values(mean: float) -> dict[str, tuple[float, ...]]:
        accuracy = spread(mean, 700)
        columns = {measure: spread(0.5, 700) for measure in experiment.evaluation.measures}
        precision = tuple(value / 5 for value in accuracy)
        return {**columns, "accuracy@5": accuracy, "recall@5": accuracy, "precision@5": precision}

    records = [make_record(values(base), experiment=experiment, variant="baseline")]
    records += [make_record(values(mean), experiment=experiment, seed=seed) for seed, mean in enumerate(tuned)]
    return records


def find(experiment: Experiment, records: list[Record]) -> tuple[Finding, ...]:
    disputes = find_disputes(experiment, find_repeats(records, experiment.evaluation.measures))
    return list_findings(judge(experiment, records, rounds=10), disputes)


def test_claims_that_stand_are_not_spoken_of() -> None:
    claims = {("baseline", "a"): {"accuracy@5": "0.8000"}, ("finetuned", "a"): {"accuracy@5": "0.9000"}}
    experiment = declare(claims)
    assert find(experiment, run(experiment, 0.8001, (0.9, 0.901, 0.899, 0.9, 0.9005))) == ()


@pytest.mark.parametrize(
    ("base", "tuned", "title"),
    [
        (0.8, (0.80, 0.801, 0.799, 0.80, 0.8005), "not reproduced"),
        (0.81, (0.9, 0.901, 0.899, 0.9, 0.9005), "different"),
    ],
)
def test_a_claim_that_fell_is_an_error(base: float, tuned: tuple[float, ...], title: str) -> None:
    claims = {("baseline", "a"): {"accuracy@5": "0.8000"}, ("finetuned", "a"): {"accuracy@5": "0.9000"}}
    experiment = declare(claims)
    (finding,) = find(experiment, run(experiment, base, tuned))
    assert (finding.level, finding.title) == ("error", title)


@pytest.mark.parametrize(
    ("tuned", "title"),
    [((0.95, 0.951, 0.949, 0.95, 0.9505), "exceeds"), ((0.90, 0.95, 0.85, 0.92, 0.88), "compatible")],
)
def test_a_claim_that_is_open_or_exceeded_is_a_warning(tuned: tuple[float, ...], title: str) -> None:
    experiment = declare({("finetuned", "a"): {"accuracy@5": "0.9000"}})
    (finding,) = find(experiment, run(experiment, 0.8, tuned))
    assert finding.level == "warning"
    assert finding.title.startswith(title)


def test_of_two_printed_values_that_contradict_each_other_one_that_stands_is_enough() -> None:
    claims = {("baseline", "notebook"): {"accuracy@5": "0.8967"}, ("baseline", "article"): {"accuracy@5": "0.9024"}}
    experiment = declare(claims)
    findings = find(experiment, run(experiment, 0.8967, (0.9, 0.9, 0.9, 0.9, 0.9)))
    assert [finding.level for finding in findings] == ["notice"]
    neither = find(experiment, run(experiment, 0.85, (0.9, 0.9, 0.9, 0.9, 0.9)))
    assert [finding.level for finding in neither] == ["error", "notice"]


def test_a_contradiction_reaches_the_measures_that_repeat_another() -> None:
    claims = {
        ("baseline", "notebook"): {"accuracy@5": "0.896746817"},
        ("baseline", "article"): {"recall@5": "0.9024", "precision@5": "0.1805"},
    }
    experiment = declare(claims)
    findings = find(experiment, run(experiment, 0.896746817, (0.9, 0.9, 0.9, 0.9, 0.9)))
    assert [finding.level for finding in findings] == ["notice"]
    assert "recall@5 = 0.9024 (article), precision@5 = 0.1805 (article)" in findings[0].text


def test_a_value_printed_with_fewer_digits_contradicts_nothing() -> None:
    claims = {("baseline", "a"): {"accuracy@5": "0.8347876"}, ("baseline", "b"): {"accuracy@5": "0.8347"}}
    experiment = declare(claims)
    assert find(experiment, run(experiment, 0.8348, (0.9, 0.9, 0.9, 0.9, 0.9))) == ()


def test_data_that_cannot_be_compared_hold_nothing_against_a_claim() -> None:
    published = Published(title="t", date="d", not_comparable="rebuilt data")
    experiment = declare({("baseline", "a"): {"accuracy@5": "0.9"}}, published=published)
    (finding,) = find(experiment, run(experiment, 0.1, (0.1, 0.1, 0.1, 0.1, 0.1)))
    assert (finding.level, finding.title) == ("notice", "not comparable")


def test_a_missing_seed_is_an_error_that_names_it() -> None:
    experiment = declare({("finetuned", "a"): {"accuracy@5": "0.9000"}})
    findings = find(experiment, run(experiment, 0.8, (0.9, 0.901, 0.899, 0.9)))
    assert findings[0].level == "error"
    assert "seed4" in findings[0].text


@pytest.mark.parametrize(
    ("tuned", "level"), [((0.9, 0.901, 0.899, 0.9, 0.9), None), ((0.85, 0.95, 0.9, 0.88, 0.92), "error")]
)
def test_a_threshold_needs_the_lower_bound_above_it(tuned: tuple[float, ...], level: str | None) -> None:
    bound = Threshold(model=MODEL, recipe="finetuned", measure="accuracy@5", above=0.89)
    experiment = declare({}).replace(thresholds=(bound,))
    findings = find(experiment, run(experiment, 0.8, tuned))
    assert [finding.level for finding in findings] == ([level] if level else [])


def test_one_seed_leaves_a_threshold_undecided() -> None:
    bound = Threshold(model=MODEL, recipe="finetuned", measure="accuracy@5", above=0.89)
    experiment = declare({}).replace(thresholds=(bound,), seeds=(0,))
    (finding,) = find(experiment, run(experiment, 0.8, (0.9,)))
    assert (finding.level, finding.title) == ("warning", "threshold undecided")


def test_measures_that_are_a_multiple_of_another_are_found() -> None:
    experiment = declare({})
    records = run(experiment, 0.8, (0.9,))
    repeats = find_repeats(records, ("accuracy@5", "precision@5", "recall@5", "mrr@10"))
    assert {name: (repeat.of, round(repeat.factor, 9)) for name, repeat in repeats.items()} == {
        "precision@5": ("accuracy@5", 0.2),
        "recall@5": ("accuracy@5", 1.0),
    }
