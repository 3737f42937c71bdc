"""Micro-benchmarks, with pytest-benchmark's own calibration: `pytest benchmarks/micro.py`.

Not called test_*.py, so that `pytest benchmarks/` runs trials only; a file that is named is collected all the same.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.speed.workbench import ROOT, fetch_embedded_model
from harness.models.encoder import encode_texts, open_encoder
from harness.models.search import retrieve
from harness.records.measures import evaluate_run
from harness.records.record import read_record
from harness.records.run import Run, read_run
from harness.records.trec import read_qrels

RECORD = ROOT / "results" / "records" / "hpo" / "all-MiniLM-L6-v2.baseline.json"
WORDS = ("seizure", "abnormal", "muscle", "of", "the", "left", "onset", "childhood", "tone", "reduced")


@pytest.fixture(scope="module")
def stored() -> tuple[Run, Any, tuple[str, ...]]:
    """Ranked lists, qrels and measures of a committed trial: 500 queries, 100 passages each."""
    record = read_record(RECORD)
    results = ROOT / "results"
    return (
        read_run(results / record.run.path),
        read_qrels(results / record.qrels.path),
        record.experiment.evaluation.measures,
    )


def test_encode(benchmark: Any, tmp_path: Path) -> None:
    """64 texts of 5 to 40 words, by all-MiniLM-L6-v2."""
    encoder = open_encoder(fetch_embedded_model(tmp_path), device="cpu")
    draw = random.Random(0)  # noqa: S311 - texts, not secrets
    texts = [" ".join(draw.choices(WORDS, k=draw.randint(5, 40))) for _ in range(64)]
    assert benchmark(encode_texts, encoder, texts, role="query", batch_tokens=2048).shape == (64, 384)


@pytest.mark.parametrize("passages", [5_000, 60_000])
def test_top_k(passages: int, benchmark: Any) -> None:
    """The 100 best of many passages for 500 queries, 384 dimensions: one product, and chunk by chunk."""
    generator = np.random.default_rng(0)
    corpus = generator.standard_normal((passages, 384), dtype=np.float32)
    queries = generator.standard_normal((500, 384), dtype=np.float32)
    passage_ids, query_ids = [f"p{number}" for number in range(passages)], [f"q{number}" for number in range(500)]
    run = benchmark(retrieve, queries, query_ids, corpus, passage_ids, top_k=100, device="cpu")
    assert len(run.passage_ids[0]) == 100


def test_measures(stored: tuple[Run, Any, tuple[str, ...]], benchmark: Any) -> None:
    """All measures of a committed run, query by query."""
    run, qrels, measures = stored
    assert set(benchmark(evaluate_run, run, qrels, measures)) == set(measures)


def test_record_loading(benchmark: Any) -> None:
    """One committed record: 500 queries by 15 measures."""
    assert benchmark(read_record, RECORD).trial.experiment == "hpo"
