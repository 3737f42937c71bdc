"""One experiment evaluates two recipes on two test sets at two dimensions, as the library's evaluator would."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.analysis.verdict import judge
from harness.cli.main import main
from harness.evidence.verify import verify_records
from harness.records.artifacts import Evidence
from harness.records.record import Record, read_record, read_records
from harness.records.run import read_run
from harness.report.conclusions import describe_change
from harness.report.document import Paragraph, Table
from harness.report.experiment import build_report, find_experiment
from harness.report.markdown import render_markdown
from tests.support.manifests import TINY, make_rows, write_data, write_rows
from tests.support.records import read_manifest
from tests.support.tiny_model import build_tiny_model

QUERY_PROMPT = "question about biology: "
# The last query is one of the other data set's train, but for its case.
OTHER_TEST = make_rows(200, 12)
OTHER_TEST[-1]["question"] = make_rows(3, 1)[0]["question"].upper()
OTHER = """
[data.other]
splits = { train = "train", test = "test" }
columns = { query = "question", passage = "answer", id = "id" }
source = { kind = "folder", path = "other" }

[[models]]
name = "words"
kind = "bm25"

[[models]]
name = "lists"
kind = "run"
source = { kind = "folder", path = "lists" }

[recipes.twice]
base = "finetuned"

[recipes.twice.arguments]
num_train_epochs = 2

[[models]]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run: its manifest, model, data and results."""
    folder = tmp_path_factory.mktemp("several")
    build_tiny_model(folder / "model")
    write_data(folder / "data")
    write_rows(folder / "other" / "train.jsonl", make_rows(100, 3))
    write_rows(folder / "other" / "test.jsonl", OTHER_TEST)
    write_lists(folder / "lists")
    changes = {
        "seeds = [0, 1]": "seeds = [0]",
        '[[models]]\nname = "small"': OTHER.lstrip() + 'name = "small"',
        'recipes = ["finetuned"]': 'recipes = ["finetuned", "twice"]\ntruncate_dims = [32, 8]\n'
        f'prompts = {{ query = "{QUERY_PROMPT}", passage = "" }}',
        'on = ["tiny/test"]': 'on = ["tiny/test", "other/test"]',
        'recipe = "finetuned"\nsource = "table"': 'recipe = "twice"\non = "other/test"\ndim = 8\nsource = "table"',
    }
    text = TINY
    for before, after in changes.items():
        assert text.count(before) == 1, before
        text = text.replace(before, after)
    (folder / "tiny.toml").write_text(text, encoding="utf-8")
    assert main(["lock", str(folder / "tiny.toml"), "--store", str(folder / "store")]) == 0
    run_all(folder)
    return folder


def write_lists(folder: Path) -> None:
    """Write the ranked lists of another system: in no order, with ties, and without the last query of either set."""
    folder.mkdir()
    for on, rows in (("tiny.test", make_rows(20, 7)), ("other.test", make_rows(200, 11))):
        ids = [row["id"] for row in rows]
        # Each query's own passage ties with the next query's, whose id is higher, but for the last.
        lines = [f"{one} Q0 {other} 0 0.5 ours" for one, other in zip(ids, ids[1:] + ids[:1], strict=True)]
        lines += [f"{one} Q0 {one} 0 5e-1 ours" for one in ids]
        (folder / f"{on}.run").write_text("\n".join(lines) + "\n", encoding="utf-8")


def run_all(folder: Path) -> None:
    from harness.experiment.trial import list_trials
    from harness.pipeline.progress import Progress
    from harness.pipeline.run_trial import open_context, run_trial
    from harness.pipeline.selection import RunConfig, select_experiment

    config = RunConfig(folder / "store", folder / "results", experiment=str(folder / "tiny.toml"), device="cpu")
    selected = select_experiment(config, folder)
    context = open_context(selected, config)
    trials = list(list_trials(selected.experiment))
    for trial in trials:
        run_trial(trial, context, Progress(io.StringIO(), trials))


def read(folder: Path, stem: str) -> Record:
    return read_record(folder / "results" / "records" / "tiny" / f"{stem}.json")


def test_every_trial_has_a_result_for_every_set_and_dimension(folder: Path) -> None:
    names = {record.trial.stem: list(record.evaluations) for record in read_records(folder / "results/records/tiny")}
    sizes = ["tiny/test@32", "tiny/test@8", "other/test@32", "other/test@8"]
    assert names == {
        "small.baseline": sizes,
        "small.finetuned.seed=0": sizes,
        "small.twice.seed=0": sizes,
        **{f"{name}.baseline": ["tiny/test", "other/test"] for name in ("other", "words", "lists")},
    }


def test_what_was_recorded_is_verified(folder: Path) -> None:
    done = verify_records(folder / "results", experiments=folder)
    assert done.problems == ()
    # 8 and 12 queries, 3 measures; three trials at two dimensions and three as they are.
    assert done.values == 3 * (8 + 12) * (3 * 2 + 3)


def evaluate(model: Any, rows: tuple[list[dict[str, str]], list[dict[str, str]]], dim: int) -> Mapping[str, float]:
    """Ask the library's evaluator."""
    from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator

    train, test = rows
    evaluator = InformationRetrievalEvaluator(
        {row["id"]: row["question"] for row in test},
        {row["id"]: row["answer"] for row in (*train, *test)},
        {row["id"]: {row["id"]} for row in test},
        mrr_at_k=[10],
        accuracy_at_k=[1],
        map_at_k=[100],
        query_prompt=QUERY_PROMPT,
        truncate_dim=dim,
    )
    found = evaluator(model)
    return {name: float(found[f"cosine_{name}"]) for name in ("accuracy@1", "mrr@10", "map@100")}


