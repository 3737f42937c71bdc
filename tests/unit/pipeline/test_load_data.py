"""What users bring: tables with and without ids, splits and parts, one file, BEIR; nothing is altered unsaid."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from harness.errors import DataError
from harness.experiment.data import Data
from harness.pipeline.beir_layout import write_beir
from harness.pipeline.dataset import PreparedData, TestData, read_prepared, write_prepared
from harness.pipeline.load_data import draw_parts, load_data
from harness.pipeline.rows import Row, make_id

SOURCE = {"kind": "folder", "path": "data"}
COLUMNS = {"query": "question", "passage": "answer"}
PARTS: dict[str, Any] = {"train": 0.6, "dev": 0.2, "test": 0.2, "salt": "1"}


def load(folder: Path, **data: Any) -> PreparedData:
    files = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    described = {"source": SOURCE, **data}
    prepared = load_data(folder, Data.model_validate_json(json.dumps(described)), files)
    assert_read_back_equal(prepared, folder.parent / f"{folder.name}-prepared")
    return prepared


def assert_read_back_equal(prepared: PreparedData, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    write_prepared(folder, prepared)
    assert read_prepared(folder) == prepared


def write_csv(path: Path, *rows: tuple[str, ...]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows(rows)


def test_five_questions_on_one_passage_share_it(tmp_path: Path) -> None:
    rows = [(f"question {number}?", f"answer {number // 5}") for number in range(10)]
    write_csv(tmp_path / "data" / "train.csv", ("question", "answer"), ("other?", "other"))
    write_csv(tmp_path / "data" / "test.csv", ("question", "answer"), *rows)
    data = load(tmp_path / "data", splits={"train": "train", "test": "test"}, columns=COLUMNS)
    test = data.select("test")
    assert len(test.queries) == 10
    assert list(data.corpus.values()) == ["other", "answer 0", "answer 1"]
    assert test.duplicate_passages == 0
    assert test.qrels[make_id("question 7?")] == {make_id("answer 1"): 1}


def test_a_query_keeps_all_its_passages_also_those_of_other_parts(tmp_path: Path) -> None:
    write_csv(tmp_path / "data" / "train.csv", ("question", "answer"), ("why?", "first"), ("other?", "other"))
    write_csv(tmp_path / "data" / "test.csv", ("question", "answer"), ("why?", "second"), ("why?", "third"))
    data = load(tmp_path / "data", splits={"train": "train", "test": "test"}, columns=COLUMNS)
    expected = {make_id(text): 1 for text in ("first", "second", "third")}
    assert data.select("test").qrels == {make_id("why?"): expected}
    assert data.select("train").qrels[make_id("why?")] == expected
    assert [row.passage for row in data.train] == ["first", "other"]


def test_ids_keep_their_zeros_and_rows_with_an_id_are_never_merged(tmp_path: Path) -> None:
    write_csv(tmp_path / "data" / "train.csv", ("id", "question", "answer"), ("006", "why?", "so"))
    write_csv(tmp_path / "data" / "test.csv", ("id", "question", "answer"), ("007", "why?", "so"), ("7", "why?", "so"))
    data = load(tmp_path / "data", splits={"train": "train", "test": "test"}, columns={**COLUMNS, "id": "id"})
    assert data.corpus == {"006": "so", "007": "so", "7": "so"}
    assert data.select("test").qrels == {"007": {"007": 1}, "7": {"7": 1}}


def test_a_table_of_pairs_may_have_a_test_split_alone(tmp_path: Path) -> None:
    write_csv(tmp_path / "data" / "test.csv", ("id", "question", "answer"), ("1", "why?", "so"), ("2", "who?", "me"))
    data = load(tmp_path / "data", splits={"test": "test"}, columns={**COLUMNS, "id": "id"})
    assert list(data.parts) == ["test"]
    assert data.train == ()


def test_row_numbers_of_each_split_are_refused_with_the_way_out(tmp_path: Path) -> None:
    for split in ("train", "test"):
        write_csv(tmp_path / "data" / f"{split}.csv", ("id", "question", "answer"), ("0", f"{split}?", split))
    with pytest.raises(DataError, match=r"1 ids appear in both train and test: 0; .*leave out columns\.id"):
        load(tmp_path / "data", splits={"train": "train", "test": "test"}, columns={**COLUMNS, "id": "id"})


def test_query_and_passage_ids_say_what_is_the_same(tmp_path: Path) -> None:
    header = ("qid", "pid", "question", "answer")
    write_csv(tmp_path / "data" / "test.csv", header, ("q1", "p1", "why?", "so"), ("q1", "p2", "why?", "so"))
    columns = {**COLUMNS, "query_id": "qid", "passage_id": "pid"}
    data = load(tmp_path / "data", splits={"test": "test"}, columns=columns)
    assert data.select("test").qrels == {"q1": {"p1": 1, "p2": 1}}
    write_csv(tmp_path / "data" / "test.csv", header, ("q1", "p1", "why?", "so"), ("q1", "p2", "how?", "so"))
    with pytest.raises(DataError, match=r"query 'q1' has two texts: 'why\?' and 'how\?'"):
        load(tmp_path / "data", splits={"test": "test"}, columns=columns)


def test_a_passages_id_as_the_rows_id_is_refused_with_the_way_out(tmp_path: Path) -> None:
    rows = [(f"p{number // 5}", f"question {number}?", f"answer {number // 5}") for number in range(10)]
    write_csv(tmp_path / "data" / "test.csv", ("pid", "question", "answer"), *rows)
    with pytest.raises(DataError, match="id 'p0' is listed twice; one that rows share is a passage_id or query_id"):
        load(tmp_path / "data", splits={"test": "test"}, columns={**COLUMNS, "id": "pid"})
    data = load(tmp_path / "data", splits={"test": "test"}, columns={**COLUMNS, "passage_id": "pid"})
    assert data.corpus == {"p0": "answer 0", "p1": "answer 1"}
    assert len(data.select("test").queries) == 10


def test_one_file_without_splits_is_shared_out_so_that_no_passage_crosses_parts(tmp_path: Path) -> None:
    rows = [(f"question {number}?", f"answer {number // 3}") for number in range(300)]
    write_csv(tmp_path / "data" / "faq.csv", ("question", "answer"), *rows)
    data = load(tmp_path / "data", parts=PARTS, columns=COLUMNS)
    passages = {
        part: {passage for judged in data.select(part).qrels.values() for passage in judged} for part in data.tests
    }
    passages["train"] = {row.passage_id for row in data.train}
    assert sum(map(len, passages.values())) == len(set().union(*passages.values())) == 100
    assert {part: abs(len(some) - 100 * float(PARTS[part])) < 12 for part, some in passages.items()} == {
        "dev": True,
        "test": True,
        "train": True,
    }
    assert load(tmp_path / "data", parts=PARTS, columns=COLUMNS) == data


def test_the_salt_decides_the_parts() -> None:
    rows = [Row.pair(f"r{number}", "q", f"p{number}") for number in range(50)]
    parts = Data.model_validate_json(json.dumps({"source": SOURCE, "parts": PARTS, "columns": COLUMNS})).parts
    assert parts is not None
    assert draw_parts(rows, parts) != draw_parts(rows, parts.replace(salt="2"))
    # The first eight bytes of the SHA-256 of "1:p0" as a share, so on every machine and for good.
    place = int(hashlib.sha256(b"1:p0").hexdigest()[:16], 16) / 2**64
    assert rows[0] in draw_parts(rows, parts)["train" if place < 0.6 else "dev" if place < 0.8 else "test"]


def test_a_part_that_gets_no_row_is_said(tmp_path: Path) -> None:
    write_csv(tmp_path / "data" / "faq.csv", ("question", "answer"), ("a?", "same"), ("b?", "same"))
    with pytest.raises(DataError, match="gets none of the 2 rows; there are too few passages"):
        load(tmp_path / "data", parts=PARTS, columns=COLUMNS)


def test_a_label_of_0_is_a_judgement_and_a_score_is_none(tmp_path: Path) -> None:
    header = ("question", "answer", "label", "score")
    write_csv(tmp_path / "data" / "test.csv", header, ("why?", "so", "1", "0.9"), ("why?", "no", "0", "0.1"))
    data = load(tmp_path / "data", splits={"test": "test"}, columns={**COLUMNS, "label": "label"})
    assert data.select("test").qrels == {make_id("why?"): {make_id("so"): 1, make_id("no"): 0}}
    with pytest.raises(
        DataError, match=r"test: query '[0-9a-f]{16}': a score is no judgement; name a column of labels"
    ):
        load(tmp_path / "data", splits={"test": "test"}, columns={**COLUMNS, "score": "score"})


def test_slices_of_one_split(tmp_path: Path) -> None:
    write_csv(tmp_path / "data" / "all.csv", ("question", "answer"), *((f"{n}?", f"{n}") for n in range(10)))
    data = load(tmp_path / "data", splits={"train": "train[:80%]", "test": "train[80%:]"}, columns=COLUMNS)
    assert [row.passage for row in data.train] == [str(number) for number in range(8)]
    assert list(data.select("test").queries.values()) == ["8?", "9?"]


def test_triplets_keep_their_negatives(tmp_path: Path) -> None:
    write_csv(tmp_path / "data" / "train.csv", ("question", "answer", "no"), ("why?", "so", "not so"))
    data = load(tmp_path / "data", splits={"train": "train"}, columns={**COLUMNS, "negative": "no"})
    assert data.train[0].negatives == ("not so",)
    with pytest.raises(DataError, match="part 'test' has no judgements; there are those of none"):
        data.select("test")


@pytest.mark.parametrize("count", [4, 6])
def test_another_number_of_rows_than_expected_is_said(tmp_path: Path, count: int) -> None:
    write_csv(tmp_path / "data" / "test.csv", ("question", "answer"), *((f"{n}?", f"{n}") for n in range(5)))
    with pytest.raises(DataError, match=f"test: has 5 rows, the manifest says {count}"):
        load(tmp_path / "data", splits={"test": "test"}, columns=COLUMNS, expect={"test_rows": count})


def test_a_column_that_is_not_there_is_answered_with_those_there_are(tmp_path: Path) -> None:
    write_csv(tmp_path / "data" / "test.csv", ("question", "text"), ("why?", "so"))
    with pytest.raises(DataError, match=r"split 'test' has no column 'answer'; it has \['question', 'text'\]"):
        load(tmp_path / "data", splits={"test": "test"}, columns=COLUMNS)


# BEIR.

CORPUS = {"p1": "First passage", "p2": "Second", "p3": "Third"}
QRELS = "query-id\tcorpus-id\tscore\nq1\tp1\t2\nq1\tp2\t0\nq2\tp3\t1\n"


def write_beir_folder(folder: Path, *, qrels: str = QRELS, ending: str = "") -> Path:
    lines: dict[str, list[dict[str, Any]]] = {
        "corpus.jsonl": [{"_id": name, "title": "", "text": text} for name, text in CORPUS.items()],
        "queries.jsonl": [{"_id": f"q{number}", "text": f"query {number}", "metadata": {}} for number in range(1, 4)],
    }
    contents = {name: "".join(json.dumps(line) + "\n" for line in some) for name, some in lines.items()}
    for name, text in {**contents, "qrels/test.tsv": qrels}.items():
        path = folder / f"{name}{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(text.encode()) if ending else text.encode())
    return folder


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_beir_has_grades_and_only_judged_queries(tmp_path: Path, ending: str) -> None:
    data = load(write_beir_folder(tmp_path / "data", ending=ending), format="beir")
    expected = TestData({"q1": "query 1", "q2": "query 2"}, CORPUS, {"q1": {"p1": 2, "p2": 0}, "q2": {"p3": 1}})
    assert data.select("test") == expected
    assert data.train == ()


def test_beirs_training_pairs_are_its_relevant_ones(tmp_path: Path) -> None:
    folder = write_beir_folder(tmp_path / "data")
    (folder / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\nq3\tp1\t1\nq3\tp2\t0\n", encoding="utf-8")
    data = load(folder, format="beir", expect={"train_rows": 1, "first_train_id": "q3"})
    assert data.train == (Row("q3", "p1", "query 3", "First passage"),)


def test_a_title_stands_before_its_text(tmp_path: Path) -> None:
    folder = write_beir_folder(tmp_path / "data")
    line = {"_id": "p3", "title": "Title", "text": " kept as it is "}
    text = (folder / "corpus.jsonl").read_text("utf-8").splitlines()[:2]
    (folder / "corpus.jsonl").write_text("\n".join([*text, json.dumps(line)]) + "\n", encoding="utf-8")
    assert load(folder, format="beir").corpus["p3"] == "Title  kept as it is"


def test_what_is_exported_is_read_back_the_same(tmp_path: Path) -> None:
    data = load(write_beir_folder(tmp_path / "data"), format="beir")
    write_beir(tmp_path / "export", dict(data.tests))
    assert load(tmp_path / "export", format="beir") == data


@pytest.mark.parametrize(
    ("qrels", "said"),
    [
        (QRELS + "q1\tp1\t1\n", "test.tsv:5: judges 'p1' for the query 'q1' a second time"),
        (QRELS + "q9\tp1\t1\n", "test.tsv:5: judges the query 'q9', which queries.jsonl does not have"),
        (QRELS + "q1\tp9\t1\n", "test.tsv:5: judges the passage 'p9', which corpus.jsonl does not have"),
        (
            QRELS + "q1\tp3\t9999999\n",
            "test.tsv:5: the grade is '9999999', expected a whole number of at most six digits",
        ),
        ("q1\tp1\t1.5\nq1\tp2\t1\n", "test.tsv:1: the grade is '1.5', expected a whole number"),
        (QRELS + "q1\tp3\thigh\n", "test.tsv:5: the grade is 'high', expected a whole number"),
        (QRELS + "q3\tp3\t0\n", "test: 1 queries have no relevant passage: q3"),
        ("q1 0 p1 1\n", "test.tsv:1: has 1 cells, expected query-id, corpus-id and score"),
        ("query-id\tcorpus-id\tscore\n", "test.tsv: has no judgements"),
    ],
)
def test_judgements_that_do_not_fit_are_named(tmp_path: Path, qrels: str, said: str) -> None:
    with pytest.raises(DataError) as caught:
        load(write_beir_folder(tmp_path / "data", qrels=qrels), format="beir")
    assert said in str(caught.value)


@pytest.mark.parametrize("name", ["corpus.jsonl", "queries.jsonl"])
def test_an_id_of_beir_that_is_listed_twice_is_named(tmp_path: Path, name: str) -> None:
    folder = write_beir_folder(tmp_path / "data")
    first = (folder / name).read_text("utf-8").splitlines()[0]
    with (folder / name).open("a", encoding="utf-8") as stream:
        stream.write(first + "\n")
    with pytest.raises(
        DataError, match=rf"{name}: rows break a rule in 1 places:\n  line 4: _id '[pq]1' is listed twice"
    ):
        load(folder, format="beir")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("corpus.jsonl", "has no corpus.jsonl, which BEIR's layout has"),
        ("qrels/test.tsv", "has neither of qrels/train.tsv, qrels/dev.tsv and qrels/test.tsv"),
    ],
)
def test_a_missing_file_of_beir_is_named(tmp_path: Path, name: str, said: str) -> None:
    folder = write_beir_folder(tmp_path / "data")
    (folder / name).unlink()
    with pytest.raises(DataError) as caught:
        load(folder, format="beir")
    assert said in str(caught.value)
