"""Rows of any table: ids made from texts or given, negatives, scores and labels, and what is refused by row."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from harness.errors import DataError
from harness.experiment.data import Columns
from harness.pipeline.rows import Row, check_rows, list_columns, list_labels


def check(columns: dict[str, Any], *rows: dict[str, Any]) -> tuple[Row, ...]:
    return check_rows(rows, Columns(query="q", passage="p", **columns), "train")


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def test_ids_are_made_from_texts_where_there_are_none() -> None:
    assert check({}, {"q": "why", "p": "so"}) == (Row(digest("why"), digest("so"), "why", "so"),)


def test_either_id_may_be_given() -> None:
    row = {"q": "why", "p": "so", "a": "007", "b": 7}
    assert check({"query_id": "a"}, row) == (Row("007", digest("so"), "why", "so"),)
    assert check({"passage_id": "b"}, row) == (Row(digest("why"), "7", "why", "so"),)
    assert check({"query_id": "a", "passage_id": "b"}, row) == (Row("007", "7", "why", "so"),)


@pytest.mark.parametrize(
    ("named", "row"),
    [("n", {"n": ["one", "two"]}), (("n", "m"), {"n": "one", "m": "two"}), (("n", "m"), {"n": ["one"], "m": ["two"]})],
)
def test_negatives_come_from_columns_or_lists(named: Any, row: dict[str, Any]) -> None:
    (made,) = check({"negative": named}, {"q": "why", "p": "so", **row})
    assert made.negatives == ("one", "two")


def test_scores_and_labels_are_numbers() -> None:
    (made,) = check({"score": "s", "label": "l"}, {"q": "why", "p": "so", "s": "-1.50", "l": "2"})
    assert (made.score, made.label) == (-1.5, 2)
    assert check({"score": "s"}, {"q": "why", "p": "so", "s": 0.25})[0].score == 0.25


@pytest.mark.parametrize(
    ("columns", "cells", "said"),
    [
        ({"score": "s"}, {"s": "high"}, "s is 'high', expected a finite number"),
        ({"score": "s"}, {"s": "1e999"}, "s is '1e999', expected a finite number"),
        ({"score": "s"}, {"s": None}, "s is None, expected a finite number"),
        ({"score": "s"}, {"s": True}, "s is True, expected a finite number"),
        ({"label": "l"}, {"l": "-1"}, "l is '-1', expected a whole number from 0 on"),
        ({"label": "l"}, {"l": "1.0"}, "l is '1.0', expected a whole number from 0 on"),
        ({"negative": "n"}, {"n": None}, "n is None, expected text"),
        ({"negative": "n"}, {"n": ["a", ""]}, "n is '', expected text"),
        ({"query_id": "a"}, {"a": "x y"}, "a 'x y' cannot stand in a run"),
        ({"query_id": "a"}, {}, "a is None, expected text or a whole number"),
    ],
)
def test_a_cell_of_another_kind_is_named(columns: dict[str, Any], cells: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError) as caught:
        check(columns, {"q": "why", "p": "so", **cells})
    assert f"row 0: {said}" in str(caught.value)


def test_training_gets_the_columns_in_the_order_asked_for() -> None:
    rows = [Row("1", "2", "q", "p", negatives=("n", "m")), Row("3", "4", "r", "s", negatives=("o", "u"))]
    columns = list_columns(rows, ["passage", "query", "negative", "negative_2"])
    assert list(columns.items()) == [
        ("passage", ["p", "s"]),
        ("query", ["q", "r"]),
        ("negative", ["n", "o"]),
        ("negative_2", ["m", "u"]),
    ]


def test_a_row_with_fewer_negatives_than_asked_for_is_named() -> None:
    with pytest.raises(DataError, match="query '1' has 1 negatives, expected 2"):
        list_columns([Row("1", "2", "q", "p", negatives=("n",))], ["query", "negative_2"])


def test_nothing_to_train_on_is_said() -> None:
    with pytest.raises(DataError, match="there is no row to train on"):
        list_columns([], ["query", "passage"])


def test_scores_and_labels_are_what_a_loss_compares_with() -> None:
    rows = [Row("1", "2", "q", "p", score=0.5, label=1), Row("3", "4", "r", "s", score=2.0, label=0)]
    assert list_labels(rows, "score") == [0.5, 2.0]
    assert list_labels(rows, "label") == [1, 0]


@pytest.mark.parametrize(
    ("name", "row", "said"),
    [
        ("score", Row("1", "2", "q", "p"), "query '1': score is None, expected a number to train on"),
        ("label", Row("1", "2", "q", "p", label=3), "query '1': label is 3, expected 0 or 1 to train on"),
    ],
)
def test_a_row_without_what_a_loss_compares_with_is_an_error(name: str, row: Row, said: str) -> None:
    with pytest.raises(DataError, match=said):
        list_labels([row], name)
