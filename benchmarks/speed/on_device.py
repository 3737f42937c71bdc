"""The run on a device: the plain recipe against the harness, on made-up models and texts, offline and within minutes.

It writes speed-KIND.json and, from that alone, speed-KIND.md: what somebody with a GPU sends back.
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate

from benchmarks.plain_recipe import read_rows
from benchmarks.speed.corpora import write_embeddings
from benchmarks.speed.device_recipe import FREE, GROUPED, HARNESS, PLAIN, WAYS
from benchmarks.speed.made_up import SHAPES, Shape, build_model, write_rows
from benchmarks.speed.workbench import ROOT, run_module
from harness.core.files import write_atomically
from harness.core.schema import format_json
from harness.errors import HarnessError
from harness.models.device import full_precision, name_device, native_bf16, open_device, pick_device, synchronize
from harness.models.loading import load_model
from harness.records.environment import collect_environment

# Of the published recipe.
BATCH = 32
# Forward, and backward for inputs and weights: three products of the same size.
TRAINING_PRODUCTS = 3
RATE_SECONDS = 1.0
# Tokens of a product that the rate is measured with; what a device is fastest at counts.
RATE_TOKENS = (2048, 16384)
DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
# Of a value before training: a GPU sums padded and unpadded batches in other orders, which may swap near ties.
DEVICE_TOLERANCE = 1e-3
SEARCHED = ("plain", "harness", "product")


@dataclass(frozen=True)
class Size:
    """How much is measured: of training, of evaluating, of searching, and for how long at most."""

    pairs: int
    passages: int
    corpus: int
    queries: int
    rounds: int
    minutes: float
    tiny: bool


FULL = Size(pairs=1600, passages=1000, corpus=100_000, queries=1000, rounds=2, minutes=8, tiny=False)
TINY = Size(pairs=256, passages=40, corpus=500, queries=20, rounds=1, minutes=2, tiny=True)


@dataclass
class Budget:
    """The time that there is: what would not fit any more is not begun, once everything was measured once."""

    seconds: float
    started: float = field(default_factory=time.monotonic)
    longest: float = 0.0

    def has_room(self) -> bool:
        """Say whether one more process fits, if it takes as long as the longest so far."""
        return time.monotonic() - self.started + self.longest < self.seconds

    def run(self, *command: str) -> dict[str, Any]:
        """Run a module and return what it printed."""
        done = run_module(*command)
        self.longest = max(self.longest, done.seconds)
        return done.result


def measure_on_device(
    wanted: str, names: Sequence[str], scratch: Path, *, precision: str | None, size: Size
) -> dict[str, Any]:
    """Measure every model each way, round after round, and the search; the first round is whole whatever it takes.

    Raises:
        HarnessError: there is no such device.
    """
    device = isolate(wanted)
    precision = precision or ("fp16" if device != "cpu" else "bf16" if native_bf16("cpu") else "fp32")
    budget = Budget(60 * size.minutes)
    places = {name: lay_out(name, scratch / name, size) for name in names}
    found: dict[str, dict[str, list[dict[str, Any]]]] = {name: {way: [] for way in WAYS} for name in names}
    searched: dict[str, list[dict[str, Any]]] = {way: [] for way in SEARCHED}
    corpus = scratch / "corpus"
    corpus.mkdir()
    write_embeddings(corpus, passages=size.corpus, queries=size.queries)
    for number in range(size.rounds):
        # Whoever goes first changes, so that a slow drift of the machine favours neither.
        for way in SEARCHED[:: -1 if number % 2 else 1]:
            if number and not budget.has_room():
                break
            asked = ("--passages", str(size.corpus), "--device", device)
            searched[way].append(budget.run("benchmarks.speed.ranking", way, str(corpus), *asked))
        for name, place in places.items():
            for way in WAYS[:: -1 if number % 2 else 1]:
                if number and not budget.has_room():
                    break
                # A CPU's plain recipe trains in fp32, as the trainer does by itself.
                own = "fp32" if device == "cpu" and way == PLAIN else precision
                given = (way, str(place.model), str(place.data), "--device", device, "--precision", own)
                result = budget.run("benchmarks.speed.device_recipe", *given)
                found[name][way].append(result)
                say(name, number, way, result)
    return {
        "schema_version": 1,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": device,
        "device_name": name_device(device, platform.processor() or "CPU"),
        "cuda": torch.version.cuda,
        "environment": collect_environment(ROOT).model_dump(mode="json"),
        "precision": precision,
        "size": vars(size),
        "models": [
            {
                "model": name,
                "rounds": found[name],
                "tokens_per_step": place.training.tokens * BATCH / size.pairs,
                "limits": find_limits(place, device, precision, size),
                "largest_difference": differ(found[name][PLAIN][0]["values"], found[name][HARNESS][0]["values"]),
            }
            for name, place in places.items()
        ],
        "search": {
            "passages": size.corpus,
            "queries": size.queries,
            "rounds": searched,
            "largest_difference": differ(searched["plain"][0]["values"], searched["harness"][0]["values"]),
        },
    }


def isolate(wanted: str) -> str:
    """Have this process and those that it starts see one GPU: the plain recipe's trainer would take all of them."""
    kind, _, index = wanted.partition(":")
    if kind != "cuda":
        return pick_device(wanted)
    number, seen = int(index or 0), os.environ.get("CUDA_VISIBLE_DEVICES", "")
    names = seen.split(",") if seen else [str(one) for one in range(number + 1)]
    if number >= len(names):
        raise HarnessError(f"device is {wanted!r}, but CUDA_VISIBLE_DEVICES is {seen!r}")
    os.environ["CUDA_VISIBLE_DEVICES"] = names[number]
    return pick_device("cuda:0")


