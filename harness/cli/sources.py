"""The commands on sources and the hub: lock, fetch and publish."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli.say import say
from harness.errors import DIFFERS, PASSED

if TYPE_CHECKING:
    from harness.experiment.manifest import Experiment
    from harness.sources.fetch import Fetcher

RESULTS, STORE = Path("results"), Path(".store")


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
    from harness.experiment.lock import list_unpinned  # noqa: PLC0415
    from harness.experiment.manifest import read_experiment  # noqa: PLC0415 - see add_hub_commands
    from harness.pipeline.load_data import read_facts  # noqa: PLC0415
    from harness.pipeline.selection import find_manifest, locate_experiments  # noqa: PLC0415
    from harness.sources.locking import prepare_lock, propose_commits, write_lock  # noqa: PLC0415

    manifest = find_manifest(options.experiment, locate_experiments(Path()))
    experiment = read_experiment(manifest)
    if list_unpinned(experiment):
        for proposal in propose_commits(experiment):
            say(proposal)
        say(f"{manifest}: nothing was locked: write the commits that you choose into it, then lock it again")
        return DIFFERS
    fetcher = _make_fetcher(options, manifest, experiment)
    new = prepare_lock(manifest, experiment, fetcher, read_facts=read_facts)
    for line in (*new.changes, *new.moved):
        say(line)
    if options.check:
        say(f"{new.path}: {'nothing changed' if new.same else 'differs from what the sources hold now'}")
        return DIFFERS if new.differs else PASSED
    if new.same:
        say(f"{new.path}: nothing changed")
        return PASSED
    write_lock(new, experiment)
    say(f"{new.path}: written")
    return PASSED


def _fetch(options: argparse.Namespace) -> int:
    from harness.experiment.lock import read_lock  # noqa: PLC0415
    from harness.experiment.manifest import read_experiment  # noqa: PLC0415 - see add_hub_commands
    from harness.pipeline.selection import find_manifest, locate_experiments  # noqa: PLC0415
    from harness.sources.offline import pack_parcel  # noqa: PLC0415

    manifest = find_manifest(options.experiment, locate_experiments(Path()))
    experiment = read_experiment(manifest)
    lock = read_lock(manifest.with_suffix(".lock"), experiment)
    for path in pack_parcel(manifest, experiment, lock, options.to, _make_fetcher(options, manifest, experiment)):
        say(path)
    say(f"run it with: harness run {options.to / manifest.name}")
    return PASSED


def _make_fetcher(options: argparse.Namespace, manifest: Path, experiment: Experiment) -> Fetcher:
    from harness.pipeline.selection import choose_data_dir  # noqa: PLC0415 - see add_hub_commands
    from harness.sources.fetch import Fetcher  # noqa: PLC0415

    data_dir = choose_data_dir(options.data_dir, experiment, os.environ)
    return Fetcher(base=manifest.parent, cache=options.store / "sources", override=data_dir)


def _publish(options: argparse.Namespace) -> int:
    from harness.evidence.publish import format_size, gather, push  # noqa: PLC0415 - see add_hub_commands
    from harness.pipeline.selection import find_manifest, locate_experiments  # noqa: PLC0415

    manifest = find_manifest(options.experiment, locate_experiments(Path()))
    publication = gather(
        manifest,
        results=options.results,
        store=options.store,
        repository=options.repo,
        model=options.model,
        seed=options.seed,
    )
    say(publication.choice)
    if options.dry_run:
        for name, content in publication.files.items():
            say(f"  {format_size(content):>10}  {name}")
        say(f"would go to {options.repo}{' (private)' if options.private else ''} in one commit; nothing was pushed")
        return PASSED
    say(push(publication, private=options.private))
    return PASSED
