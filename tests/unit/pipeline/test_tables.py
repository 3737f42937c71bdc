"""Cells come as the text that stands in the file, whatever a reader would take it for; a broken file is named."""

from __future__ import annotations

import csv
import gzip
import json
import time
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from harness.errors import DataError
from harness.pipeline import tables
from harness.pipeline.tables import read_json_lines, read_table

# What readers take for numbers, dates, booleans and missing values.
TEXTS = [
    "007",
    "1e5",
    "1.50",
    "-0",
    "NA",
    "NaN",
    "null",
    "None",
    "n/a",
    "",
    "2024-01-02",
    "true",
    "01:02",
    " x ",
    "ä\u2028b",
]


def write(path: Path, texts: list[str]) -> Path:
    """Write a column of texts as the kind of table that the path says."""
    kind = path.name.removesuffix(".gz").rpartition(".")[2]
    rows = [{"id": f"r{number}", "text": text} for number, text in enumerate(texts)]
    if kind == "parquet":
        parquet.write_table(pa.Table.from_pylist(rows), path)
        content = path.read_bytes()
    elif kind == "json":
        content = json.dumps(rows, indent=1).encode()
    elif kind == "jsonl":
        content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    else:
        with path.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, delimiter="\t" if kind == "tsv" else ",")
            writer.writerow(["id", "text"])
            writer.writerows(row.values() for row in rows)
        content = path.read_bytes()
    path.write_bytes(gzip.compress(content) if path.name.endswith(".gz") else content)
    return path


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("kind", ["csv", "tsv", "json", "jsonl", "parquet"])
def test_text_is_never_taken_for_anything_else(tmp_path: Path, kind: str, ending: str) -> None:
    texts = [*TEXTS, 'a "quoted", one', "two\nlines", "tab\there", "x" * 200_000]
    table = read_table(write(tmp_path / f"a.{kind}{ending}", texts), ["text"])
    assert table.names == ("id", "text")
    assert [row["text"] for row in table.rows] == texts
    assert set(table.rows[0]) == {"text"}


def test_reading_long_cells_leaves_the_csv_readers_limit_as_it_was(tmp_path: Path) -> None:
    before = csv.field_size_limit()
    read_table(write(tmp_path / "a.csv", ["x" * 200_000]))
    assert csv.field_size_limit() == before


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_numbers_of_json_are_as_they_are_spelt(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(
        '{"a": 1.50, "b": 007e0, "c": 1}\n'.replace("007e0", "7E+2") + '{"a": -0, "b": 1e999}\n'
    )
    rows = read_table(tmp_path / name).rows
    assert rows == [{"a": "1.50", "b": "7E+2", "c": "1"}, {"a": "-0", "b": "1e999"}]


def test_a_number_of_6000_digits_is_text(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": ' + "9" * 6000 + "}\n", encoding="utf-8")
    assert read_table(tmp_path / "a.jsonl").rows == [{"id": "9" * 6000}]


def test_what_is_no_text_is_kept_to_be_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"a": null, "b": true, "c": ["x"]}\n', encoding="utf-8")
    assert read_table(tmp_path / "a.jsonl").rows == [{"a": None, "b": True, "c": ["x"]}]
    row: dict[str, Any] = {"a": date(2024, 1, 2), "b": 1.0, "c": None, "d": 7, "e": ["x"]}
    parquet.write_table(pa.Table.from_pylist([row]), tmp_path / "a.parquet")
    assert read_table(tmp_path / "a.parquet").rows == [{**row, "d": "7"}]


