"""On real questions and answers, duplicates among them, three roads to the fifteen values lead to the same place."""

from __future__ import annotations

import json
import zlib
from collections import Counter
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from harness.experiment.measure import FAMILIES, parse_measure
from harness.models.search import Embeddings, retrieve
from harness.records.measures import MEASURES, average, best_reachable_mrr, evaluate_run
from harness.records.run import read_run, write_run
from harness.records.trec import write_qrels
from tests.integration.test_retrieval import sentence_transformers_values

FOLDER = Path(__file__).parents[2].parent / "shared" / "data" / "rag-mini-bioasq-rebuilt"
DIMENSIONS = 512


def embed(texts: list[str]) -> Embeddings:
    """Hash character 4-grams, weighted by tf-idf: a poor but real model, the same vector for the same text."""
    counts = [Counter(text.lower()[place : place + 4] for place in range(max(1, len(text) - 3))) for text in texts]
    seen = Counter(gram for grams in counts for gram in grams)
    rows = np.zeros((len(texts), DIMENSIONS), dtype=np.float32)
    for row, grams in zip(rows, counts, strict=True):
        for gram, count in grams.items():
            code = zlib.crc32(gram.encode())
            sign = 1 if code & 1 else -1
            row[(code >> 1) % DIMENSIONS] += sign * np.log1p(count) * np.log(len(texts) / seen[gram])
    return rows


def test_values_on_real_data_agree_with_the_evaluator_and_with_ir_measures_on_the_run(tmp_path: Path) -> None:
    ir_measures = import_module("ir_measures")  # its readers have no types

    if not FOLDER.is_dir():
        pytest.skip(f"real data is absent: no folder shared/data/{FOLDER.name} beside the repository")
    train, test = (
        [json.loads(line) for line in (FOLDER / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()]
        for split in ("train", "test")
    )
    texts = {str(row["id"]): str(row["answer"]) for row in train + test}
    assert (len(texts), len(test)) == (4719, 707)
    relevant = {str(row["id"]): {str(row["id"])} for row in test}
    qrels = {query: dict.fromkeys(found, 1) for query, found in relevant.items()}
    vectors = embed([*texts.values(), *(str(row["question"]) for row in test)])
    passages, queries = vectors[: len(texts)], vectors[len(texts) :]

    run = retrieve(queries, list(relevant), passages, list(texts), top_k=100, device="cpu")
    assert any(len(set(scores)) < len(scores) for scores in run.scores), "duplicate answers should give ties"
    values = average(evaluate_run(run, qrels, MEASURES))
    assert values == pytest.approx(
        sentence_transformers_values(queries, passages, list(texts), relevant), abs=1e-9, rel=0
    )
    assert 0.1 < values["mrr@10"] < best_reachable_mrr(relevant, texts) < 1

    write_run(run, tmp_path / "run.trec.gz")
    write_qrels(qrels, tmp_path / "qrels.gz")
    assert read_run(tmp_path / "run.trec.gz").passage_ids == run.passage_ids
    theirs = {
        name: getattr(ir_measures, FAMILIES[parse_measure(name).family]) @ parse_measure(name).cutoff
        for name in MEASURES
    }
    plain = ir_measures.calc_aggregate(
        list(theirs.values()), qrels, ir_measures.read_trec_run(str(tmp_path / "run.trec.gz"))
    )
    assert {name: plain[measure] for name, measure in theirs.items()} == pytest.approx(values, abs=1e-9, rel=0)
