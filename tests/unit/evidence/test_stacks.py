"""A comparison of stacks that was falsified does not pass."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.evidence.stacks import check_stacks
from harness.experiment.manifest import Experiment
from harness.records.stack import StackRecord
from tests.support.manifests import change, parse
from tests.support.stacks import PINS, SHUFFLED, make_result, make_stack_record, make_training, write_stack_record


def declare(**changes: str) -> Experiment:
    """Return the manifest that the comparison is of."""
    return parse(change("stacks.published", {"python": "3.11", "packages": list(PINS), **changes}))


def check(record: StackRecord, folder: Path, manifest: Experiment) -> list[str]:
    path = write_stack_record(record, folder)
    return [line.removeprefix(f"{path}: ") for line in check_stacks(folder, {}, {"tiny": manifest})]


def test_a_whole_comparison_passes(tmp_path: Path) -> None:
    manifest = declare()
    assert check(make_stack_record().replace(experiment_digest=manifest.digest), tmp_path, manifest) == []


@pytest.mark.parametrize(
    ("falsify", "said"),
    [
        (
            lambda record: record.replace(
                today=record.today.replace(untrained=make_result().replace(values={"mrr@10": 0.9}))
            ),
            "result 1: mrr@10 is not the mean of its queries",
        ),
        (lambda record: record.replace(train_rows=7), "seed 0: its batches are not of the 7 training rows"),
        (
            lambda record: record.replace(replayed=(make_training(0, rows=SHUFFLED),)),
            "replayed: seed 0 is not on the batches of the published stack",
        ),
        (lambda record: record.replace(margin=0.5), "margin: reads 0.5, the manifest says 0.01"),
        (lambda record: record.replace(recipe="other"), "small/other: is not among the trials of tiny"),
        (lambda record: record.replace(experiment_digest="9" * 64), "experiment_digest: the manifest of tiny declares"),
    ],
)
def test_what_was_falsified_is_named(falsify: Callable[[StackRecord], StackRecord], said: str, tmp_path: Path) -> None:
    manifest = declare()
    problems = check(falsify(make_stack_record().replace(experiment_digest=manifest.digest)), tmp_path, manifest)
    assert any(problem.startswith(said) for problem in problems), problems


def test_what_a_manifest_says_of_gpus_may_change_since_stacks_run_on_the_cpu(tmp_path: Path) -> None:
    manifest = declare()
    record = make_stack_record().replace(experiment_digest=manifest.digest)
    (name, recipe), *_ = manifest.recipes.items()

    def embed(**ways: str) -> Experiment:
        return manifest.replace(recipes={name: recipe.replace(embedding=recipe.embedding.replace(**ways))})

    assert check(record, tmp_path, embed(cuda="padded")) == []
    assert check(record, tmp_path, embed(cpu="padded")) != []


def test_other_pins_than_the_manifests_are_named(tmp_path: Path) -> None:
    manifest = declare(python="3.12")
    problems = check(make_stack_record().replace(experiment_digest=manifest.digest), tmp_path, manifest)
    assert problems == ["pins: are not those of [stacks.published] in the manifest of tiny"]


def test_a_comparison_in_the_place_of_another_is_named(tmp_path: Path) -> None:
    path = write_stack_record(make_stack_record(), tmp_path)
    path.rename(path.with_name("other.finetuned.published.json"))
    assert any("whose place is stacks/tiny/small.finetuned" in line for line in check_stacks(tmp_path, {}, {}))
