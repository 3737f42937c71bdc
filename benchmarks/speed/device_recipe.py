"""One way through evaluating and training on a device, measured with the device waited for; prints one JSON object."""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sentence_transformers import SentenceTransformer
from transformers import TrainerCallback

from benchmarks.plain_recipe import make_evaluator, read_rows, train_plainly
from benchmarks.speed.harness_recipe import choose_algorithms
from benchmarks.speed.workbench import EXPERIMENTS
from harness.experiment.evaluation import Evaluation
from harness.experiment.manifest import read_experiment
from harness.experiment.recipe import Embedding
from harness.models.device import (
    Precision,
    keep_freed_memory,
    open_device,
    peak_device_memory_bytes,
    reset_peak_device_memory,
    synchronize,
)
from harness.models.encoder import open_encoder
from harness.models.training import train_model
from harness.pipeline.dataset import TestData
from harness.pipeline.rows import Row, list_columns
from harness.pipeline.stages import rank_passages
from harness.records.measures import average, evaluate_run

PLAIN, HARNESS, FREE, GROUPED = "plain", "harness", "harness, any algorithms", "harness, grouped"
WAYS = (PLAIN, HARNESS, FREE, GROUPED)
# Steps that load kernels and find the allocator's blocks.
WARM_STEPS = 5


class StepClock:
    """Measures the steps after the first few, waiting for the device at both ends only."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.started = 0.0
        self.steps = 0
        self.seconds = math.nan

    def tick(self, step: int, steps: int) -> None:
        """Be told that a step of so many is done."""
        if step not in {min(WARM_STEPS, steps - 1), steps}:
            return
        synchronize(self.device)
        now = time.perf_counter()
        if step < steps:
            self.started, self.steps = now, steps - step
        else:
            self.seconds = now - self.started


class Ticks(TrainerCallback):
    """Tells a clock of the trainer's steps."""

    def __init__(self, clock: StepClock) -> None:
        self.clock = clock

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Tell of this one."""
        del args, control
        self.clock.tick(state.global_step, state.max_steps)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path, help="folder with train.jsonl and test.jsonl: id, anchor, positive")
    parser.add_argument("--device", required=True)
    parser.add_argument("--precision", required=True, choices=["fp16", "bf16", "fp32"])
    options = parser.parse_args(arguments)

    keep_freed_memory()
    open_device(options.device)
    train, test = read_rows(options.data / "train.jsonl"), read_rows(options.data / "test.jsonl")
    run = run_plainly if options.way == PLAIN else run_harness
    clock = StepClock(options.device)
    print(json.dumps({**run(options, train, test, clock), "steps": clock.steps, "train_seconds": clock.seconds}))


def run_plainly(options: Any, train: list[Any], test: list[Any], clock: StepClock) -> dict[str, Any]:
    model = SentenceTransformer(str(options.model), device=options.device)
    model.encode(["w1 w2 w3"] * 8)
    evaluator = make_evaluator(train, test, None)
    evaluated = measure(options.device, lambda: evaluator(model))
    trained = measure(
        options.device,
        lambda: train_plainly(model, train, seed=0, precision=options.precision, callbacks=[Ticks(clock)]),
    )
    values = {name.removeprefix("cosine_"): float(value) for name, value in evaluated.found.items()}
    return describe(evaluated, trained, values)


def run_harness(options: Any, train: list[Any], test: list[Any], clock: StepClock) -> dict[str, Any]:
    experiment = read_experiment(EXPERIMENTS / "bioasq.toml")
    grouped = options.way == GROUPED
    embedding = Embedding(cuda="grouped" if grouped else "padded", cpu="packed" if grouped else "padded")
    recipe = experiment.recipes["finetuned"]
    recipe = recipe.replace(embedding=embedding, arguments=recipe.arguments.replace(eval_steps=None))
    precision: Precision = options.precision
    data = TestData(
        {row["id"]: row["anchor"] for row in test},
        {row["id"]: row["positive"] for row in (*test, *train)},
        {row["id"]: {row["id"]: 1} for row in test},
    )
    evaluated = evaluate(options, data, experiment.evaluation)
    with tempfile.TemporaryDirectory() as name, choose_algorithms(free=options.way == FREE):
        folder = Path(name)
        for part in ("target", "scratch"):
            (folder / part).mkdir()
        trained = measure(
            options.device,
            lambda: train_model(
                options.model,
                list_columns([Row.pair(row["id"], row["anchor"], row["positive"]) for row in train], recipe.inputs),
                recipe,
                seed=0,
                device=options.device,
                precision=precision,
                target=folder / "target",
                scratch=folder / "scratch",
                progress=lambda step, steps, *_: clock.tick(step, steps),
            ),
        )
    return describe(evaluated, trained, evaluated.found)


def evaluate(options: Any, data: TestData, evaluation: Evaluation) -> Measured:
    """Measure an evaluation, and let go of the model; it is tried with a few texts when it is opened."""
    encoder = open_encoder(options.model, device=options.device)
    ranked = measure(options.device, lambda: rank_passages(encoder, data, evaluation, device=options.device))
    values = average(evaluate_run(ranked.found, data.qrels, evaluation.measures))
    return Measured(values, ranked.seconds, ranked.peak)


class Measured:
    """What something returned, the seconds that it took, and the device's peak meanwhile."""

    def __init__(self, found: Any, seconds: float, peak: int | None) -> None:
        self.found, self.seconds, self.peak = found, seconds, peak


def measure(device: str, act: Callable[[], Any]) -> Measured:
    reset_peak_device_memory(device)
    synchronize(device)
    started = time.perf_counter()
    found = act()
    synchronize(device)
    return Measured(found, time.perf_counter() - started, peak_device_memory_bytes(device))


def describe(evaluated: Measured, trained: Measured, values: Mapping[str, float]) -> dict[str, Any]:
    return {
        "evaluate_seconds": evaluated.seconds,
        "evaluate_peak_device_memory_bytes": evaluated.peak,
        "train_peak_device_memory_bytes": trained.peak,
        "values": dict(values),
    }


if __name__ == "__main__":
    main()