@pytest.mark.parametrize("dim", [32, 8])
@pytest.mark.parametrize(
    ("on", "rows"),
    [
        ("tiny/test", (make_rows(0, 20), make_rows(20, 8))),
        ("other/test", (make_rows(100, 3), OTHER_TEST)),
    ],
)
def test_values_are_those_of_the_evaluator(
    folder: Path, on: str, rows: tuple[list[dict[str, str]], list[dict[str, str]]], dim: int
) -> None:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder / "model"), device="cpu")
    expected = evaluate(model, rows, dim)
    assert read(folder, "small.baseline").at(on, dim).values == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("stem", ["words.baseline", "small.twice.seed=0"])
def test_a_query_of_another_data_sets_train_is_told(folder: Path, stem: str) -> None:
    record = read(folder, stem)
    found = {
        on: (data.queries_in_train, data.queries_in_train_normalised)
        for on, data in ((view.on, view.data) for view in record.views)
    }
    assert found == {"tiny/test": (0, 0), "other/test": (0, 1)}
    assert set(record.sources) >= {"data:tiny", "data:other"}
    report = build_report(read_records(folder / "results" / "records" / "tiny"), rounds=100)
    said = "other/test: 0 (1 but for case, punctuation and white space) of 12"
    assert [found.text for found in report.findings if found.title == "queries also in train"] == [said]


def test_the_record_says_how_the_model_was_asked(folder: Path) -> None:
    encoding = read(folder, "small.twice.seed=0").encoding
    assert encoding is not None
    assert (encoding.prompts, encoding.similarity) == ({"query": QUERY_PROMPT, "passage": ""}, "cosine")


def test_bm25_stands_beside_them_with_its_parameters(folder: Path) -> None:
    from harness.models.bm25 import rank_bm25

    record = read(folder, "words.baseline")
    train, test = make_rows(0, 20), make_rows(20, 8)
    run = rank_bm25(
        {row["id"]: row["question"] for row in test}, {row["id"]: row["answer"] for row in (*train, *test)}, top_k=100
    )
    found = read_run(folder / "results" / record.run.path)
    assert (found.query_ids, found.passage_ids) == (run.query_ids, run.passage_ids)
    assert record.parameters is not None
    assert (record.parameters["k1"], record.parameters["b"]) == (1.5, 0.75)
    assert not any((record.encoding, record.embeddings_sha256, record.model_source))


def test_the_lists_of_another_system_are_judged_by_the_same_measures(folder: Path) -> None:
    """Of equal scores the lower id comes first, so that six of eight hit; a query without a list hits nothing."""
    record = read(folder, "lists.baseline")
    assert list(record.per_query["accuracy@1"]) == [1, 1, 1, 1, 1, 1, 0, 0]
    assert list(record.per_query["mrr@10"]) == [1, 1, 1, 1, 1, 1, 0.5, 0]
    assert record.result.notes == ("1 of 8 queries have no ranked list, and count as found nothing: r27",)
    assert record.sources["run:lists"].locked


