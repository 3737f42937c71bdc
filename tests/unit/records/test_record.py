"""A record is whole, finite and of a known version, or it is refused; on disk it is the old one or the new one."""

from __future__ import annotations

import errno
import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from harness.core.files import write_atomically
from harness.errors import RecordError
from harness.records.history import History
from harness.records.record import Artifact, MiningLog, Record, read_record, read_records, write_record
from tests.support.manifests import parse
from tests.support.records import make_record

VALUES = {"mrr@10": (1.0, 0.5, 0.0), "map@100": (1.0, 0.5, 0.1), "accuracy@1": (1.0, 0.0, 0.0)}


def make(**changes: Any) -> Record:
    return make_record(VALUES, experiment=parse(), model="small", seed=0, **changes)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_record(make(), tmp_path)


def test_a_record_reads_back_equal_from_the_place_it_names(path: Path, tmp_path: Path) -> None:
    assert path == tmp_path / "records" / "tiny" / "small.finetuned.seed=0.json"
    assert read_record(path) == make()


def test_a_record_has_its_version_first_and_a_key_per_line(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[1] == '  "schema_version": 2,'
    assert '        "mrr@10": 0.5,' in lines


@pytest.mark.parametrize("number", ["NaN", "Infinity"])
@pytest.mark.parametrize("place", ["values", "per_query"])
def test_a_value_that_is_not_finite_is_refused(path: Path, number: str, place: str) -> None:
    text = path.read_text(encoding="utf-8")
    before, after = (
        ('"mrr@10": 0.5', f'"mrr@10": {number}') if place == "values" else ("[1.0, 0.5, 0.0]", f"[1.0, {number}, 0.0]")
    )
    assert before in text
    path.write_text(text.replace(before, after), encoding="utf-8")
    with pytest.raises(
        RecordError,
        match=rf"small\.finetuned\.seed=0\.json: evaluations\.tiny/test\.{place}\.mrr@10.*: found (nan|inf)",
    ):
        read_record(path)


def test_a_value_that_is_not_finite_is_never_put_into_a_record() -> None:
    with pytest.raises(ValidationError, match="finite number"):
        make(training_cost_usd=float("nan"))
    with pytest.raises(ValidationError, match="finite number"):
        make_record({"mrr@10": (1.0, float("nan"))}, experiment=parse(), model="small", seed=0)


@pytest.mark.parametrize(
    ("place", "number"),
    [
        ("stages.train.seconds", 1e308),
        ("stages.train.peak_memory_bytes", 2**60),
        ("training.steps", 10**30),
        ("environment.memory_bytes", -1),
        ("experiment.verdicts.margin", 1e300),
        ("trial.seed", 2**32),
        ("training_cost_usd", 1e300),
        ("evaluations.tiny/test.values.mrr@10", 1.5),
        ("evaluations.tiny/test.data.queries", 10**4000),
    ],
)
def test_a_number_that_nothing_could_have_is_refused_by_name(path: Path, place: str, number: float) -> None:
    """``1e308`` seconds overflowed in the statistics, with a traceback and no report."""
    data = json.loads(path.read_text(encoding="utf-8"))
    *folders, last = place.split(".")
    table = data
    for folder in folders:
        table = table[folder]
    assert table[last] is None or isinstance(table[last], int | float)
    table[last] = number
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(RecordError, match=rf"seed=0\.json: {re.escape(place)}.*: found .*(expected|less than)"):
        read_record(path)


@pytest.mark.parametrize("kind", [Record, History])
def test_every_number_of_what_a_stranger_may_write_is_bounded(kind: type[BaseModel]) -> None:
    open_ended = [place for place, bounded in list_numbers(kind.model_json_schema(), ()) if not bounded]
    assert open_ended == []


def list_numbers(schema: Any, place: tuple[str, ...]) -> Iterator[tuple[str, bool]]:
    """Yield the place of every number in a JSON schema, and whether it has a smallest and a largest value."""
    if isinstance(schema, list):
        for item in schema:
            yield from list_numbers(item, place)
    elif isinstance(schema, dict):
        if schema.get("type") in ("number", "integer") and "const" not in schema:
            low, high = ("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")
            yield ".".join(place), any(key in schema for key in low) and any(key in schema for key in high)
        for key, item in schema.items():
            yield from list_numbers(item, (*place, key))


@pytest.mark.parametrize("version", [0, 3, "1", None, [1], True, 1.5])
def test_a_record_of_a_version_that_nobody_knows_is_refused(path: Path, version: object) -> None:
    data = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**data, "schema_version": version}), encoding="utf-8")
    with pytest.raises(RecordError, match=r"seed=0\.json: .*schema_version"):
        read_record(path)


def test_keys_in_another_order_are_read_all_the_same(path: Path) -> None:
    data = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(dict(reversed(data.items()))), encoding="utf-8")
    assert read_record(path) == make()


