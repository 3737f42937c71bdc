"""The fault suite counts what it did and what was survived; tests/conftest.py makes a report of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest


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

    def add(self, times: Mapping[str, int], survived: Mapping[str, int], skipped: Mapping[str, str]) -> None:
        """Add what another process counted."""
        for ours, theirs in ((self.times, times), (self.survived, survived)):
            for name, count in theirs.items():
                ours[name] = ours.get(name, 0) + count
        self.skipped.update(skipped)


FAULTS = pytest.StashKey[Faults]()


@pytest.fixture
def faults(pytestconfig: pytest.Config) -> Faults:
    return pytestconfig.stash[FAULTS]
