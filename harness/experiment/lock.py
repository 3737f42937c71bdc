"""A lock pins what a manifest names: every file of every source with its SHA-256, in a file beside the manifest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import model_validator

from harness.core.schema import Bytes, Digest, Frozen, Line, decode_json, digest_json, format_json, read_text
from harness.core.text import quote
from harness.errors import LockError
from harness.experiment.data import UNPINNED, HubSource, PartName, Source
from harness.experiment.data_facts import DataFacts
from harness.experiment.manifest import Experiment
from harness.experiment.model import Model

LOCK_LIMIT_BYTES = 4_000_000

Role = Literal["data", "model", "run"]
ROLES: tuple[Role, ...] = ("data", "model", "run")


class SourceName(str):
    """A source's name in locks and records, as ``data:NAME``: what it is for, and what the manifest calls it."""

    __slots__ = ()

    @classmethod
    def of(cls, role: Role, name: str) -> Self:
        """Name the source of a data set, a model or ranked lists."""
        return cls(f"{role}:{name}")

    @property
    def role(self) -> Role:
        """What the source is for."""
        kind = self.partition(":")[0]
        return next(role for role in ROLES if role == kind)

    @property
    def own(self) -> str:
        """What the manifest calls it, without the role."""
        return self.partition(":")[2]


class LockedSource(Frozen):
    """The files of one source: path -> SHA-256, and where they were at hand, path -> bytes.

    ``sizes`` tell what disk is needed before anything is fetched; a file is checked by its hash alone.
    ``complete`` is false where only some hashes are known, for instance before anybody has locked the experiment
    on a machine that reaches the hub; then the files not listed are taken as the pinned commit gives them, and
    records say so.
    """

    files: dict[str, Digest]
    complete: bool
    note: Line | None = None
    sizes: dict[str, Bytes] | None = None

    @model_validator(mode="after")
    def _sizes_of_files(self) -> Self:
        if unknown := sorted(set(self.sizes or ()) - set(self.files)):
            raise ValueError(f"sizes of files that have no hash: {', '.join(unknown)}")
        return self


class ResolvedSource(Frozen):
    """Where files came from and what they were: path -> SHA-256; ``locked`` says each was checked."""

    origin: Line
    files: dict[str, Digest]
    locked: bool


class Lock(Frozen):
    """Every source of one experiment, under the name ``data:NAME``, ``model:NAME`` or ``run:NAME``.

    ``data`` holds, by the data set's own name, what was read off the files; older locks have none.
    """

    schema_version: Literal[2]
    experiment: str
    sources_digest: str
    sources: dict[str, LockedSource]
    data: dict[str, DataFacts] | None = None


def list_sources(experiment: Experiment) -> dict[SourceName, Source]:
    """Return the experiment's sources under the names that a lock gives them."""
    data = {SourceName.of("data", name): one.source for name, one in experiment.data.items()}
    models = {name_source(model): model.source for model in experiment.models if model.source is not None}
    return {**data, **models}


def list_unpinned(experiment: Experiment) -> tuple[SourceName, ...]:
    """Name the sources on the hub that have no commit, which nothing can be locked or run from."""
    return tuple(
        name
        for name, source in list_sources(experiment).items()
        if isinstance(source, HubSource) and source.revision == UNPINNED
    )


def name_source(model: Model) -> SourceName:
    """Return the name that a lock gives a model's source: its ranked lists are other files than a model's."""
    return SourceName.of("run" if model.kind == "run" else "model", model.name)


def list_rows(experiment: Experiment, lock: Lock | None) -> dict[str, dict[PartName, int]]:
    """Return data set -> part -> its rows, as far as the manifest or else the lock says how many there are."""
    found: dict[str, dict[PartName, int]] = {}
    for name, data in experiment.data.items():
        locked = None if lock is None or lock.data is None else lock.data.get(name)
        known = {part: facts.rows for part, facts in locked.parts.items()} if locked is not None else {}
        said = {part: rows for part in data.part_names if (rows := data.expected_rows(part)) is not None}
        found[name] = known | said
    return found


def digest_sources(experiment: Experiment) -> str:
    """Return the SHA-256 of what the manifest says of its sources."""
    return digest_json({name: _dump(source) for name, source in list_sources(experiment).items()})


def read_lock(path: Path, experiment: Experiment) -> Lock:
    """Parse the lock of a whole (not narrowed) experiment and check that it belongs to it.

    Raises:
        LockError: absent, malformed, or made for other sources than the manifest names.
    """
    remedy = f"harness lock {path.with_suffix('.toml')}"
    if unpinned := list_unpinned(experiment):
        raise LockError(f"{path}: {', '.join(unpinned)}: {UNPINNED}, so there is nothing to lock; commits: {remedy}")
    if not path.exists():
        raise LockError(f"{path}: no such lock; make it with: {remedy}")
    text = read_text(path, limit_bytes=LOCK_LIMIT_BYTES, error=LockError)
    lock = decode_json(Lock, _upgrade(text, experiment), place=str(path), error=LockError)
    if lock.experiment != experiment.name:
        raise LockError(f"{path}: is the lock of {quote(lock.experiment)}, expected {experiment.name!r}; {remedy}")
    expected = digest_sources(experiment)
    if lock.sources_digest != expected or set(lock.sources) != set(list_sources(experiment)):
        raise LockError(
            f"{path}: does not match the manifest, whose sources changed since it was made (digest "
            f"{lock.sources_digest[:12]}, expected {expected[:12]}); look at the change, then: {remedy}"
        )
    return lock


def format_lock(lock: Lock) -> str:
    """Write a lock for people and diffs."""
    return format_json(lock.model_dump(mode="json", exclude_none=True)) + "\n"


def _dump(source: Source) -> dict[str, Any]:
    return source.model_dump(mode="json", exclude_none=True)


def _upgrade(text: str, experiment: Experiment) -> str:
    """Rewrite a lock of version 1, which knew one data set, as one of version 2; anything else is left as it is."""
    try:
        lock = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if not isinstance(lock, dict) or lock.get("schema_version") != 1 or not isinstance(lock.get("sources"), dict):
        return text
    (data, *others) = experiment.data
    before = {str(name): _dump(source) for name, source in list_sources(experiment).items()}
    before["data"] = before.pop(f"data:{data}")
    for source in before.values():
        if source["kind"] == "wheels":
            source.setdefault("join", None)
    if not others and lock.get("sources_digest") == digest_json(before):
        lock["sources_digest"] = digest_sources(experiment)
    sources = {f"data:{data}" if name == "data" else name: files for name, files in lock["sources"].items()}
    return json.dumps({**lock, "schema_version": 2, "sources": sources})
