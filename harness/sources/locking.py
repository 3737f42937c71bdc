"""What sources hold now against what a lock or a pinned commit says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from harness.errors import LockError
from harness.experiment.data import FolderSource, HubSource
from harness.experiment.lock import Lock, list_sources
from harness.experiment.manifest import Experiment
from harness.sources.fetch import find_kind, find_role, is_wanted
from harness.sources.hub import find_head, list_hashes


@dataclass(frozen=True)
class Moved:
    """A hub source whose main branch is at another commit than the pinned one.

    ``changed`` names the files that a harness would take and that differ there; with none, the move changes nothing.
    """

    name: str
    repository: str
    pinned: str
    head: str
    changed: tuple[str, ...]

    def __str__(self) -> str:
        """Say it in a line."""
        what = f"changed there: {', '.join(self.changed)}" if self.changed else "no file that is taken changed there"
        return f"{self.name}: main of {self.repository} is at {self.head}, pinned is {self.pinned}; {what}"


def list_moved(experiment: Experiment) -> Iterator[Moved]:
    """Ask the hub where the main branches of an experiment's sources are, and yield those that are not where pinned.

    Raises:
        SourceError: the hub does not say.
    """
    for name, source in list_sources(experiment).items():
        if not isinstance(source, HubSource):
            continue
        role = find_role(name)
        kind = find_kind(role)
        head = find_head(source.repository, kind)
        if head != source.revision:
            pinned, current = (list_hashes(source.repository, at, kind) for at in (source.revision, head))
            differing = _compare(pinned, current)
            changed = tuple(path for path in differing if is_wanted(path, role))
            yield Moved(name, source.repository, source.revision, head, changed)


def list_changes(old: Lock, new: Lock) -> Iterator[str]:
    """Yield a line for every file whose place in the lock changes."""
    for name in sorted(new.sources):
        before = old.sources[name].files if name in old.sources else {}
        after = new.sources[name].files
        for path in _compare(before, after):
            was, becomes = before.get(path, "not locked"), after.get(path, "not there")
            yield f"{name}: {path}: {was} -> {becomes}"


def check_pinned(old: Lock, new: Lock, experiment: Experiment) -> None:
    """Refuse to replace a hash of what cannot change: a file at a commit, or in a wheel of one version.

    Raises:
        LockError: naming the files.
    """
    problems = []
    for name, source in list_sources(experiment).items():
        before = old.sources[name].files if name in old.sources else {}
        after = new.sources[name].files
        if not isinstance(source, FolderSource):
            problems += [
                f"{name}: {path}: SHA-256 is {after[path]}, was {digest}"
                for path, digest in sorted(before.items())
                if after.get(path, digest) != digest
            ]
    if problems:
        raise LockError(
            "the same commit or version gives other bits than those locked, which should not be; if the lock is what "
            "is wrong, delete it first:\n  " + "\n  ".join(problems)
        )


def _compare(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    return sorted(path for path in {*before, *after} if before.get(path) != after.get(path))
