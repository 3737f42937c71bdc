"""Checkpoints of a training under way are whole or not there: sealed by a rename, read only if every hash is right."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.core.files import hash_tree, write_atomically
from harness.core.schema import Frozen, decode_json, digest_json, read_text
from harness.errors import StoreError

SEAL_FILE = "seal.json"
SEAL_LIMIT_BYTES = 2**26
PREFIX = "checkpoint-"


class Seal(Frozen):
    """What is noted beside a checkpoint's files.

    ``seconds`` are those of training up to it over all attempts, ``batches`` the digest of every batch so far,
    ``files`` path -> SHA-256, ``sha256`` that of all three: a wrong bit in here would go into the
    record.
    """

    seconds: float
    batches: tuple[str, ...]
    files: dict[str, str]
    sha256: str


@dataclass(frozen=True)
class SealedCheckpoint:
    """A checkpoint that can be gone on from."""

    folder: Path
    seal: Seal

    @property
    def step(self) -> int:
        """The step that it was written at."""
        return _read_step(self.folder)


def seal_checkpoint(written: Path, target: Path, *, seconds: float, batches: tuple[str, ...]) -> None:
    """Make a checkpoint of a folder that the trainer wrote, in one step.

    Args:
        written: the trainer's folder; afterwards it is gone.
        target: what it becomes; a broken one that is there is replaced.
        seconds: of training up to here.
        batches: digests of the batches so far.

    Raises:
        OSError: the disk refuses.
    """
    files = hash_tree(written)
    seal = Seal(seconds=seconds, batches=batches, files=files, sha256=_digest(seconds, batches, files))
    write_atomically(written / SEAL_FILE, seal.model_dump_json().encode())
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(target, ignore_errors=True)
    written.rename(target)


def find_checkpoint(folder: Path) -> SealedCheckpoint | None:
    """Return the checkpoint of the highest step that is whole, or None.

    The order is that of the steps, since the times of files follow a clock that people set. A broken checkpoint is
    removed, with a warning that names it; the one before it then serves.
    """
    for path in sorted(folder.glob(f"{PREFIX}*"), key=_read_step, reverse=True):
        problem = _find_problem(path)
        if not problem:
            return SealedCheckpoint(path, _read_seal(path))
        warnings.warn(f"{path}: a broken checkpoint is not used: {problem}", stacklevel=2)
        shutil.rmtree(path, ignore_errors=True)
    return None


def prune_checkpoints(folder: Path, keep: int) -> int:
    """Remove all but the last ``keep`` checkpoints, counted by step, and return the oldest step that is left."""
    found = sorted(folder.glob(f"{PREFIX}*"), key=_read_step)
    for path in found[:-keep]:
        shutil.rmtree(path, ignore_errors=True)
    return _read_step(found[-keep:][0])


def _find_problem(path: Path) -> str:
    try:
        seal = _read_seal(path)
        found = hash_tree(path, skip={SEAL_FILE})
    except (StoreError, OSError) as cause:
        return str(cause)
    if seal.sha256 != _digest(seal.seconds, seal.batches, seal.files):
        return f"{SEAL_FILE} is not as it was written"
    differing = sorted(name for name in {*seal.files, *found} if seal.files.get(name) != found.get(name))
    return f"not as it was written: {', '.join(differing)}" if differing else ""


def _digest(seconds: float, batches: tuple[str, ...], files: Mapping[str, str]) -> str:
    return digest_json([seconds, batches, dict(files)])


def _read_seal(path: Path) -> Seal:
    text = read_text(path / SEAL_FILE, limit_bytes=SEAL_LIMIT_BYTES, error=StoreError)
    return decode_json(Seal, text, place=str(path / SEAL_FILE), error=StoreError)


def _read_step(path: Path) -> int:
    digits = path.name.removeprefix(PREFIX)
    return int(digits) if digits.isdecimal() else -1
