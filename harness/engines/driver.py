"""The driver's end of trials that run elsewhere: what workers are told, and what of theirs becomes results here.

Only the driver writes results. What has come back is also kept in its store, under all that decides it, so that a
driver that was killed goes on with what is done, wherever the workers' own stores are.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import harness.errors
from harness.core.files import write_atomically
from harness.core.schema import format_json
from harness.engines.job import RECORD_FILE, RESULTS_FOLDER, Files, Job, Outcome, digest_contents
from harness.errors import HarnessError, RecordError
from harness.experiment.data import FolderSource
from harness.experiment.lock import SourceName, list_sources, name_source
from harness.experiment.trial import Trial, list_trials, narrow
from harness.models.device import describe_arithmetic
from harness.pipeline import stages
from harness.pipeline.results import replace_record
from harness.pipeline.run_trial import fetch_source, make_context, prepare_data
from harness.pipeline.selection import RunConfig, Selected
from harness.pipeline.store import Cost, Output, make_key
from harness.records.environment import list_packages
from harness.records.plan import note_trials
from harness.records.record import Execution, Record, parse_record
from harness.sources.fetch import CARRIED, Fetched, find_root, name_carried

STAGE = "trial"
# Bumped by hand when what a worker gives back changes.
VERSION = 1


class DamagedError(HarnessError):
    """What came back is not what was sent; the trial can be run again."""


@dataclass(frozen=True)
class Room:
    """What each trial computes with: its device as the worker sees it, its share of GPUs, and its threads."""

    device: str
    gpus: float
    threads: int


class Driver:
    """Tells workers what to do, and files what they give back."""

    def __init__(self, selected: Selected, config: RunConfig, room: Room) -> None:
        """Fetch what has to be sent, prepare all data, and note what is to run.

        Raises:
            HarnessError: data cannot be had, or are not those that were locked.
        """
        self.experiment = selected.experiment
        self.room = room
        self._packages = list_packages()
        self._context = make_context(selected, dataclasses.replace(config, store=config.store.absolute()), device="cpu")
        self._prepared: dict[str, Output] = {}
        for name in selected.experiment.data_read:
            self._prepare(name)
        self._carried = dict(self._list_carried())
        self._carried_sums = digest_contents({name: path.read_bytes() for name, path in self._carried.items()})
        note_trials(list_trials(selected.experiment), config.results)

    @property
    def names(self) -> tuple[str, ...]:
        """What a worker may ask for."""
        return ("carried", *(output.entry.key for output in self._prepared.values()))

    def read(self, name: str) -> Files:
        """Return the files that a worker may ask for under a name."""
        if name == "carried":
            return {path: place.read_bytes() for path, place in self._carried.items()}
        (output,) = {output.folder for output in self._prepared.values() if output.entry.key == name}
        return _read_folder(output)

    def make_job(self, trial: Trial) -> str:
        """Return what a worker is told of a trial, as JSON."""
        context, environment = self._context, self._context.environment
        return Job(
            trial=trial,
            experiment=self.experiment,
            lock=context.lock,
            device=self.room.device,
            precision=context.config.precision,
            trackers=context.config.trackers,
            threads=self.room.threads,
            store=str(context.store.root),
            harness_version=importlib.metadata.version("retrieval-harness"),
            packages=self._packages,
            carried=self._carried_sums,
            prepared=tuple(output.entry.key for output in self._prepared.values()),
            manifest_commit=environment.manifest_commit,
            manifest_dirty=environment.manifest_dirty,
        ).model_dump_json()

    def find_done(self, trial: Trial) -> Record | None:
        """File what came back in an earlier session, if that is all the same, and return its record."""
        output = self._context.store.find(STAGE, make_key(STAGE, self._list_inputs(trial)))
        if output is None:
            return None
        record = self._read_record(trial, (output.folder / RECORD_FILE).read_bytes())
        costs = {stage: cost.replace(cached=True) for stage, cost in record.stages.items()}
        return self._file(record.replace(stages=costs), output)

    def receive(self, trial: Trial, outcome: Outcome, execution: Execution) -> Record:
        """Check what a worker gave back, keep it, and file it below the results folder.

        Raises:
            DamagedError: it is not what was sent.
            HarnessError: the worker's own error, as it was raised there.
        """
        if outcome.error is not None:
            raise _revive(*outcome.error)
        if digest_contents(outcome.files) != dict(outcome.sums):
            raise DamagedError(f"{trial.id}: files did not arrive as they were sent")
        record = self._read_record(trial, outcome.files[RECORD_FILE]).replace(execution=execution)
        for artifact in record.artifacts:
            if outcome.sums.get(f"{RESULTS_FOLDER}/{artifact.path}") != artifact.sha256:
                raise DamagedError(f"{trial.id}: {artifact.path} is not the file that its record names")
        files = {**outcome.files, RECORD_FILE: (format_json(record.model_dump(mode="json")) + "\n").encode()}

        def make(target: Path, _: Path) -> Cost:
            for name, content in files.items():
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                (target / name).write_bytes(content)
            return Cost(outcome.ended - outcome.begun, 0, None)

        return self._file(record, self._context.store.get_or_make(STAGE, self._list_inputs(trial), make))

    def _file(self, record: Record, output: Output) -> Record:
        results = self._context.config.results
        for artifact in record.artifacts:
            content = (output.folder / RESULTS_FOLDER / artifact.path).read_bytes()
            try:
                write_atomically(results / artifact.path, content)
            except OSError as cause:
                raise RecordError(f"{results / artifact.path}: cannot be written: {cause.strerror or cause}") from cause
        replace_record(record, results)
        return record

    def _read_record(self, trial: Trial, content: bytes) -> Record:
        record = parse_record(content.decode(), place=f"record of {trial.id}")
        if record.trial != trial:
            raise RecordError(f"asked for {trial.id}, was given {record.trial.id}")
        # Which other models and seeds were asked for is no part of what a trial is.
        return record.replace(experiment=self.experiment, experiment_digest=self.experiment.digest)

    def _list_inputs(self, trial: Trial) -> dict[str, Any]:
        """Return all that decides what comes back."""
        alone = narrow(self.experiment, models=[trial.model], seeds=[trial.seed or 0])
        sources = {name: locked.files for name, locked in self._context.lock.sources.items()}
        return {
            "version": VERSION,
            "stages": dict(stages.VERSIONS),
            "trial": trial.model_dump(mode="json"),
            "experiment": alone.digest,
            "sources": {str(name): sources[name] for name in list_sources(alone)},
            "prepared": [output.entry.digest for output in self._prepared.values()],
            "device": self.room.device.partition(":")[0],
            "threads": self.room.threads,
            "precision": self._context.config.precision,
            "packages": self._packages,
        }

    def _prepare(self, name: str) -> None:
        source = fetch_source(self._context, SourceName.of("data", name))
        self._prepared[name] = prepare_data(self._context, name, source).output

    def _list_carried(self) -> Iterator[tuple[str, Path]]:
        """Yield (path below a manifest's folder, file) of what no node can fetch by itself: folders, and a parcel's."""
        data = {SourceName.of("data", name) for name in self._prepared}
        models = {name_source(model) for model in self.experiment.models if model.source is not None}
        for name, source in list_sources(self.experiment).items():
            beside = f"{CARRIED}/{name_carried(source, name.role)}"
            if name not in data | models:
                continue
            if isinstance(source, FolderSource) or (self._context.base / beside).is_dir():
                fetched: Fetched = fetch_source(self._context, name)
                for path in fetched.resolved.files:
                    yield f"{beside}/{path}", find_root(fetched.folder) / path


def count_threads() -> int:
    """Return how many threads this process would compute with."""
    return describe_arithmetic().threads


def _read_folder(folder: Path) -> Files:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _revive(kind: str, words: str) -> HarnessError:
    """Return an error as it was raised in a worker, of one of our own kinds."""
    found = getattr(harness.errors, kind, HarnessError)
    return found(words) if isinstance(found, type) and issubclass(found, HarnessError) else HarnessError(words)
