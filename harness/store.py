"""The store keeps stage outputs under the hash of all that went into them, whole or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import filelock

from harness.errors import StoreError
from harness.schema import Frozen, canonical_json, decode_json, read_text

ENTRY_FILE = "entry.json"
ENTRY_LIMIT_BYTES = 4_000_000
LOCK_NOTICE_SECONDS = 5


class Entry(Frozen):
    """What the store notes beside an output's files: path -> SHA-256, and what making them took."""

    stage: str
    key: str
    inputs: dict[str, Any]
    files: dict[str, str]
    seconds: float
    peak_memory_bytes: int
    peak_device_memory_bytes: int | None
    created: str

    @property
    def digest(self) -> str:
        """SHA-256 over the names and hashes of the files."""
        return hashlib.sha256(canonical_json(self.files).encode()).hexdigest()


@dataclass(frozen=True)
class Cost:
    """What a stage measured of itself; seconds include those of earlier, interrupted attempts."""

    seconds: float
    peak_memory_bytes: int
    peak_device_memory_bytes: int | None


@dataclass(frozen=True)
class Output:
    """A stage's output: its files are in ``folder``; ``cached`` says they were made at an earlier time."""

    folder: Path
    entry: Entry
    cached: bool


# Makes the files of an output. Gets the folder to fill and a scratch folder that outlives a killed process.
Maker = Callable[[Path, Path], Cost]


class Store:
    """A folder of content-addressed outputs: ``STAGE/KEY/`` with the files and an ``entry.json``."""

    def __init__(self, root: Path) -> None:
        """Take a folder as store; it is made on first use."""
        self.root = root

    def get_or_make(self, stage: str, inputs: Mapping[str, Any], make: Maker) -> Output:
        """Return the output of a stage for these inputs, making it unless it is there and whole.

        One process makes an output while others wait for it. What does not match its hashes is moved aside,
        with a warning, and made again.

        Args:
            stage: name of the stage.
            inputs: plain data that decides the output: versions, digests, seeds, settings.
            make: fills the folder; called at most once.

        Raises:
            StoreError: the store cannot be read or written, for instance because the disk is full.
        """
        key = hashlib.sha256(canonical_json({"stage": stage, **inputs}).encode()).hexdigest()
        with self._storage_errors(), self._locked(stage, key):
            folder = self.root / stage / key
            entry = self._find(folder)
            if entry is not None:
                return Output(folder, entry, cached=True)
            return Output(folder, self._make(folder, stage, key, inputs, make), cached=False)

    def _make(self, folder: Path, stage: str, key: str, inputs: Mapping[str, Any], make: Maker) -> Entry:
        scratch = self.root / "scratch" / f"{stage}-{key}"
        scratch.mkdir(parents=True, exist_ok=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.root / "scratch", prefix=".making-") as making:
            target = Path(making) / "output"
            target.mkdir()
            cost = make(target, scratch)
            entry = Entry(
                stage=stage,
                key=key,
                inputs=dict(inputs),
                files=_hash_tree(target),
                seconds=cost.seconds,
                peak_memory_bytes=cost.peak_memory_bytes,
                peak_device_memory_bytes=cost.peak_device_memory_bytes,
                created=datetime.now(UTC).isoformat(timespec="seconds"),
            )
            (target / ENTRY_FILE).write_text(entry.model_dump_json(indent=1), encoding="utf-8")
            _sync_tree(target)
            target.rename(folder)
            _sync(folder.parent)
        shutil.rmtree(scratch, ignore_errors=True)
        return entry

    def _find(self, folder: Path) -> Entry | None:
        """Return the entry of a whole output; move a broken one aside."""
        if not folder.exists():
            return None
        problem = ""
        try:
            entry = read_entry(folder)
            problem = "; ".join(check_output(folder, entry))
        except StoreError as cause:
            problem = str(cause)
        if not problem:
            return entry
        aside = self.root / "aside" / f"{folder.parent.name}-{folder.name}-{uuid.uuid4().hex[:8]}"
        aside.parent.mkdir(parents=True, exist_ok=True)
        folder.rename(aside)
        warnings.warn(f"the store's {folder.parent.name} output was broken, is now in {aside}: {problem}", stacklevel=4)
        return None

    @contextmanager
    def _locked(self, stage: str, key: str) -> Iterator[None]:
        locks = self.root / "locks"
        locks.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(locks / f"{stage}-{key}.lock")
        try:
            lock.acquire(timeout=LOCK_NOTICE_SECONDS)
        except filelock.Timeout:
            warnings.warn(f"another process is making {stage} {key[:12]}; waiting for it", stacklevel=4)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def _storage_errors(self) -> Iterator[None]:
        """Turn what the disk says into an error that names the store."""
        try:
            yield
        except OSError as cause:
            reason = cause.strerror or str(cause)
            raise StoreError(f"{cause.filename or self.root}: {reason} (store {self.root})") from cause


def read_entry(folder: Path) -> Entry:
    """Parse an output's entry.

    Raises:
        StoreError: absent or malformed.
    """
    path = folder / ENTRY_FILE
    text = read_text(path, limit_bytes=ENTRY_LIMIT_BYTES, error=StoreError)
    return decode_json(Entry, text, place=str(path), error=StoreError)


def check_output(folder: Path, entry: Entry) -> list[str]:
    """Return what does not match the entry, one message per file; empty where all is well."""
    found = _hash_tree(folder)
    problems = [f"{name} is missing" for name in sorted(set(entry.files) - set(found))]
    problems += [f"{name} does not belong there" for name in sorted(set(found) - set(entry.files))]
    problems += [
        f"{name} has another SHA-256 than when it was made"
        for name in sorted(set(found) & set(entry.files))
        if found[name] != entry.files[name]
    ]
    return problems


def stopwatch() -> Callable[[], float]:
    """Start a clock that no change of the system time touches; the returned function tells the seconds."""
    start = time.perf_counter()
    return lambda: time.perf_counter() - start


def _hash_tree(folder: Path) -> dict[str, str]:
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path != folder / ENTRY_FILE:
            with path.open("rb") as stream:
                files[path.relative_to(folder).as_posix()] = hashlib.file_digest(stream, "sha256").hexdigest()
    return files


def _sync_tree(folder: Path) -> None:
    for path in folder.rglob("*"):
        _sync(path)
    _sync(folder)


def _sync(path: Path) -> None:
    """Ask the disk to hold what was written, so that a rename never outlives its content."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
