"""The ranked lists of any system are read as trec_eval reads them, and what could not be meant is named by its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import DataError
from harness.records.foreign_run import note_missing, read_foreign_run
from harness.records.run import Run

QUERIES, PASSAGES = ("q1", "q2"), ("a", "b", "c")


def read(folder: Path, *lines: str, top_k: int = 10) -> Run:
    path = folder / "x.test.run"
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return read_foreign_run(path, queries=QUERIES, passages=PASSAGES, top_k=top_k)


def test_scores_decide_whatever_ranks_and_lines_say(tmp_path: Path) -> None:
    run = read(tmp_path, "q2 Q0 a 1 0.1 x", "q1 Q0 a 0 -1 x", "q2\tQ0\tc\t9\t0.3\tx", "q1 Q0 b 0 2e0 x")
    assert run == Run(("q1", "q2"), (("b", "a"), ("c", "a")), ((2.0, -1.0), (0.30000001192092896, 0.10000000149011612)))


def test_scores_that_are_one_float32_tie_and_the_lower_id_comes_first(tmp_path: Path) -> None:
    run = read(tmp_path, "q1 Q0 c 1 1.00000001 x", "q1 Q0 a 2 1.0 x", "q1 Q0 b 3 0.5 x", top_k=2)
    assert run.passage_ids == (("a", "c"),)
    assert note_missing(run, QUERIES) == ("1 of 2 queries have no ranked list, and count as found nothing: q2",)
    assert note_missing(run, ["q1"]) == ()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("q1 Q0 a 1 0.1", "line 2: 5 fields, expected 6"),
        ("q3 Q0 a 1 0.1 x", "line 2: query 'q3' is not one of the test set's 2"),
        ("q1 Q0 d 1 0.1 x", "line 2: passage 'd' is not one of the corpus's 3"),
        ("q1 Q0 b 1 0.1 x", "line 2: passage 'b' is ranked twice for query 'q1'"),
        ("q1 Q0 a 1 much x", "line 2: score 'much', expected a finite number"),
        ("q1 Q0 a 1 1e39 x", "line 2: score '1e39' does not fit a finite float32"),
        ("q1 Q0 a 1 nan x", "line 2: score 'nan' does not fit a finite float32"),
    ],
)
def test_a_line_that_cannot_be_meant_is_named(tmp_path: Path, line: str, said: str) -> None:
    with pytest.raises(DataError) as caught:
        read(tmp_path, "q1 Q0 b 1 0.5 x", line)
    assert str(caught.value) == f"{tmp_path / 'x.test.run'}, {said}"


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no line, expected a ranked passage in each"):
        read(tmp_path)
