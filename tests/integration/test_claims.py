"""benchmarks/test_claims.py, run as users run it: what fails it, and what it only says."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.experiment.manifest import Experiment, Variant, read_experiment
from harness.records.record import write_record
from tests.support import pytest_child
from tests.support.evidence import make_results
from tests.support.pytest_child import Ended
from tests.support.records import MANIFESTS, make_record, read_manifest, spread

NOTEBOOK = "notebook, July 2024, unrounded output"


def run_claims(experiment: str, results: Path, *options: str) -> Ended:
    log = results / "log.txt"
    return pytest_child.run_claims(log, "--harness-experiment", experiment, "--harness-results", str(results), *options)


def write_published(results: Path, experiment: Experiment, *, shift: float = 0.0, jitter: float = 0.0005) -> None:
    """Write records that have the notebook's values, and what follows from them, as our own."""
    for model in experiment.models:
        variants: list[tuple[Variant, int | None]] = [("baseline", None)]
        variants += [("finetuned", seed) for seed in experiment.seeds] if model.recipes else []
        for variant, seed in variants:
            printed = next(
                claims.values
                for claims in experiment.claims
                if (claims.model, claims.variant, claims.source) == (model.name, variant, NOTEBOOK)
            )
            moved = 0.0 if seed is None else shift + jitter * (seed - 2)
            values = {name: spread(float(text) + moved, 700) for name, text in printed.items()}
            for cut in (1, 3, 5, 10):
                accuracy = values[f"accuracy@{cut}"]
                values[f"recall@{cut}"] = accuracy
                values[f"precision@{cut}"] = tuple(value / cut for value in accuracy)
            ordered = {name: values[name] for name in experiment.evaluation.measures}
            write_record(
                make_record(ordered, experiment=experiment, variant=variant, seed=seed, model=model.name), results
            )


def test_values_as_published_pass_though_the_publication_contradicts_itself(tmp_path: Path) -> None:
    write_published(tmp_path, read_manifest("bioasq"))
    result = run_claims("bioasq", tmp_path)
    assert result.code == 0, result.said
    assert "NOTICE contradiction: all-mpnet-base-v2/baseline" in result.said
    assert "3 passed" in result.said


def test_a_comparison_that_does_not_show_what_is_asked_of_it_ends_with_1(tmp_path: Path) -> None:
    manifest = tmp_path / "bioasq.toml"
    source = MANIFESTS / "bioasq.toml"
    asked = '[[comparisons]]\na = "all-mpnet-base-v2/finetuned"\nb = "all-mpnet-base-v2"\nabove = {}\n'
    manifest.with_suffix(".lock").write_bytes(source.with_suffix(".lock").read_bytes())
    for above, code in (("0.01", 0), ("0.2", 1)):
        manifest.write_text(f"{source.read_text(encoding='utf-8')}\n{asked.format(above)}", encoding="utf-8")
        write_published(tmp_path, read_experiment(manifest))
        result = run_claims(str(manifest), tmp_path)
        assert result.code == code, result.said
    assert "bound of the comparison not met: all-mpnet-base-v2/finetuned:" in result.said


def test_values_below_the_published_ones_fail_and_are_named(tmp_path: Path) -> None:
    write_published(tmp_path, read_manifest("bioasq"), shift=-0.05)
    result = run_claims("bioasq", tmp_path)
    assert result.code == 1, result.said
    assert "not reproduced: all-mpnet-base-v2/finetuned:" in result.said
    assert "1 failed, 2 passed" in result.said


def test_compatible_values_pass_with_a_warning(tmp_path: Path) -> None:
    write_published(tmp_path, read_manifest("bioasq"), shift=0.008, jitter=0.004)
    result = run_claims("bioasq", tmp_path)
    assert result.code == 0, result.said
    assert "WARNING compatible: all-mpnet-base-v2/finetuned:" in result.said


def test_a_missing_seed_fails_and_is_named(tmp_path: Path) -> None:
    write_published(tmp_path, read_manifest("bioasq"))
    (tmp_path / "records" / "bioasq" / "all-mpnet-base-v2.finetuned.seed=3.json").unlink()
    result = run_claims("bioasq", tmp_path)
    assert result.code == 2, result.said
    assert "bioasq/all-mpnet-base-v2/finetuned/seed3: there is no record of this trial" in result.said


def test_no_records_at_all_fail_every_case(tmp_path: Path) -> None:
    result = run_claims("bioasq", tmp_path)
    assert result.code == 2, result.said
    assert "3 failed" in result.said
    assert "skipped" not in result.said


@pytest.mark.parametrize("bound", ["low", "high"])
def test_data_that_cannot_be_compared_are_held_to_their_own_threshold_only(tmp_path: Path, bound: str) -> None:
    experiment = read_manifest("bioasq-rebuilt")
    write_published(tmp_path, experiment, shift=0.0 if bound == "low" else -0.1)
    result = run_claims("bioasq-rebuilt", tmp_path)
    assert result.code == (0 if bound == "low" else 1), result.said
    assert "not reproduced:" not in result.said
    assert ("threshold not met" in result.said) == (bound == "high")


def test_an_experiment_without_claims_still_needs_its_records(tmp_path: Path) -> None:
    make_results(tmp_path, read_manifest("hpo"), model="all-MiniLM-L6-v2")
    assert run_claims("hpo", tmp_path).code == 0
    assert run_claims("hpo", tmp_path, "--harness-seeds", "4").code == 2