def test_a_mark_of_byte_order_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("\ufeffid,text\n1,a\n".encode())
    assert read_table(tmp_path / "a.csv").names == ("id", "text")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", 'id,text\n1,"a\n2,b\n', ":3: broken quotes: unexpected end of data"),
        ("a.csv", 'id,text\n1,"a"b\n', ":2: broken quotes: "),
        ("a.csv", "id,text\n1,a\n2,b,c\n", ":3: the row has 3 cells, the header has 2"),
        ("a.csv", "id,text\n1\n", ":2: the row has 1 cells, the header has 2"),
        ("a.tsv", "id\tid\n1\t2\n", ": two columns are called 'id'"),
        ("a.jsonl", '{"id": "a"}\n{"id": "a", "text": ', ":2: broken JSON at column 21: Expecting value"),
        ("a.jsonl", '{"id": "a"} {"id": "b"}', ":1: broken JSON at column 13: Extra data"),
        ("a.jsonl", '{"id": "a"}\n\n', ":2: broken JSON: the line is empty"),
        ("a.jsonl", '["a"]', ":1: expected an object, found list"),
        ("a.jsonl", "[" * 100_000, ":1: broken JSON: nested too deeply"),
        ("a.json", '[\n {"id": "a"},\n {"id": }\n]', ":3: broken JSON at column 9: Expecting value"),
        ("a.json", '{"id": "a"}\n{"id": \n', ":2: broken JSON at column 8: Expecting value"),
        ("a.json", "[" * 100_000, ": broken JSON: nested too deeply"),
        ("a.json", '[{"id": "a"}, 7]', ": row 1: expected an object, found Number"),
        ("a.parquet", "PAR1 no", ": broken Parquet: "),
        ("a.csv.gz", "no gzip", ": cannot be read: Not a gzipped file"),
        ("a.txt", "", ": expected a table (.csv, .tsv, "),
    ],
)
def test_a_broken_file_is_named_with_its_line(tmp_path: Path, name: str, content: str, said: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read_table(tmp_path / name)
    assert str(caught.value).startswith(f"{tmp_path / name}{said}")


@pytest.mark.parametrize("name", ["a.csv.gz", "a.jsonl.gz", "a.json.gz", "a.tsv.gz"])
def test_a_small_file_that_holds_gigabytes_is_refused(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "MOST_BYTES", 2**20)
    (tmp_path / name).write_bytes(gzip.compress(b'["' + b" " * 2**23))
    with pytest.raises(DataError, match=rf"{name}: holds more than 1048576 bytes, the most that are read"):
        read_table(tmp_path / name)


def test_parquet_that_says_one_text_a_million_times_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MOST_BYTES", 2**20)
    parquet.write_table(pa.table({"text": ["word " * 2000] * 5000}), tmp_path / "a.parquet")
    assert (tmp_path / "a.parquet").stat().st_size < 20_000
    with pytest.raises(DataError, match=r"a\.parquet: holds more than \d+ bytes"):
        read_table(tmp_path / "a.parquet")


@pytest.mark.parametrize("kind", [pa.date32(), pa.duration("s")], ids=str)
def test_a_date_that_python_cannot_say_is_broken_parquet(tmp_path: Path, kind: pa.DataType) -> None:
    values = pa.array([2**31 - 1 if kind == pa.date32() else 2**62], kind)
    parquet.write_table(pa.table({"text": values}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"a\.parquet: broken Parquet: "):
        read_table(tmp_path / "a.parquet")


def test_a_table_of_many_columns_takes_no_longer_than_it_is(tmp_path: Path) -> None:
    names = [f"c{number}" for number in range(100_000)]
    (tmp_path / "a.csv").write_text(",".join(names) + "\n", encoding="utf-8")
    started = time.process_time()
    assert read_table(tmp_path / "a.csv").names == tuple(names)
    assert time.process_time() - started < 20  # comparing each with each took minutes


@pytest.mark.parametrize("kind", ["csv", "jsonl", "json"])
def test_a_file_that_is_not_utf8_is_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    path.write_bytes(b'{"id": "\xff"}\n')
    with pytest.raises(DataError, match=r"cannot be read: 'utf-8' codec"):
        read_table(path)


@pytest.mark.parametrize("kind", ["csv", "json", "jsonl", "parquet"])
def test_a_compressed_file_that_is_cut_is_named(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path / f"a.{kind}.gz", ["some text"] * 100)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"a\..*\.gz: cannot be read: "):
        read_table(path)


def test_lines_are_numbered(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"a": 1}\r\n{"a": "x\u2028y"}\n', encoding="utf-8")
    assert list(read_json_lines(tmp_path / "a.jsonl")) == [(1, {"a": "1"}), (2, {"a": "x\u2028y"})]
