"""What a run would do: its sources, its trials, and what it would take, each figure with what it rests on."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.core.text import format_bytes, format_seconds
from harness.errors import LockError
from harness.experiment.claims import BASELINE
from harness.experiment.data import HubSource
from harness.experiment.lock import Lock, list_rows, list_sources, list_unpinned, read_lock
from harness.experiment.manifest import Experiment, read_experiment
from harness.experiment.trial import list_trials
from harness.pipeline.doctor import estimate_needs
from harness.records.record import SECONDS_PER_HOUR, Record, read_records
from harness.records.size import find_counts, refuse_excess

UNKNOWN = "not known"


def describe_run(experiment: Experiment, manifest: Path, *, store: Path, results: Path) -> Iterator[str]:
    """Say what running an experiment would do. Nothing is fetched, nothing written, and no model is loaded.

    Args:
        experiment: the manifest, whole or narrowed.
        manifest: its file, beside which the lock lies.
        store: what lies in it is not counted again.
        results: the folder whose records of this experiment tell time and memory.

    Yields:
        Lines.

    Raises:
        RecordError: by what manifest and lock say, nobody would read its records.
    """
    yield f"{experiment.name}: {experiment.title}"
    # A lock is of the whole manifest, whose sources its digest is of.
    lock, state = _find_lock(manifest)
    yield f"lock: {state}"
    for name, source in list_sources(experiment).items():
        origin = f"{source.kind} {source.repository}" if isinstance(source, HubSource) else source.kind
        yield f"  {name}: {origin}: {_describe_source(lock, name)}"
    trials = list(list_trials(experiment))
    yield f"trials: {len(trials)}"
    yield from (f"  {trial.id}" for trial in trials)
    yield from _list_steps(experiment, lock)
    refuse_excess(experiment, *find_counts(experiment, lock))
    folder = results / "records" / experiment.name
    records = read_records(folder) if folder.is_dir() else ()
    yield from _list_estimates(experiment, lock, records, store)


def _find_lock(manifest: Path) -> tuple[Lock | None, str]:
    whole = read_experiment(manifest)
    unpinned = list_unpinned(whole)
    if unpinned:
        return None, f"unpinned: {', '.join(unpinned)}; before a run: harness lock {manifest}, which proposes commits"
    try:
        return read_lock(manifest.with_suffix(".lock"), whole), f"{manifest.with_suffix('.lock')} belongs to it"
    except LockError as cause:
        return None, str(cause)


def _list_steps(experiment: Experiment, lock: Lock | None) -> Iterator[str]:
    known = list_rows(experiment, lock)
    for own, recipe in experiment.recipes.items():
        rows = known[recipe.data].get("train")
        if rows is not None:
            expected = experiment.data[recipe.data].expected_rows("train") is not None
            basis = f"of {rows} rows {'expected' if expected else 'locked'}"
            yield f"steps: {own}: {recipe.arguments.count_steps(rows)} a training, {basis}"
        elif recipe.arguments.max_steps is not None:
            yield f"steps: {own}: {recipe.arguments.max_steps} a training, as max_steps says"
        else:
            yield f"steps: {own}: {UNKNOWN} before the data are read: neither expect nor the lock says how many rows"


def _describe_source(lock: Lock | None, name: str) -> str:
    if lock is None:
        return "no files locked"
    locked = lock.sources[name]
    size = f", {format_bytes(sum(locked.sizes.values()))}" if locked.sizes else ""
    return f"{len(locked.files)} files locked{size}"


def _list_estimates(experiment: Experiment, lock: Lock | None, records: Sequence[Record], store: Path) -> Iterator[str]:
    trained = sum(trial.variant != BASELINE for trial in list_trials(experiment))
    known = _sum_seconds(experiment, records)
    published = experiment.published
    if known is not None:
        total, training, device = known
        yield f"time: {format_seconds(total)}, the mean of {len(records)} records on {device} for each such trial"
        yield _price(experiment, training, device, f"{format_seconds(training)} of training on {device}")
    elif published is not None and published.training_seconds is not None and trained:
        total, device = trained * published.training_seconds, published.hardware or "hardware that is not named"
        said = f"{trained} x {format_seconds(published.training_seconds)}, as published on {device}"
        yield f"time: {format_seconds(total)} of training: {said}; of evaluation {UNKNOWN}"
        yield _price(experiment, total, device, said)
    else:
        yield f"time: {UNKNOWN}: there is no record of it, and no published duration"
        yield f"cost: {UNKNOWN}, like the time"
    peaks = [cost.peak_memory_bytes for record in records for cost in record.stages.values()]
    if peaks:
        yield f"memory: {format_bytes(max(peaks))}, the highest peak of {len(records)} records"
    elif lock is not None:
        needs = estimate_needs(experiment, lock, store)
        yield (
            f"memory: {format_bytes(needs.memory_bytes)} for weights, gradients and optimizer by the sizes locked; "
            "what activations take is not known before"
        )
    else:
        yield f"memory: {UNKNOWN}: no record, and no lock that says how large the weights are"
    if lock is not None:
        yield f"disk: {format_bytes(estimate_needs(experiment, lock, store).disk_bytes)} by the sizes locked"


def _sum_seconds(experiment: Experiment, records: Sequence[Record]) -> tuple[float, float, str] | None:
    """Return seconds of all trials, those of them in training, and the device; None where a cell has no record."""
    devices = {record.device_name for record in records}
    if len(devices) != 1:
        return None
    total = training = 0.0
    for trial in list_trials(experiment):
        alike = [one for one in records if (one.trial.model, one.trial.variant) == (trial.model, trial.variant)]
        if not alike:
            return None
        total += statistics.fmean(sum(cost.seconds for cost in one.stages.values()) for one in alike)
        training += statistics.fmean(one.stages["train"].seconds if "train" in one.stages else 0.0 for one in alike)
    return total, training, devices.pop()


def _price(experiment: Experiment, seconds: float, device: str, basis: str) -> str:
    prices = {gpu: price for gpu, price in experiment.prices_usd_per_hour.items() if gpu in device}
    if len(prices) != 1:
        return f"cost: {UNKNOWN}: prices_usd_per_hour says nothing of {device}"
    ((gpu, price),) = prices.items()
    return f"cost: {price * seconds / SECONDS_PER_HOUR:.2f} USD: {basis}, at {price:g} USD an hour of {gpu}"
