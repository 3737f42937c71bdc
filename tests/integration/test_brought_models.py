"""A user's model, of whatever kind, goes from `harness init` to records with the evaluator's values, or is refused.

The kinds are those that were once taken for plain dense models with cosines, in silence.
"""

from __future__ import annotations

import io
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.cli.main import main
from harness.models.training import MODEL_FOLDER
from harness.records.record import Record, read_records
from tests.support.manifests import write_rows
from tests.support.model_kinds import WORDS, build
from tests.support.tiny_model import build_tokenizer

TRAIN, TEST = 40, 20
MEASURES = ("ndcg@10", "mrr@10", "accuracy@1", "recall@10", "map@100")
KINDS = (
    "dot", "Router", "Router of transformers", "StaticEmbedding", "WordWeights", "WordWeights on tokens", "prompts",
    "decoder", "T5", "ModernBERT",
)  # fmt: skip


def make_rows(start: int, count: int) -> list[dict[str, str]]:
    """Return questions and answers of random words, so that no two of them are embedded alike."""
    draw = random.Random(start)
    texts = [" ".join(draw.sample(WORDS, draw.randint(4, 10))) for _ in range(2 * count)]
    numbered = zip(range(start, start + count), texts[:count], texts[count:], strict=True)
    return [{"id": f"r{number}", "question": query, "answer": passage} for number, query, passage in numbered]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the user is in, with data in it."""
    write_rows(tmp_path / "rows" / "train.jsonl", make_rows(0, TRAIN))
    write_rows(tmp_path / "rows" / "test.jsonl", make_rows(TRAIN, TEST))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(folder: Path) -> dict[str, Record]:
    """Run what `harness init` wrote with one seed, training enough that values change."""
    from harness.experiment.trial import list_trials
    from harness.pipeline.progress import Progress
    from harness.pipeline.run_trial import open_context, run_trial
    from harness.pipeline.selection import RunConfig, select_experiment

    manifest = folder / "rows.toml"
    text = manifest.read_text(encoding="utf-8")
    for before, after in (("learning_rate = 2e-5", "learning_rate = 1e-2"), ("epochs = 1", "epochs = 3")):
        assert text.count(before) == 1
        text = text.replace(before, after)
    manifest.write_text(text, encoding="utf-8")
    config = RunConfig(
        Path(".store"), Path("results"), experiment="rows.toml", device="cpu", seeds="0,", models="model"
    )
    selected = select_experiment(config, folder)
    context = open_context(selected, config)
    trials = list(list_trials(selected.experiment))
    for trial in trials:
        run_trial(trial, context, Progress(io.StringIO(), trials))
    return {record.trial.stem: record for record in read_records(folder / "results" / "records" / "rows")}


def ask_library(model: Path) -> Mapping[str, float]:
    """Return the values that the library's evaluator gives with the model's own settings."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator

    loaded = SentenceTransformer(str(model), device="cpu")
    train, test = make_rows(0, TRAIN), make_rows(TRAIN, TEST)
    evaluator: Any = InformationRetrievalEvaluator(
        {row["id"]: row["question"] for row in test},
        {row["id"]: row["answer"] for row in (*train, *test)},
        {row["id"]: {row["id"]} for row in test},
        write_csv=False,
    )
    found = evaluator(loaded)
    return {name: float(found[f"{loaded.similarity_fn_name}_{name}"]) for name in MEASURES}


@pytest.mark.parametrize("kind", KINDS)
def test_values_before_and_after_training_are_the_evaluators(kind: str, folder: Path) -> None:
    model = build(folder / "made", kind).rename(folder / "model")
    assert main(["init", "rows", "--id", "id", "--model", "model"]) == 0
    records = run(folder)
    untrained, tuned = records["model.baseline"], records["model.plain.seed=0"]
    checkpoint = folder / ".store" / "train" / tuned.stages["train"].key / MODEL_FOLDER
    for record, place in ((untrained, model), (tuned, checkpoint)):
        expected = ask_library(place)
        assert {name: record.values[name] for name in MEASURES} == pytest.approx(expected, abs=1e-6, rel=0)
        assert record.encoding is not None
        assert record.encoding.similarity == ("dot" if kind == "dot" else "cosine")
    # The library trains no word vectors unless a model says so.
    assert (untrained.per_query["ndcg@10"] == tuned.per_query["ndcg@10"]) == (kind == "WordWeights")


def save_cross_encoder(folder: Path) -> None:
    """Save one as the library does."""
    from sentence_transformers import CrossEncoder
    from transformers import BertConfig, BertForSequenceClassification

    tokenizer = build_tokenizer("bert", 48)
    sizes: dict[str, Any] = {
        "num_labels": 1,
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "intermediate_size": 64,
    }
    config: Any = BertConfig(vocab_size=len(tokenizer), pad_token_id=1, **sizes)
    BertForSequenceClassification(config).save_pretrained(folder / "parts")
    tokenizer.save_pretrained(folder / "parts")
    CrossEncoder(str(folder / "parts"), device="cpu").save_pretrained(str(folder / "model"))


def save_sparse_encoder(folder: Path) -> None:
    """Save one as the library does."""
    from sentence_transformers import SparseEncoder
    from sentence_transformers.sparse_encoder.modules import SparseStaticEmbedding

    modules: list[Any] = [SparseStaticEmbedding(build_tokenizer("bert", 48))]
    SparseEncoder(modules=modules, device="cpu").save_pretrained(str(folder / "model"))


@pytest.mark.parametrize(
    ("kind", "save"), [("CrossEncoder", save_cross_encoder), ("SparseEncoder", save_sparse_encoder)]
)
def test_what_is_no_dense_encoder_is_refused_with_the_way_that_works(
    kind: str, save: Any, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(folder)
    assert main(["init", "rows", "--id", "id", "--model", "model"]) == 2
    said = capsys.readouterr().err
    assert f"this is a {kind}" in said
    assert 'bring the ranked lists as a TREC run: kind = "run"' in said
    assert not (folder / "rows.toml").exists()
