"""What `harness lock` does: every source's files are pinned, and what they are now is held against the lock."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.core.files import refuse_special, write_atomically
from harness.errors import LockError, SourceError
from harness.experiment.data import UNPINNED, Data, FolderSource, HubSource
from harness.experiment.data_facts import DataFacts, list_differences
from harness.experiment.lock import (
    Lock,
    LockedSource,
    Role,
    digest_sources,
    format_lock,
    list_sources,
    list_unpinned,
    read_lock,
)
from harness.experiment.manifest import Experiment
from harness.sources.fetch import Fetcher, find_kind, find_root, hash_files, is_wanted, mend_files
from harness.sources.hub import find_head, is_offline, list_hashes

# Reads a data set (of the folder and the hashed files in it) and says what the lock keeps of it.
ReadFacts = Callable[[Data, Path, Mapping[str, str]], DataFacts]


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


@dataclass(frozen=True)
class NewLock:
    """A lock as the sources are now, not yet written.

    Attributes:
        path: where it belongs, beside the manifest.
        lock: what it says.
        old: what the file there says; None where there is none for these sources.
        same: whether the file there has the very same bytes.
        moved: hub sources whose main branch is elsewhere; none where the hub may not be asked.
    """

    path: Path
    lock: Lock
    old: Lock | None
    same: bool
    moved: tuple[Moved, ...]

    @property
    def changes(self) -> list[str]:
        """A line for every file whose place in the lock changes, and for what is read off the data."""
        return [] if self.old is None else list(list_changes(self.old, self.lock))

    @property
    def differs(self) -> bool:
        """Whether the lock is another, or a file that is taken changed on a main branch."""
        return not self.same or any(moved.changed for moved in self.moved)


def prepare_lock(
    manifest: Path, experiment: Experiment, fetcher: Fetcher, *, read_facts: ReadFacts | None = None
) -> NewLock:
    """Look at what an experiment's sources are now, beside the lock that there is.

    Raises:
        DataError: ``read_facts`` cannot read the data.
        SourceError: a source cannot be had, a file of the hub is not what the hub lists, or the hub does not say.
    """
    path = manifest.with_suffix(".lock")
    try:
        old = read_lock(path, experiment)
    except LockError:
        old = None
    lock = make_lock(experiment, fetcher, read_facts=read_facts)
    same = path.is_file() and path.read_bytes() == format_lock(lock).encode()
    moved = () if is_offline() else tuple(list_moved(experiment))
    return NewLock(path, lock, old, same, moved)


def write_lock(new: NewLock, experiment: Experiment) -> None:
    """Write a new lock over the old one.

    Raises:
        LockError: it would replace a hash of what cannot change, or cannot be written.
    """
    if new.old is not None:
        check_pinned(new.old, new.lock, experiment)
    try:
        write_atomically(new.path, format_lock(new.lock).encode())
    except OSError as cause:
        raise LockError(f"{new.path}: cannot be written: {cause.strerror or cause}") from cause


def make_lock(experiment: Experiment, fetcher: Fetcher, *, read_facts: ReadFacts | None = None) -> Lock:
    """Bring every source of an experiment to this machine and note what its files are, and what the data in them.

    Raises:
        DataError: ``read_facts`` cannot read the data.
        SourceError: a source cannot be had, or a file of the hub is not what the hub lists.
    """
    sources, facts = {}, {}
    for name, source in list_sources(experiment).items():
        folder, _ = fetcher.locate(source, name.role)
        files = hash_files(folder, name.role)
        if isinstance(source, HubSource) and not is_offline():
            files |= _check_listed(source, name.role, folder, files)
        sizes = {path: (find_root(folder) / path).stat().st_size for path in files}
        sources[str(name)] = LockedSource(files=files, complete=True, sizes=sizes)
        if name.role == "data" and read_facts is not None:
            facts[name.own] = read_facts(experiment.data[name.own], find_root(folder), files)
    return Lock(
        schema_version=2,
        experiment=experiment.name,
        sources_digest=digest_sources(experiment),
        sources=sources,
        data=facts or None,
    )


def propose_commits(experiment: Experiment) -> Iterator[str]:
    """Ask the hub for the commit that each unpinned source's main branch is at, and yield a line for each.

    Raises:
        SourceError: the hub does not say.
    """
    sources = list_sources(experiment)
    for name in list_unpinned(experiment):
        source = sources[name]
        if isinstance(source, HubSource):
            head = find_head(source.repository, find_kind(name.role))
            yield f'{name}: {source.repository} is {UNPINNED}; its main is at: revision = "{head}"'


def list_moved(experiment: Experiment) -> Iterator[Moved]:
    """Ask the hub where the main branches of an experiment's sources are, and yield those that are not where pinned.

    Raises:
        SourceError: the hub does not say.
    """
    for name, source in list_sources(experiment).items():
        if not isinstance(source, HubSource):
            continue
        role = name.role
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
    locked, found = old.data or {}, new.data or {}
    for data in sorted(locked.keys() & found.keys()):
        yield from (f"data:{data}: {difference}" for difference in list_differences(found[data], locked[data]))


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


def _check_listed(source: HubSource, role: Role, folder: Path, files: Mapping[str, str]) -> dict[str, str]:
    """Hold files against the hub's own listing before they are pinned, and return the hashes of those taken anew.

    Raises:
        SourceError: one is not what the hub lists, even when taken anew.
    """
    listed = list_hashes(source.repository, source.revision, find_kind(role))

    def find_wrong(names: Mapping[str, str]) -> list[str]:
        wrong = []
        for name, found in names.items():
            expected = listed.get(name)
            small = expected is not None and len(expected) != len(found)
            if expected != (hash_git_blob(folder / name) if small else found):
                wrong.append(name)
        return wrong

    mended = mend_files(source, role, folder, find_wrong(files))
    if still := find_wrong(mended):
        raise SourceError(f"hub {source.repository} @ {source.revision}: {', '.join(still)}: not what the hub lists")
    return mended


def hash_git_blob(path: Path) -> str:
    """Return the SHA-1 under which git, and so the hub, knows a file's content.

    Raises:
        SourceError: it cannot be read.
    """
    try:
        content = refuse_special(path).read_bytes()
    except OSError as cause:
        raise SourceError(f"{path}: cannot be read: {cause.strerror or cause}") from cause
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _compare(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    return sorted(path for path in {*before, *after} if before.get(path) != after.get(path))
