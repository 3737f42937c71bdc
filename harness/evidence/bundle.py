"""A bundle is all evidence in one archive, the same bytes for the same evidence, that a stranger can check."""

from __future__ import annotations

import hashlib
import stat
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path, PurePosixPath

from harness.core.archives import Bounds, is_plain_path, open_zip, unpack
from harness.core.files import MEASURED, SUMS_FILE, find_unfit, list_folders, refuse_special, write_atomically
from harness.core.schema import format_json, read_text
from harness.errors import HarnessError, RecordError, SourceError
from harness.records.record import read_records

RESULTS, EXPERIMENTS = "results", "experiments"
ENVIRONMENTS_FILE, CONSTRAINTS_FILE = "environments.json", "constraints.txt"
# What a results folder has that is not of one experiment, by the path in it.
COMMON = frozenset({"README.md", "records/speed.json", SUMS_FILE, *MEASURED})
MAX_FILES = 10_000
MAX_BYTES = 2**31
# Of the list of hashes: 10,000 lines with the longest usual paths.
MAX_SUMS_BYTES = 2**22
# The earliest date a zip can state: the time of packing is no part of the evidence.
NO_TIME = (1980, 1, 1, 0, 0, 0)
FILE_MODE = stat.S_IFREG | 0o644


def write_bundle(results: Path, experiments: Path, constraints: Path, target: Path) -> dict[str, str]:
    """Pack records, runs, qrels, texts, tables, manifests, locks, environments and constraints into one zip.

    The zip stores and does not compress, since compressors differ between machines; most of it is compressed
    already. Members are sorted and dated 1980.

    Args:
        results: the results folder; hidden files in it, and what no check would look at, are left out.
        experiments: the folder with the manifests and locks of all its experiments.
        constraints: the file with the pinned versions.
        target: the zip, replaced if it exists.

    Returns:
        Path in the bundle -> SHA-256, as ``SHA256SUMS`` in it says.

    Raises:
        RecordError: there are no records, a file is missing, a link or named in no UTF-8, or the disk refuses.
    """
    unfit = list(find_unfit(results))
    if unfit:
        raise RecordError("\n".join(unfit))
    names = [path.name for path in list_folders(results / "records")]
    if not names:
        raise RecordError(f"{results}: holds no records to bundle")
    found = {path.relative_to(results).as_posix(): path for path in _list_files(results)}
    members = {f"{RESULTS}/{name}": path for name, path in found.items() if _is_evidence(name, names)}
    for name in names:
        for suffix in (".toml", ".lock"):
            members[f"{EXPERIMENTS}/{name}{suffix}"] = experiments / f"{name}{suffix}"
    members[CONSTRAINTS_FILE] = constraints
    try:
        sources = {name: path for name, path in members.items() if path.resolve() != target.resolve()}
        contents = {name: refuse_special(path).read_bytes() for name, path in sources.items()}
        contents[ENVIRONMENTS_FILE] = describe_environments(results, names)
        sums = {name: hashlib.sha256(content).hexdigest() for name, content in sorted(contents.items())}
        contents[SUMS_FILE] = "".join(f"{digest}  {name}\n" for name, digest in sums.items()).encode()
        write_atomically(target, _zip(contents))
    except OSError as cause:
        raise RecordError(f"{cause.filename or target}: {cause.strerror or cause}") from cause
    return sums


def unpack_bundle(bundle: Path, target: Path) -> list[str]:
    """Unpack a bundle of unknown origin and compare every file with the list of hashes in it.

    Args:
        bundle: the zip.
        target: an empty folder; nothing is written outside of it.

    Returns:
        What does not match the list, one line per file.

    Raises:
        SourceError: not a zip, or it holds a link, a path that leaves the folder, a name twice, or more than
            10,000 files or 2 GiB; nothing more is unpacked then.
    """
    try:
        with ExitStack() as stack:
            members = open_zip(bundle, stack, archive=str(bundle))
            unpack(members, target, Bounds(files=MAX_FILES, size=MAX_BYTES))
    except OSError as cause:
        raise SourceError(f"{cause.filename or bundle}: {cause.strerror or cause}") from cause
    return _compare_sums(target, bundle)


