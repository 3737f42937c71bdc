"""Test sets leave in BEIR's layout: the same data, the same bytes, grades and all parts in their places."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.errors import DataError, StoreError
from harness.pipeline.beir_layout import write_beir
from harness.pipeline.dataset import TestData

CORPUS = {"p1": "über eins", "p2": "two\nlines"}
TEST = TestData({"q1": "one?"}, CORPUS, {"q1": {"p1": 2, "p2": 0}})
DEV = TestData({"q2": "two?"}, CORPUS, {"q2": {"p2": 1}})


def test_corpus_queries_and_graded_judgements_are_written(tmp_path: Path) -> None:
    paths = write_beir(tmp_path / "new", {"test": TEST, "dev": DEV})
    names = [path.relative_to(tmp_path / "new").as_posix() for path in paths]
    assert names == ["corpus.jsonl", "queries.jsonl", "qrels/test.tsv", "qrels/dev.tsv"]
    corpus, queries, test, dev = (path.read_text(encoding="utf-8") for path in paths)
    assert [json.loads(line) for line in corpus.splitlines()] == [
        {"_id": "p1", "title": "", "text": "über eins"},
        {"_id": "p2", "title": "", "text": "two\nlines"},
    ]
    assert [json.loads(line)["_id"] for line in queries.splitlines()] == ["q1", "q2"]
    assert test == "query-id\tcorpus-id\tscore\nq1\tp1\t2\nq1\tp2\t0\n"
    assert dev == "query-id\tcorpus-id\tscore\nq2\tp2\t1\n"


def test_one_id_for_two_queries_is_refused(tmp_path: Path) -> None:
    other = TestData({"q1": "another?"}, CORPUS, {"q1": {"p2": 1}})
    with pytest.raises(DataError, match="query 'q1' has another text in part 'dev' than before"):
        write_beir(tmp_path, {"test": TEST, "dev": other})


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(StoreError, match=r"file/corpus\.jsonl: cannot be written"):
        write_beir(tmp_path / "file", {"test": TEST})