def test_recipes_differ_by_what_they_say(folder: Path) -> None:
    once, twice = (read(folder, f"small.{name}.seed=0").training for name in ("finetuned", "twice"))
    assert once is not None
    assert twice is not None
    assert twice.steps == 2 * once.steps


def test_the_report_has_a_table_per_test_set_and_judges_claims_where_they_are_made(folder: Path) -> None:
    records = read_records(folder / "results" / "records" / "tiny")
    report = build_report(records, rounds=100)
    text = render_markdown(report)
    for part in (
        "tiny/test: 8 queries, 28 passages",
        "other/test: 12 queries, 15 passages",
        "small/twice",
        "small/finetuned",
    ):
        assert part in text.replace("\\", "")
    (first,) = (section for section in report.sections if section.heading == "In short")
    assert first.blocks[0] == Paragraph("On tiny/test; on other/test below, by test set.")
    (section,) = (section for section in report.sections if section.heading == "By test set")
    (_, other) = section.blocks
    assert isinstance(other, Table)
    ours = read(folder, "small.twice.seed=0").at("other/test", 8).values["mrr@10"]
    assert ["small/twice", "trained", "8", f"{ours:.4f}"] in [list(row[:4]) for row in other.rows]
    assert any(f"mrr@10 on other/test@8 {ours:.4f}, published 0.8919" in found.text for found in report.findings)


def test_what_fine_tuning_changed_names_the_test_set_where_there_are_several(folder: Path) -> None:
    records = read_records(folder / "results" / "records" / "tiny")
    judged = judge(find_experiment(records), records, rounds=100)
    said = describe_change(judged.changes[0], judged.experiment)
    assert said.startswith("small/finetuned: fine-tuning changes accuracy@1 on tiny/test by ")
    alone = describe_change(judged.changes[0], read_manifest("hpo"))
    assert alone.startswith("small/finetuned: fine-tuning changes accuracy@1 by ")


def test_test_sets_are_exported_for_others_to_rank(folder: Path, tmp_path: Path) -> None:
    command = ["export", str(folder / "tiny.toml"), str(tmp_path), "--store", str(folder / "store")]
    assert main(command) == 0
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")) == [
        f"{data}/{name}" for data in ("other", "tiny") for name in ("corpus.jsonl", "qrels/test.tsv", "queries.jsonl")
    ]
    assert len((tmp_path / "other" / "corpus.jsonl").read_text(encoding="utf-8").splitlines()) == 15


def test_the_report_says_how_models_were_asked_and_what_to_know_of_it(folder: Path) -> None:
    report = build_report(read_records(folder / "results" / "records" / "tiny"), rounds=100)
    (section,) = (section for section in report.sections if section.heading == "How models were asked")
    (table,) = section.blocks
    assert isinstance(table, Table)
    assert table.columns == ("model", "before queries", "similarity", "parameters")
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["small"] == (repr(QUERY_PROMPT), "cosine", "")
    assert rows["other"] == ("", "cosine", "")
    assert rows["words"][2].startswith("k1 1.5, b 0.75, stopwords english")
    assert "lists" not in rows
    notes = [finding.text for finding in report.findings if finding.title == "how it was ranked"]
    missing = "queries have no ranked list, and count as found nothing"
    assert notes == [f"lists on tiny/test: 1 of 8 {missing}: r27", f"lists on other/test: 1 of 12 {missing}: r211"]


def test_trained_runs_are_compared_with_another_system_s_at_every_dimension(folder: Path) -> None:
    results = folder / "results"
    records = read_records(results / "records" / "tiny")
    report = build_report(records, evidence=Evidence(results), rounds=100)
    (section,) = (section for section in report.sections if section.heading == "Agreement of runs")
    _, *tables = section.blocks
    for table in tables:
        assert isinstance(table, Table)
        rows = [row[:4] for row in table.rows if row[0] == "small/twice"]
        assert rows == [
            ("small/twice", dim, against, "1")
            for dim in ("32", "8")
            for against in ("the untrained model", "the run of lists")
        ]
