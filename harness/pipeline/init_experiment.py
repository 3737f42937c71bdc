"""Makes a first manifest and its lock from what a user brings, deciding what can be decided and saying so."""

from __future__ import annotations

import os
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from harness.core.files import write_atomically
from harness.core.text import quote
from harness.errors import ManifestError, SourceError, StoreError
from harness.experiment.data import COMMIT, FolderSource, HubSource, PartName
from harness.experiment.data_facts import DataFacts
from harness.experiment.lock import Role, format_lock
from harness.experiment.manifest import parse_experiment
from harness.experiment.negatives import MOST_NEGATIVES
from harness.models.model_folder import check_model_folder
from harness.pipeline.load_data import read_facts
from harness.pipeline.own_data import (
    choose_columns,
    describe_further,
    describe_tables,
    find_splits,
    is_beir,
    list_columns,
    list_judged,
)
from harness.pipeline.scaffold import SALT, SHARES, OwnData, OwnModel, OwnRecipe, format_manifest, make_name
from harness.pipeline.split_files import find_files, list_splits
from harness.sources.fetch import Fetcher, find_root, hash_files
from harness.sources.hub import Kind, find_head
from harness.sources.locking import make_lock

HUB_NAME = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+?)(?:@(?P<revision>[0-9a-f]{40}))?")


@dataclass(frozen=True)
class Brought:
    """What a user types: data and model (a path, or a hub id with or without @COMMIT), and names of columns."""

    data: str
    model: str
    name: str | None = None
    query: str | None = None
    passage: str | None = None
    id: str | None = None
    config: str | None = None
    loss: str = OwnRecipe.loss
    negatives: int | None = None


@dataclass(frozen=True)
class Initialised:
    """The files that were written, and what was decided, a line each."""

    manifest: Path
    lock: Path
    decisions: tuple[str, ...]


def init_experiment(brought: Brought, folder: Path, *, store: Path) -> Initialised:
    """Write NAME.toml and NAME.lock into a folder; nothing is overwritten, and nothing asked.

    Args:
        brought: what the user typed.
        folder: gets both files; relative paths in the manifest start there.
        store: where fetched sources are kept.

    Raises:
        ManifestError: a file of either name is there already, or negatives are out of range.
        DataError: the data have no table, or columns cannot be told.
        SourceError: data or model cannot be had, or the hub does not say a commit.
    """
    if brought.negatives is not None and not 1 <= brought.negatives <= MOST_NEGATIVES:
        raise ManifestError(f"negatives are {quote(brought.negatives)} a row, expected 1 to {MOST_NEGATIVES}")
    name = make_name(brought.name or _name_data(brought.data))
    manifest, lock = folder / f"{name}.toml", folder / f"{name}.lock"
    for path in (manifest, lock):
        if path.exists() or path.is_symlink():
            raise ManifestError(f"{path}: is there already and is not overwritten; take another name with --name")
    fetcher = Fetcher(base=folder, cache=store / "sources")
    source = _find_source(brought.data, folder, "dataset")
    place = _locate(source, "data", fetcher)
    data, layout, decisions = _look_at_data(brought, source, place)
    parts = data.list_parts(layout)
    model = _look_at_model(brought.model, fetcher)
    text = format_manifest(name, data, model, parts, OwnRecipe(brought.loss, brought.negatives))
    experiment = parse_experiment(tomllib.loads(text), place=str(manifest))
    locked = make_lock(experiment, fetcher, read_facts=read_facts)
    _write(lock, format_lock(locked))
    _write(manifest, text)
    decisions += [_count(facts) for facts in (locked.data or {}).values()]
    trained = f"{model.name} is trained on part train and evaluated before and after" if "train" in parts else ""
    untrained = f"{model.name} is evaluated as it is, since there is no part train"
    return Initialised(manifest, lock, (*decisions, trained or untrained, "BM25 is evaluated beside it"))


def _count(facts: DataFacts) -> str:
    rows = ", ".join(f"{part} {one.rows} rows" for part, one in facts.parts.items())
    repeated = f", {facts.duplicate_passages} of which repeat another's text" if facts.duplicate_passages else ""
    return f"{rows}; {facts.passages} passages{repeated}"


def _name_data(data: str) -> str:
    """Name an experiment by its data: the file without its endings, the folder, or the hub's name without the owner."""
    plain = data.partition("@")[0].rstrip("/")
    return Path(plain).resolve().name.partition(".")[0] if Path(plain).exists() else plain.rpartition("/")[2]


def _find_source(wanted: str, folder: Path, kind: Kind) -> HubSource | FolderSource:
    """Tell a path from a hub id, and pin the latter to a commit."""
    path = Path(wanted)
    if path.exists():
        return FolderSource(kind="folder", path=Path(os.path.relpath(path, folder)).as_posix())
    match = HUB_NAME.fullmatch(wanted)
    if match is None:
        raise SourceError(f"{wanted}: neither a path that is there nor OWNER/NAME[@COMMIT] on the hub")
    repository, revision = match["repository"], match["revision"]
    found = revision or find_head(repository, kind)
    if not COMMIT.fullmatch(found):
        raise SourceError(f"{wanted}: the hub names no commit, but {found!r}")
    return HubSource(kind="hub", repository=repository, revision=found)


def _locate(source: HubSource | FolderSource, role: Role, fetcher: Fetcher) -> Path:
    return fetcher.base / source.path if isinstance(source, FolderSource) else fetcher.locate(source, role)[0]


def _look_at_data(
    brought: Brought, source: HubSource | FolderSource, place: Path
) -> tuple[OwnData, tuple[PartName, ...], list[str]]:
    if is_beir(place):
        judged = list_judged(place)
        decided = f"BEIR layout: judgements of {', '.join(judged)}"
        return OwnData(source, "beir", None, {}), judged, [decided]
    folder, files = find_root(place), hash_files(place, "data")
    tables = find_files(folder, files, config=brought.config, split=None)
    splits = find_splits(list_splits(folder, files, config=brought.config)) if place.is_dir() else None
    asked = {"query": brought.query, "passage": brought.passage, "id": brought.id}
    there = list_columns(folder / tables[0])
    columns = choose_columns(there, asked, place=str(folder / tables[0]))
    roles = ", ".join(f"{role} = {name}" for role, name in columns.items())
    shares = ", ".join(f"{part} {share:.0%}" for part, share in SHARES.items())
    drawn = f"no split of its own: {shares}, drawn by hash of the passage (salt {SALT!r})"
    named = "" if splits is None else f"splits by the source's own names: {', '.join(splits.values())}"
    rest = describe_further([name for name in there if name not in columns.values()])
    decisions = [f"tables: {', '.join(describe_tables(tables))}", f"columns: {roles}{rest}", named or drawn]
    return OwnData(source, "table", splits, columns, brought.config), (), decisions


def _look_at_model(wanted: str, fetcher: Fetcher) -> OwnModel:
    source = _find_source(wanted, fetcher.base, "model")
    settings = check_model_folder(_locate(source, "model", fetcher)).settings
    prompts = {name: text or "" for name, text in settings.prompts.items()}
    return OwnModel(make_name(_name_data(wanted)), source, settings.similarity_fn_name or "cosine", prompts)


def _write(path: Path, text: str) -> None:
    try:
        write_atomically(path, text.encode())
    except OSError as cause:
        raise StoreError(f"{path}: cannot be written: {cause.strerror or cause}") from cause
