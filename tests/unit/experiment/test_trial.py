"""A trial is named readably, and what a user asks for narrows an experiment to trials that exist."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from harness.errors import ManifestError
from harness.experiment.trial import Trial, list_trials, narrow
from tests.support.manifests import parse


def test_trials_are_each_models_baseline_and_a_seed_each_where_it_is_trained() -> None:
    assert [trial.id for trial in list_trials(parse())] == [
        "tiny/small/baseline",
        "tiny/small/finetuned/seed0",
        "tiny/small/finetuned/seed1",
        "tiny/other/baseline",
    ]


def test_no_two_trials_share_the_name_of_their_files() -> None:
    trials = list(list_trials(parse()))
    assert [trial.stem for trial in trials[:2]] == ["small.baseline", "small.finetuned.seed=0"]
    assert len({trial.stem for trial in trials}) == len(trials)


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".hidden", "a b"])
def test_a_name_that_would_leave_its_folder_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="should match pattern"):
        Trial(experiment=name, model="m", variant="baseline", seed=None)
    with pytest.raises(ValidationError, match="should match pattern"):
        Trial(experiment="e", model=name, variant="baseline", seed=None)


def test_narrowing_keeps_models_in_the_order_asked_for_and_takes_the_seeds() -> None:
    narrowed = narrow(parse(), models=["other", "small"], seeds=[7])
    assert [trial.id for trial in list_trials(narrowed)] == [
        "tiny/other/baseline",
        "tiny/small/baseline",
        "tiny/small/finetuned/seed7",
    ]


def test_what_is_said_of_a_model_left_out_goes_with_it() -> None:
    whole, narrowed = parse(), narrow(parse(), models=["other"])
    assert whole.thresholds
    assert whole.claims
    assert (narrowed.thresholds, narrowed.claims) == ((), ())


def test_asking_for_nothing_changes_nothing() -> None:
    assert narrow(parse()) == parse()


@pytest.mark.parametrize(
    ("models", "said"),
    [
        (["unknown"], "no model 'unknown'; its models are: small, other"),
        (["small", "small"], "models must be one or more different ones of small, other; found"),
        ([], "models must be one or more different ones of small, other; found []"),
    ],
)
def test_models_that_cannot_be_meant_are_refused(models: list[str], said: str) -> None:
    with pytest.raises(ManifestError) as caught:
        narrow(parse(), models=models)
    assert said in str(caught.value)


@pytest.mark.parametrize("seeds", [[], [1, 1], [-1], [2**32]])
def test_seeds_that_cannot_be_meant_are_refused(seeds: list[int]) -> None:
    with pytest.raises(ManifestError, match="seeds must be one or more different numbers from 0 to 4294967295, found"):
        narrow(parse(), seeds=seeds)
