"""Start-up: seconds until a command shows its first output, and that torch stays out of it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.speed.workbench import ROOT

GATE = "tests/data/gate"
# What the issue of speed asks for, in seconds.
COMMANDS: tuple[tuple[str, float], ...] = (
    ("harness --help", 0.5),
    ("harness gate --help", 0.5),
    (f"harness gate --reference {GATE}/reference --candidate {GATE}/other-seeds --policy {GATE}/seeds.toml", 0.5),
    ("harness verify --help", 0.5),
    ("harness verify results", 0.5),
    ("harness report --help", 0.5),
    ("harness report results --check", 0.5),
    ("pytest --collect-only -q benchmarks/ --harness-experiment hpo", 1.0),
)


def measure_startup(*, rounds: int) -> list[dict[str, Any]]:
    """Start each command anew in every round, one command after another."""
    found: list[dict[str, Any]] = [
        {"command": command, "wanted": wanted, "seconds": []} for command, wanted in COMMANDS
    ]
    for number in range(rounds):
        for row in found:
            row["seconds"].append(time_first_output(row["command"].split()))
        print(f"start-up, round {number + 1} done", flush=True)
    return found


def time_first_output(command: Sequence[str]) -> float:
    """Return the seconds from start until the first byte of output, then wait for the end."""
    program = str(Path(sys.executable).parent / command[0])
    reading, writing = os.pipe()
    started = time.perf_counter()
    with subprocess.Popen(
        [program, *command[1:]], stdin=subprocess.DEVNULL, stdout=writing, stderr=writing, cwd=ROOT
    ) as child:
        os.close(writing)
        first = os.read(reading, 1)
        seconds = time.perf_counter() - started
        while os.read(reading, 2**16):
            pass
    os.close(reading)
    # 1 is an answer too: what was measured last may not be in the tables yet.
    if not first or child.returncode not in {0, 1}:
        raise SystemExit(f"{' '.join(command)} ended with {child.returncode}")
    return seconds
