"""Where the time goes: training steps, evaluating and searching, cut into parts by what torch and Python were in."""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from benchmarks.speed import ranking
from benchmarks.speed.corpora import write_embeddings
from benchmarks.speed.harness_recipe import cut, evaluate, measure_training
from benchmarks.speed.workbench import Workbench, find_model, run_module
from harness.experiment.manifest import read_experiment
from harness.models import embedding_paths, packed_attention, search
from harness.models.device import keep_freed_memory
from harness.models.encoder import open_encoder
from harness.models.shortlist import Shortlists
from harness.pipeline.dataset import read_prepared

TOKENIZER = "tokenizer"
DRAW = "dropout: random numbers"
PRODUCTS = "matrix products of the layers"
COPIES = "attention: copies, scaling, masks"
OTHER = "other operators"
PYTHON = "Python, and what is no operator"
# What an operator is part of: decided by its own name or that of the nearest around it that is listed.
PARTS = {
    "aten::mm": PRODUCTS,
    "aten::addmm": PRODUCTS,
    "mkldnn::_linear_pointwise": PRODUCTS,
    "aten::bmm": "attention: matrix products",
    "aten::_softmax": "attention: softmax",
    "aten::_softmax_backward_data": "attention: softmax",
    "BlockAttention": COPIES,
    "BlockAttentionBackward": COPIES,
    "aten::gelu": "GELU",
    "aten::gelu_backward": "GELU",
    "aten::native_layer_norm": "LayerNorm",
    "aten::native_layer_norm_backward": "LayerNorm",
    DRAW: DRAW,
    "_DropoutAdd": "dropout on the layers, and the sums along them",
    "_DropoutAddBackward": "dropout on the layers, and the sums along them",
    "aten::embedding": "embeddings",
    "aten::embedding_dense_backward": "embeddings",
    "ToCopyBackward0": "weights to bf16, their gradients to fp32",
    "aten::_foreach_norm": "optimizer and clipping",
    "aten::_foreach_mul_": "optimizer and clipping",
    "Optimizer.step#AdamW.step": "optimizer and clipping",
    "enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__": TOKENIZER,
    TOKENIZER: TOKENIZER,
}
# Outside of all those, what makes another type of something is the cast of a weight.
CAST = "aten::_to_copy"
CORPUS, CORPUS_QUERIES = 100_000, 10_000


def measure_profile(models: Sequence[str], bench: Workbench, *, pairs: int, passages: int) -> dict[str, Any]:
    """Profile training and evaluating with each model, and one search over a large corpus, in fresh processes."""
    found = []
    for name in models:
        manifest, model = find_model(name, bench)
        cut_down = ["--pairs", str(pairs), "--passages", str(passages)]
        command = ["benchmarks.speed.profiling", "model", str(manifest), str(model), str(bench.data), *cut_down]
        found.append({"model": name, "pairs": pairs, "passages": passages, **run_module(*command).result})
        print(f"{name}: profiled", flush=True)
    folder = bench.scratch / "profile"
    folder.mkdir()
    write_embeddings(folder, passages=CORPUS, queries=CORPUS_QUERIES)
    searched = run_module("benchmarks.speed.profiling", "search", str(folder)).result
    return {"models": found, "search": {"passages": CORPUS, "queries": CORPUS_QUERIES, **searched}}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    kinds = parser.add_subparsers(dest="kind", required=True)
    one = kinds.add_parser("model")
    for place in ("manifest", "model", "data"):
        one.add_argument(place, type=Path)
    one.add_argument("--pairs", type=int)
    one.add_argument("--passages", type=int)
    other = kinds.add_parser("search")
    other.add_argument("folder", type=Path)
    options = parser.parse_args(arguments)
    keep_freed_memory()
    # With more, a part's time is also that of waiting for the other thread.
    torch.set_num_threads(1)
    print(json.dumps(profile_model(options) if options.kind == "model" else profile_search(options.folder)))


