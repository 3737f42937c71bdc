"""A split is the files that its README or its files' names say, and never one that was not hashed."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import DataError
from harness.pipeline.split_files import Split, find_files


def find(folder: Path, *files: str, config: str | None = None, split: str | None = "train") -> list[str]:
    return find_files(folder, files, config=config, split=split)


def write_readme(folder: Path, configs: str) -> None:
    (folder / "README.md").write_text(f"---\nlicense: mit\nconfigs:\n{configs}\n---\n\n# Data\n", encoding="utf-8")


@pytest.mark.parametrize(
    ("files", "split", "expected"),
    [
        (["test.jsonl", "train.jsonl"], "train", ["train.jsonl"]),
        (["b_train_2.csv", "a-train-1.csv", "test.csv"], "train", ["a-train-1.csv", "b_train_2.csv"]),
        (["train/1.csv", "train/0.csv", "test/0.csv"], "train", ["train/0.csv", "train/1.csv"]),
        (["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"], "train", None),
        (
            ["data/extra-00000-of-00001.parquet", "data/train-00000-of-00001.parquet"],
            "extra",
            ["data/extra-00000-of-00001.parquet"],
        ),
        (["dev.tsv.gz", "train.tsv.gz"], "validation", ["dev.tsv.gz"]),
        (["eval.csv", "train.csv"], "test", ["eval.csv"]),
        (["faq.csv"], "train", ["faq.csv"]),
        (["faq.csv", "more.csv"], None, ["faq.csv", "more.csv"]),
        (["train.csv", "test.csv", "dataset_infos.json"], None, ["test.csv", "train.csv"]),
        (["pairs/a.csv", "b.csv"], "pairs/a.csv", ["pairs/a.csv"]),
        (["contest.csv", "strained.csv"], "train", ["contest.csv", "strained.csv"]),
    ],
)
def test_files_names_say_the_splits(
    tmp_path: Path, files: list[str], split: str | None, expected: list[str] | None
) -> None:
    assert find(tmp_path, *files, split=split) == (sorted(files) if expected is None else expected)


def test_a_config_may_be_a_folder(tmp_path: Path) -> None:
    assert find(tmp_path, "en/train.csv", "de/train.csv", config="de") == ["de/train.csv"]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("- config_name: qa\n  data_files: a.csv", ["a.csv"]),
        ("- config_name: qa\n  data_files: ['b.csv', 'a.csv']", ["b.csv", "a.csv"]),
        (
            "- config_name: qa\n  data_files:\n  - {split: train, path: 'd/*.csv'}\n  - {split: test, path: a.csv}",
            ["d/x.csv"],
        ),
        ("- config_name: qa\n  data_files: {train: ['d/**'], test: a.csv}", ["d/e/y.csv", "d/x.csv"]),
        ("- config_name: qa\n  data_dir: d\n  data_files: '*.csv'", ["d/x.csv"]),
        ("- config_name: qa\n  data_files: '**/[xy].csv'", ["d/e/y.csv", "d/x.csv"]),
        ("- config_name: other\n  data_files: b.csv\n- config_name: qa\n  data_files: a.csv", ["a.csv"]),
    ],
)
def test_the_readme_says_the_splits(tmp_path: Path, said: str, expected: list[str]) -> None:
    write_readme(tmp_path, said)
    files = ("README.md", "a.csv", "b.csv", "d/x.csv", "d/e/y.csv")
    assert find(tmp_path, *files, config="qa") == expected


def test_the_default_config_is_taken_where_none_is_asked_for(tmp_path: Path) -> None:
    write_readme(
        tmp_path, "- config_name: a\n  data_files: a.csv\n- config_name: b\n  data_files: b.csv\n  default: true"
    )
    assert find(tmp_path, "README.md", "a.csv", "b.csv") == ["b.csv"]


def test_yaml_that_would_take_seconds_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    write_readme(tmp_path, "".join(f"- config_name: c{number}\n  data_files: a.csv\n" for number in range(7000)))
    with pytest.raises(DataError, match=r"README.md: its YAML has 2\d{5} characters, at most 262144 are read"):
        find(tmp_path, "README.md", "a.csv")
    # What stands below it is not parsed.
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n" + "x" * 500_000, encoding="utf-8")
    assert find(tmp_path, "README.md", "a.csv") == ["a.csv"]


def test_a_readme_that_was_not_hashed_says_nothing(tmp_path: Path) -> None:
    write_readme(tmp_path, "- config_name: a\n  data_files: other.csv")
    assert find(tmp_path, "train.csv", "other.csv") == ["train.csv"]


@pytest.mark.parametrize(
    "path",
    [
        "/etc/secret.csv",
        "../secret.csv",
        "d/../../secret.csv",
        "hf://datasets/somebody/private/x.csv",
        "https://example.com/x.csv",
        "file:///etc/x.csv",
        "zip://x.csv::a.zip",
        "C:/x.csv",
        "..\\\\secret.csv",
    ],
)
def test_a_path_that_leads_out_of_the_source_is_refused(tmp_path: Path, path: str) -> None:
    write_readme(tmp_path, f'- config_name: qa\n  data_files: "{path}"')
    with pytest.raises(DataError, match="leads out of the source; only its own files are read"):
        find(tmp_path, "README.md", "a.csv", config="qa")


def test_a_data_dir_that_leads_out_of_the_source_is_refused(tmp_path: Path) -> None:
    write_readme(tmp_path, "- config_name: qa\n  data_dir: ../..\n  data_files: '*.csv'")
    with pytest.raises(DataError, match="leads out of the source"):
        find(tmp_path, "README.md", "a.csv", config="qa")


# A few lines whose aliases spell out to ten billion words.
LAUGHS = "[&a0 [lol, lol], " + ", ".join(f"&a{n + 1} [{', '.join([f'*a{n}'] * 10)}]" for n in range(10)) + "]"


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("- config_name: other\n  data_files: a.csv", "config 'qa': expected one of its configs: other"),
        ("- config_name: qa\n  data_files: c.csv", "'c.csv' matches no table of the source that is read"),
        ("- config_name: qa\n  data_files: 7", "'7' matches no table of the source that is read"),
        ("- config_name: qa\n  data_files: [{split: train, path: {a: b}}]", "expected paths of files, found dict"),
        ("- config_name: qa", "names no data_files"),
        ("  qa", "configs: expected a list of configs"),
        ("- config_name: !!python/object:os.system x", "config 'qa': expected one of its configs: x"),
        ("- config_name: [", "broken YAML"),
        ("- " + "[" * 20_000, "broken YAML"),
        ("- config_name: " + "9" * 6000, "expected one of its configs: 9999"),
        (f"- config_name: {LAUGHS}", "expected the name of a config or split as text, found list"),
        (f"- config_name: qa\n  data_files: [{{split: {LAUGHS}, path: a.csv}}]", "split as text, found list"),
        (f"- config_name: qa\n  data_files: [{{split: train, path: {LAUGHS}}}]", "expected paths of files, found list"),
        (f"- config_name: qa\n  data_files: {LAUGHS}", "expected paths of files, found list"),
        ("- config_name: qa\n  data_files: [{path: a.csv}]", "split as text, found NoneType"),
    ],
    ids=[
        *("other", "none", "number", "list", "empty", "text", "tag", "open", "deep", "digits"),
        *("laughing name", "laughing split", "laughing path", "laughing files", "no split"),
    ],
)
def test_a_readme_that_does_not_fit_is_one_short_line(tmp_path: Path, said: str, message: str) -> None:
    write_readme(tmp_path, said)
    with pytest.raises(DataError) as caught:
        find(tmp_path, "README.md", "a.csv", config="qa")
    assert message in str(caught.value)
    assert len(str(caught.value)) < 700
    assert "\n" not in str(caught.value)


def test_a_split_that_no_file_holds_is_answered_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"split 'dev': no file that is read holds it; splits: test, train; tables: "):
        find(tmp_path, "train.csv", "test.csv", split="dev")


def test_files_of_two_kinds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is in files of several kinds, train\.csv, train\.jsonl; name one of them"):
        find(tmp_path, "train.csv", "train.jsonl")


@pytest.mark.parametrize(
    ("text", "count", "expected"),
    [
        ("train", 10, slice(0, 10)),
        ("train[:80%]", 10, slice(0, 8)),
        ("train[80%:]", 10, slice(8, 10)),
        ("train[2:5]", 10, slice(2, 5)),
        ("train[-3:]", 10, slice(7, 10)),
        ("train[:-20%]", 10, slice(0, 8)),
        ("train[:33%]", 10, slice(0, 3)),
        ("train[33%:67%]", 100, slice(33, 67)),
    ],
)
def test_a_slice_takes_some_rows(text: str, count: int, expected: slice) -> None:
    assert Split.parse(text).cut(count) == expected


@pytest.mark.parametrize("text", ["train[:11]", "train[5:2]", "train[-11:]", "train[:101%]"])
def test_a_slice_of_more_rows_than_there_are_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="there are 10 rows"):
        Split.parse(text).cut(10)


@pytest.mark.parametrize(
    "text", ["train[", "train[1]", "train[a:b]", "[1:2]", "train[:1]x", "train[:" + "9" * 6000 + "]"]
)
def test_what_is_no_slice_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="expected a name, or a name with a slice"):
        Split.parse(text)