@dataclass(frozen=True)
class Tokens:
    """How many tokens texts have, prompts none, and the sum of their squared numbers."""

    tokens: int
    squares: int


@dataclass(frozen=True)
class Place:
    """A made-up model and its rows, and how long the rows' texts are."""

    shape: Shape
    model: Path
    data: Path
    training: Tokens
    evaluating: Tokens


def lay_out(name: str, folder: Path, size: Size) -> Place:
    shape = SHAPES[name].tiny if size.tiny else SHAPES[name]
    model = build_model(folder / "model", shape)
    write_rows(folder / "data", shape, pairs=size.pairs, passages=size.passages)
    train, test = (read_rows(folder / "data" / f"{part}.jsonl") for part in ("train", "test"))
    tokenizer: Any = load_model(model, device="cpu").tokenizer

    def count(texts: Sequence[str]) -> Tokens:
        lengths = [len(ids) for ids in tokenizer(list(texts), truncation=True)["input_ids"]]
        return Tokens(sum(lengths), sum(length * length for length in lengths))

    passages = [row["positive"] for row in (*test, *train)]
    return Place(
        shape,
        model,
        folder / "data",
        count([text for row in train for text in (row["anchor"], row["positive"])]),
        count([*passages, *(row["anchor"] for row in test)]),
    )


def find_limits(place: Place, device: str, precision: str, size: Size) -> dict[str, float]:
    """Return what the matrix products alone would take, at the rate measured here and now, without any padding."""
    shape = place.shape
    rates = {name: measure_rate(shape, device, DTYPES[name]) for name in {precision, "fp32"}}
    step = TRAINING_PRODUCTS * shape.count_operations(place.training.tokens, place.training.squares)
    steps = step * BATCH / size.pairs
    evaluating = shape.count_operations(place.evaluating.tokens, place.evaluating.squares)
    return {
        "steps_per_second": rates[precision] / steps,
        "evaluate_seconds": evaluating / rates["fp32"],
        **{f"{name}_operations_per_second": rate for name, rate in rates.items()},
    }


def measure_rate(shape: Shape, device: str, kind: torch.dtype) -> float:
    """Return the operations per second of products as large as the model's largest, at the size that is fastest."""
    open_device(device)
    best = 0.0
    for tokens in RATE_TOKENS if device != "cpu" else RATE_TOKENS[:1]:
        texts = torch.randn(tokens, shape.hidden, device=device).to(kind)
        weights = torch.randn(shape.inner, shape.hidden, device=device).to(kind)
        with full_precision():
            best = max(best, time_products(texts, weights, device))
    return best


