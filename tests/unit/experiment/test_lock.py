"""A lock belongs to one manifest's sources; any other manifest is refused with the way to make a new lock."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from harness.errors import LockError
from harness.experiment.lock import (
    Lock,
    LockedSource,
    digest_sources,
    format_lock,
    list_sources,
    list_unpinned,
    read_lock,
)
from harness.experiment.manifest import read_experiment
from tests.support.manifests import change, parse

MANIFESTS = Path(__file__).parents[3] / "benchmarks" / "experiments"
# A publication that names no commit has none.
UNPINNED = {
    "miriad": ("data:miriad", "model:embeddinggemma-300m"),
    "sec-rag": ("data:sec", "model:bge-base-en-v1.5"),
}
NAMES = sorted({path.stem for path in MANIFESTS.glob("*.toml")} - UNPINNED.keys())


def make_lock(**changes: Any) -> Lock:
    sources = {str(name): LockedSource(files={"a.json": "0" * 64}, complete=True) for name in list_sources(parse())}
    lock = Lock(schema_version=2, experiment="tiny", sources_digest=digest_sources(parse()), sources=sources)
    return lock.replace(**changes)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.lock"
    path.write_text(format_lock(make_lock()), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", NAMES)
def test_a_committed_lock_belongs_to_its_manifest(name: str) -> None:
    experiment = read_experiment(MANIFESTS / f"{name}.toml")
    lock = read_lock(MANIFESTS / f"{name}.lock", experiment)
    # What could not be hashed says why.
    assert all((source.files and source.complete) or source.note for source in lock.sources.values())


def test_what_is_written_reads_back_equal(path: Path) -> None:
    assert read_lock(path, parse()) == make_lock()


@pytest.mark.parametrize("name", sorted(UNPINNED))
def test_what_has_no_commit_is_locked_and_run_by_nothing(name: str) -> None:
    experiment = read_experiment(MANIFESTS / f"{name}.toml")
    assert list_unpinned(experiment) == UNPINNED[name]
    refusal = f"{', '.join(UNPINNED[name])}: unpinned, so there is nothing to lock"
    with pytest.raises(LockError, match=re.escape(refusal)):
        read_lock(MANIFESTS / f"{name}.lock", experiment)


def test_a_missing_lock_is_answered_with_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(LockError) as caught:
        read_lock(tmp_path / "tiny.lock", parse())
    assert str(caught.value) == (
        f"{tmp_path / 'tiny.lock'}: no such lock; make it with: harness lock {tmp_path / 'tiny.toml'}"
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("data.tiny.source.path", "elsewhere"),
        ("models.0.source.path", "elsewhere"),
        ("models.0.name", "renamed"),
    ],
)
def test_a_lock_of_other_sources_is_refused(path: Path, key: str, value: str) -> None:
    data = change(key, value)
    if key == "models.0.name":
        data["thresholds"], data["claims"] = [], []
    with pytest.raises(
        LockError, match=r"tiny\.lock: does not match the manifest, whose sources changed .*harness lock"
    ):
        read_lock(path, parse(data))


def test_what_is_no_source_can_change_without_a_new_lock(path: Path) -> None:
    assert read_lock(path, parse(change("thresholds.0.above", 0.9))) == make_lock()


def test_the_lock_of_another_experiment_is_refused(path: Path) -> None:
    with pytest.raises(LockError, match=r"tiny\.lock: is the lock of 'tiny', expected 'huge'"):
        read_lock(path, parse(change("name", "huge")))


def test_a_lock_without_one_of_the_sources_is_refused(path: Path) -> None:
    lock = make_lock()
    path.write_text(format_lock(lock.replace(sources={"data:tiny": lock.sources["data:tiny"]})), encoding="utf-8")
    with pytest.raises(LockError, match="does not match the manifest"):
        read_lock(path, parse())


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (
            {"sources": {"data:tiny": {"files": {"a": "0" * 63}, "complete": True}}},
            "sources.data:tiny.files.a: found '0000",
        ),
        ({"complete": True}, "unknown key 'complete'"),
        ({"schema_version": 3}, "schema_version: found 3"),
    ],
)
def test_a_malformed_lock_is_refused(path: Path, broken: dict[str, object], said: str) -> None:
    data = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**data, **broken}), encoding="utf-8")
    with pytest.raises(LockError) as caught:
        read_lock(path, parse())
    assert said in str(caught.value)


def test_half_a_lock_is_refused(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(LockError, match=r"tiny\.lock: not valid JSON"):
        read_lock(path, parse())


def test_size_of_a_file_without_a_hash_is_refused(path: Path) -> None:
    data = json.loads(path.read_text(encoding="utf-8"))
    data["sources"]["data:tiny"]["sizes"] = {"b.json": 1}
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(LockError, match=r"sizes of files that have no hash: b\.json"):
        read_lock(path, parse())
