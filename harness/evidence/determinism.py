"""Determinism: a trial is rerun from nothing, and the first layer in which two outcomes differ is named."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import zip_longest
from pathlib import Path

import numpy as np

from harness.errors import DataError, HarnessError, ManifestError, RecordError
from harness.experiment.claims import BASELINE
from harness.experiment.manifest import Experiment
from harness.experiment.trial import Trial, list_trials
from harness.pipeline.selection import RunConfig, select_experiment
from harness.pipeline.store import SOURCES
from harness.records.record import Record, StageName, read_record
from harness.records.run import Run, read_run

NAMES = ("first", "second")
# In the outputs of the stages that evaluate, and of training.
EMBEDDINGS_FILE, WEIGHTS_FILE = "embeddings.npy", "model/model.safetensors"


class Sameness(StrEnum):
    """How alike two outcomes are, most alike first."""

    BITS = "bit-identical"
    RANKS = "rank-identical"
    VALUES = "value-identical"
    NOT = "different"


@dataclass(frozen=True)
class Layer:
    """One step from data to values: ``same`` is None where it was not recorded, ``place`` the first difference."""

    name: str
    same: bool | None
    place: str = ""


@dataclass(frozen=True)
class TrialOutcome:
    """A trial's outcome: its record, the results folder with its run and, where they are at hand, more of its files."""

    record: Record
    results: Path
    embeddings: Path | None = None
    weights: Path | None = None


@dataclass(frozen=True)
class OutcomeComparison:
    """What two outcomes have in common; ``reasons`` are what keeps a device from giving the same bits every time."""

    sameness: Sameness
    layers: tuple[Layer, ...]
    reasons: tuple[str, ...] = ()

    @property
    def first_difference(self) -> Layer | None:
        """The first layer that differs, from which all later differences follow."""
        return next((layer for layer in self.layers if layer.same is False), None)


def compare_outcomes(first: TrialOutcome, second: TrialOutcome) -> OutcomeComparison:
    """Compare two outcomes of one trial: data, batch order, loss, weights, embeddings, run, values.

    Bit-identical: all of these that were recorded are the same. Rank-identical: at least every query's ranking is.
    Value-identical: at least every value per query is.

    Raises:
        RecordError: the records are of different trials.
        DataError: a run cannot be read.
    """
    ours, theirs = first.record, second.record
    if ours.trial != theirs.trial:
        raise RecordError(f"{ours.trial.id} and {theirs.trial.id} are different trials and cannot be compared")
    runs = read_run(first.results / ours.run.path), read_run(second.results / theirs.run.path)
    rank_place = _find_ranking(*runs)
    layers = [_compare_data(ours, theirs)]
    if ours.training is not None and theirs.training is not None:
        layers += [_compare_batches(ours, theirs), _compare_loss(ours, theirs), _compare_weights(first, second)]
    layers += [_compare_embeddings(first, second), _compare_runs(ours, theirs, runs, rank_place)]
    values = _compare_values(ours, theirs)
    layers.append(values)
    if all(layer.same is not False for layer in layers):
        sameness = Sameness.BITS
    elif not rank_place:
        sameness = Sameness.RANKS
    else:
        sameness = Sameness.VALUES if values.same else Sameness.NOT
    return OutcomeComparison(sameness, tuple(layers), tuple(_list_reasons(ours, theirs)))


def describe_comparison(comparison: OutcomeComparison) -> Iterator[str]:
    """Say what a comparison found, line by line."""
    for layer in comparison.layers:
        word = {True: "same", False: "differs", None: "not recorded"}[layer.same]
        yield f"{layer.name:<12} {word}{': ' if layer.place else ''}{layer.place}"
    yield from comparison.reasons
    unknown = [layer.name for layer in comparison.layers if layer.same is None]
    limit = f" (as far as was recorded: without {', '.join(unknown)})" if unknown else ""
    first = comparison.first_difference
    yield f"{comparison.sameness}{limit}" + (f"; the first to diverge: {first.name}, {first.place}" if first else "")


def _list_reasons(ours: Record, theirs: Record) -> Iterator[str]:
    if (ours.device, ours.device_name) != (theirs.device, theirs.device_name):
        yield f"other devices: {ours.device_name} ({ours.device}) and {theirs.device_name} ({theirs.device})"
    found = {
        record.device_name: record.training.nondeterministic
        for record in (ours, theirs)
        if record.training is not None and record.training.nondeterministic
    }
    for device, operators in found.items():
        yield f"{device} cannot be deterministic: torch has no such algorithm on it for {', '.join(operators)}"


def _compare_data(ours: Record, theirs: Record) -> Layer:
    same = ours.data.digest == theirs.data.digest
    return Layer("data", same, "" if same else "the prepared data have different digests")


def _compare_batches(ours: Record, theirs: Record) -> Layer:
    first, second = ours.training, theirs.training
    if first is None or second is None or not first.batches or not second.batches:
        return Layer("batch order", None)
    return _compare_steps("batch order", first.batches, second.batches)