def find_strays(folder: Path) -> list[str]:
    """Name the files of an unpacked bundle that no check looks at, though they are listed with their hashes."""
    names = [path.name for path in list_folders(folder / RESULTS / "records")]
    own = {SUMS_FILE, ENVIRONMENTS_FILE, CONSTRAINTS_FILE}
    own |= {f"{EXPERIMENTS}/{name}{suffix}" for name in names for suffix in (".toml", ".lock")}
    found = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
    return [
        f"{name}: is no evidence: neither record, table, manifest nor lock of an experiment here"
        for name in found
        if name not in own
        and not (name.startswith(f"{RESULTS}/") and _is_evidence(name.removeprefix(f"{RESULTS}/"), names))
    ]


def _is_evidence(name: str, experiments: Sequence[str]) -> bool:
    """Say whether a file of a results folder is one that some check looks at."""
    path = PurePosixPath(name)
    match path.parts:
        case ("runs", *_):
            return True  # those that no record names are found with the records
        case ("pictures", _):
            return path.suffix == ".svg"  # likewise, with the tables
        case ("records" | "stacks" | "reference", _, _) | ("reference", _, "golden", _):
            return path.suffix == ".json"
        case (_,):
            own = any(path.stem == one or path.stem.startswith(f"{one}-stack-") for one in experiments)
            return name in COMMON or (own and path.suffix in {".md", ".html"})
    return name in COMMON


def describe_environments(results: Path, names: list[str]) -> bytes:
    """Write the environments that the records were made in, by their fingerprints and the experiments' names."""
    found: dict[str, dict[str, object]] = {}
    for name in names:
        records = read_records(results / "records" / name)
        machines = {record.environment.fingerprint: record.environment for record in records}
        found[name] = {key: machines[key].model_dump(mode="json") for key in sorted(machines)}
    return (format_json(found) + "\n").encode()


def check_environments(folder: Path) -> list[str]:
    """Return what is wrong with an unpacked bundle's list of environments, by its records."""
    path = folder / ENVIRONMENTS_FILE
    names = sorted(found.name for found in (folder / RESULTS / "records").glob("*") if found.is_dir())
    try:
        if path.is_file() and path.read_bytes() == describe_environments(folder / RESULTS, names):
            return []
    except HarnessError:
        # A broken record is named by who verifies them all, and no reason to leave the others unchecked.
        return [f"{ENVIRONMENTS_FILE}: cannot be held against the records, of which one is broken"]
    return [f"{ENVIRONMENTS_FILE}: does not list the environments that the records name"]


def _list_files(folder: Path) -> list[Path]:
    """Return the regular files below a folder, without hidden ones."""
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and not path.is_symlink()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]


def _zip(contents: Mapping[str, bytes]) -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in sorted(contents.items()):
            info = zipfile.ZipInfo(name, NO_TIME)
            info.create_system = 3  # Unix, wherever it is packed
            info.external_attr = FILE_MODE << 16
            archive.writestr(info, content)
    return buffer.getvalue()


def _compare_sums(folder: Path, bundle: Path) -> list[str]:
    listing = folder / SUMS_FILE
    if not listing.is_file():
        raise SourceError(f"{bundle}: has no {SUMS_FILE}, so it is not a bundle")
    expected = _read_sums(listing, bundle)
    found = {}
    for path in folder.rglob("*"):
        if path.is_file() and path != listing:
            with path.open("rb") as stream:
                found[path.relative_to(folder).as_posix()] = hashlib.file_digest(stream, "sha256").hexdigest()
    problems = []
    for name in sorted({*expected, *found}):
        if name not in found:
            problems.append(f"{name}: is listed in {SUMS_FILE} but missing")
        elif name not in expected:
            problems.append(f"{name}: is not listed in {SUMS_FILE}")
        elif found[name] != expected[name]:
            problems.append(f"{name}: has another SHA-256 than {SUMS_FILE} says")
    return problems


def _read_sums(listing: Path, bundle: Path) -> dict[str, str]:
    """Return path -> SHA-256 as a bundle's list has them; what is wrong names the line."""
    lines = read_text(listing, limit_bytes=MAX_SUMS_BYTES, error=SourceError).splitlines()
    if len(lines) > MAX_FILES:
        raise SourceError(f"{bundle}: {SUMS_FILE}: lists {len(lines)} files, at most {MAX_FILES} are read")
    expected = {}
    for number, line in enumerate(lines, start=1):
        digest, separator, name = line.partition("  ")
        # Names that no member can have would be printed as they are: a runner could take one for a command.
        if not separator or not is_plain_path(name) or len(digest) != hashlib.sha256().digest_size * 2:
            raise SourceError(f"{bundle}: {SUMS_FILE}, line {number}: expected a SHA-256, two blanks and a plain name")
        expected[name] = digest
    return expected
