"""Runs and qrels keep their ranking through a file, and nothing a stranger sends breaks more than a DataError."""

from __future__ import annotations

import gzip
import os
import random
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.errors import DataError, HarnessError, StoreError
from harness.records.run import Run, read_run, separate_ties, write_run
from harness.records.trec import MAX_LINE_BYTES, Limits, read_qrels, write_qrels

FLOAT32 = st.floats(width=32, allow_nan=False, allow_infinity=False, min_value=-(2.0**100), max_value=2.0**100)
IDS = st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1, max_size=8)
EXAMPLES = int(os.environ.get("HARNESS_FUZZ_EXAMPLES", "60"))  # raise it to fuzz in earnest
QUICK = settings(max_examples=EXAMPLES, deadline=None)  # a busy machine is no failure
IN_FOLDER = settings(QUICK, suppress_health_check=[HealthCheck.function_scoped_fixture])
GOOD = "q1 Q0 a 1 0.5 t\nq1 Q0 b 2 0.25 t\nq2 Q0 a 1 0.5 t\n"


@st.composite
def runs(draw: st.DrawFn) -> Run:
    """Runs full of ties: few scores, many passages, ordered by the tie rule."""
    query_ids = draw(st.lists(IDS, min_size=1, max_size=4, unique=True))
    few = draw(st.lists(FLOAT32, min_size=1, max_size=3))
    rankings = []
    for _ in query_ids:
        passages = draw(st.lists(IDS, min_size=1, max_size=12, unique=True))
        scored = [(draw(st.sampled_from(few)), passage) for passage in passages]
        rankings.append(sorted(scored, key=lambda pair: (-pair[0], pair[1])))
    return Run(
        tuple(query_ids),
        tuple(tuple(passage for _, passage in ranking) for ranking in rankings),
        tuple(tuple(score for score, _ in ranking) for ranking in rankings),
    )


def one_query(scores: tuple[float, ...], passages: tuple[str, ...]) -> Run:
    return Run(("q",), (passages,), (scores,))


@IN_FOLDER
@given(run=runs(), name=st.sampled_from(["a.trec", "a.trec.gz"]))
def test_a_run_read_back_ranks_the_same_and_writes_the_same_bytes(run: Run, name: str, tmp_path: Path) -> None:
    first, second = tmp_path / name, tmp_path / f"again-{name}"
    write_run(run, first)
    back = read_run(first)
    assert back.query_ids == run.query_ids
    assert back.passage_ids == run.passage_ids
    write_run(back, second)
    assert first.read_bytes() == second.read_bytes()


@QUICK
@given(scores=st.lists(FLOAT32, min_size=1, max_size=30))
def test_separated_scores_strictly_decrease_and_change_only_at_ties(scores: list[float]) -> None:
    ranked = sorted(scores + scores[:3], reverse=True)
    separated = [float(value) for value in separate_ties(tuple(ranked))]
    assert all(low < high for high, low in pairwise(separated))
    assert all(new <= old for new, old in zip(separated, ranked, strict=True))
    if len(set(ranked)) == len(ranked):
        assert separated == ranked


@QUICK
@given(score=FLOAT32)
def test_a_written_score_gives_the_same_float32_back(score: float) -> None:
    text = str(separate_ties((score,))[0])
    assert float(np.float32(float(text))) == score


def test_tied_scores_are_lowered_by_one_unit_each_cascading_over_a_near_neighbour() -> None:
    half = np.float32(0.5)
    below = np.nextafter(half, np.float32(0))
    expected = [half, below, np.nextafter(below, np.float32(0))]
    assert separate_ties((0.5, 0.5, float(below))) == expected


def test_gzip_output_holds_neither_time_nor_name(tmp_path: Path) -> None:
    run = one_query((1.0,), ("a",))
    write_run(run, tmp_path / "one.gz")
    write_run(run, tmp_path / "two.gz")
    data = (tmp_path / "one.gz").read_bytes()
    assert data == (tmp_path / "two.gz").read_bytes()
    assert data[3] == 0  # no flag, so no name
    assert data[4:8] == bytes(4)
    assert gzip.decompress(data) == b"q Q0 a 1 1.0 harness\n"


