"""What changed is made again, and nothing else: a new seed costs one training, a new measure no encoding."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from harness.experiment.manifest import Experiment
from harness.models.device import Arithmetic
from harness.pipeline import stages
from harness.records.environment import list_packages
from harness.records.record import Record
from tests.support.tiny_training import change_recipe
from tests.support.tiny_trials import Place, make_place

STAGES = ("prepare", "baseline", "train", "evaluate")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A tiny experiment whose baseline and first seed are in the store."""
    import torch

    threads = torch.get_num_threads()
    # Tiny models gain nothing from threads, which wait for each other for long where a machine is busy.
    torch.set_num_threads(1)
    place = make_place(tmp_path_factory.mktemp("tiny"))
    run(place)
    yield place
    torch.set_num_threads(threads)


def run(place: Place, change: Callable[[Experiment], Experiment] = lambda experiment: experiment) -> list[Record]:
    """Run the baseline and one seed of the experiment, changed, in this process."""
    from harness.experiment.trial import list_trials
    from harness.pipeline.progress import Progress
    from harness.pipeline.run_trial import open_context, run_trial
    from harness.pipeline.selection import RunConfig, select_experiment

    config = RunConfig(place.store, place.results, experiment=str(place.manifest), device="cpu")
    selected = select_experiment(config, place.manifest.parent)
    experiment = change(selected.experiment.replace(seeds=(0,)))
    context = open_context(dataclasses.replace(selected, experiment=experiment), config)
    trials = list(list_trials(experiment))
    return [run_trial(trial, context, Progress(io.StringIO(), trials)) for trial in trials]


def list_made(records: list[Record]) -> set[str]:
    """Return the stages that were not found in the store."""
    return {stage for record in records for stage, cost in record.stages.items() if not cost.cached}


def set_training(**changes: Any) -> Callable[[Experiment], Experiment]:
    return lambda experiment: experiment.replace(
        recipes={"finetuned": change_recipe(experiment.recipes["finetuned"], **changes)}
    )


def set_evaluation(**changes: Any) -> Callable[[Experiment], Experiment]:
    return lambda experiment: experiment.replace(evaluation=experiment.evaluation.replace(**changes))


@pytest.mark.parametrize(
    ("change", "made"),
    [
        pytest.param(lambda experiment: experiment, set(), id="nothing"),
        pytest.param(lambda experiment: experiment.replace(title="Another"), set(), id="title"),
        pytest.param(set_evaluation(measures=("mrr@10", "ndcg@10")), set(), id="measures"),
        pytest.param(set_training(save_steps=3, eval_steps=2), set(), id="checkpoints on the way"),
        pytest.param(lambda experiment: experiment.replace(seeds=(7,)), {"train", "evaluate"}, id="seed"),
        pytest.param(set_training(per_device_train_batch_size=5), {"train", "evaluate"}, id="batch size"),
        pytest.param(set_training(learning_rate=2e-3), {"train", "evaluate"}, id="learning rate"),
        pytest.param(set_evaluation(batch_tokens=300), {"baseline", "evaluate"}, id="tokens encoded together"),
        pytest.param(set_evaluation(top_k=101), {"baseline", "evaluate"}, id="passages kept"),
    ],
)
def test_change_costs_what_it_must(place: Place, change: Callable[[Experiment], Experiment], made: set[str]) -> None:
    assert list_made(run(place, change)) == made


def test_package_that_changes_numbers_costs_all_but_the_data(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    packages = list_packages()
    monkeypatch.setattr(stages, "list_packages", lambda: packages | {"datasets": "0.0.1"})
    assert list_made(run(place)) == set()
    monkeypatch.setattr(stages, "list_packages", lambda: packages | {"torch": "0.0.1"})
    assert list_made(run(place)) == {"baseline", "train", "evaluate"}


def test_another_count_of_threads_costs_all_but_the_data_and_is_in_the_record(place: Place) -> None:
    import torch

    torch.set_num_threads(2)
    try:
        two = run(place)
        assert list_made(two) == {"baseline", "train", "evaluate"}
    finally:
        torch.set_num_threads(1)
    one = run(place)
    assert list_made(one) == set()
    assert [[record.environment.threads for record in records] for records in (one, two)] == [[1, 1], [2, 2]]
    capability = torch.backends.cpu.get_cpu_capability()
    assert {record.environment.cpu_capability for record in (*one, *two)} == {capability}


def test_other_vector_instructions_cost_all_but_the_data(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "describe_arithmetic", lambda: Arithmetic(threads=1, cpu_capability="OTHER"))
    assert list_made(run(place)) == {"baseline", "train", "evaluate"}


def test_hit_tells_the_seconds_of_the_making(place: Place) -> None:
    first, again = run(place), run(place)
    for before, after in zip(first, again, strict=True):
        assert {stage: cost.seconds for stage, cost in before.stages.items()} == {
            stage: cost.seconds for stage, cost in after.stages.items()
        }
        assert all(cost.cached for cost in after.stages.values())
        assert all(cost.seconds > 0 for cost in after.stages.values())