@pytest.mark.parametrize("content", ["", "[]", "null", '{"schema_version": 1, "trial"', "{}", "[" * 100_000])
def test_what_is_no_record_is_refused_by_name(path: Path, content: str) -> None:
    path.write_text(content, encoding="utf-8")
    with pytest.raises(RecordError, match=r"small\.finetuned\.seed=0\.json"):
        read_record(path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"values": {"mrr@10": 0.5}}, "values and per_query must hold the same measures"),
        ({"query_ids": ("a", "b")}, "per_query\\['mrr@10'\\] has 3 values for 2 queries"),
        ({"training": None}, "a trained trial has a training log and a baseline has none"),
        ({"training_cost_usd": "free"}, "training_cost_usd"),
        ({"unknown": 1}, "unknown"),
        (
            {"mining": {"model": "m", "given_rows": 5, "mined_rows": 6}},
            "mined_rows is 6, expected at most given",
        ),
    ],
)
def test_a_record_whose_parts_do_not_fit_together_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        make(**changes)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"data.queries": 4}, "data.queries is 4, and query_ids are 3"),
        ({"query_ids": ["q0", "q1", "q0"]}, "a query is listed twice"),
        ({"query_ids": [], "per_query": {}, "values": {}}, "at least 1 item"),
        ({"data.duplicate_passages": 11}, "duplicate_passages is 11, expected at most passages, 10"),
        ({"data.queries_in_train": 1}, "are told both or not at all"),
        (
            {"data.queries_in_train": 2, "data.queries_in_train_normalised": 1},
            "queries_in_train is 2, expected",
        ),
        (
            {"data.queries_in_train": 4, "data.queries_in_train_normalised": 4},
            "is 4, expected at most queries, 3",
        ),
        ({"truncated_texts": 14}, "truncated_texts is 14, expected at most queries and passages, 13"),
        (
            {"truncated_texts": 1, "truncated_passages": 2},
            "truncated_passages is 2, expected at most",
        ),
        ({"truncated_texts": 13, "truncated_passages": 11}, "truncated_passages is 11, expected at most passages, 10"),
        ({"truncated_texts": 4, "truncated_passages": 0}, "truncated queries is 4, expected at most queries, 3"),
    ],
)
def test_a_result_whose_counts_contradict_one_another_is_refused(path: Path, change: dict[str, Any], said: str) -> None:
    data = json.loads(path.read_text(encoding="utf-8"))
    (result,) = data["evaluations"].values()
    for key, value in change.items():
        outer, _, inner = key.rpartition(".")
        (result[outer] if outer else result)[inner] = value
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(RecordError, match=said):
        read_record(path)


POINT = {"step": 1, "loss": 0.5, "learning_rate": 1e-5}
ROWS = {"given": 10, "used": 9, "batches": 5, "batches_of_one": 1}
CHOICE = {"on": "tiny/dev", "measure": "mrr@10", "value": 0.5}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rows": ROWS | {"used": 11}}, "used is 11, expected at most given, 10"),
        ({"rows": ROWS | {"used": 5, "batches_of_one": 6}}, "batches_of_one is 6, expected at most batches, 5"),
        ({"rows": ROWS | {"used": 8}}, "used is 8, expected at least 9 in 5 batches"),
        ({"loss": [POINT | {"step": 11}]}, "the last point's step of loss is 11, expected at most steps, 10"),
        ({"loss": [POINT, POINT]}, "the steps of its points must grow"),
        ({"loss": [POINT | {"step": 2}, POINT]}, "the steps of its points must grow"),
        ({"loss": [POINT | {"step": 0}]}, "the steps of its points must grow from 1"),
        ({"selected": CHOICE | {"step": 11}}, "selected.step is 11, expected at most steps, 10"),
    ],
)
def test_a_training_whose_counts_do_not_fit_is_refused(path: Path, change: dict[str, Any], said: str) -> None:
    data = json.loads(path.read_text(encoding="utf-8"))
    data["training"] |= {"rows": ROWS, "loss": [POINT], "selected": CHOICE | {"step": 10}}
    path.write_text(json.dumps(data), encoding="utf-8")
    assert read_record(path).training is not None
    data["training"] |= change
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(RecordError, match=said):
        read_record(path)


def test_a_baseline_has_no_mined_negatives_and_no_seed() -> None:
    mining = MiningLog(model="m", given_rows=5, mined_rows=5)
    with pytest.raises(ValidationError, match="a baseline has no mined negatives"):
        make_record(VALUES, experiment=parse(), model="small", variant="baseline", mining=mining)
    with pytest.raises(ValidationError, match="seed is None of 'finetuned': what is trained has one"):
        make_record(VALUES, experiment=parse(), model="small")