@pytest.mark.parametrize(
    ("scores", "passages", "message"),
    [
        ((0.1, 0.2), ("a", "b"), r"0\.2 at rank 2 is above 0\.1 at rank 1"),
        ((0.1, float("nan")), ("a", "b"), "nan is not finite"),
        ((float("inf"), 0.1), ("a", "b"), "inf is not finite"),
        ((0.1, 0.1), ("b", "a"), "order of their ids"),
        ((0.2, 0.1), ("a", "a"), "'a' is ranked twice"),
        ((0.2,), ("a", "b"), "2 passages but 1 scores"),
    ],
)
def test_a_run_that_is_no_ranking_is_refused(
    scores: tuple[float, ...], passages: tuple[str, ...], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        one_query(scores, passages)


def test_a_run_with_a_query_twice_or_lists_of_other_length_is_refused() -> None:
    with pytest.raises(DataError, match="twice"):
        Run(("q", "q"), (("a",), ("a",)), ((1.0,), (1.0,)))
    with pytest.raises(DataError, match=r"\(1, 0, 1\)"):
        Run(("q",), (), ((1.0,),))


@pytest.mark.parametrize("bad", ["", " ", "a b", "a\tb", "a\n", "a\u00a0b", "a\u2028b", "a\x1cb", "a\0b", "\ud800"])
def test_an_id_that_a_trec_file_cannot_hold_is_refused_at_writing(bad: str, tmp_path: Path) -> None:
    path = tmp_path / "out"
    with pytest.raises(DataError):
        write_run(one_query((1.0,), (bad,)), path)
    with pytest.raises(DataError):
        write_run(Run((bad,), (("a",),), ((1.0,),)), path)
    with pytest.raises(DataError):
        write_run(one_query((1.0,), ("a",)), path, tag=bad)
    with pytest.raises(DataError):
        write_qrels({bad: {"a": 1}}, path)
    with pytest.raises(DataError):
        write_qrels({"q": {bad: 1}}, path)
    assert not path.exists()


def test_the_longest_ids_that_may_be_written_can_be_read_back(tmp_path: Path) -> None:
    longest = "x" * (MAX_LINE_BYTES // 4)
    run = Run((longest,), ((longest,),), ((-0.0009765625,),))
    write_run(run, tmp_path / "run", tag=longest)
    assert read_run(tmp_path / "run") == run
    with pytest.raises(DataError, match="bytes long"):
        write_run(one_query((1.0,), (longest + "x",)), tmp_path / "run")


def test_what_would_vanish_in_a_file_is_refused_at_writing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no passage"):
        write_run(Run(("q",), ((),), ((),)), tmp_path / "run")
    with pytest.raises(DataError, match="has no judgement"):
        write_qrels({"q": {}}, tmp_path / "qrels")
    with pytest.raises(DataError, match="nothing to write"):
        write_run(Run((), (), ()), tmp_path / "run")


def test_a_score_beyond_float32_is_refused_at_writing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"1e\+39"):
        write_run(one_query((1e39,), ("a",)), tmp_path / "run")
    lowest = float(np.finfo(np.float32).min)
    with pytest.raises(DataError, match="does not fit"):
        write_run(one_query((lowest, lowest), ("a", "b")), tmp_path / "run")


def test_a_folder_that_cannot_be_written_is_a_store_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="missing"):
        write_run(one_query((1.0,), ("a",)), tmp_path / "missing" / "run")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("q1 Q0 a 1 0.5\n", "line 1: 5 fields, expected 6"),
        (GOOD + "\n", "line 4: 0 fields"),
        (GOOD + "q2 Q0 b 2 nan t\n", "line 4: score 'nan'"),
        (GOOD + "q2 Q0 b 2 -inf t\n", "line 4: score '-inf'"),
        (GOOD + "q2 Q0 b 2 1_0 t\n", "line 4: score '1_0'"),
        (GOOD + "q2 Q0 b 2 -1e39 t\n", "line 4: score '-1e39' does not fit"),
        (GOOD + "q2 Q0 b 3 0.1 t\n", "line 4: rank '3', expected 2"),
        (GOOD + "q2 Q0 b 02 0.1 t\n", "line 4: rank '02', expected 2"),
        (GOOD + "q2 Q0 a 2 0.1 t\n", "line 4: passage 'a' is ranked twice"),
        (GOOD + "q2 Q0 b 2 0.75 t\n", "line 4: score 0.75 is above"),
        (GOOD + "q1 Q0 c 3 0.1 t\n", "line 4: query 'q1' comes again"),
        (GOOD + "q3 Q0 b 1 0.5 t\nq3 Q0 a 2 0.5 t\n", "line 5: passage 'a' ties with 'b'"),
        (GOOD + "q3 Q0 b 1 0.5 t\nq3 Q0 a 2 0.4999999999 t\n", "line 5: passage 'a' ties with 'b'"),
        (GOOD + "q2 Q0 b\0 2 0.1 t\n", "line 4: holds a NUL"),
        (GOOD + "q2 Q0 " + "b" * MAX_LINE_BYTES + " 2 0.1 t\n", "line 4: longer than"),
        ("", "no line"),
    ],
)
def test_a_broken_run_file_is_refused_with_file_and_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.trec"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=f"broken.trec.*{message}"):
        read_run(path)


@pytest.mark.parametrize("wrong", ["01", "1.", "1.0", "-1", "+1", "1e0", "2"])
def test_rank_written_otherwise_is_refused(wrong: str, tmp_path: Path) -> None:
    (tmp_path / "run").write_text(f"q Q0 a {wrong} 0.5 t\n", encoding="utf-8")
    with pytest.raises(DataError, match=f"line 1: rank {re.escape(repr(wrong))}, expected 1"):
        read_run(tmp_path / "run")


