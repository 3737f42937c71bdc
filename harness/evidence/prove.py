"""Proving runs one trial twice from nothing, each time in a new process, and compares what came out."""

from __future__ import annotations

import multiprocessing
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from harness.errors import HarnessError, ManifestError
from harness.evidence.determinism import Outcome, Proof, compare_outcomes
from harness.experiment.manifest import Experiment
from harness.experiment.trial import Trial, list_trials
from harness.pipeline.selection import Selected, select_experiment
from harness.pipeline.store import SOURCES
from harness.records.record import StageName, read_record

NAMES = ("first", "second")


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


def prove_trial(
    manifest: str,
    experiments: Path,
    *,
    folder: Path,
    trial: str | None = None,
    device: str = "auto",
    precision: str | None = None,
    data_dir: Path | None = None,
    sources: Path | None = None,
) -> Proof:
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
    selected = select_experiment(manifest, experiments)
    chosen = choose_trial(selected.experiment, trial)
    for name in NAMES:
        attempt = Attempt(manifest, experiments, chosen.id, device, precision, data_dir, sources, folder / name)
        # A new process each time: what torch keeps from one run to the next is not to help the second.
        child = multiprocessing.get_context("spawn").Process(target=run_attempt, args=(attempt,))
        child.start()
        child.join()
        if child.exitcode:
            raise HarnessError(f"{chosen.id}: the {name} run ended with exit code {child.exitcode}")
    first, second = (_find_outcome(folder / name, chosen) for name in NAMES)
    return compare_outcomes(first, second)


def choose_trial(experiment: Experiment, wanted: str | None) -> Trial:
    """Return the trial of that id, by default the first that is fine-tuned, else the first.

    Raises:
        ManifestError: there is no such trial.
    """
    trials = list(list_trials(experiment))
    if wanted is None:
        return next((trial for trial in trials if trial.variant == "finetuned"), trials[0])
    for trial in trials:
        if trial.id == wanted:
            return trial
    raise ManifestError(f"no trial {wanted!r}; the trials are: {', '.join(trial.id for trial in trials)}")


def run_attempt(attempt: Attempt) -> None:
    """Run the trial once, into a store and a results folder below the attempt's own folder; ends the process."""
    from harness.pipeline.progress import Progress  # noqa: PLC0415
    from harness.pipeline.run_trial import open_workplace, run_trial  # noqa: PLC0415 - loads torch

    # The libraries' progress bars would be written over ours.
    os.environ.setdefault("TQDM_DISABLE", "1")
    store = attempt.folder / "store"
    try:
        store.mkdir(parents=True)
        if attempt.sources is not None and attempt.sources.is_dir():
            (store / SOURCES).symlink_to(attempt.sources.resolve(), target_is_directory=True)
        selected: Selected = select_experiment(attempt.manifest, attempt.experiments)
        trial = choose_trial(selected.experiment, attempt.trial)
        workplace = open_workplace(
            selected.experiment,
            selected.lock,
            base=selected.base,
            store=store,
            results=attempt.folder / "results",
            device=attempt.device,
            precision=attempt.precision,
            data_dir=attempt.data_dir,
        )
        run_trial(trial, workplace, Progress(sys.stderr, [trial]))
    except (HarnessError, OSError) as error:
        print(f"harness: {type(error).__name__}: {error}", file=sys.stderr)
        raise SystemExit(HarnessError.exit_code) from error


def _find_outcome(folder: Path, trial: Trial) -> Outcome:
    results, store = folder / "results", folder / "store"
    record = read_record(results / "records" / trial.experiment / f"{trial.stem}.json")
    stage: StageName = "baseline" if trial.variant == "baseline" else "evaluate"
    embeddings = store / stage / record.stages[stage].key / "embeddings.npy"
    weights = None
    if "train" in record.stages:
        weights = store / "train" / record.stages["train"].key / "model" / "model.safetensors"
    return Outcome(record, results, embeddings, weights)
