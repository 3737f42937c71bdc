"""What travels between driver and worker: what a worker is told, and the files that it gives back, with digests."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from harness.core.schema import Digest, Frozen
from harness.experiment.lock import Lock
from harness.experiment.manifest import Experiment
from harness.experiment.trial import Trial

# Where a node's store is, if not at the driver's path.
STORE_VARIABLE = "HARNESS_STORE"
RECORD_FILE = "record.json"
RESULTS_FOLDER, EVENTS_FOLDER = "results", "tensorboard"

# Path -> content.
Files = Mapping[str, bytes]


class Job(Frozen):
    """All that a worker needs to know of a trial; what is large follows where it is missing.

    Attributes:
        threads: that the trial computes with.
        store: path of the driver's store, which the worker's has too unless its node says otherwise.
        packages: the driver's, of which the worker's must be the same versions.
        carried: the files of sources that no node can fetch by itself, path below the manifest's folder -> SHA-256.
        prepared: keys of the stage ``prepare`` that the driver has done.
        manifest_commit: of the repository that the manifest lies in.
        manifest_dirty: whether that has changes.
    """

    trial: Trial
    experiment: Experiment
    lock: Lock
    device: str
    precision: str | None
    trackers: tuple[str, ...]
    threads: int
    store: str
    harness_version: str
    packages: dict[str, str]
    carried: dict[str, Digest]
    prepared: tuple[Digest, ...]
    manifest_commit: str | None
    manifest_dirty: bool | None


@dataclass(frozen=True)
class Outcome:
    """What a worker gives back: files with their digests, or the kind and words of an error of ours.

    ``begun`` and ``ended`` are seconds since the epoch by the worker's own clock.
    """

    files: Files
    sums: Mapping[str, str]
    error: tuple[str, str] | None
    begun: float
    ended: float


def digest_contents(files: Files) -> dict[str, str]:
    """Return path -> SHA-256 of contents, sorted by path."""
    return {name: hashlib.sha256(files[name]).hexdigest() for name in sorted(files)}
