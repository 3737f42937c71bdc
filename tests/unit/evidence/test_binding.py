"""A record's sources are held against the lock: also those of what was trained on, and of all that it read besides."""

from __future__ import annotations

import pytest

from harness.evidence.binding import compare_sources
from harness.experiment.lock import Lock, LockedSource, ResolvedSource, digest_sources, list_sources
from harness.records.record import Record
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
