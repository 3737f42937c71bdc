"""Files as users have them: prepared as version 1 did, texts as they stand, any part judged, and told to the lock."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.errors import DataError
from harness.experiment.data import Data
from harness.experiment.data_facts import DataFacts, PartFacts
from harness.experiment.lock import Lock
from harness.pipeline.dataset import PreparedData, read_prepared, write_prepared
from harness.pipeline.load_data import load_data
from harness.pipeline.run_trial import check_facts
from harness.sources.fetch import hash_files
from tests.support.manifests import make_rows, parse, write_data, write_rows

SPLITS = {"train": "train", "test": "test"}
COLUMNS = {"query": "question", "passage": "answer"}
WITH_ID = {**COLUMNS, "id": "id"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_data(tmp_path / "data")


def describe(columns: Mapping[str, Any] = COLUMNS, **others: Any) -> Data:
    """Return data of a folder with the splits train and test, unless others are said."""
    layout = {} if "parts" in others else {"splits": SPLITS}
    return Data.model_validate(
        {"source": {"kind": "folder", "path": "data"}, "columns": dict(columns), **layout, **others}
    )


def load(folder: Path, data: Data | None = None) -> PreparedData:
    return load_data(folder, parse().data["tiny"] if data is None else data, hash_files(folder, "data"))


def write_csv(path: Path, rows: Sequence[Sequence[str]], header: Sequence[str] = ("question", "answer")) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, delimiter="\t" if path.suffix == ".tsv" else ",").writerows([header, *rows])
    return path


def test_what_version_1_prepared_is_prepared_byte_for_byte(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "prepared"
    target.mkdir()
    write_prepared(target, load(folder))
    for name, rows in (("train", make_rows(0, 20)), ("test", make_rows(20, 8))):
        pairs = [{"id": row["id"], "anchor": row["question"], "positive": row["answer"]} for row in rows]
        lines = "".join(json.dumps(pair, ensure_ascii=False) + "\n" for pair in pairs)
        assert (target / f"{name}.jsonl").read_text(encoding="utf-8") == lines
    judged = "".join(f"r{number} 0 r{number} 1\n" for number in range(20, 28))
    assert gzip.decompress((target / "qrels.gz").read_bytes()).decode() == judged
    assert sorted(path.name for path in target.iterdir()) == ["qrels.gz", "test.jsonl", "train.jsonl"]


# What a reader of tables likes to take for something else.

AS_WRITTEN = ("NA", "null", "1.0", "007", "2024-01-02", "true", "nan", "1e5", " padded ", "1,5", '"quoted"', "٣")


@pytest.mark.parametrize("kind", ["csv", "tsv", "csv.gz", "jsonl", "json", "parquet"])
def test_texts_and_ids_stay_as_they_stand_in_the_file(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "data"
    rows = [(f"00{number}", text, f"{text}!") for number, text in enumerate(AS_WRITTEN)]
    named = [dict(zip(("id", "question", "answer"), row, strict=True)) for row in rows]
    path = folder / f"all.{kind}"
    folder.mkdir()
    if kind in {"csv", "tsv", "csv.gz"}:
        plain = write_csv(folder / f"all.{kind[:3]}", rows, ("id", "question", "answer"))
        if kind == "csv.gz":
            path.write_bytes(gzip.compress(plain.read_bytes()))
            plain.unlink()
    elif kind == "parquet":
        import pyarrow as pa
        from pyarrow import parquet

        parquet.write_table(pa.Table.from_pylist(named), path)
    else:
        text = json.dumps(named) if kind == "json" else "".join(json.dumps(row) + "\n" for row in named)
        path.write_text(text, encoding="utf-8")
    data = load(folder, describe(WITH_ID, parts={"test": 1.0, "salt": "1"}))
    assert list(data.select("test").queries.items()) == [row[:2] for row in rows]
    assert list(data.corpus.values()) == [row[2] for row in rows]


@pytest.mark.parametrize("value", [None, True, ["a"], {"a": "b"}])
def test_json_that_is_no_text_is_refused_as_what_it_is(tmp_path: Path, value: object) -> None:
    write_rows(tmp_path / "a.jsonl", [{"question": "why", "answer": value}])
    with pytest.raises(DataError) as caught:
        load(tmp_path, describe(parts={"test": 1.0, "salt": "1"}))
    assert f"row 0: answer is {value!r}, expected text" in str(caught.value)


def test_numbers_in_json_are_no_text_but_may_be_ids_in_their_literal_digits(tmp_path: Path) -> None:
    data = describe(WITH_ID, parts={"test": 1.0, "salt": "1"})
    (tmp_path / "a.jsonl").write_text('{"question": "why", "answer": "so", "id": 17}\n', encoding="utf-8")
    assert load(tmp_path, data).select("test").qrels == {"17": {"17": 1}}
    (tmp_path / "a.jsonl").write_text('{"question": "why", "answer": 1.50, "id": 17}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"row 0 \(id '17'\): answer is the number 1\.50, expected text"):
        load(tmp_path, data)
    (tmp_path / "a.jsonl").write_text('{"question": "why", "answer": "so", "id": 1.0}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"row 0: id is 1\.0, expected text or a whole number"):
        load(tmp_path, data)


def test_a_question_keeps_all_its_passages(tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", [("one?", "a"), ("two?", "b")])
    write_csv(tmp_path / "test.csv", [("one?", "c"), ("three?", "d"), ("three?", "e"), ("three?", "d")])
    test = load(tmp_path, describe()).select("test")
    found = {test.queries[query]: {test.corpus[one] for one in judged} for query, judged in test.qrels.items()}
    assert found == {"one?": {"a", "c"}, "three?": {"d", "e"}}


def test_the_parts_do_not_depend_on_the_order_of_rows(tmp_path: Path) -> None:
    rows = [(f"question {number}?", f"passage {number}") for number in range(40)]
    parts = {"train": 0.5, "test": 0.5, "salt": "1"}
    loaded = []
    for some in (rows, rows[::-1]):
        write_csv(tmp_path / "a.csv", some)
        loaded.append(load(tmp_path, describe(parts=parts)))
    assert set(loaded[0].train) == set(loaded[1].train)


def test_negatives_scores_and_labels_are_carried_to_training_and_back_from_disk(tmp_path: Path) -> None:
    header = ("question", "answer", "bad", "worse", "score", "label")
    write_csv(tmp_path / "train.csv", [("one?", "a", "x", "y", "0.5", "1"), ("two?", "b", "z", "y", "1", "0")], header)
    write_csv(tmp_path / "test.csv", [("three?", "c", "x", "y", "0.5", "2")], header)
    columns = {**COLUMNS, "negative": ("bad", "worse"), "score": "score", "label": "label"}
    data = load(tmp_path, describe(columns))
    assert [(row.negatives, row.score, row.label) for row in data.train] == [(("x", "y"), 0.5, 1), (("z", "y"), 1.0, 0)]
    target = tmp_path / "prepared"
    target.mkdir()
    write_prepared(target, data)
    assert read_prepared(target) == data


@pytest.mark.parametrize("part", ["train", "dev", "test"])
def test_any_part_can_be_the_test_set(tmp_path: Path, part: str) -> None:
    for number, split in enumerate(("train", "dev", "test")):
        write_csv(tmp_path / f"{split}.csv", [(f"{number} a?", f"{number} a"), (f"{number} b?", f"{number} b")])
    data = load(tmp_path, describe(splits={"train": "train", "dev": "validation", "test": "test"}))
    target = tmp_path / "prepared"
    target.mkdir()
    write_prepared(target, data)
    found = read_prepared(target).select(part)  # type: ignore[arg-type]
    assert found == data.select(part)  # type: ignore[arg-type]
    number = ("train", "dev", "test").index(part)
    assert list(found.queries.values()) == [f"{number} a?", f"{number} b?"]
    assert len(found.corpus) == 6
    assert all(len(judged) == 1 for judged in found.qrels.values())


def test_a_part_that_is_not_there_is_named(folder: Path) -> None:
    with pytest.raises(DataError, match="part 'dev' has no judgements; there are those of test"):
        load(folder).select("dev")


def test_rows_and_first_ids_of_every_part_are_told_also_of_data_from_disk(tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", [("one?", "a"), ("two?", "a"), ("one?", "b")])
    write_csv(tmp_path / "test.csv", [("three?", "a")])
    data = load(tmp_path, describe())
    target = tmp_path / "prepared"
    target.mkdir()
    write_prepared(target, data)
    first, third = (hashlib.sha256(text.encode()).hexdigest()[:16] for text in ("one?", "three?"))
    assert read_prepared(target).facts == DataFacts(
        parts={"train": PartFacts(rows=3, first_id=first), "test": PartFacts(rows=1, first_id=third)},
        passages=2,
        duplicate_passages=0,
    )


def test_data_that_are_not_what_was_locked_are_refused(tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", [("one?", "a"), ("two?", "a")])
    write_csv(tmp_path / "test.csv", [("three?", "a")])
    data = load(tmp_path, describe())
    lock = Lock(schema_version=2, experiment="tiny", sources_digest="", sources={}, data={"faq": data.facts})
    check_facts("faq", data, lock)
    check_facts("other", data, lock)
    write_csv(tmp_path / "train.csv", [("one?", "a")])
    with pytest.raises(DataError) as caught:
        check_facts("faq", load(tmp_path, describe()), lock)
    assert str(caught.value).startswith(
        "data.faq: train has 1 rows, the lock says 2: the manifest's part on it changed"
    )
    assert str(caught.value).endswith("then: harness lock tiny")
