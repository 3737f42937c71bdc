"""Ranks passages for queries from given embeddings, one way or the other, and says what it took."""

from __future__ import annotations

import argparse
import json
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator
from sentence_transformers.util import cos_sim
from torch import Tensor

from harness.models.device import keep_freed_memory, open_device, synchronize
from harness.models.search import retrieve
from harness.records.measures import average, evaluate_run

MEASURES = ("accuracy@1", "accuracy@10", "recall@10", "ndcg@10", "mrr@10", "map@100")
TOP_K = 100
SAMPLE_SECONDS = 0.05


@dataclass(frozen=True)
class Task:
    """Embeddings of queries and passages, a row a text, with their ids; a query has one relevant passage."""

    queries: Any
    query_ids: list[str]
    passages: Any
    passage_ids: list[str]
    relevant: Mapping[str, str]


def read_task(folder: Path, passages: int | None = None) -> Task:
    """Map the embeddings of a folder, the first passages of which may do."""
    mapped = np.load(folder / "passages.npy", mmap_mode="c")[:passages]
    queries = np.load(folder / "queries.npy")
    passage_ids = [f"p{number:07}" for number in range(len(mapped))]
    query_ids = [f"q{number:05}" for number in range(len(queries))]
    # Queries were drawn near the first passages, one each.
    return Task(queries, query_ids, mapped, passage_ids, dict(zip(query_ids, passage_ids, strict=False)))


class GivenEmbeddings(InformationRetrievalEvaluator):
    """The library's evaluator, handed its queries' embeddings instead of a model."""

    given: Tensor

    def embed_inputs(self, *_: Any, **__: Any) -> Any:
        """Return the queries' embeddings."""
        return self.given


class MemoryWatch(threading.Thread):
    """Samples the memory of this process that no file stands behind: what is needed beyond a map."""

    def __init__(self) -> None:
        """Start with nothing seen."""
        super().__init__(daemon=True)
        self.peak_bytes = 0
        self._over = threading.Event()

    def run(self) -> None:
        """Look until told to stop."""
        while not self._over.wait(SAMPLE_SECONDS):
            self.look()

    def look(self) -> None:
        """Take one sample."""
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("RssAnon:"):
                self.peak_bytes = max(self.peak_bytes, int(line.split()[1]) * 1024)

    def stop(self) -> int:
        """Stop and return the most bytes seen at once."""
        self._over.set()
        self.join()
        self.look()
        return self.peak_bytes


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("way", choices=["plain", "harness", "product"])
    parser.add_argument("folder", type=Path, help="with passages.npy and queries.npy")
    parser.add_argument("--passages", type=int, required=True)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args(arguments)

    task = read_task(options.folder, options.passages)
    keep_freed_memory()
    open_device(options.device)
    synchronize(options.device)
    watch = MemoryWatch()
    watch.start()
    started = time.perf_counter()
    rank = {"plain": rank_plainly, "harness": rank_fast, "product": multiply}[options.way]
    search_seconds, values = rank(task, device=options.device)
    seconds = time.perf_counter() - started
    print(
        json.dumps(
            {
                "seconds": seconds,
                "search_seconds": search_seconds,
                "values": values,
                "memory_beyond_map_bytes": watch.stop(),
            }
        )
    )


def rank_plainly(task: Task, *, device: str) -> tuple[float | None, Mapping[str, float]]:
    evaluator = GivenEmbeddings(
        dict.fromkeys(task.query_ids, ""),
        dict.fromkeys(task.passage_ids, ""),
        {query: {passage} for query, passage in task.relevant.items()},
        write_csv=False,
        score_functions={"cosine": cos_sim},
    )
    evaluator.given = torch.from_numpy(task.queries).to(device)
    nobody: Any = SentenceTransformer(modules=[torch.nn.Identity()])
    found = evaluator.compute_all_metrics(nobody, corpus_embeddings=torch.from_numpy(task.passages).to(device))
    values: Mapping[str, Any] = found["cosine"]  # type: ignore[assignment]  # one dict of measures per similarity
    flat = {f"{name.partition('@')[0]}@{k}": value for name, by_k in values.items() for k, value in by_k.items()}
    return None, {measure: float(flat[measure]) for measure in MEASURES}


def rank_fast(task: Task, *, device: str) -> tuple[float | None, Mapping[str, float]]:
    started = time.perf_counter()
    run = retrieve(task.queries, task.query_ids, task.passages, task.passage_ids, top_k=TOP_K, device=device)
    seconds = time.perf_counter() - started
    qrels = {query: {passage: 1} for query, passage in task.relevant.items()}
    return seconds, average(evaluate_run(run, qrels, MEASURES))


def multiply(task: Task, *, device: str) -> tuple[float | None, Mapping[str, float]]:
    """Do nothing but the matrix product: the arithmetic limit, in the type that the harness shortlists in."""
    from harness.models.search import _coarse_dtype  # noqa: PLC0415 - the choice that is measured

    kind = _coarse_dtype(device)
    left = torch.from_numpy(task.queries).to(device, kind)
    with torch.inference_mode():
        for start in range(0, len(task.passages), 8192):
            left @ torch.from_numpy(task.passages[start : start + 8192]).to(device, kind).T
    synchronize(device)
    return None, {}


if __name__ == "__main__":
    main()
