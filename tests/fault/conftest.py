"""The fault suite counts what it did and what was survived, and writes it to the file that HARNESS_FAULTS names."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

REPORT_VARIABLE = "HARNESS_FAULTS"


class Faults:
    """Faults by name: how often each was committed, how often it was survived, or why it could not be."""

    def __init__(self) -> None:
        self.times: dict[str, int] = {}
        self.survived: dict[str, int] = {}
        self.skipped: dict[str, str] = {}

    @contextmanager
    def commit(self, name: str, times: int = 1) -> Iterator[None]:
        """Count a fault, and that it was survived if the block ends well."""
        self.times[name] = self.times.get(name, 0) + times
        self.survived.setdefault(name, 0)
        yield
        self.survived[name] += times

    def skip(self, name: str, reason: str) -> None:
        """Note that a fault cannot be committed here, and skip the test."""
        self.skipped[name] = reason
        pytest.skip(reason)


FAULTS = pytest.StashKey[Faults]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[FAULTS] = Faults()


@pytest.fixture
def faults(pytestconfig: pytest.Config) -> Faults:
    return pytestconfig.stash[FAULTS]


def pytest_sessionfinish(session: pytest.Session) -> None:
    path = os.environ.get(REPORT_VARIABLE)
    found = session.config.stash[FAULTS]
    if not path or not (found.times or found.skipped):
        return
    rows = [
        {"fault": name, "times": found.times.get(name, 0), "survived": found.survived.get(name, 0)}
        | ({"skipped": found.skipped[name]} if name in found.skipped else {})
        for name in sorted({*found.times, *found.skipped})
    ]
    Path(path).write_text(json.dumps({"schema_version": 1, "faults": rows}, indent=1) + "\n", encoding="utf-8")