def time_products(texts: torch.Tensor, weights: torch.Tensor, device: str) -> float:
    product: Callable[[], torch.Tensor] = lambda: torch.nn.functional.linear(texts, weights)  # noqa: E731 - one use
    product()
    synchronize(device)
    count, together, started = 0, 20, time.perf_counter()
    while time.perf_counter() - started < RATE_SECONDS:
        for _ in range(together):
            product()
        synchronize(device)
        count += together
    return count * 2 * len(texts) * weights.numel() / (time.perf_counter() - started)


def differ(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    """Return the largest difference of any value that both have."""
    return max(abs(one[measure] - other[measure]) for measure in one.keys() & other.keys())


def say(name: str, number: int, way: str, result: Mapping[str, Any]) -> None:
    rate = result["steps"] / result["train_seconds"]
    print(
        f"{name} round {number + 1}: {way}: {rate:.2f} steps/s, {result['evaluate_seconds']:.1f} s evaluating",
        flush=True,
    )


def write_record(record: Mapping[str, Any], folder: Path) -> Path:
    """Write the record and the table that follows from it, and return the table's path."""
    stem = f"speed-{str(record['device']).partition(':')[0]}"
    table = folder / f"{stem}.md"
    write_atomically(folder / f"{stem}.json", (format_json(dict(record)) + "\n").encode())
    write_atomically(table, render(record).encode())
    return table


def render(record: Mapping[str, Any]) -> str:
    """Write the page of a record."""
    size, packages = record["size"], record["environment"]["packages"]
    versions = ", ".join(f"{name} {packages[name]}" for name in ("torch", "transformers", "sentence-transformers"))
    shapes = "tiny shapes" if size["tiny"] else "the real shapes"
    lines = [
        f"# Speed on {record['device_name']}",
        "",
        f"{record['created']}; {versions}, CUDA {record['cuda'] or 'none'}, Python {record['environment']['python']}.",
        "",
        f"Random weights of {shapes}, made-up texts; training in {record['precision']}, batches of {BATCH}.",
        "Evaluating in fp32. Means over rounds, each in processes of its own.",
        "",
        "The limit is the matrix products of the texts without padding, at the rate measured here.",
    ]
    for model in record["models"]:
        lines += ["", f"## {model['model']}", "", tabulate_model(model)]
        lines += ["", f"Largest difference of a value before training: {model['largest_difference']:.1e}."]
    search = record["search"]
    lines += [
        "",
        f"## Search: {search['passages']:,} passages, {search['queries']:,} queries",
        "",
        tabulate(
            [[way, mean(rounds, "seconds")] for way, rounds in search["rounds"].items()],
            headers=["", "seconds"],
            tablefmt="github",
        ),
        "",
        f"Largest difference of a value: {search['largest_difference']:.1e}.",
        "",
    ]
    return "\n".join(lines)


def tabulate_model(model: Mapping[str, Any]) -> str:
    limits, rows = model["limits"], []
    for way in (PLAIN, HARNESS, FREE, GROUPED):
        rounds = model["rounds"][way]
        rate = statistics.fmean(one["steps"] / one["train_seconds"] for one in rounds)
        peaks = [show_bytes(rounds, f"{part}_peak_device_memory_bytes") for part in ("train", "evaluate")]
        rows.append([way, *list_rates(rate, model), mean(rounds, "evaluate_seconds"), *peaks, len(rounds)])
    rate = limits["steps_per_second"]
    rows.append(["limit", *list_rates(rate, model), f"{limits['evaluate_seconds']:.2f}", "", "", ""])
    headers = [
        "way", "steps per second", "tokens per second", "seconds to evaluate", "GB training", "GB evaluating", "rounds",
    ]  # fmt: skip
    return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)


def list_rates(rate: float, model: Mapping[str, Any]) -> list[str]:
    return [f"{rate:.2f}", f"{rate * model['tokens_per_step']:,.0f}"]


def mean(rounds: Sequence[Mapping[str, Any]], key: str) -> str:
    return f"{statistics.fmean(one[key] for one in rounds):.2f}"


def show_bytes(rounds: Sequence[Mapping[str, Any]], key: str) -> str:
    peaks = [one[key] for one in rounds if one[key] is not None]
    return f"{max(peaks) / 1e9:.2f}" if peaks else ""
