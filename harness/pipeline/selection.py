"""Selection turns what a user asks for (a name, models, seeds) into one experiment with its lock."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import ManifestError
from harness.experiment.data import FolderSource
from harness.experiment.lock import Lock, read_lock
from harness.experiment.manifest import Experiment, list_manifests, read_experiment
from harness.experiment.trial import narrow
from harness.records.environment import list_gpus
from harness.sources.hub import is_hub_reachable

MOST_SEEDS = 1000
DATA_DIR_VARIABLE = "HARNESS_DATA_DIR"
EMBEDDED = "hpo"
PUBLISHED = "bioasq"
EXPERIMENTS = Path("benchmarks/experiments")
PROJECT_MARKS = (".git", "pyproject.toml", "pytest.ini")


@dataclass(frozen=True)
class RunConfig:
    """How a run is wanted, as people type it; paths that are not absolute start at the working directory.

    Attributes:
        store: keeps stage outputs.
        results: folder that records, runs and tables are written below.
        experiment: a name, the path of a manifest, or None to choose by what this machine can do.
        models: names separated by commas; None for all.
        seeds: a count (``3``) or a list that has a comma (``0,5`` or ``7,``); None for the manifest's.
        device: ``auto`` (a GPU where there is one), ``cpu`` or ``cuda:0``.
        precision: of training, against the manifest's.
        data_dir: folder in place of the manifest's data folder.
        trackers: told of training beside TensorBoard, as ``wandb``.
    """

    store: Path
    results: Path
    experiment: str | None = None
    models: str | None = None
    seeds: str | None = None
    device: str = "auto"
    precision: str | None = None
    data_dir: Path | None = None
    trackers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Selected:
    """An experiment as the user wants it run, its lock, its manifest's folder, and why it was taken."""

    experiment: Experiment
    lock: Lock
    base: Path
    reason: str


def select_experiment(config: RunConfig, folder: Path) -> Selected:
    """Find the experiment, read it with its lock, and keep the models and seeds asked for.

    Args:
        config: what is asked for.
        folder: where manifests are found by name.

    Raises:
        ManifestError: no such experiment, model or seeds.
        LockError: the lock is missing or belongs to another manifest.
    """
    name, reason = (config.experiment, "as asked") if config.experiment else choose_experiment()
    path = find_manifest(name, folder)
    whole = read_experiment(path)
    lock = read_lock(path.with_suffix(".lock"), whole)
    experiment = narrow_as_typed(whole, models=config.models, seeds=config.seeds)
    return Selected(experiment, lock, path.parent, reason)


def narrow_as_typed(whole: Experiment, *, models: str | None, seeds: str | None) -> Experiment:
    """Keep the models and seeds that a person typed; see `RunConfig`.

    Raises:
        ManifestError: no such model or seeds.
    """
    return narrow(
        whole,
        models=None if models is None else [model.strip() for model in models.split(",") if model.strip()],
        seeds=None if seeds is None else parse_seeds(seeds, whole.seeds),
    )


def choose_experiment() -> tuple[str, str]:
    """Choose by what this machine can do, and say why: the published experiment needs a GPU and the hub."""
    if not list_gpus():
        return EMBEDDED, f"the embedded one, since this machine has no GPU that {PUBLISHED!r} should run on"
    if not is_hub_reachable():
        return EMBEDDED, f"the embedded one, since the hub that {PUBLISHED!r} needs cannot be reached"
    return PUBLISHED, "the published one, since there are a GPU and a reachable hub"


def locate_experiments(start: Path) -> Path:
    """Return the nearest benchmarks/experiments in a folder or above it, not beyond the project that it lies in."""
    for folder in (start, *start.absolute().parents):
        found = folder / EXPERIMENTS
        if found.is_dir():
            return found
        if any((folder / mark).exists() for mark in PROJECT_MARKS):
            break
    return start / EXPERIMENTS


def find_manifest(name: str, folder: Path) -> Path:
    """Return the manifest of that name in the folder or in the working directory, or the path that was given.

    Raises:
        ManifestError: there is none; lists those there are.
    """
    for path in (folder / f"{name}.toml", Path(f"{name}.toml"), Path(name)):
        # Any other ending is refused, so that a manifest's lock can never be the manifest itself.
        if path.is_file() and path.suffix == ".toml":
            return path
    known = ", ".join(path.stem for path in list_manifests(folder)) if folder.is_dir() else "none"
    raise ManifestError(f"no experiment {name!r}: neither a .toml file nor a manifest in {folder} (there: {known})")


def choose_data_dir(given: str | Path | None, experiment: Experiment, environ: Mapping[str, str]) -> Path | None:
    """Return the folder in place of the manifest's data folder: the one given, else the environment's.

    The environment's is passed over where the data come from no folder, since it is set for every experiment.
    """
    if not given and any(isinstance(data.source, FolderSource) for data in experiment.data.values()):
        given = environ.get(DATA_DIR_VARIABLE)
    return Path(given) if given else None


def parse_seeds(text: str, declared: Sequence[int]) -> list[int]:
    """Read ``3`` as the first three seeds (the manifest's, then further numbers), ``0,5`` as just those.

    Raises:
        ManifestError: not whole numbers, none, or more than anybody could train.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts or not all(re.fullmatch(r"[0-9]{1,10}", part) for part in parts):
        raise ManifestError(f"seeds are {text!r}; expected a count (3) or a list with a comma (0,5)")
    numbers = [int(part) for part in parts]
    if "," in text:
        return numbers
    count = numbers[0]
    if not 1 <= count <= MOST_SEEDS:
        raise ManifestError(f"seeds are {text!r}, a count; expected 1 to {MOST_SEEDS}, or a list with a comma (0,5)")
    further = (seed for seed in range(count + len(declared)) if seed not in declared)
    return [*declared, *further][:count]
