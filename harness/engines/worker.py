"""The worker's end of a trial: its store is filled with what is missing, the trial runs, its files are given back."""

from __future__ import annotations

import importlib.metadata
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.core.files import clear_leftovers, hash_tree
from harness.core.schema import decode_json, format_json
from harness.engines.job import EVENTS_FOLDER, RECORD_FILE, RESULTS_FOLDER, STORE_VARIABLE, Files, Job, Outcome
from harness.engines.job import digest_contents as digest
from harness.errors import HarnessError, StoreError
from harness.experiment.trial import Trial
from harness.models.device import describe_arithmetic, keep_freed_memory, pick_device
from harness.pipeline.progress import Progress
from harness.pipeline.run_trial import RunContext, describe_machine, run_trial
from harness.pipeline.selection import RunConfig
from harness.pipeline.store import SOURCES, Store
from harness.records.environment import list_packages
from harness.records.record import Record

# A message to the driver at most once in so many seconds, beside those of stages.
TOLD_SECONDS = 1.0

# Gives the files that the driver has under a name.
Ask = Callable[[str], Files]
# Takes what is to be shown, and whether it is to be kept.
Tell = Callable[[str, bool], None]


class Told(Progress):
    """Progress of one trial, told to the driver."""

    def __init__(self, tell: Tell, trial: Trial) -> None:
        super().__init__(_Nowhere(), [trial])
        self._tell = tell

    def end_trial(self, summary: str) -> None:
        """Say nothing: the driver has it from the record."""

    def _update(self, text: str) -> None:
        if self._clock() - self._drawn >= TOLD_SECONDS:
            self._show(text, keep=False)

    def _show(self, text: str, *, keep: bool) -> None:
        self._drawn = self._clock()
        self._tell(text, keep)


class _Nowhere:
    def write(self, text: str, /) -> int:
        return len(text)

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return False


def run_job(told: str, *, ask: Ask, tell: Tell) -> Outcome:
    """Run a trial as a `Job` in JSON says; errors of ours come back as their words, others are raised.

    Args:
        told: the job.
        ask: gives a stage output by its key, and the carried sources by ``carried``.
        tell: shows a person what is going on.
    """
    begun = time.time()
    try:
        job = decode_json(Job, told, place="job", error=HarnessError)
        with _warnings_told(tell), tempfile.TemporaryDirectory(prefix="harness-") as scratch:
            record = run_trial(job.trial, _make_context(job, Path(scratch), ask), Told(tell, job.trial))
            files = _gather(record, Path(scratch), _make_store(job))
    except HarnessError as error:
        return Outcome({}, {}, (type(error).__name__, str(error)), begun, time.time())
    return Outcome(files, digest(files), None, begun, time.time())


def _make_context(job: Job, results: Path, ask: Ask) -> RunContext:
    keep_freed_memory()
    _compare_installation(job)
    device = pick_device(job.device)
    store = _make_store(job)
    base = _place_sources(job, store, ask)
    environment = describe_machine(base).replace(manifest_commit=job.manifest_commit, manifest_dirty=job.manifest_dirty)
    store = Store(store.root, commit=environment.revision)
    for key in job.prepared:
        store.adopt("prepare", key, lambda key=key: ask(key))  # type: ignore[misc]
    return RunContext(
        experiment=job.experiment,
        lock=job.lock,
        base=base,
        config=RunConfig(store.root, results, device=device, precision=job.precision, trackers=job.trackers),
        store=store,
        device=device,
        environment=environment,
    )


def _make_store(job: Job) -> Store:
    return Store(Path(os.environ.get(STORE_VARIABLE) or job.store))


def _compare_installation(job: Job) -> None:
    """Refuse to compute with other versions or threads than the driver says: values would differ by rounding."""
    version, threads = importlib.metadata.version("retrieval-harness"), describe_arithmetic().threads
    here = {**list_packages(), "retrieval-harness": version}
    there = {**job.packages, "retrieval-harness": job.harness_version}
    differing = [
        f"{name} is {here.get(name)}, the driver's {there.get(name)}"
        for name in sorted({*here, *there})
        if here.get(name) != there.get(name)
    ]
    if threads != job.threads:
        differing.append(f"torch has {threads} threads, expected {job.threads} (OMP_NUM_THREADS)")
    if differing:
        raise HarnessError(f"this node is installed otherwise than the driver: {'; '.join(differing)}")


def _place_sources(job: Job, store: Store, ask: Ask) -> Path:
    """Return the folder that stands for the manifest's, with the carried sources in it; every file is checked later."""
    wanted = job.lock.sources_digest[:24] + digest({"": repr(sorted(job.carried.items())).encode()})[""][:24]
    base = store.root / SOURCES / f"carried-{wanted}"
    try:
        base.parent.mkdir(parents=True, exist_ok=True)
        clear_leftovers(base.parent, ".carrying-")
        # Looked at with the lock held: another worker of this node may be at it, or be reading what it made.
        with (
            store.hold(SOURCES, base.name),
            tempfile.TemporaryDirectory(dir=base.parent, prefix=".carrying-") as making,
        ):
            if base.is_dir() and hash_tree(base) == job.carried:
                return base
            target = Path(making) / "files"
            target.mkdir()
            for name, content in ask("carried").items() if job.carried else ():
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                (target / name).write_bytes(content)
            if hash_tree(target) != job.carried:
                raise StoreError(f"{base}: the sources did not arrive as they were sent")
            if base.is_dir():
                base.rename(Path(making) / "broken")
            target.rename(base)
    except OSError as cause:
        raise StoreError(f"{cause.filename or base}: {cause.strerror or cause} (store {store.root})") from cause
    return base


def _gather(record: Record, results: Path, store: Store) -> Files:
    files = {RECORD_FILE: (format_json(record.model_dump(mode="json")) + "\n").encode()}
    for artifact in record.artifacts:
        files[f"{RESULTS_FOLDER}/{artifact.path}"] = (results / artifact.path).read_bytes()
    if "train" in record.stages:
        events = store.root / "train" / record.stages["train"].key / EVENTS_FOLDER
        for path in sorted(path for path in events.rglob("*") if path.is_file()):
            files[f"{EVENTS_FOLDER}/{path.relative_to(events).as_posix()}"] = path.read_bytes()
    return files


@contextmanager
def _warnings_told(tell: Tell) -> Iterator[None]:
    """Have warnings shown where a person looks, and not in a file of the node's."""

    def show(message: Warning | str, category: type[Warning], *_: object) -> None:
        tell(f"note: {category.__name__}: {message}", True)

    with warnings.catch_warnings():
        warnings.showwarning = show  # type: ignore[assignment]
        yield
