"""One experiment evaluates two recipes on two test sets at two dimensions, as the library's evaluator would."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.cli.main import main
from harness.evidence.verify import verify_records
from harness.records.record import Record, read_record, read_records
from harness.report.document import Table
from harness.report.experiment import build_report
from harness.report.markdown import render_markdown
from tests.support.manifests import TINY, make_rows, write_data, write_rows
from tests.support.tiny_model import build_tiny_model

QUERY_PROMPT = "question about biology: "
OTHER = """
[data.other]
splits = { train = "train", test = "test" }
columns = { query = "question", passage = "answer", id = "id" }
source = { kind = "folder", path = "other" }

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
    write_rows(folder / "other" / "test.jsonl", make_rows(200, 12))
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


def run_all(folder: Path) -> None:
    from harness.experiment.trial import list_trials
    from harness.pipeline.progress import Progress
    from harness.pipeline.run_trial import open_workplace, run_trial
    from harness.pipeline.selection import select_experiment

    selected = select_experiment(str(folder / "tiny.toml"), folder)
    workplace = open_workplace(
        selected.experiment,
        selected.lock,
        base=folder,
        store=folder / "store",
        results=folder / "results",
        device="cpu",
    )
    trials = list(list_trials(selected.experiment))
    for trial in trials:
        run_trial(trial, workplace, Progress(io.StringIO(), trials))


def read(folder: Path, stem: str) -> Record:
    return read_record(folder / "results" / "records" / "tiny" / f"{stem}.json")


def test_every_trial_has_a_result_for_every_set_and_dimension(folder: Path) -> None:
    names = {record.trial.stem: list(record.evaluations) for record in read_records(folder / "results/records/tiny")}
    sizes = ["tiny/test@32", "tiny/test@8", "other/test@32", "other/test@8"]
    assert names == {
        "small.baseline": sizes,
        "small.finetuned.seed=0": sizes,
        "small.twice.seed=0": sizes,
        "other.baseline": ["tiny/test", "other/test"],
    }


def test_what_was_recorded_is_verified(folder: Path) -> None:
    done = verify_records(folder / "results", experiments=folder)
    assert done.problems == ()
    # 8 and 12 queries, 3 measures; three trials at two dimensions and one at its own.
    assert done.values == 3 * (8 + 12) * (3 * 2 + 1)


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
        ("other/test", (make_rows(100, 3), make_rows(200, 12))),
    ],
)
def test_values_are_those_of_the_evaluator(
    folder: Path, on: str, rows: tuple[list[dict[str, str]], list[dict[str, str]]], dim: int
) -> None:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder / "model"), device="cpu")
    expected = evaluate(model, rows, dim)
    assert read(folder, "small.baseline").at(on, dim).values == pytest.approx(expected, abs=1e-6)


def test_the_record_says_how_the_model_was_asked(folder: Path) -> None:
    encoding = read(folder, "small.twice.seed=0").encoding
    assert encoding is not None
    assert (encoding.prompts, encoding.similarity) == ({"query": QUERY_PROMPT, "passage": ""}, "cosine")


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
    (section,) = (section for section in report.sections if section.heading == "By test set")
    (_, other) = section.blocks
    assert isinstance(other, Table)
    ours = read(folder, "small.twice.seed=0").at("other/test", 8).values["mrr@10"]
    assert ["small/twice", "trained", "8", f"{ours:.4f}"] in [list(row[:4]) for row in other.rows]
    assert any(f"mrr@10 on other/test@8 {ours:.4f}, published 0.8919" in found.text for found in report.findings)