def profile_model(options: argparse.Namespace) -> dict[str, Any]:
    """Profile all training steps but the first, which warms up, and one evaluation."""
    experiment, prepared = read_experiment(options.manifest), read_prepared(options.data)
    data = cut(prepared, options.passages)
    rows = prepared.train[: options.pairs]
    encoder = open_encoder(options.model, device="cpu")
    with ExitStack() as names, tempfile.TemporaryDirectory() as folder:
        for module, function, name in ((embedding_paths, "tokenize", TOKENIZER), (packed_attention, "_draw", DRAW)):
            names.enter_context(patch.object(module, function, _name(getattr(module, function), name)))
        with _profiled() as evaluating:
            evaluate(encoder, data, experiment.evaluation)
        del encoder
        recipe = experiment.recipes["finetuned"]
        with ExitStack() as stack:
            training: list[dict[str, Any]] = []

            def watch(step: int, steps: int) -> None:
                if step == 1:
                    training.append(stack.enter_context(_profiled()))
                elif step == steps:
                    stack.close()

            seconds = measure_training(options.model, rows, recipe, seed=0, folder=Path(folder), watch=watch)
    return {"steps": len(seconds) - 1, "training": training[0], "evaluating": evaluating}


def profile_search(folder: Path) -> dict[str, Any]:
    """Time the parts of one search over the passages of a folder, each without those inside it."""
    task = ranking.read_task(folder)
    clock = _Clock("measures of the run, by ir_measures")
    parts = (
        (ranking, "retrieve", "ids, checks, the run"),
        (search, "_search", "coarse products, and passages read"),
        (Shortlists, "add", "floors and shortlists"),
        (Shortlists, "pairs", "floors and shortlists"),
        (search, "_score_pairs", "exact scores of the shortlists"),
        (search, "merge", "merging"),
    )
    with ExitStack() as stack:
        for place, function, name in parts:
            stack.enter_context(patch.object(place, function, clock.time(getattr(place, function), name)))
        started = time.perf_counter()
        ranking.rank_fast(task, device="cpu")
        seconds = time.perf_counter() - started
    return {"seconds": seconds, "parts": clock.stop()}


class _Clock:
    """Counts seconds by part; while one is in another, only the inner one's run."""

    def __init__(self, first: str) -> None:
        self._parts: dict[str, float] = defaultdict(float)
        self._current, self._since = first, time.perf_counter()

    def time(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        """Wrap a function so that its time is the part's."""

        def timed(*given: Any, **named: Any) -> Any:
            before = self._turn(name)
            try:
                return function(*given, **named)
            finally:
                self._turn(before)

        return timed

    def stop(self) -> dict[str, float]:
        """Return the seconds of each part."""
        self._turn(self._current)
        return dict(self._parts)

    def _turn(self, name: str) -> str:
        now, before = time.perf_counter(), self._current
        self._parts[before] += now - self._since
        self._current, self._since = name, now
        return before


def _name(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """Wrap a function so that the profiler knows it."""

    def named(*given: Any, **by_name: Any) -> Any:
        with record_function(name):
            return function(*given, **by_name)

    return named


@contextmanager
def _profiled() -> Iterator[dict[str, Any]]:
    """Profile what is done inside; at the end the dict yielded has the seconds, and those of each part."""
    found: dict[str, Any] = {}
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        started = time.perf_counter()
        yield found
        found["seconds"] = time.perf_counter() - started
    parts: dict[str, float] = defaultdict(float)
    for event in profiler.events() or ():
        parts[find_part(event)] += event.self_cpu_time_total / 1e6
    parts[PYTHON] = max(0.0, found["seconds"] - sum(parts.values()))
    found["parts"] = dict(parts)


def find_part(event: Any) -> str:
    """Say what an operator is part of, by its name and those around it."""
    names = []
    around = event
    while around is not None:
        names.append(around.name)
        around = around.cpu_parent
    found = next((PARTS[name] for name in names if name in PARTS), None)
    return found or (PARTS["ToCopyBackward0"] if CAST in names else OTHER)


if __name__ == "__main__":
    main()
