"""What is in a store, what it weighs, whether it is whole, and what can go."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.core.files import is_leftover, list_folders, refuse_links
from harness.errors import SourceError, StoreError
from harness.pipeline.store import (
    ASIDE,
    LOCKS,
    MAKING,
    SCRATCH,
    SOURCES,
    STACKS,
    Entry,
    Store,
    check_output,
    read_entry,
)
from harness.records.record import Record, read_records

Kind = Literal["output", "checkpoints of a training", "half-made output", "broken output", "sources", "left over"]
# What `_remove`, and unpacking in the sources, name the folders that they work in.
REMOVED = ".removed-"
TEMPORARY = (REMOVED, ".unpacking-", ".wheels-")
NO_STAGES = frozenset({ASIDE, LOCKS, SCRATCH, SOURCES, STACKS})


@dataclass(frozen=True)
class Item:
    """Something in a store; ``entry`` only for an output that can be read."""

    kind: Kind
    path: Path
    size_bytes: int
    entry: Entry | None = None


@dataclass(frozen=True)
class Removal:
    """What was, or would be, removed; ``reason`` says why it can go."""

    item: Item
    reason: str


def list_outputs(store: Store) -> list[Item]:
    """Return the store's outputs by stage and key.

    Raises:
        StoreError: there is no such store, or it cannot be read.
    """
    items = []
    for folder in _list_folders(store):
        try:
            entry = read_entry(folder)
        except StoreError:
            entry = None
        items.append(Item("output", folder, measure(folder), entry))
    return items


def list_items(store: Store) -> list[Item]:
    """Return everything that takes room in a store.

    Raises:
        StoreError: there is no such store, or it cannot be read.
    """
    items = list_outputs(store)
    for path in _list_below(store.root / SCRATCH):
        kind: Kind = "half-made output" if path.name.startswith(MAKING) else "checkpoints of a training"
        items.append(Item(kind, path, measure(path)))
    items += [Item("broken output", path, measure(path)) for path in _list_below(store.root / ASIDE)]
    items += [Item("sources", path, measure(path)) for path in _list_below(store.root / SOURCES)]
    return items


def list_users(records: Iterable[Record]) -> dict[str, list[str]]:
    """Return, by an output's key, the ids of the trials whose records name it."""
    users: dict[str, list[str]] = {}
    for record in records:
        for key in dict.fromkeys(cost.key for cost in record.stages.values()):
            users.setdefault(key, []).append(record.trial.id)
    return users


def list_needed(results: Path) -> Collection[str]:
    """Return the keys of the outputs that the records below a results folder name.

    Raises:
        RecordError: a record is broken.
        SourceError: there is no record, so that nothing would be needed.
    """
    folders = list_folders(refuse_links(results / "records", below=results))
    if not folders:
        raise SourceError(f"{results}: holds no records, so every output would go; is this the folder?")
    return list_users(record for folder in folders for record in read_records(folder)).keys()


def find_broken(store: Store) -> list[str]:
    """Return one line for every finding in the store's outputs; empty where all are whole.

    Raises:
        StoreError: there is no such store, or it cannot be read.
    """
    return [f"{folder}: {problem}" for folder in _list_folders(store) for problem in check_output(folder)]


def collect_garbage(store: Store, *, keep: Collection[str] | None, dry_run: bool) -> Iterator[Removal]:
    """Remove what nobody needs, telling each.

    That is always: broken outputs that were moved aside, what a killed process left half-made, half-unpacked or
    half-removed, and checkpoints of
    a training that has since ended. With ``keep``, also outputs of other keys and all idle checkpoints. What a
    process is working on stays.

    Args:
        store: the store.
        keep: the keys of the outputs that are needed, for instance those that records name; None keeps all.
        dry_run: tell, and remove nothing.

    Raises:
        StoreError: there is no such store, or the disk refuses.
    """
    for item, reason in _list_idle(store):
        yield _remove(item, reason, dry_run)
    for path in _list_below(store.root / SCRATCH):
        half_made = path.name.startswith(MAKING)
        stage, _, key = path.name.removeprefix(MAKING).partition("-")
        with store.hold(stage, key, wait=False) as idle:
            if not idle:
                continue
            if half_made:
                yield _remove(Item("half-made output", path, measure(path)), "its maker was killed", dry_run)
            elif (store.root / stage / key).is_dir():
                item = Item("checkpoints of a training", path, measure(path))
                yield _remove(item, "the training has ended", dry_run)
            elif keep is not None and key not in keep:
                yield _remove(Item("checkpoints of a training", path, measure(path)), "nothing names it", dry_run)
    for folder in _list_folders(store) if keep is not None else ():
        if keep is not None and folder.name not in keep:
            with store.hold(folder.parent.name, folder.name, wait=False) as idle:
                if idle:
                    yield _remove(Item("output", folder, measure(folder)), "no record names it", dry_run)


def measure(path: Path) -> int:
    """Return the bytes of a file, or of all files below a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(found.stat().st_size for found in path.rglob("*") if found.is_file())


def _remove(item: Item, reason: str, dry_run: bool) -> Removal:  # noqa: FBT001 - private, and passed on as it came
    if not dry_run:
        try:
            # Away by a rename first, so that nobody takes what is half-removed for an output.
            doomed = item.path.with_name(f"{REMOVED}{item.path.name}")
            item.path.rename(doomed)
            shutil.rmtree(doomed)
        except OSError as cause:
            raise StoreError(f"{item.path}: cannot be removed: {cause.strerror or cause}") from cause
    return Removal(item, reason)


def _list_folders(store: Store) -> list[Path]:
    if not store.root.is_dir():
        raise StoreError(f"{store.root}: there is no such store")
    try:
        stages = [path for path in sorted(store.root.iterdir()) if path.is_dir() and path.name not in NO_STAGES]
        return [
            path
            for stage in stages
            if not stage.name.startswith(".")
            for path in sorted(stage.iterdir())
            if path.is_dir() and not path.name.startswith(".")
        ]
    except OSError as cause:
        raise StoreError(f"{store.root}: cannot be read: {cause.strerror or cause}") from cause


def _list_idle(store: Store) -> Iterator[tuple[Item, str]]:
    """Yield what nobody can be working on, and why it can go."""
    for path in _list_below(store.root / ASIDE):
        yield Item("broken output", path, measure(path)), "was broken and has been moved aside"
    for path in _list_left_over(store):
        yield Item("left over", path, measure(path)), "its process was killed"


def _list_left_over(store: Store) -> list[Path]:
    """List what unpacking or removing left half-done more than a day ago."""
    folders = [path for path in _list_below(store.root) if path.is_dir() and path.name != LOCKS]
    return [
        path
        for folder in folders
        for path in _list_below(folder)
        if path.name.startswith(TEMPORARY) and path.is_dir() and is_leftover(path)
    ]


def _list_below(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir()) if folder.is_dir() else []
    except OSError as cause:
        raise StoreError(f"{folder}: cannot be read: {cause.strerror or cause}") from cause
