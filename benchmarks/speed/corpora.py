"""Large corpora: the exact best passages from given embeddings, at growing numbers of passages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.speed.workbench import run_module

DIMENSIONS = 384
ROWS_DRAWN_TOGETHER = 50_000
# How far a query is from its passage, in units of the passage's own spread: a task neither trivial nor hopeless.
NOISE = 2.5
WAYS = ("plain", "harness", "product")


def measure_corpora(scratch: Path, *, sizes: list[int], queries: int, rounds: int) -> dict[str, Any]:
    """Rank for random queries the 100 best of as many random passages as each of the sizes says.

    Returns:
        For each size each round's results of each way, and the largest difference of any value.
    """
    folder = scratch / "corpora"
    folder.mkdir()
    write_embeddings(folder, passages=max(sizes), queries=queries)
    rows = []
    for size in sizes:
        found: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
        for number in range(rounds):
            for way in WAYS if number % 2 else WAYS[::-1]:
                result = run_module("benchmarks.speed.ranking", way, str(folder), "--passages", str(size)).result
                found[way].append(result)
                print(f"{size} passages, round {number + 1}: {way}: {result['seconds']:.1f} s", flush=True)
        plain, ours = found["plain"][0]["values"], found["harness"][0]["values"]
        rows.append(
            {
                "passages": size,
                "rounds": found,
                "largest_difference": max(abs(plain[measure] - value) for measure, value in ours.items()),
            }
        )
    return {"queries": queries, "dimensions": DIMENSIONS, "sizes": rows}


def write_embeddings(folder: Path, *, passages: int, queries: int) -> None:
    """Write passages.npy and queries.npy; query number n was drawn near passage number n."""
    generator = np.random.default_rng(0)
    file = np.lib.format.open_memmap(folder / "passages.npy", mode="w+", dtype=np.float32, shape=(passages, DIMENSIONS))
    for start in range(0, passages, ROWS_DRAWN_TOGETHER):
        block = file[start : start + ROWS_DRAWN_TOGETHER]
        block[:] = generator.standard_normal(block.shape, dtype=np.float32)
    near = file[:queries] if queries <= passages else file[generator.integers(0, passages, queries)]
    noise = generator.standard_normal(near.shape, dtype=np.float32)
    np.save(folder / "queries.npy", near + NOISE * noise)
    file.flush()
