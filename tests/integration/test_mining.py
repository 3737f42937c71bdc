"""A recipe whose negatives are mined: by the library's function, among train's own passages, said in the record."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from datasets import Dataset
from sentence_transformers import SentenceTransformer
from sentence_transformers.util import mine_hard_negatives

from harness.cli.main import main
from harness.errors import SourceError, TrainingError
from harness.evidence.verify import verify_records
from harness.experiment.negatives import Negatives
from harness.experiment.trial import list_trials
from harness.models.encoding import OWN_ENCODING
from harness.models.mining import mine_negatives
from harness.pipeline.dataset import read_train
from harness.pipeline.progress import Progress
from harness.pipeline.run_trial import open_context, run_trial
from harness.pipeline.selection import RunConfig, select_experiment
from harness.records.record import MiningLog, Record, read_record
from tests.support.manifests import TINY, make_rows, write_data
from tests.support.tiny_model import build_tiny_model, put_beyond_embeddings

HARD = """
[recipes.hard]
base = "finetuned"
inputs = ["query", "passage", "negative", "negative_2"]
negatives = { model = "other", num_negatives = 2, range_min = 1, range_max = 6, max_score = 0.92 }

[evaluation]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of one seed with a plain recipe, and one with mined negatives."""
    folder = tmp_path_factory.mktemp("mining")
    build_tiny_model(folder / "model")
    write_data(folder / "data")
    text = TINY.replace("[evaluation]\n", HARD, 1).replace('recipes = ["finetuned"]', 'recipes = ["finetuned", "hard"]')
    text = text.replace("seeds = [0, 1]", "seeds = [0]")
    (folder / "tiny.toml").write_text(text, encoding="utf-8")
    assert main(["lock", str(folder / "tiny.toml")]) == 0
    config = RunConfig(folder / "store", folder / "results", experiment=str(folder / "tiny.toml"), device="cpu")
    selected = select_experiment(config, folder)
    context, trials = open_context(selected, config), list(list_trials(selected.experiment))
    for trial in trials:
        run_trial(trial, context, Progress(io.StringIO(), trials))
    return folder


def test_a_model_that_cannot_embed_is_one_line(tmp_path: Path) -> None:
    model = build_tiny_model(tmp_path / "model")
    put_beyond_embeddings(model, "gene")
    pairs = [(row["question"], row["answer"]) for row in make_rows(0, 20)]
    negatives = Negatives(model="other", num_negatives=2, range_min=1, range_max=6)
    with pytest.raises(SourceError, match=r"model: the model cannot mine negatives .*IndexError") as caught:
        mine_negatives(model, pairs, negatives, device="cpu", encoding=OWN_ENCODING)
    assert "\n" not in str(caught.value)


def read_hard(folder: Path) -> Record:
    return read_record(folder / "results" / "records" / "tiny" / "small.hard.seed=0.json")


def test_the_negatives_are_those_of_the_librarys_function(folder: Path) -> None:
    (entry,) = (folder / "store" / "mine").iterdir()
    rows = read_train(entry)
    pairs = [(row.query, row.passage) for row in rows]
    given = [(row["question"], row["answer"]) for row in make_rows(0, 20)]
    table = Dataset.from_dict({"query": [query for query, _ in given], "passage": [passage for _, passage in given]})
    expected = mine_hard_negatives(
        table,
        SentenceTransformer(str(folder / "model"), device="cpu"),
        num_negatives=2,
        range_min=1,
        range_max=6,
        max_score=0.92,
        output_format="n-tuple",
        verbose=False,
    )
    found = {(row["query"], row["passage"]): (row["negative_1"], row["negative_2"]) for row in expected}
    assert {pair: row.negatives for pair, row in zip(pairs, rows, strict=True)} == found
    # In the order of the data, which the sampler draws from.
    assert pairs == [pair for pair in given if pair in found]


def test_no_negative_is_a_test_passage_or_the_rows_own(folder: Path) -> None:
    (entry,) = (folder / "store" / "mine").iterdir()
    train = {row["answer"] for row in make_rows(0, 20)}
    for row in read_train(entry):
        assert set(row.negatives) <= train - {row.passage}


def test_the_record_says_how_many_and_verify_holds_it(folder: Path) -> None:
    record = read_hard(folder)
    (entry,) = (folder / "store" / "mine").iterdir()
    assert record.mining == MiningLog(model="other", given_rows=20, mined_rows=len(read_train(entry)))
    # Some were left out, so that steps follow from what was mined.
    assert 4 < record.mining.mined_rows < 17
    assert set(record.stages) == {"prepare", "mine", "train", "evaluate"}
    assert {"model:small", "model:other"} <= set(record.sources)
    done = verify_records(folder / "results", experiments=folder)
    assert list(done.problems) == []
    # A record that hides its miner is found by the stage that it then has too much.
    path = folder / "results" / record.place
    kept = path.read_bytes()
    changed = json.loads(kept)
    del changed["mining"]
    try:
        path.write_text(json.dumps(changed), encoding="utf-8")
        assert any("stages" in problem for problem in verify_records(folder / "results", experiments=folder).problems)
    finally:
        path.write_bytes(kept)


def test_the_other_recipe_is_trained_as_without_mining(folder: Path) -> None:
    record = read_record(folder / "results" / "records" / "tiny" / "small.finetuned.seed=0.json")
    assert record.mining is None
    assert set(record.stages) == {"prepare", "train", "evaluate"}


def test_bounds_that_leave_nothing_are_an_error(folder: Path) -> None:
    pairs = [(row["question"], row["answer"]) for row in make_rows(0, 20)]
    nothing = Negatives(model="other", num_negatives=1, range_min=0, range_max=5, max_score=-0.99)
    with pytest.raises(TrainingError, match="none of 20 rows has 1 within the bounds"):
        mine_negatives(folder / "model", pairs, nothing, device="cpu", encoding=OWN_ENCODING)
    many = Negatives(model="other", num_negatives=1, range_min=0, range_max=50)
    with pytest.raises(TrainingError, match="range_max is 50, the train part has 20 passages"):
        mine_negatives(folder / "model", pairs, many, device="cpu", encoding=OWN_ENCODING)
