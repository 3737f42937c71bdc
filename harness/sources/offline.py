"""A folder with manifest, lock and every source's files, from which a machine without a network runs."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from harness.core.files import clear_leftovers, write_atomically
from harness.errors import SourceError
from harness.experiment.data import Source
from harness.experiment.lock import Lock, LockedSource, SourceName, list_sources
from harness.experiment.manifest import Experiment
from harness.sources.fetch import CARRIED, Fetcher, check_files, hash_files, name_carried


def pack_parcel(manifest: Path, experiment: Experiment, lock: Lock, target: Path, fetcher: Fetcher) -> Iterator[Path]:
    """Copy an experiment's checked sources, then its lock and manifest, unchanged, into a folder.

    Manifest and lock stay as they are, so that what is run from the parcel is the same experiment, with the same
    hashes: `Fetcher.locate` looks into ``sources/`` beside a manifest before it looks anywhere else. What is there
    already and whole is left as it is; the manifest comes last, so that a folder that has one is complete.

    Args:
        manifest: its path; the lock lies beside it.
        experiment: what it says.
        lock: what its lock says.
        target: the folder; made if absent.
        fetcher: brings the sources here.

    Yields:
        The path of each part as it is done.

    Raises:
        SourceError: a source cannot be had, is not the locked one, or the disk does not take it.
    """
    if target.resolve() == manifest.parent.resolve():
        raise SourceError(f"{target}: is the manifest's own folder; name another one")
    for name, source in list_sources(experiment).items():
        yield _carry(name, source, lock.sources[name], fetcher, target)
    for path in (manifest.with_suffix(".lock"), manifest):
        try:
            write_atomically(target / path.name, path.read_bytes())
        except OSError as cause:
            raise SourceError(f"{cause.filename or target}: {cause.strerror or cause}") from cause
        yield target / path.name


def _carry(name: SourceName, source: Source, locked: LockedSource, fetcher: Fetcher, target: Path) -> Path:
    """Copy a source's checked files to where `Fetcher.locate` looks first, and return the folder."""
    role = name.role
    fetched = fetcher.fetch(name, source, locked)
    folder = target / CARRIED / name_carried(source, role)
    try:
        if folder.is_dir():
            if fetched.folder == folder.resolve() or hash_files(folder, role) == fetched.resolved.files:
                return folder
            shutil.rmtree(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        clear_leftovers(folder.parent, ".copying-")
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".copying-") as scratch:
            copied = Path(scratch) / "files"
            for path in fetched.resolved.files:
                (copied / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(fetched.folder / path, copied / path)
            check_files(
                hash_files(copied, role), LockedSource(files=fetched.resolved.files, complete=True), place=str(copied)
            )
            copied.rename(folder)
    except OSError as cause:
        raise SourceError(f"{cause.filename or folder}: cannot be written: {cause.strerror or cause}") from cause
    return folder
