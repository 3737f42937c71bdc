"""What was computed on this machine, by the same code from the same bytes, need not be computed again.

The notes lie in the user's own cache folder, never beside what they are about: what a stranger hands in cannot bring
its own. ``HARNESS_CACHE`` names another folder, or none where it is empty. A note that is broken costs time only.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from harness.core.files import write_atomically
from harness.core.schema import digest_json, read_text
from harness.errors import RecordError

VARIABLE = "HARNESS_CACHE"
KEPT_SECONDS = 30 * 86_400.0
MOST_BYTES = 64 * 2**20
# What computes and draws beside our own code.
COMPUTING = ("ir_measures", "jinja2", "matplotlib", "numpy", "pydantic", "pytrec-eval-terrier", "scipy", "tabulate")


class Memo:
    """Notes by kind and inputs; without a folder it knows nothing and keeps nothing. ``found`` counts those used."""

    def __init__(self, folder: Path | None = None) -> None:
        """Take the folder, which is made on first use."""
        self._folder = folder
        self.found: Counter[str] = Counter()
        self._code = "" if folder is None else _digest_code()

    def find(self, kind: str, inputs: Mapping[str, Any]) -> Any | None:
        """Return what was kept for these inputs, or None."""
        path = self._locate(kind, inputs)
        if path is None:
            return None
        try:
            # No more room is set aside than there is to read; a pipe or a device is refused.
            size = min(MOST_BYTES, path.stat().st_size)
            note = json.loads(read_text(path, limit_bytes=size, error=RecordError))
            if note["sha256"] != digest_json(note["value"]):
                return None
            os.utime(path)
        except (RecordError, OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
        self.found[kind] += 1
        return note["value"]

    def keep(self, kind: str, inputs: Mapping[str, Any], value: Any) -> None:
        """Keep a value of plain data; where the disk refuses it is computed again the next time."""
        path = self._locate(kind, inputs)
        if path is None:
            return
        try:
            write_atomically(path, json.dumps({"sha256": digest_json(value), "value": value}).encode())
        except (OSError, ValueError):  # no path at all, as one with NUL in it, is a ValueError
            return

    def prune(self) -> None:
        """Remove what nobody has asked for in a month."""
        oldest = time.time() - KEPT_SECONDS
        try:
            # By our own names alone: the folder named may hold what is not ours.
            notes = [] if self._folder is None else list(self._folder.glob(f"*/{'[0-9a-f]' * 64}.json"))
        except (OSError, ValueError):  # too long a path, for one: such a cache is not used
            return
        for path in notes:
            try:
                if path.stat().st_mtime < oldest:
                    path.unlink()
            except OSError:
                continue

    def _locate(self, kind: str, inputs: Mapping[str, Any]) -> Path | None:
        if self._folder is None:
            return None
        return self._folder / kind / f"{digest_json({'code': self._code, **inputs})}.json"


NOTHING = Memo()


def open_memo() -> Memo:
    """Return the memo of this user, with what is old removed."""
    named = os.environ.get(VARIABLE)
    if named == "":
        return NOTHING
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    memo = Memo(Path(named) if named else Path(cache) / "retrieval-harness")
    memo.prune()
    return memo


def _digest_code() -> str:
    """Return the SHA-256 of this package's own files, and of what computes beside it."""
    root = Path(__file__).parents[1]
    files = {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.suffix in {".py", ".css", ".j2"}
    }
    return digest_json([sys.version, files, {name: _find_version(name) for name in COMPUTING}])


def _find_version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
