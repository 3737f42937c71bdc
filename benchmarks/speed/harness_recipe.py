"""The harness's way through what `plain_recipe` does, cut down alike, with the same JSON, to measure speed by."""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from unittest.mock import patch

from benchmarks.plain_recipe import PASSAGE_PROMPT, QUERY_PROMPT
from harness.experiment.evaluation import Evaluation
from harness.experiment.manifest import read_experiment
from harness.experiment.recipe import Recipe
from harness.models.device import keep_freed_memory
from harness.models.encoder import Encoder, open_encoder
from harness.models.encoding import Encoding
from harness.models.training import MODEL_FOLDER, choose_precision, train_model
from harness.pipeline.dataset import PreparedData, TestData, read_prepared
from harness.pipeline.rows import Row, list_columns
from harness.pipeline.stages import rank_passages
from harness.records.measures import average, evaluate_run


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path, help="folder of prepared data")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pairs", type=int)
    parser.add_argument("--passages", type=int)
    parser.add_argument("--any-algorithms", action="store_true", help="not only those that give the same bits")
    options = parser.parse_args(arguments)

    keep_freed_memory()
    experiment = read_experiment(options.manifest)
    prepared = read_prepared(options.data)
    data = cut(prepared, options.passages)
    encoder = open_encoder(options.model, device="cpu")
    started = time.perf_counter()
    before = evaluate(encoder, data, experiment.evaluation)
    evaluate_seconds = time.perf_counter() - started
    del encoder
    asked = Encoding(query_prompt=QUERY_PROMPT, passage_prompt=PASSAGE_PROMPT)
    encoder = open_encoder(options.model, device="cpu", encoding=asked)
    started = time.perf_counter()
    prompted = evaluate(encoder, data, experiment.evaluation)
    prompted_seconds = time.perf_counter() - started
    # As in the pipeline, where another stage trains: one model in memory at a time.
    del encoder
    with tempfile.TemporaryDirectory() as folder, choose_algorithms(free=options.any_algorithms):
        step_seconds = measure_training(
            options.model,
            prepared.train[: options.pairs],
            experiment.recipes["finetuned"],
            seed=options.seed,
            folder=Path(folder),
        )
        tuned = open_encoder(Path(folder) / "target" / MODEL_FOLDER, device="cpu")
        after = evaluate(tuned, data, experiment.evaluation)
    print(
        json.dumps(
            {
                "evaluate_seconds": evaluate_seconds,
                "evaluate_prompted_seconds": prompted_seconds,
                "step_seconds": step_seconds,
                "values_before": before,
                "values_prompted": prompted,
                "values_after": after,
                "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            }
        )
    )


def cut(prepared: PreparedData, passages: int | None) -> TestData:
    # Test passages come first, as in the plain recipe, so that every query kept has its own.
    every = prepared.select("test")
    tested = {name: prepared.corpus[name] for name in every.queries}
    corpus = dict([*tested.items(), *prepared.corpus.items()][:passages])
    queries = {name: text for name, text in every.queries.items() if name in corpus}
    return TestData(queries, corpus, {name: {name: 1} for name in queries})


def evaluate(encoder: Encoder, data: TestData, evaluation: Evaluation) -> Mapping[str, float]:
    run = rank_passages(encoder, data, evaluation, device="cpu")
    return average(evaluate_run(run, data.qrels, evaluation.measures))


def choose_algorithms(*, free: bool) -> AbstractContextManager[object]:
    """Have training take torch's own choice of algorithms where it is free, by a stand-in that names no operator."""
    if not free:
        return nullcontext()
    return patch("harness.models.trainer.deterministic_algorithms", lambda _: nullcontext(()))


def measure_training(
    base: Path,
    rows: Sequence[Row],
    recipe: Recipe,
    *,
    seed: int,
    folder: Path,
    watch: Callable[[int, int], None] = lambda *_: None,
) -> list[float]:
    """Train and return the seconds of each step; ``watch`` is told of each, and of how many there are."""
    marks: list[float] = []

    def note(step: int, steps: int, *_: float) -> None:
        marks.append(time.perf_counter())
        watch(step, steps)

    target, scratch = folder / "target", folder / "scratch"
    target.mkdir()
    scratch.mkdir()
    started = time.perf_counter()
    train_model(
        base,
        list_columns(rows, recipe.inputs),
        recipe,
        seed=seed,
        device="cpu",
        precision=choose_precision(recipe, "cpu"),
        target=target,
        scratch=scratch,
        progress=note,
    )
    return [after - before for before, after in zip([started, *marks], marks, strict=False)]


if __name__ == "__main__":
    main()
