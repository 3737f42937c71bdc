"""A stored comparison of stacks is parsed strictly and lies where its name says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.errors import RecordError
from harness.records.stack import StackRecord, read_stack_record, read_stack_records
from tests.support.stacks import make_stack_record, make_training, write_stack_record


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    record = make_stack_record()
    assert read_stack_record(write_stack_record(record, tmp_path), tmp_path) == record
    assert read_stack_records(tmp_path) == (record,)


def test_a_record_in_the_place_of_another_is_refused(tmp_path: Path) -> None:
    path = write_stack_record(make_stack_record(), tmp_path)
    path.rename(path.with_name("other.finetuned.published.json"))
    with pytest.raises(RecordError, match=r"holds the record whose place is stacks/tiny/small.finetuned.published"):
        read_stack_records(tmp_path)


def test_a_step_without_its_batch_is_refused(tmp_path: Path) -> None:
    path = write_stack_record(make_stack_record(), tmp_path)
    data = json.loads(path.read_text(encoding="utf-8"))
    del data["today"]["trainings"][0]["rows"][0]
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(RecordError, match="loss, rows and batches must have a value for each step"):
        read_stack_record(path, tmp_path)


def test_a_seed_that_is_listed_twice_is_refused() -> None:
    record = make_stack_record()
    with pytest.raises(ValueError, match=r"replayed: a seed is listed twice: \[0, 0\]"):
        record.replace(replayed=(make_training(0), make_training(0)))


def test_results_of_other_queries_are_refused() -> None:
    record = make_stack_record()
    with pytest.raises(ValueError, match=r"mrr@10 of the same queries; found \[3, 4\] queries"):
        record.replace(replayed=(make_training(0, per_query=(1.0, 0.5, 0.0)),))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: data["inputs"].update(traced_texts=10**6), "traced_texts is 1000000, expected at most texts"),
        (
            lambda data: data["inputs"].update(differing_tokens=10**6),
            "differing_tokens is 1000000, expected",
        ),
        (lambda data: data.update(train_rows=1), "a row of a batch is .*, expected at most train_rows, 1"),
        (lambda data: data["replayed"][0].update(seed=77), "the published stack has no training of seed 77"),
        (lambda data: data["today"]["untrained"]["values"].update({"map@3": 0.5}), "the same measures"),
        (lambda data: data["today"]["untrained"].update(per_query=[]), "at least 1 item"),
    ],
)
def test_counts_that_contradict_one_another_are_refused(change: Callable[[dict[str, Any]], None], said: str) -> None:
    content = make_stack_record().model_dump(mode="json")
    change(content)
    with pytest.raises(ValueError, match=said):
        StackRecord.model_validate_json(json.dumps(content))


@pytest.mark.parametrize("lacking", ["probe", "steps"])
def test_what_a_report_divides_by_or_begins_with_is_there(lacking: str) -> None:
    content = make_stack_record().model_dump(mode="json")
    if lacking == "probe":
        content["published"]["probe"]["gradient_norm"] = 0.0
    else:
        content["published"]["trainings"][0] |= {"loss": [], "rows": [], "batches": []}
    with pytest.raises(ValueError, match=r"greater than 0|at least 1 item"):
        StackRecord.model_validate_json(json.dumps(content))
