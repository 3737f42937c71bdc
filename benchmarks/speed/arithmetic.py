"""The limit that the machine sets: the matrix products the texts need, at the rate measured here and now."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import torch

from benchmarks.plain_recipe import PASSAGE_PROMPT, QUERY_PROMPT
from benchmarks.speed.harness_recipe import cut
from harness.models.device import native_bf16
from harness.models.loading import load_model
from harness.pipeline.dataset import read_prepared

# Forward, and backward for inputs and weights: three products of the same size.
TRAINING_PRODUCTS = 3
BATCH = 32
SECONDS = 2.0


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--pairs", type=int)
    parser.add_argument("--passages", type=int)
    options = parser.parse_args(arguments)

    model = load_model(options.model, device="cpu")
    prepared = read_prepared(options.data)
    data = cut(prepared, options.passages)
    config: Any = cast("Any", model[0]).auto_model.config
    hidden, inner, layers = int(config.hidden_size), int(config.intermediate_size), int(config.num_hidden_layers)

    def count_products(texts: Sequence[str]) -> float:
        """Count multiplications and additions of one forward pass, without padding."""
        tokens = [len(ids) for ids in model.tokenizer(list(texts), truncation=True)["input_ids"]]
        linear = 2 * (4 * hidden * hidden + 2 * hidden * inner) * sum(tokens)
        attention = 4 * hidden * sum(count * count for count in tokens)
        return float(layers * (linear + attention))

    rows = prepared.train[: options.pairs]
    training = TRAINING_PRODUCTS * count_products([row.query for row in rows] + [row.passage for row in rows])
    evaluating = count_products(sorted({*data.corpus.values(), *data.queries.values()}))
    asked = {PASSAGE_PROMPT + text for text in data.corpus.values()}
    prompted = count_products(sorted(asked | {QUERY_PROMPT + text for text in data.queries.values()}))
    fast = torch.bfloat16 if native_bf16("cpu") else torch.float32
    rates = {str(kind): measure_rate(hidden, inner, kind) for kind in {fast, torch.float32}}
    print(
        json.dumps(
            {
                "training_step_seconds": training / (len(rows) / BATCH) / rates[str(fast)],
                "evaluate_seconds": evaluating / rates[str(torch.float32)],
                "evaluate_prompted_seconds": prompted / rates[str(torch.float32)],
                "operations_per_second": rates,
            }
        )
    )


def measure_rate(hidden: int, inner: int, kind: torch.dtype) -> float:
    """Return the operations per second of a product as large as the model's largest."""
    texts, weights = torch.randn(2048, hidden).to(kind), torch.randn(inner, hidden).to(kind)
    product: Callable[[], torch.Tensor] = lambda: torch.nn.functional.linear(texts, weights)  # noqa: E731 - one use
    product()
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < SECONDS:
        product()
        count += 1
    return count * 2 * 2048 * hidden * inner / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