def test_a_history_with_a_trial_listed_twice_is_refused() -> None:
    one = {"model": "small", "variant": "baseline", "seed": None, "values": {"mrr@10": 0.5}}
    snapshot = {"commit": None, "dirty": None, "date": "2026-01-01", "trials": [one, one]}
    with pytest.raises(ValidationError, match="a trial is listed twice"):
        History.model_validate_json(json.dumps({"snapshots": [snapshot]}))


@pytest.mark.parametrize("path", ["../up", "/etc/passwd", "a/../../b", "a//b", ".hidden", "a\\b", "a/", ""])
def test_a_file_outside_of_the_results_folder_is_refused(path: str) -> None:
    with pytest.raises(ValidationError, match="should match pattern"):
        Artifact(path=path, sha256="0" * 64)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{" + ",".join(f'"k{number:07}":0' for number in range(830_000)) + "}", "829999 commas, at most 400000"),
        ('{"schema_version": 2, "x": [' + "[]," * 250_000 + "[]]}", "opening brackets, at most 100000"),
    ],
    ids=["keys", "lists"],
)
def test_a_record_with_too_much_in_it_is_refused_before_it_is_parsed(tmp_path: Path, content: str, said: str) -> None:
    """830,000 unknown keys took 24 s and 0.9 GB."""
    path = tmp_path / "a.json"
    path.write_text(content, encoding="utf-8")
    started = time.process_time()
    with pytest.raises(RecordError, match=said):
        read_record(path)
    assert time.process_time() - started < 2


def test_a_record_that_nobody_would_read_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.records.record.MOST_VALUES", 30)
    with pytest.raises(RecordError, match=r"commas, at most 30 are read"):
        write_record(make(), tmp_path)
    assert list(tmp_path.rglob("*.json")) == []


def test_all_records_of_a_folder_are_read_by_file_name(tmp_path: Path) -> None:
    for seed in (10, 9):
        write_record(make_record(VALUES, experiment=parse(), model="small", seed=seed), tmp_path)
    (tmp_path / "records" / "tiny" / ".half.json.abc").write_text("half", encoding="utf-8")
    found = read_records(tmp_path / "records" / "tiny")
    assert [record.trial.seed for record in found] == [10, 9]


def test_an_absent_folder_is_no_empty_set_of_records(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="no such folder of records"):
        read_records(tmp_path / "absent")


def fail(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_named_and_leaves_the_old_record(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = path.read_bytes()
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(RecordError, match=r"seed=0\.json: the record cannot be written: No space left on device"):
        write_record(make(truncated_texts=7), tmp_path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    path = tmp_path / "a.json"
    write_atomically(path, b"old")
    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_writer_left_is_removed_by_the_next_one_a_day_later(tmp_path: Path) -> None:
    old, young, other = (tmp_path / name for name in (".a.json.0a1b2c3d", ".a.json.0a1b2c3e", ".a.json.backup"))
    for path in (old, young, other):
        path.write_bytes(b"half")
    two_days_ago = time.time() - 2 * 24 * 3600
    for path in (old, other):
        os.utime(path, (two_days_ago, two_days_ago))
    write_atomically(tmp_path / "a.json", b"new")
    assert set(tmp_path.iterdir()) == {tmp_path / "a.json", young, other}


def test_a_written_file_can_be_read_by_others(tmp_path: Path) -> None:
    path = tmp_path / "below" / "a.json"
    write_atomically(path, b"new")
    assert path.stat().st_mode & 0o777 == 0o644


def make_results(*names: str) -> Record:
    """Return a record with these results, whose values tell them apart."""
    (result,) = make().evaluations.values()
    return make().replace(
        evaluations={
            name: result.replace(values={**result.values, "mrr@10": place / 10}) for place, name in enumerate(names)
        }
    )


@pytest.mark.parametrize(
    ("on", "dim", "value"),
    [
        (None, None, 0),
        ("a/test", None, 0),
        ("a/test", 64, 0.1),
        ("b/dev", None, 0.2),
        ("b/dev", 64, 0.3),
        (None, 64, 0.1),
    ],
)
def test_a_record_is_seen_from_a_test_set_and_dimension(on: str | None, dim: int | None, value: float) -> None:
    record = make_results("a/test@128", "a/test@64", "b/dev@128", "b/dev@64")
    view = record.at(on, dim)
    assert (view.values["mrr@10"], len(view.evaluations), view.on) == (value, 1, on or "a/test")
    assert [found.values["mrr@10"] for found in record.views] == [0, 0.1, 0.2, 0.3]


@pytest.mark.parametrize(("on", "dim", "asked"), [("c/test", None, "c/test"), (None, 32, "the first test set at 32")])
def test_a_result_that_is_not_there_is_answered_with_those_that_are(
    on: str | None, dim: int | None, asked: str
) -> None:
    with pytest.raises(RecordError, match=rf"seed0: no result for {asked}; it has a/test@64, b/test$"):
        make_results("a/test@64", "b/test").at(on, dim)
