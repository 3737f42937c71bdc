"""Rows become pairs, queries, corpus and qrels; a row that breaks a rule is named before any time is spent on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.errors import DataError
from harness.experiment.data import Columns, Data, Expect
from harness.pipeline.dataset import (
    PreparedData,
    TestData,
    check_relevance,
    prepare_rows,
    read_prepared,
    write_prepared,
)
from harness.pipeline.load_data import load_data
from harness.pipeline.rows import Row, check_rows
from tests.support.manifests import change, parse, write_rows

COLUMNS = Columns(query="question", passage="answer", id="id")
TRAIN = (Row.pair("t1", "one", "same text"), Row.pair("t2", "two", "other"))
TEST = (Row.pair("q1", "three", "same text"), Row.pair("q2", "four", "last"))


def check(*rows: dict[str, Any]) -> tuple[Row, ...]:
    return check_rows(rows, COLUMNS, "train")


def make(**changes: Any) -> dict[str, Any]:
    return {"id": "a", "question": "why", "answer": "so", **changes}


def prepare(train: tuple[Row, ...] = TRAIN) -> PreparedData:
    return prepare_rows({"train": train, "test": TEST}, merge=False)


def test_columns_are_renamed_and_whole_numbers_become_ids() -> None:
    assert check(make(id=17, answer=" kept as it is\n")) == (Row.pair("17", "why", " kept as it is\n"),)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"question": ""}, "row 0 (id 'a'): question is '', expected text"),
        ({"question": " \t\n "}, "row 0 (id 'a'): question is ' \\t\\n ', expected text"),
        ({"answer": None}, "row 0 (id 'a'): answer is None, expected text"),
        ({"answer": ["so"]}, "row 0 (id 'a'): answer is ['so'], expected text"),
        ({"answer": ["so"] * 500_000}, "row 0 (id 'a'): answer is ['so', 'so'"),
        ({"answer": "\ud800"}, "row 0 (id 'a'): answer cannot be written as UTF-8: '\\ud800'"),
        ({"id": ""}, "row 0: id is '', expected text or a whole number"),
        ({"id": None}, "row 0: id is None, expected text or a whole number"),
        ({"id": 1.0}, "row 0: id is 1.0, expected text or a whole number"),
        ({"id": True}, "row 0: id is True, expected text or a whole number"),
        ({"id": "a b"}, "row 0: id 'a b' cannot stand in a run: expected no white space"),
        ({"id": "a\u2003b"}, "row 0: id 'a\\u2003b' cannot stand in a run: expected no white space"),
        ({"id": "a "}, "row 0: id 'a ' cannot stand in a run"),
        ({"id": "a\0"}, "row 0: id 'a\\x00' cannot stand in a run"),
        ({"id": "x" * 2000}, "and at most 1024 bytes of UTF-8"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_row_that_breaks_a_rule_is_named(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError) as caught:
        check(make(**changes))
    assert str(caught.value).startswith("train: rows break a rule in 1 places:\n  row 0")
    assert said in str(caught.value)


def test_an_id_that_is_listed_twice_is_named_even_as_text_and_as_number() -> None:
    with pytest.raises(DataError, match="row 1: id '1' is listed twice"):
        check(make(id=1), make(id="1"))


def test_the_first_problems_are_shown_and_all_counted() -> None:
    with pytest.raises(DataError) as caught:
        check(*(make(id=f"a{number}", answer="") for number in range(8)))
    said = str(caught.value)
    assert "in 8 places" in said
    assert "row 4" in said
    assert "row 5" not in said
    assert said.endswith("and 3 more")


def test_the_corpus_has_all_positives_and_the_queries_are_those_of_test() -> None:
    data = prepare()
    assert data.corpus == {"t1": "same text", "t2": "other", "q1": "same text", "q2": "last"}
    assert data.select("test").queries == {"q1": "three", "q2": "four"}
    assert data.select("test").qrels == {"q1": {"q1": 1}, "q2": {"q2": 1}}


def test_duplicate_passages_are_counted() -> None:
    assert prepare().select("test").duplicate_passages == 1
    assert prepare(TRAIN[1:]).select("test").duplicate_passages == 0


def test_an_id_of_train_and_test_is_refused() -> None:
    with pytest.raises(DataError, match="1 ids appear in both train and test: q1"):
        prepare((*TRAIN, TEST[0]))


@pytest.mark.parametrize(
    ("qrels", "said"),
    [
        ({"q1": {"p1": 1}}, "1 queries have no relevant passage: q2"),
        ({"q1": {"p1": 1}, "q2": {"p1": 0}}, "1 queries have no relevant passage: q2"),
        ({"q1": {"p1": 1}, "q2": {"p1": 1}, "q3": {"p1": 1}}, "1 judged queries are not among the queries: q3"),
        ({"q1": {"p1": 1}, "q2": {"p2": 1}}, "1 judged passages are not in the corpus: q2 -> p2"),
    ],
)
def test_a_query_without_its_passage_is_refused_by_name(qrels: dict[str, dict[str, int]], said: str) -> None:
    with pytest.raises(DataError, match=said):
        check_relevance("test", TestData({"q1": "a", "q2": "b"}, {"p1": "c"}, qrels))


def test_prepared_data_read_back_equal_and_are_written_the_same_twice(tmp_path: Path) -> None:
    odd = (*TRAIN, Row.pair("t3", "with\u2028separator", "and\nlines \U0001f600"))
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_prepared(tmp_path / name, prepare(odd))
    assert read_prepared(tmp_path / "one") == prepare(odd)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_pairs_without_a_part_train_read_back_without_one(tmp_path: Path) -> None:
    """The lock keeps the parts: one that appeared on the way would refuse every run."""
    data = prepare_rows({"test": TEST}, merge=False)
    write_prepared(tmp_path, data)
    assert read_prepared(tmp_path) == data
    assert list(read_prepared(tmp_path).facts.parts) == ["test"]


def test_prepared_data_that_were_changed_are_refused(tmp_path: Path) -> None:
    write_prepared(tmp_path, prepare())
    write_rows(tmp_path / "test.jsonl", [{"id": "q1", "anchor": "three", "positive": "same text"}])
    with pytest.raises(DataError, match=r"qrels\.gz: not the qrels of the rows beside it"):
        read_prepared(tmp_path)


# Ontologies.


def make_ontology(folder: Path, terms: int) -> Data:
    stanza = '[Term]\nid: {0}\ndef: "definition {0}" []\nsynonym: "synonym {0}" EXACT []\n'
    folder.mkdir(exist_ok=True)
    (folder / "a.obo").write_text("\n".join(stanza.format(number) for number in range(terms)), encoding="utf-8")
    data = change("data.tiny", {"format": "obo"})["data"]["tiny"]
    data["source"] = {"kind": "folder", "path": "."}
    data["selection"] = {"salt": "s", "train_rows": 3, "test_rows": 2}
    return parse(change("data.tiny", data)).data["tiny"]


def load(folder: Path, data: Data) -> PreparedData:
    return load_data(folder, data, [path.name for path in folder.iterdir()])


def test_an_ontology_gives_train_and_test(tmp_path: Path) -> None:
    data = load(tmp_path, make_ontology(tmp_path, 6))
    assert (len(data.train), len(data.select("test").queries)) == (3, 2)
    assert data.train == tuple(
        Row.pair(row.query_id, f"synonym {row.query_id}", f"definition {row.query_id}") for row in data.train
    )


def test_an_ontology_may_be_for_the_test_alone(tmp_path: Path) -> None:
    described = make_ontology(tmp_path, 6)
    assert described.selection is not None
    described = described.replace(selection=described.selection.replace(train_rows=None))
    assert described.part_names == ("test",)
    data = load(tmp_path, described)
    (tmp_path / "prepared").mkdir()
    write_prepared(tmp_path / "prepared", data)
    assert read_prepared(tmp_path / "prepared") == data
    assert (data.train, list(data.parts)) == ((), ["test"])


def test_two_ontologies_are_refused(tmp_path: Path) -> None:
    data = make_ontology(tmp_path, 6)
    (tmp_path / "b.obo").write_text("", encoding="utf-8")
    with pytest.raises(DataError, match=r"has 2 \.obo files, expected 1"):
        load(tmp_path, data)


def test_another_first_row_than_the_manifests_is_refused(tmp_path: Path) -> None:
    data = make_ontology(tmp_path, 6).replace(expect=Expect(first_test_id="none"))
    with pytest.raises(DataError, match=r"test: the first id is '[0-9]', the manifest says 'none'"):
        load(tmp_path, data)
