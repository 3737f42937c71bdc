"""A folder of tables as a manifest names it: splits, configs, links, and only those of its files that were checked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.errors import DataError
from harness.experiment.data import Data
from harness.pipeline.dataset import PreparedData
from harness.pipeline.load_data import load_data
from harness.pipeline.rows import Row
from harness.sources.fetch import hash_files
from tests.support.manifests import change, make_rows, parse, write_data, write_rows


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_data(tmp_path / "data")


def load(folder: Path, data: Data | None = None) -> PreparedData:
    return load_data(folder, parse().data["tiny"] if data is None else data, hash_files(folder, "data"))


def test_splits_come_in_the_files_order_with_their_columns_renamed(folder: Path) -> None:
    data = load(folder)
    assert [row.query_id for row in data.train] == [f"r{number}" for number in range(20)]
    assert list(data.select("test").queries) == [f"r{number}" for number in range(20, 28)]
    first = make_rows(0, 1)[0]
    assert data.train[0] == Row.pair("r0", first["question"], first["answer"])


def test_a_list_in_one_json_file_is_as_good_as_lines(folder: Path) -> None:
    lines = load(folder)
    (folder / "test.jsonl").unlink()
    (folder / "train.jsonl").unlink()
    (folder / "train.json").write_text(json.dumps(make_rows(0, 20), indent=1), encoding="utf-8")
    (folder / "test.json").write_text(json.dumps(make_rows(20, 8)), encoding="utf-8")
    assert load(folder) == lines


def test_a_config_of_the_readme_says_which_files_are_meant(folder: Path) -> None:
    lines = load(folder)
    (folder / "train.jsonl").rename(folder / "first.jsonl")
    (folder / "test.jsonl").rename(folder / "second.jsonl")
    readme = """---
configs:
- config_name: pairs
  data_files:
  - {split: train, path: first.jsonl}
  - {split: test, path: second.jsonl}
---
"""
    (folder / "README.md").write_text(readme, encoding="utf-8")
    assert load(folder, parse(change("data.tiny.config", "pairs")).data["tiny"]) == lines


def test_a_file_that_nobody_checked_is_not_read(folder: Path) -> None:
    (folder / ".train-more.jsonl").write_bytes(b"neither checked nor even JSON")
    (folder / "train.txt").write_text("neither", encoding="utf-8")
    assert len(load(folder).train) == 20


@pytest.mark.parametrize("path", ["../secret.jsonl", "{0}/secret.jsonl", "hf://datasets/somebody/private/a.jsonl"])
def test_a_readme_leads_to_no_file_outside_of_the_folder(folder: Path, path: str) -> None:
    write_rows(folder.parent / "secret.jsonl", make_rows(0, 20))
    data_files = f"  - {{split: train, path: '{path.format(folder.parent)}'}}\n  - {{split: test, path: test.jsonl}}\n"
    (folder / "README.md").write_text(f"---\nconfigs:\n- config_name: a\n  data_files:\n{data_files}---\n", "utf-8")
    with pytest.raises(DataError, match="leads out of the source; only its own files are read"):
        load(folder)


def test_files_behind_links_are_read(folder: Path) -> None:
    (folder / "train.jsonl").rename(folder.parent / "elsewhere")
    (folder / "train.jsonl").symlink_to(folder.parent / "elsewhere")
    assert len(load(folder).train) == 20


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("data.tiny.splits.test", "validation", "split 'validation': "),
        ("data.tiny.config", "other", "config 'other': "),
        (
            "data.tiny.columns.query",
            "query",
            "split 'train' has no column 'query'; it has ['id', 'question', 'answer']",
        ),
        ("data.tiny.expect.train_rows", 21, "train: has 20 rows, the manifest says 21"),
        ("data.tiny.expect.test_rows", 7, "test: has 8 rows, the manifest says 7"),
        ("data.tiny.expect.first_train_id", "r1", "train: the first id is 'r0', the manifest says 'r1'"),
    ],
)
def test_a_manifest_that_does_not_fit_the_folder_is_refused(folder: Path, key: str, value: object, said: str) -> None:
    with pytest.raises(DataError) as caught:
        load(folder, parse(change(key, value)).data["tiny"])
    assert said in str(caught.value)


def test_an_empty_file_is_refused(folder: Path) -> None:
    (folder / "test.jsonl").write_text("", encoding="utf-8")
    with pytest.raises(DataError, match="test"):
        load(folder)


def test_a_key_that_some_rows_lack_is_a_missing_text(folder: Path) -> None:
    rows = make_rows(20, 8)
    del rows[3]["answer"]
    write_rows(folder / "test.jsonl", rows)
    with pytest.raises(DataError, match=r"test: rows break a rule in 1 places:\n  row 3 \(id 'r23'\): answer is None"):
        load(folder)
