"""What the lock keeps of data: differences are named part by part."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from harness.experiment.data_facts import DataFacts, PartFacts, list_differences

FACTS = DataFacts(parts={"train": PartFacts(rows=20, first_id="r0")}, passages=28, duplicate_passages=1)


def test_equal_facts_differ_in_nothing() -> None:
    assert list(list_differences(FACTS, FACTS)) == []


def test_rows_ids_parts_and_passages_that_differ_are_named() -> None:
    now = DataFacts(
        parts={"train": PartFacts(rows=19, first_id="r1"), "test": PartFacts(rows=8, first_id="r20")},
        passages=27,
        duplicate_passages=0,
    )
    assert list(list_differences(now, FACTS)) == [
        "train has 19 rows, the lock says 20",
        "the first id of train is 'r1', the lock says 'r0'",
        "part test is there, the lock says otherwise",
        "there are 27 passages, the lock says 28",
        "there are 0 duplicate passages, the lock says 1",
    ]


def test_more_repeats_than_passages_are_refused() -> None:
    with pytest.raises(ValidationError, match="duplicate_passages is 2, expected at most passages, 1"):
        DataFacts(parts={}, passages=1, duplicate_passages=2)
