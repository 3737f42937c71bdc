"""harness init writes a manifest that runs unchanged, overwrites nothing, asks nothing, and says what it decided."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.experiment.lock import read_lock
from harness.experiment.manifest import read_experiment
from harness.pipeline.own_data import choose_columns, find_splits, list_columns
from harness.records.record import read_records
from tests.support.manifests import write_data
from tests.support.tiny_model import build_tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("model") / "tiny-model")


@pytest.fixture
def folder(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the user is in, with data and a model in it."""
    write_data(tmp_path / "rows")
    (tmp_path / "tiny-model").symlink_to(model)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_folder_of_rows_gets_a_manifest_that_runs_unchanged(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from harness.experiment.trial import list_trials
    from harness.pipeline.progress import Progress
    from harness.pipeline.run_trial import open_context, run_trial
    from harness.pipeline.selection import RunConfig, select_experiment

    assert main(["init", "rows", "--id", "id", "--model", "tiny-model"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said == [
        "  tables: test.jsonl, train.jsonl",
        "  columns: query = question, passage = answer, id = id",
        "  splits by the files' names: train, test",
        "  tiny-model is trained on part train and evaluated before and after",
        "  BM25 is evaluated beside it",
        "wrote rows.toml and rows.lock; next: harness run rows.toml",
    ]
    config = RunConfig(Path(".store"), folder / "results", experiment="rows.toml", device="cpu")
    selected = select_experiment(config, folder)
    context = open_context(selected, config)
    trials = list(list_trials(selected.experiment))
    for trial in trials:
        run_trial(trial, context, Progress(io.StringIO(), trials))
    stems = [record.trial.stem for record in read_records(folder / "results" / "records" / "rows")]
    assert stems == ["bm25.baseline", "tiny-model.baseline", *(f"tiny-model.plain.seed={seed}" for seed in range(3))]


def test_nothing_is_overwritten(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "rows.lock").write_text("mine", encoding="utf-8")
    assert main(["init", "rows", "--id", "id", "--model", "tiny-model"]) == 2
    assert (
        "rows.lock: is there already and is not overwritten; take another name with --name" in capsys.readouterr().err
    )
    assert not (folder / "rows.toml").exists()
    assert main(["init", "rows", "--id", "id", "--model", "tiny-model", "--name", "my rows!"]) == 0
    experiment = read_experiment(folder / "my-rows.toml")
    assert read_lock(folder / "my-rows.lock", experiment).experiment == "my-rows"
    assert (folder / "rows.lock").read_text(encoding="utf-8") == "mine"


def test_a_beir_folder_is_known_by_its_files(folder: Path) -> None:
    place = folder / "scifact"
    (place / "qrels").mkdir(parents=True)
    (place / "corpus.jsonl").write_text('{"_id": "a", "title": "", "text": "one"}\n', encoding="utf-8")
    (place / "queries.jsonl").write_text('{"_id": "q", "text": "one?"}\n', encoding="utf-8")
    (place / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\ta\t1\n", encoding="utf-8")
    (place / "README.md").write_text("", encoding="utf-8")
    assert main(["init", "scifact", "--model", "tiny-model"]) == 0
    experiment = read_experiment(folder / "scifact.toml")
    assert (experiment.data["scifact"].format, experiment.evaluation.on) == ("beir", ("scifact/test",))
    assert experiment.recipes == {}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere.csv", "--model", "tiny-model"], "nowhere.csv: neither a path that is there nor OWNER/NAME"),
        (["rows", "--model", "no-model"], "no-model: neither a path that is there nor OWNER/NAME"),
        (["rows", "--model", "tiny-model", "--query", "foo"], "--query foo: no such column; there are: id, question"),
        (["tiny-model", "--model", "tiny-model"], "which column is the query? say --query; there are:"),
    ],
)
def test_what_cannot_be_told_is_said_and_nothing_written(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main(["init", *arguments]) == 2
    assert said in capsys.readouterr().err
    assert not [path for path in folder.iterdir() if path.suffix in {".toml", ".lock"}]


ROW = {"question": "what?", "answer": "that, and more", "id": "007"}


def test_columns_are_read_from_every_kind_of_table(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    texts = {
        "a.csv": 'question,answer,id\nwhat?,"that, and more",007\n',
        "a.tsv": "question\tanswer\tid\nwhat?\tthat, and more\t007\n",
        "a.jsonl": json.dumps(ROW) + "\n{broken\n",
        "a.json": json.dumps([ROW]),
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
    parquet.write_table(pa.table({name: [value] for name, value in ROW.items()}), tmp_path / "a.parquet")
    assert {path.name: list_columns(path) for path in tmp_path.iterdir()} == {
        path.name: list(ROW) for path in tmp_path.iterdir()
    }


def test_usual_names_are_taken_and_others_asked_for() -> None:
    there = ["title", "answer", "question", "n"]
    wanted: dict[str, str | None] = {"query": None, "passage": "n", "id": None}
    assert choose_columns(there, wanted, place="x") == {"query": "question", "passage": "n"}


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (["train.jsonl", "test.jsonl"], {"train": "train", "test": "test"}),
        (["train-0.parquet", "val.parquet", "test-0.parquet"], {"train": "train", "dev": "validation", "test": "test"}),
        (["faq.csv"], None),
        (["contest.csv", "training.csv"], None),
        (["test.csv"], None),
    ],
)
def test_splits_are_told_by_whole_words_of_file_names(names: list[str], splits: dict[str, str] | None) -> None:
    assert find_splits([Path(name) for name in names]) == splits
