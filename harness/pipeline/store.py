"""The store keeps stage outputs under the hash of all that went into them, whole or not at all."""

from __future__ import annotations

import os
import shutil
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import filelock

from harness.core.files import hash_tree
from harness.core.schema import Frozen, decode_json, digest_json, read_text
from harness.errors import StoreError

ENTRY_FILE = "entry.json"
ENTRY_LIMIT_BYTES = 4_000_000
LOCK_NOTICE_SECONDS = 5
SCRATCH, ASIDE, LOCKS, SOURCES, STACKS = "scratch", "aside", "locks", "sources", "stacks"
MAKING = ".making-"


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
    # The harness's own commit, with a mark where the checkout had changes; None outside of a checkout.
    commit: str | None = None
    # Of all other fields, so that a flipped bit in the seconds is found too; the first stores had none.
    seal: str | None = None

    @property
    def digest(self) -> str:
        """SHA-256 over the names and hashes of the files."""
        return digest_json(self.files)

    def compute_seal(self) -> str:
        """Return the SHA-256 of all fields that were written but the seal: later harnesses may know more fields."""
        fields = self.model_dump(mode="json", exclude={"seal"}, exclude_unset=True)
        return digest_json(fields)


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

    def __init__(self, root: Path, *, commit: str | None = None) -> None:
        """Take a folder as store, which is made on first use, and the commit that new outputs are made by."""
        self.root = root
        self.commit = commit

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
        key = make_key(stage, inputs)
        folder = self.root / stage / key
        with self._storage_errors():
            # Outputs come into being by a rename, so one that is there can be read without a lock. That also lets
            # a store that cannot be written serve what it has.
            found = self.find(stage, key)
            if found is not None:
                return found
            with self.hold(stage, key):
                entry = self._find(folder)
                if entry is not None:
                    return Output(folder, entry, cached=True)
                return Output(folder, self._make(folder, stage, key, inputs, make), cached=False)

    def find(self, stage: str, key: str) -> Output | None:
        """Return an output that is there and whole, or None."""
        folder = self.root / stage / key
        return Output(folder, read_entry(folder), cached=True) if folder.is_dir() and not check_output(folder) else None

    def adopt(self, stage: str, key: str, files: Callable[[], Mapping[str, bytes]]) -> None:
        """Take an output that another store made, unless it is there and whole.

        Args:
            stage: name of the stage.
            key: what it is stored under.
            files: gives path -> content of all its files, the entry's own included; asked only if they are needed.

        Raises:
            StoreError: they are not what their entry says, or the store cannot be written.
        """
        with self._storage_errors():
            if self.find(stage, key) is not None:
                return
            with self.hold(stage, key):
                folder = self.root / stage / key
                if self._find(folder) is not None:
                    return
                # Named as it will be, since a check also asks that an output lies where its entry says.
                making = self.root / SCRATCH / f"{MAKING}{stage}-{key}" / stage / key
                shutil.rmtree(making.parents[1], ignore_errors=True)
                try:
                    for name, content in files().items():
                        (making / name).parent.mkdir(parents=True, exist_ok=True)
                        (making / name).write_bytes(content)
                    problems = check_output(making)
                    if problems:
                        raise StoreError(f"{stage} {key[:12]} did not arrive as it was sent: {'; '.join(problems)}")
                    _sync_tree(making)
                    folder.parent.mkdir(parents=True, exist_ok=True)
                    making.rename(folder)
                    _sync(folder.parent)
                finally:
                    shutil.rmtree(making.parents[1], ignore_errors=True)

    def _make(self, folder: Path, stage: str, key: str, inputs: Mapping[str, Any], make: Maker) -> Entry:
        scratch = self.root / SCRATCH / f"{stage}-{key}"
        # Whoever holds the lock owns this folder, so what is in it was left by a process that was killed.
        making = self.root / SCRATCH / f"{MAKING}{stage}-{key}"
        shutil.rmtree(making, ignore_errors=True)
        scratch.mkdir(parents=True, exist_ok=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        making.mkdir()
        try:
            cost = make(making, scratch)
            unsealed = Entry(
                stage=stage,
                key=key,
                inputs=dict(inputs),
                files=hash_tree(making, skip={ENTRY_FILE}),
                seconds=cost.seconds,
                peak_memory_bytes=cost.peak_memory_bytes,
                peak_device_memory_bytes=cost.peak_device_memory_bytes,
                created=datetime.now(UTC).isoformat(timespec="seconds"),
                commit=self.commit,
            )
            entry = unsealed.replace(seal=unsealed.compute_seal())
            (making / ENTRY_FILE).write_text(entry.model_dump_json(indent=1), encoding="utf-8")
            _sync_tree(making)
            making.rename(folder)
            _sync(folder.parent)
        finally:
            shutil.rmtree(making, ignore_errors=True)
        shutil.rmtree(scratch, ignore_errors=True)
        return entry

    def _find(self, folder: Path) -> Entry | None:
        """Return the entry of a whole output; move a broken one aside."""
        if not folder.exists():
            return None
        problems = check_output(folder)
        if not problems:
            return read_entry(folder)
        aside = self.root / ASIDE / f"{folder.parent.name}-{folder.name}-{uuid.uuid4().hex[:8]}"
        aside.parent.mkdir(parents=True, exist_ok=True)
        folder.rename(aside)
        warnings.warn(
            f"the store's {folder.parent.name} output was broken, is now in {aside} and is made again: "
            f"{'; '.join(problems)}",
            stacklevel=4,
        )
        return None

    @contextmanager
    def hold(self, stage: str, key: str, *, wait: bool = True) -> Iterator[bool]:
        """Hold the lock of one output, which its maker holds too; where it is not waited for, say whether it was had.

        Raises:
            OSError: the lock cannot be written.
        """
        locks = self.root / LOCKS
        locks.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(locks / f"{stage}-{key}.lock")
        try:
            lock.acquire(timeout=LOCK_NOTICE_SECONDS if wait else 0)
        except filelock.Timeout:
            if not wait:
                yield False
                return
            warnings.warn(f"another process is making {stage} {key[:12]}; waiting for it", stacklevel=4)
            lock.acquire()
        try:
            yield True
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


def check_output(folder: Path) -> list[str]:
    """Return what is wrong with an output, one message per finding; empty where it is whole.

    Compares every file with the entry, and the entry with its own seal, key and place.
    """
    try:
        entry = read_entry(folder)
        found = hash_tree(folder, skip={ENTRY_FILE})
    except (StoreError, OSError) as cause:
        return [str(cause)]
    place = (entry.stage, entry.key)
    problems = [] if place == (folder.parent.name, folder.name) else [f"{ENTRY_FILE} belongs to {'/'.join(place)}"]
    if entry.key != make_key(entry.stage, entry.inputs):
        problems.append(f"{ENTRY_FILE} has inputs that do not give its key")
    if entry.seal is not None and entry.seal != entry.compute_seal():
        problems.append(f"{ENTRY_FILE} was changed after it was written")
    problems += [f"{name} is missing" for name in sorted(set(entry.files) - set(found))]
    problems += [f"{name} does not belong there" for name in sorted(set(found) - set(entry.files))]
    problems += [
        f"{name} has another SHA-256 than when it was made"
        for name in sorted(set(found) & set(entry.files))
        if found[name] != entry.files[name]
    ]
    return problems


def make_key(stage: str, inputs: Mapping[str, Any]) -> str:
    """Return the SHA-256 that a stage's output is stored under."""
    return digest_json({"stage": stage, **inputs})


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
