"""A record is held against manifest and lock: all sources that it read, and of its recipe what its device had to do."""

from __future__ import annotations

import contextlib

import pytest

from harness.errors import RecordError
from harness.evidence.binding import compare_manifest, compare_sources
from harness.experiment.lock import Lock, LockedSource, ResolvedSource, digest_sources, list_sources
from harness.experiment.manifest import Experiment
from harness.records.record import Record
from harness.records.record_set import Shelf
from tests.support.records import DIGEST, make_record, read_manifest

FILE = "rows.jsonl"
OTHER_DIGEST = "e" * 64


def make_trained(files: dict[str, str]) -> tuple[Record, Lock]:
    """Return a record that was trained on a data set of its own, and the lock; ``files`` are digests by source."""
    whole = read_manifest("hpo")
    recipe = whole.recipes["finetuned"].replace(data="more")
    experiment = whole.replace(data={**whole.data, "more": whole.data["hpo"]}, recipes={"finetuned": recipe})
    assert experiment.data_read == ("hpo", "more")
    locked = LockedSource(files={FILE: DIGEST}, complete=True)
    lock = Lock(
        schema_version=2,
        experiment=experiment.name,
        sources_digest=digest_sources(experiment),
        sources={str(name): locked for name in list_sources(experiment)},
    )
    sources = {
        str(name): ResolvedSource(origin="folder", files={FILE: files.get(str(name), DIGEST)}, locked=True)
        for name in list_sources(experiment)
        if files.get(str(name)) != "missing"
    }
    record = make_record({"mrr@10": [1.0]}, experiment=experiment, model="all-MiniLM-L6-v2", seed=0)
    return record.replace(sources=sources), lock


@pytest.mark.parametrize(
    ("name", "digest", "said"),
    [
        ("data:more", "missing", ["sources.data:more: is missing in the record or the lock"]),
        ("data:more", OTHER_DIGEST, [f"sources.data:more, file {FILE!r}: SHA-256 {OTHER_DIGEST[:16]}... is not the"]),
        ("data:hpo", "missing", ["sources.data:hpo: is missing in the record or the lock"]),
        ("data:hpo", DIGEST, []),
    ],
)
def test_the_data_trained_on_are_those_of_the_lock(name: str, digest: str, said: list[str]) -> None:
    record, lock = make_trained({name: digest})
    found = list(compare_sources(record, lock))
    assert [line[: len(expected)] for line, expected in zip(found, said, strict=True)] == said


def test_whatever_an_untrained_trial_read_besides_is_held_against_the_lock_too() -> None:
    record, lock = make_trained({"data:more": OTHER_DIGEST})
    untrained = record.replace(trial=record.trial.replace(variant="baseline", seed=None), training=None)
    assert len(list(compare_sources(untrained, lock))) == 1
    without = untrained.replace(sources={name: one for name, one in record.sources.items() if name != "data:more"})
    assert list(compare_sources(without, lock)) == []


def change_embedding(whole: Experiment, **ways: str) -> Experiment:
    recipes = {
        name: recipe.replace(embedding=recipe.embedding.replace(**ways)) for name, recipe in whole.recipes.items()
    }
    return whole.replace(recipes=recipes)


@pytest.mark.parametrize(
    ("device", "ways", "said"),
    [
        ("cpu", {"cuda": "grouped"}, 0),
        ("cpu", {"cpu": "padded"}, 1),
        ("cuda:0", {"cuda": "grouped"}, 1),
        ("cuda:0", {"cpu": "padded"}, 0),
    ],
)
def test_a_record_answers_for_its_own_kind_of_device_alone(device: str, ways: dict[str, str], said: int) -> None:
    whole = read_manifest("hpo", stacks={})
    assert {recipe.embedding.cuda for recipe in whole.recipes.values()} == {"padded"}
    record = make_record({"mrr@10": [1.0]}, experiment=whole, model="all-MiniLM-L6-v2", seed=0, device=device)
    later = change_embedding(whole, **ways)
    assert len(list(compare_manifest(record, later))) == said
    # So it is where a report takes the record, and there a difference is an error.
    with pytest.raises(RecordError, match="another recipe") if said else contextlib.nullcontext():
        Shelf(later, [record])