def _compare_loss(ours: Record, theirs: Record) -> Layer:
    first, second = ours.training, theirs.training
    if first is None or second is None:
        return Layer("loss", None)
    return _compare_steps("loss", [point.loss for point in first.loss], [point.loss for point in second.loss])


def _compare_steps(name: str, first: Sequence[object], second: Sequence[object]) -> Layer:
    for step, (one, other) in enumerate(zip_longest(first, second), start=1):
        if one != other:
            return Layer(name, same=False, place=f"step {step}: {one} and {other}")
    return Layer(name, same=True)


def _compare_weights(first: TrialOutcome, second: TrialOutcome) -> Layer:
    ours, theirs = first.record.training, second.record.training
    if ours is None or theirs is None:
        return Layer("weights", None)
    if ours.weights_sha256 == theirs.weights_sha256:
        return Layer("weights", same=True)
    if first.weights is None or second.weights is None:
        return Layer("weights", same=False, place="the files have different digests")
    from safetensors.numpy import load_file  # noqa: PLC0415 - needed only where weights differ

    one, other = load_file(first.weights), load_file(second.weights)
    for tensor in [*one, *(name for name in other if name not in one)]:
        if tensor not in one or tensor not in other or one[tensor].shape != other[tensor].shape:
            return Layer("weights", same=False, place=f"tensor {tensor} is not the same in both")
        if not np.array_equal(one[tensor], other[tensor]):
            gap = float(np.max(np.abs(one[tensor].astype(np.float64) - other[tensor].astype(np.float64))))
            return Layer("weights", same=False, place=f"tensor {tensor}, by up to {gap:.3g}")
    return Layer("weights", same=False, place="all tensors are the same, but the files are not")


def _compare_embeddings(first: TrialOutcome, second: TrialOutcome) -> Layer:
    ours, theirs = first.record.embeddings_sha256, second.record.embeddings_sha256
    if ours is None or theirs is None:
        return Layer("embeddings", None)
    if ours == theirs:
        return Layer("embeddings", same=True)
    if first.embeddings is None or second.embeddings is None:
        return Layer("embeddings", same=False, place="the files have different digests")
    try:
        one, other = (np.load(path, allow_pickle=False) for path in (first.embeddings, second.embeddings))
    except (OSError, ValueError) as cause:
        raise DataError(f"{first.embeddings} or {second.embeddings}: cannot be read: {cause}") from cause
    if one.shape != other.shape:
        return Layer("embeddings", same=False, place=f"shapes {one.shape} and {other.shape}")
    rows = np.flatnonzero((one != other).any(axis=1))
    if not len(rows):
        return Layer("embeddings", same=False, place="all numbers are the same, but the files are not")
    row, queries = int(rows[0]), first.record.query_ids
    text = f"query {queries[row]!r}" if row < len(queries) else f"passage number {row - len(queries)}"
    gap = float(np.max(np.abs(one[row] - other[row])))
    place = f"row {row} ({text}), by up to {gap:.3g}; {len(rows)} of {len(one)} rows differ"
    return Layer("embeddings", same=False, place=place)


def _compare_runs(ours: Record, theirs: Record, runs: tuple[Run, Run], rank_place: str) -> Layer:
    if ours.run.sha256 == theirs.run.sha256:
        return Layer("run", same=True)
    return Layer("run", same=False, place=rank_place or f"{_find_score(*runs)}; every ranking is the same")


def _find_ranking(first: Run, second: Run) -> str:
    """Return the first query and rank with different passages; empty where all rankings are the same."""
    if first.query_ids != second.query_ids:
        return "the queries are not the same"
    for query, ours, theirs in zip(first.query_ids, first.passage_ids, second.passage_ids, strict=True):
        for rank, (one, other) in enumerate(zip_longest(ours, theirs), start=1):
            if one != other:
                return f"query {query!r}, rank {rank}: {one!r} and {other!r}"
    return ""


def _find_score(first: Run, second: Run) -> str:
    for query, ours, theirs in zip(first.query_ids, first.scores, second.scores, strict=True):
        for rank, (one, other) in enumerate(zip(ours, theirs, strict=True), start=1):
            if one != other:
                return f"query {query!r}, rank {rank}: scores {one!r} and {other!r}"
    return "the files are not the same, but all scores are"


def _compare_values(ours: Record, theirs: Record) -> Layer:
    if ours.query_ids != theirs.query_ids or set(ours.per_query) != set(theirs.per_query):
        return Layer("values", same=False, place="queries or measures are not the same")
    for measure, values in ours.per_query.items():
        for query, one, other in zip(ours.query_ids, values, theirs.per_query[measure], strict=True):
            if one != other:
                return Layer("values", same=False, place=f"{measure}, query {query!r}: {one} and {other}")
    return Layer("values", same=True)


