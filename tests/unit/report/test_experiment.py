"""The manifest that records are reported under, where it was edited and run in part."""

from __future__ import annotations

import pytest

from harness.errors import RecordError
from harness.experiment.claims import BASELINE
from harness.experiment.comparisons import Comparison
from harness.experiment.manifest import Experiment
from harness.experiment.trial import narrow
from harness.records.record import LossPoint, Record
from harness.records.record_set import Shelf
from harness.report.experiment import find_experiment
from harness.report.figures import draw_losses
from tests.support.records import make_record, read_manifest, spread

OLD, NEW = "2026-01-01T00:00:00+00:00", "2026-01-02T00:00:00+00:00"


def edit(whole: Experiment) -> Experiment:
    """Change the rate of every recipe."""
    return whole.replace(
        recipes={
            name: recipe.replace(arguments=recipe.arguments.replace(learning_rate=0.5))
            for name, recipe in whole.recipes.items()
        }
    )


def train_both() -> Experiment:
    """Return a manifest with two models by one recipe."""
    first, second = read_manifest().models
    return read_manifest(models=(first, second.replace(recipes=first.recipes)))


def record(experiment: Experiment, model: str, variant: str, *, created: str) -> Record:
    """Make a record with every measure."""
    values = {measure: spread(0.5) for measure in experiment.evaluation.measures}
    seed = None if variant == BASELINE else experiment.seeds[0]
    return make_record(values, experiment=experiment, model=model, variant=variant, seed=seed, created=created)


def test_untrained_model_left_out_of_an_edited_run_is_held_against_the_whole_manifest() -> None:
    trained, bare = read_manifest().models
    order = Comparison(a=f"{trained.name}/finetuned", b=bare.name)
    whole = read_manifest(comparisons=(order,))
    partly = narrow(edit(whole), models=[trained.name])
    records = [
        record(whole, bare.name, BASELINE, created=OLD),
        record(partly, trained.name, trained.recipes[0], created=NEW),
    ]
    found = find_experiment(records)
    assert {model.name for model in found.models} == {trained.name, bare.name}
    assert found.recipes == partly.recipes
    assert found.comparisons == (order,)
    assert sorted(map(str, found.claims)) == sorted(map(str, whole.claims))
    assert Shelf(found, records).select(bare.name, BASELINE) == (records[0],)


def test_trained_model_left_out_of_an_edited_run_is_outdated() -> None:
    whole = train_both()
    first, second = whole.models
    partly = narrow(edit(whole), models=[first.name])
    records = [
        record(whole, second.name, second.recipes[0], created=OLD),
        record(partly, first.name, first.recipes[0], created=NEW),
    ]
    found = find_experiment(records)
    assert {model.name for model in found.models} == {first.name, second.name}
    with pytest.raises(RecordError, match=f"{second.name}/.*: recorded under another recipe than the manifest's"):
        Shelf(found, records)


def test_model_by_a_recipe_that_is_gone_is_outdated() -> None:
    first, second = read_manifest().models
    whole = read_manifest(
        models=(first, second.replace(recipes=("gone",))),
        recipes={name: recipe for recipe in read_manifest().recipes.values() for name in ("finetuned", "gone")},
    )
    partly = narrow(edit(whole), models=[first.name])
    partly = partly.replace(recipes={"finetuned": partly.recipes["finetuned"]})
    records = [
        record(whole, second.name, BASELINE, created=OLD),
        record(partly, first.name, "finetuned", created=NEW),
    ]
    with pytest.raises(RecordError, match=f"{second.name}/baseline: recorded under another manifest than the newest"):
        find_experiment(records)


def test_losses_are_drawn_where_the_first_record_is_of_a_run_that_left_the_model_out() -> None:
    whole = read_manifest()
    trained, bare = whole.models
    tuned = record(narrow(whole, models=[trained.name]), trained.name, "finetuned", created=NEW)
    assert tuned.training is not None
    tuned = tuned.replace(training=tuned.training.replace(loss=(LossPoint(step=10, loss=1.0, learning_rate=0.5),)))
    records = [record(narrow(whole, models=[bare.name]), bare.name, BASELINE, created=OLD), tuned]
    assert [picture.name for picture in draw_losses(records)] == [f"loss-{trained.name}"]
