"""harness init writes a manifest that runs unchanged, overwrites nothing, asks nothing, and says what it decided."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.errors import DataError
from harness.evidence.verify import verify_records
from harness.experiment.lock import read_lock
from harness.experiment.manifest import read_experiment
from harness.pipeline.own_data import choose_columns, find_splits, list_columns
from harness.records.record import Record, read_records
from harness.records.trec import read_qrels
from harness.report.experiment import build_report
from harness.report.markdown import render_markdown
from tests.support.manifests import write_data, write_rows
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


def run(folder: Path, manifest: str, told: io.StringIO | None = None) -> dict[str, Record]:
    """Run every trial of a manifest in a folder, and return the records by their stems; progress goes to ``told``."""
    from harness.experiment.trial import list_trials
    from harness.pipeline.progress import Progress
    from harness.pipeline.run_trial import open_context, run_trial
    from harness.pipeline.selection import RunConfig, select_experiment

    config = RunConfig(Path(".store"), folder / "results", experiment=manifest, device="cpu")
    selected = select_experiment(config, folder)
    context = open_context(selected, config)
    trials = list(list_trials(selected.experiment))
    progress = Progress(io.StringIO() if told is None else told, trials)
    for trial in trials:
        run_trial(trial, context, progress)
    name = selected.experiment.name
    return {record.trial.stem: record for record in read_records(folder / "results" / "records" / name)}


def test_a_folder_of_rows_gets_a_manifest_that_runs_unchanged(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "rows", "--id", "id", "--model", "tiny-model"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said == [
        "  tables: test.jsonl, train.jsonl",
        "  columns: query = question, passage = answer, id = id",
        "  splits by the source's own names: train, test",
        "  train 20 rows, test 8 rows; 28 passages",
        "  tiny-model is trained on part train and evaluated before and after",
        "  BM25 is evaluated beside it",
        "wrote rows.toml and rows.lock; next: harness run rows.toml",
    ]
    stems = list(run(folder, "rows.toml"))
    assert stems == ["bm25.baseline", "tiny-model.baseline", *(f"tiny-model.plain.seed={seed}" for seed in range(3))]


def test_a_faq_of_repeated_answers_becomes_a_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [(f"{number:03}", f"what is {number}, and why?", f"gene {number // 5}, that is") for number in range(60)]
    with (folder / "faq.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([("nr", "question", "answer"), *rows])
    typed = ["init", "faq.csv", "--query", "question", "--passage", "answer", "--model", "tiny-model"]
    assert main(typed) == 0
    said = capsys.readouterr().out
    assert "columns: query = question, passage = answer; not used: nr" in said
    lock = read_lock(folder / "faq.lock", read_experiment(folder / "faq.toml"))
    facts = (lock.data or {})["faq"]
    assert (facts.passages, facts.duplicate_passages) == (12, 0)
    assert sum(part.rows for part in facts.parts.values()) == 60
    assert f"train {facts.parts['train'].rows} rows, test {facts.parts['test'].rows} rows; 12 passages" in said
    records = run(folder, "faq.toml")
    assert len(records) == 5
    assert {record.data.passages for record in records.values()} == {12}
    assert {record.data.queries for record in records.values()} == {facts.parts["test"].rows}


def test_a_beir_folder_becomes_a_run_with_its_grades(folder: Path) -> None:
    corpus = {f"p{number}": (f"gene {number}", f"acts on pathway {number}") for number in range(12)}
    qrels = {"train": {"a": {"p1": 1}, "b": {"p2": 1}, "c": {"p3": 2}}, "test": {"d": {"p4": 2, "p5": 1, "p6": 0}}}
    place = folder / "facts"
    (place / "qrels").mkdir(parents=True)
    passages = [{"_id": name, "title": title, "text": text} for name, (title, text) in corpus.items()]
    write_rows(place / "corpus.jsonl", passages)
    write_rows(place / "queries.jsonl", [{"_id": name, "text": f"which gene is {name}?"} for name in "abcde"])
    for part, judged in qrels.items():
        lines = [f"{query}\t{name}\t{grade}\n" for query, some in judged.items() for name, grade in some.items()]
        (place / "qrels" / f"{part}.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(lines), encoding="utf-8")
    assert main(["init", "facts", "--model", "tiny-model"]) == 0
    records = run(folder, "facts.toml")
    assert len(records) == 5
    for record in records.values():
        assert record.query_ids == ("d",)
        assert record.data.train_pairs == 3
        assert read_qrels(folder / "results" / record.qrels.path) == qrels["test"]
        assert record.data.queries_in_train == record.data.queries_in_train_normalised == 0
        assert record.data.best_reachable_mrr == 1
    assert records["tiny-model.baseline"].result.truncated_passages == 0


def test_questions_of_test_that_are_also_in_train_are_told(folder: Path) -> None:
    rows = {"train": ["what is a gene?", "what is a drug?"], "test": ["what is a gene?", "What is a drug", "why?"]}
    for split, questions in rows.items():
        pairs = [{"question": text, "answer": f"{split} {number}"} for number, text in enumerate(questions)]
        write_rows(folder / "faq" / f"{split}.jsonl", pairs)
    assert main(["init", "faq", "--model", "tiny-model"]) == 0
    told = io.StringIO()
    record = run(folder, "faq.toml", told)["bm25.baseline"]
    note = "note: faq/test: 1 of 3 queries are also in train, 2 but for case, punctuation and white space"
    assert told.getvalue().count(note) == 1
    assert told.getvalue().index(note) < told.getvalue().index("train: ")
    assert (record.data.queries_in_train, record.data.queries_in_train_normalised) == (1, 2)
    # The question of both has a relevant passage in each.
    assert record.data.best_reachable is not None
    assert record.data.best_reachable["recall@10"] == 1
    said = "faq/test: 1 (2 but for case, punctuation and white space) of 3"
    report = build_report([record])
    assert [found.text for found in report.findings if found.title == "queries also in train"] == [said]
    page = " ".join(render_markdown(report).split())
    assert "| queries that are also in train | 1 (2 but for case, punctuation and white space) |" in page
    problems = verify_records(folder / "results").problems
    assert not [problem for problem in problems if "data." in problem]


def test_a_parquet_of_triplets_becomes_a_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    rows = [
        {"anchor": f"what is {number}?", "positive": f"gene {number}", "negative": f"gene {number + 1}"}
        for number in range(40)
    ]
    parquet.write_table(pa.Table.from_pylist(rows), folder / "triplets.parquet")
    assert main(["init", "triplets.parquet", "--model", "tiny-model"]) == 0
    said = capsys.readouterr().out
    assert (
        "passage = positive; not trained on as written, but a recipe can be (`columns` and `inputs`): negative" in said
    )
    assert "not used" not in said
    assert len(run(folder, "triplets.toml")) == 5
    # A salt drawn anew is another split, which the lock then is not of.
    manifest = folder / "triplets.toml"
    manifest.write_text(manifest.read_text(encoding="utf-8").replace('salt = "1"', 'salt = "2"'), encoding="utf-8")
    with pytest.raises(DataError, match=r"data\.triplets: train has .*, the lock says .*then: harness lock triplets"):
        run(folder, "triplets.toml")


def test_mined_negatives_are_a_second_recipe_that_is_compared_with_the_first(folder: Path) -> None:
    write_rows(folder / "many.jsonl", [{"question": f"what is {n}?", "answer": f"gene {n}"} for n in range(100)])
    loss = "CachedMultipleNegativesRankingLoss"
    command = ["init", "many.jsonl", "--model", "tiny-model", "--negatives", "2", "--loss", loss]
    assert main(command) == 0
    experiment = read_experiment(folder / "many.toml")
    assert experiment.recipes["plain"].loss.name == experiment.recipes["hard"].loss.name == loss
    assert experiment.recipes["hard"].inputs == ("query", "passage", "negative", "negative_2")
    manifest = folder / "many.toml"
    manifest.write_text(manifest.read_text(encoding="utf-8").replace("[0, 1, 2]", "[0, 1]"), encoding="utf-8")
    records = run(folder, "many.toml")
    trained = {f"tiny-model.{recipe}.seed={seed}" for recipe in ("hard", "plain") for seed in (0, 1)}
    assert set(records) == {"bm25.baseline", "tiny-model.baseline", *trained}
    report = build_report(list(records.values()), rounds=10)
    assert any("of tiny-model/hard minus that of tiny-model/plain" in text for text in report.conclusions)


def test_a_config_of_several_is_asked_for_and_taken(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    configs = {"qa": ("train", "test"), "more": ("all",)}
    card = ["---", "configs:"]
    for config, splits in configs.items():
        card += [f"- config_name: {config}", "  data_files:"]
        for split in splits:
            card += [f"  - split: {split}", f"    path: {config}/{split}.jsonl"]
            rows = [{"question": f"{config} {split} {n}?", "answer": f"{config} {split} {n}"} for n in range(20)]
            write_rows(folder / "faq" / config / f"{split}.jsonl", rows)
    (folder / "faq" / "README.md").write_text("\n".join([*card, "---", ""]), encoding="utf-8")
    assert main(["init", "faq", "--model", "tiny-model"]) == 2
    assert "config is not set: expected one of its configs: qa, more" in capsys.readouterr().err
    assert main(["init", "faq", "--model", "tiny-model", "--config", "qa"]) == 0
    assert "splits by the source's own names: train, test" in capsys.readouterr().out
    assert read_experiment(folder / "faq.toml").data["faq"].config == "qa"
    assert main(["init", "faq", "--model", "tiny-model", "--config", "more", "--name", "more"]) == 0
    facts = (read_lock(folder / "more.lock", read_experiment(folder / "more.toml")).data or {})["more"]
    assert (facts.passages, set(facts.parts)) == (20, {"train", "test"})


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
        "a.jsonl": json.dumps(ROW) + "\n",
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
        (["train", "test"], {"train": "train", "test": "test"}),
        (["train", "validation", "test"], {"train": "train", "dev": "validation", "test": "test"}),
        (["train"], None),
        (["test"], None),
    ],
)
def test_parts_are_told_by_the_names_of_splits(names: list[str], splits: dict[str, str] | None) -> None:
    assert find_splits(names) == splits