def find_results(record_path: Path) -> Path:
    """Return the results folder that a record lies in, at ``records/EXPERIMENT/TRIAL.json``.

    Raises:
        HarnessError: it does not lie in one.
    """
    folder = record_path.resolve().parents
    if len(folder) < 3 or folder[1].name != "records":  # noqa: PLR2004 - the three levels named above
        raise HarnessError(f"{record_path}: expected a record at RESULTS/records/EXPERIMENT/TRIAL.json")
    return folder[2]


@dataclass(frozen=True)
class Attempt:
    """What a new process needs to run the trial once: plain values, since they are sent to it."""

    manifest: str
    experiments: Path
    trial: str
    device: str
    precision: str | None
    data_dir: Path | None
    sources: Path | None
    folder: Path


def rerun_trial(
    manifest: str,
    experiments: Path,
    *,
    folder: Path,
    trial: str | None = None,
    device: str = "auto",
    precision: str | None = None,
    data_dir: Path | None = None,
    sources: Path | None = None,
) -> OutcomeComparison:
    """Run a trial twice, each time with an empty store, and compare the outcomes layer by layer.

    Args:
        manifest: name or path of the experiment.
        experiments: the folder that manifests are found in by name.
        folder: an empty folder, for stores and results.
        trial: which trial, by its id; by default the first that is fine-tuned, else the first.
        device: ``auto``, ``cpu`` or ``cuda:N``.
        precision: of training, where not the manifest's.
        data_dir: folder in place of the manifest's data folder.
        sources: a store's folder of unpacked sources, which are checked by hash like any others.

    Raises:
        HarnessError: the trial cannot be run.
    """
    config = RunConfig(folder / "store", folder / "results", experiment=manifest)
    selected = select_experiment(config, experiments)
    chosen = choose_trial(selected.experiment, trial)
    first, second = (
        run_anew(Attempt(manifest, experiments, chosen.id, device, precision, data_dir, sources, folder / name), chosen)
        for name in NAMES
    )
    return compare_outcomes(first, second)


def run_anew(attempt: Attempt, trial: Trial) -> TrialOutcome:
    """Run a trial from nothing and return its outcome, whose files are below the attempt's folder.

    In a new process: what torch keeps from one run to the next is not to help the second.

    Raises:
        HarnessError: the trial cannot be run.
    """
    child = multiprocessing.get_context("spawn").Process(target=run_attempt, args=(attempt,))
    child.start()
    child.join()
    if child.exitcode:
        raise HarnessError(f"{trial.id}: the run in {attempt.folder} ended with exit code {child.exitcode}")
    return _find_outcome(attempt.folder, trial)


def choose_trial(experiment: Experiment, wanted: str | None) -> Trial:
    """Return the trial of that id, by default the first that is fine-tuned, else the first.

    Raises:
        ManifestError: there is no such trial.
    """
    trials = list(list_trials(experiment))
    if wanted is None:
        return next((trial for trial in trials if trial.variant != BASELINE), trials[0])
    for trial in trials:
        if trial.id == wanted:
            return trial
    raise ManifestError(f"no trial {wanted!r}; the trials are: {', '.join(trial.id for trial in trials)}")


def run_attempt(attempt: Attempt) -> None:
    """Run the trial once, into a store and a results folder below the attempt's own folder; ends the process."""
    from harness.pipeline.progress import Progress  # noqa: PLC0415
    from harness.pipeline.run_trial import open_context, run_trial  # noqa: PLC0415 - loads torch

    # The libraries' progress bars would be written over ours.
    os.environ.setdefault("TQDM_DISABLE", "1")
    store = attempt.folder / "store"
    try:
        store.mkdir(parents=True)
        if attempt.sources is not None and attempt.sources.is_dir():
            (store / SOURCES).symlink_to(attempt.sources.resolve(), target_is_directory=True)
        config = RunConfig(
            store=store,
            results=attempt.folder / "results",
            experiment=attempt.manifest,
            device=attempt.device,
            precision=attempt.precision,
            data_dir=attempt.data_dir,
        )
        selected = select_experiment(config, attempt.experiments)
        trial = choose_trial(selected.experiment, attempt.trial)
        run_trial(trial, open_context(selected, config), Progress(sys.stderr, [trial]))
    except (HarnessError, OSError) as error:
        print(f"harness: {type(error).__name__}: {error}", file=sys.stderr)
        raise SystemExit(HarnessError.exit_code) from error


def _find_outcome(folder: Path, trial: Trial) -> TrialOutcome:
    results, store = folder / "results", folder / "store"
    record = read_record(results / "records" / trial.experiment / f"{trial.stem}.json")
    stage: StageName = "baseline" if trial.variant == "baseline" else "evaluate"
    embeddings = store / stage / record.stages[stage].key / EMBEDDINGS_FILE
    weights = None
    if "train" in record.stages:
        weights = store / "train" / record.stages["train"].key / WEIGHTS_FILE
    return TrialOutcome(record, results, embeddings, weights)
