"""The commands on sources and the hub: lock, fetch and publish."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from harness.errors import LockError

PASSED, DIFFERS = 0, 1
EXPERIMENTS, RESULTS, STORE = Path("benchmarks/experiments"), Path("results"), Path(".store")


def add_hub_commands(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
) -> None:
    """Describe the commands. What a command needs is imported when it runs, so that help comes at once."""
    lock = commands.add_parser("lock", help="fetch an experiment's sources and pin every file's SHA-256")
    lock.add_argument("experiment", help="name or manifest")
    lock.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 where the lock differs or the hub has moved"
    )
    lock.add_argument("--store", type=Path, default=STORE, help="default: .store")
    lock.add_argument("--data-dir", type=Path, help="folder in place of the manifest's data folder")
    lock.set_defaults(run=_lock)

    fetch = commands.add_parser("fetch", help="make a folder that a machine without any network runs from")
    fetch.add_argument("experiment", help="name or manifest")
    fetch.add_argument("--to", type=Path, required=True, metavar="DIR", help="the folder; made if absent")
    fetch.add_argument("--store", type=Path, default=STORE, help="default: .store")
    fetch.add_argument("--data-dir", type=Path, help="folder in place of the manifest's data folder")
    fetch.set_defaults(run=_fetch)

    publish = commands.add_parser("publish", help="push model, card, training logs and evidence to the hub")
    publish.add_argument("experiment", help="name or manifest")
    publish.add_argument("--repo", required=True, metavar="USER/NAME", help="model repository; made if absent")
    publish.add_argument("--private", action="store_true", help="make it a private one")
    publish.add_argument("--dry-run", action="store_true", help="show what would be pushed, and ask the hub nothing")
    publish.add_argument("--model", metavar="NAME", help="default: the one that was fine-tuned")
    publish.add_argument("--seed", type=int, metavar="N", help="default: the median one by the primary measure")
    publish.add_argument("--results", type=Path, default=RESULTS, help="default: results")
    publish.add_argument("--store", type=Path, default=STORE, help="default: .store")
    publish.set_defaults(run=_publish)


def _lock(options: argparse.Namespace) -> int:
    from harness.core.files import write_atomically  # noqa: PLC0415
    from harness.experiment.lock import format_lock, read_lock  # noqa: PLC0415
    from harness.experiment.manifest import read_experiment  # noqa: PLC0415
    from harness.pipeline.selection import choose_data_dir, find_manifest  # noqa: PLC0415
    from harness.sources.fetch import make_lock  # noqa: PLC0415
    from harness.sources.hub import is_offline  # noqa: PLC0415
    from harness.sources.locking import check_pinned, list_changes, list_moved  # noqa: PLC0415 - see add_hub_commands

    manifest = find_manifest(options.experiment, EXPERIMENTS)
    experiment = read_experiment(manifest)
    path = manifest.with_suffix(".lock")
    try:
        old = read_lock(path, experiment)
    except LockError:
        old = None
    data_dir = choose_data_dir(options.data_dir, experiment, os.environ)
    lock = make_lock(experiment, cache=options.store / "sources", base=manifest.parent, override=data_dir)
    text = format_lock(lock)
    same = path.is_file() and path.read_bytes() == text.encode()
    for line in list_changes(old, lock) if old is not None else ():
        print(line)
    moved = [] if is_offline() else list(list_moved(experiment))
    for source in moved:
        print(source)
    if options.check:
        print(f"{path}: {'nothing changed' if same else 'differs from what the sources hold now'}")
        return PASSED if same and not any(source.changed for source in moved) else DIFFERS
    if same:
        print(f"{path}: nothing changed")
        return PASSED
    if old is not None:
        check_pinned(old, lock, experiment)
    try:
        write_atomically(path, text.encode())
    except OSError as cause:
        raise LockError(f"{path}: cannot be written: {cause.strerror or cause}") from cause
    print(f"{path}: written")
    return PASSED


def _fetch(options: argparse.Namespace) -> int:
    from harness.experiment.lock import read_lock  # noqa: PLC0415
    from harness.experiment.manifest import read_experiment  # noqa: PLC0415 - see add_hub_commands
    from harness.pipeline.selection import choose_data_dir, find_manifest  # noqa: PLC0415
    from harness.sources.offline import pack_parcel  # noqa: PLC0415

    manifest = find_manifest(options.experiment, EXPERIMENTS)
    experiment = read_experiment(manifest)
    lock = read_lock(manifest.with_suffix(".lock"), experiment)
    data_dir = choose_data_dir(options.data_dir, experiment, os.environ)
    cache = options.store / "sources"
    for path in pack_parcel(manifest, experiment, lock, options.to, cache=cache, override=data_dir):
        print(path)
    print(f"run it with: pytest benchmarks/ --experiment {options.to / manifest.name}")
    return PASSED


def _publish(options: argparse.Namespace) -> int:
    from harness.evidence.publish import format_size, gather, push  # noqa: PLC0415 - see add_hub_commands
    from harness.pipeline.selection import find_manifest  # noqa: PLC0415

    manifest = find_manifest(options.experiment, EXPERIMENTS)
    publication = gather(
        manifest,
        results=options.results,
        store=options.store,
        repository=options.repo,
        model=options.model,
        seed=options.seed,
    )
    print(publication.choice)
    if options.dry_run:
        for name, content in publication.files.items():
            print(f"  {format_size(content):>10}  {name}")
        print(f"would go to {options.repo}{' (private)' if options.private else ''} in one commit; nothing was pushed")
        return PASSED
    print(push(publication, private=options.private))
    return PASSED
