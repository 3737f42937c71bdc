"""Trials beside each other: how much sooner an experiment is done, from the start of the command to its end."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.speed.workbench import ROOT, Workbench
from harness.records.environment import count_cpus
from harness.records.record import Record, read_records

EXPERIMENT = "hpo-small"
MOST_WORKERS = 4
THREADS = "1"


def measure_cluster(bench: Workbench, *, seeds: int, rounds: int) -> dict[str, Any]:
    """Run an experiment one by one in one process, and on Ray with 1, 2 and 4 workers, each with one thread.

    Every run has an empty store and starts, and stops, a cluster of its own.

    Raises:
        SystemExit: a run failed, or gave other values than the first.
    """
    ways: list[tuple[str, Sequence[str]]] = [("local", ())]
    ways += [(f"ray {count}", ("--engine=ray", f"--parallel={count}")) for count in (1, 2, MOST_WORKERS)]
    found: dict[str, list[float]] = {name: [] for name, _ in ways}
    first: list[Any] | None = None
    for number in range(rounds):
        for name, options in ways:
            seconds, records = _run(bench.scratch / "cluster", seeds, options)
            found[name].append(seconds)
            values = [(record.values, record.training and record.training.weights_sha256) for record in records]
            first = first or values
            if values != first:
                raise SystemExit(f"{name}: other values than the first run's")
            print(f"cluster, round {number + 1}, {name}: {seconds:.0f} s", flush=True)
    return {"experiment": EXPERIMENT, "trials": len(first or ()), "cores": count_cpus(), "seconds": found}


def _run(folder: Path, seeds: int, options: Sequence[str]) -> tuple[float, Sequence[Record]]:
    shutil.rmtree(folder, ignore_errors=True)
    places = (f"--store={folder / 'store'}", f"--results={folder / 'results'}", "--device=cpu")
    command = [sys.executable, "-m", "harness", "run", EXPERIMENT, *places, f"--seeds={seeds}", *options]
    environment = {**os.environ, "OMP_NUM_THREADS": THREADS, "TOKENIZERS_PARALLELISM": "false"}
    started = time.perf_counter()
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    if ended.returncode != 0:
        raise SystemExit(f"{' '.join(command)} ended with {ended.returncode}:\n{ended.stdout}{ended.stderr}")
    return seconds, read_records(folder / "results" / "records" / EXPERIMENT)