def test_foreign_files_with_tabs_and_without_a_last_newline_are_read(tmp_path: Path) -> None:
    path = tmp_path / "foreign"
    path.write_text("q\tQ0\ta  1 1e-1 BM25\r\nq 0 b 2 .05 BM25", encoding="utf-8")
    run = read_run(path)
    assert run.passage_ids == (("a", "b"),)
    assert run.scores == ((float(np.float32(0.1)), float(np.float32(0.05))),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("q 0 a\n", "line 1: 3 fields, expected 4"),
        ("q 0 a 1\nq 0 a 0\n", "line 2: 'a' is judged twice"),
        ("q 0 a 1.0\n", "line 1: relevance '1.0'"),
        # trec_eval would set aside 8 GB for it.
        ("q 0 a 999999999\n", "line 1: relevance '999999999', expected a whole number of at most six digits"),
        ("q 0 a " + "9" * 4000 + "\n", "line 1: relevance '9"),
        ("", "no line"),
    ],
)
def test_a_broken_qrels_file_is_refused_with_file_and_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.qrels"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=f"broken.qrels.*{message}"):
        read_qrels(path)


@pytest.mark.parametrize("name", ["qrels", "qrels.gz"])
def test_qrels_read_back_are_those_written_in_their_order(name: str, tmp_path: Path) -> None:
    qrels = {"q2": {"b": 1, "a": 0}, "q1": {"z": -1, "y": 3}}
    write_qrels(qrels, tmp_path / name)
    back = read_qrels(tmp_path / name)
    assert back == qrels
    assert [list(judged) for judged in back.values()] == [["b", "a"], ["z", "y"]]


def test_a_relevance_that_is_no_whole_number_is_refused_at_writing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="relevance True of 'a', expected a whole number"):
        write_qrels({"q": {"a": True}}, tmp_path / "qrels")


def test_a_decompression_bomb_is_stopped_at_the_bound(tmp_path: Path) -> None:
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(b"q 0 a 1\n" + b"0" * 50_000_000, 1))
    with pytest.raises(DataError, match="line 2: longer than"):
        read_qrels(path)
    path.write_bytes(gzip.compress(b"".join(b"q 0 a%d 1\n" % number for number in range(1000))))
    with pytest.raises(DataError, match="longer than 500 bytes"):
        read_qrels(path, limits=Limits(bytes=500))


@pytest.mark.parametrize(("reader", "rest"), [(read_run, "Q0 a 1 0.5 t"), (read_qrels, "0 a 1")])
@pytest.mark.parametrize(("limits", "said"), [(Limits(lines=9), "9 lines"), (Limits(queries=9), "9 queries")])
def test_lines_and_queries_are_counted_since_each_takes_more_room_than_its_bytes(
    reader: Callable[..., object], rest: str, limits: Limits, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "many"
    path.write_text("".join(f"q{number} {rest}\n" for number in range(9)), encoding="utf-8")
    reader(path, limits=limits)
    path.write_text("".join(f"q{number} {rest}\n" for number in range(10)), encoding="utf-8")
    with pytest.raises(DataError, match=f"has more than {said}, the most that are read"):
        reader(path, limits=limits)


@pytest.mark.parametrize(("reader", "rest"), [(read_run, "Q0 a 1 0.5 t"), (read_qrels, "0 a 1")])
def test_a_missing_damaged_or_truncated_file_is_a_data_error(
    reader: Callable[[Path], object], rest: str, tmp_path: Path
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    draw = random.Random(seed)
    whole = gzip.compress("".join(f"{draw.randrange(2**64)} {rest}\n" for _ in range(2000)).encode())
    (tmp_path / "whole.gz").write_bytes(whole)
    reader(tmp_path / "whole.gz")
    flipped = bytearray(whole)
    flipped[draw.randrange(10, len(whole))] ^= 0xFF
    damaged = {
        "cut.gz": whole[: len(whole) // 2],
        "flipped.gz": bytes(flipped),
        "overwritten.gz": whole[:10] + b"\xff" * 100,
        "plain.gz": b"q 0 a 1\n",
        "latin": b"\xe9",
    }
    for name, data in damaged.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match=name):
            reader(tmp_path / name)
    with pytest.raises(DataError, match="nowhere"):
        reader(tmp_path / "nowhere")
    with pytest.raises(DataError, match="cannot be read"):
        reader(tmp_path)


@IN_FOLDER
@given(
    data=st.one_of(
        st.binary(max_size=200),
        st.lists(
            st.sampled_from(
                [
                    "q",
                    "Q0",
                    "a",
                    "b",
                    "1",
                    "2",
                    "0.5",
                    "0",
                    "nan",
                    "1e999",
                    "-",
                    ".",
                    "\n",
                    " ",
                    "\t",
                    "\0",
                    "\x85",
                    "é",
                ],
            ),
            max_size=40,
        ).map(lambda parts: " ".join(parts).encode()),
    ),
    name=st.sampled_from(["x", "x.gz", "packed.gz"]),
)
def test_whatever_a_file_holds_only_a_harness_error_comes_of_it(data: bytes, name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(data) if name.startswith("packed") else data)
    for reader in (read_run, read_qrels):
        try:
            reader(path)
        except HarnessError as error:
            assert str(path) in str(error)  # noqa: PT017 - either outcome is fine, another error is not
