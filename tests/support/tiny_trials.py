"""The real pipeline on a tiny experiment, in a process that a test can kill in any stage."""

from __future__ import annotations

import io
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.cli.main import main
from harness.records.record import Record, read_record
from tests.support.children import die, run_in_child
from tests.support.manifests import write_data, write_manifest
from tests.support.tiny_model import build_tiny_model

TRIALS = ("small.baseline", "small.finetuned.seed=0")


@dataclass(frozen=True)
class Kill:
    """Be killed in a stage: some seconds after it began, or at its end if that comes first."""

    stage: str
    seconds: float


@dataclass(frozen=True)
class Place:
    """Where a tiny experiment is run: its manifest, store and results."""

    manifest: Path
    store: Path
    results: Path

    def run(self, kill: Kill | None = None) -> int:
        """Run both trials in a child and return its exit code."""
        return run_in_child(run_trials, self, kill)

    def read(self) -> list[Record]:
        """Return the records of both trials."""
        return [read_record(self.results / "records" / "tiny" / f"{stem}.json") for stem in TRIALS]

    def at(self, folder: Path) -> Place:
        """Return the same experiment with another store and results."""
        return Place(self.manifest, folder / "store", folder / "results")


def make_place(folder: Path) -> Place:
    """Write a tiny experiment with model, data and lock; it saves a checkpoint at every step."""
    build_tiny_model(folder / "model")
    write_data(folder / "data")
    manifest = write_manifest(folder, save_steps="1")
    text = manifest.read_text(encoding="utf-8")
    # One model is enough here, and claims are not made of it.
    start, end = text.index('[[models]]\nname = "other"'), text.index("[recipes.finetuned]")
    text = text[:start] + text[end:]
    start, end = text.index("[[claims]]"), text.index("[prices_usd_per_hour]")
    manifest.write_text(text[:start] + text[end:], encoding="utf-8")
    if main(["lock", str(manifest), "--store", str(folder / "locking")]) != 0:
        raise RuntimeError(f"{manifest} cannot be locked")
    return Place(manifest, folder / "store", folder / "results")


def run_trials(place: Place, kill: Kill | None) -> None:
    """Run the baseline and the first seed in this process; an error is left in a file beside the results."""
    from harness.errors import HarnessError
    from harness.experiment.trial import list_trials
    from harness.pipeline.progress import Progress
    from harness.pipeline.run_trial import open_context, run_trial
    from harness.pipeline.selection import RunConfig, select_experiment

    class Watched(Progress):
        def begin_stage(self, stage: str) -> None:
            super().begin_stage(stage)
            if kill is not None and stage == kill.stage:
                threading.Timer(kill.seconds, die).start()

        def end_stage(self, seconds: float, *, cached: bool) -> None:
            super().end_stage(seconds, cached=cached)
            if kill is not None and self._stage == kill.stage:
                die()

    config = RunConfig(place.store, place.results, experiment=str(place.manifest), device="cpu")
    selected = select_experiment(config, place.manifest.parent)
    trials = [trial for trial in list_trials(selected.experiment) if trial.stem in TRIALS]
    try:
        context = open_context(selected, config)
        for trial in trials:
            run_trial(trial, context, Watched(io.StringIO(), trials))
    except HarnessError as error:
        error_file(place).write_text(f"{type(error).__name__}: {error}", encoding="utf-8")
        raise SystemExit(error.exit_code) from error


def error_file(place: Place) -> Path:
    """Return the file that `run_trials` leaves its error in: beside the manifest, which is on no full disk."""
    return place.manifest.parent / "error.txt"


def summarise(records: list[Record]) -> list[dict[str, Any]]:
    """Return what must be the same however often a trial was interrupted."""
    return [
        {
            "values": record.values,
            "per_query": record.per_query,
            "run": record.run.sha256,
            "qrels": record.qrels.sha256,
            "data": record.data,
            "embeddings": record.embeddings_sha256,
            "weights": record.training and record.training.weights_sha256,
            "loss": record.training and record.training.loss,
            "batches": record.training and record.training.batches,
        }
        for record in records
    ]


def run_with_clock_set_back(place: Place) -> None:
    """Run the trials in this process with a clock that was set back by a day."""
    import datetime as dt

    import harness.pipeline.run_trial
    import harness.pipeline.store

    right = time.time

    class Yesterday(dt.datetime):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> Yesterday:
            return cls.fromtimestamp(right() - 86400, tz)

    time.time = lambda: right() - 86400
    harness.pipeline.store.datetime = Yesterday  # type: ignore[attr-defined]
    harness.pipeline.run_trial.datetime = Yesterday  # type: ignore[attr-defined]
    run_trials(place, None)
