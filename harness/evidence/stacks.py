"""What a comparison of stacks says must go together: with itself, with its manifest, and with the trials' records."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean

from harness.errors import RecordError
from harness.experiment.manifest import Experiment
from harness.experiment.recipe import WAYS_ON_GPU
from harness.records.record import Record
from harness.records.stack import StackRecord, StackTraining, list_stack_records, read_stack_record

# Of a mean that is computed again.
ROUNDING = 1e-12


def check_stacks(
    results: Path, records: Mapping[str, Sequence[Record]], manifests: Mapping[str, Experiment]
) -> Iterator[str]:
    """Name what is wrong with the comparisons of stacks in a results folder.

    Args:
        results: the folder.
        records: the trials' records, by experiment.
        manifests: those at hand, by experiment.
    """
    try:
        paths = list_stack_records(results)
    except RecordError as cause:
        yield str(cause)
        return
    for path in paths:
        try:
            record = read_stack_record(path, results)
        except RecordError as cause:
            yield str(cause)
            continue
        problems = [*_check_itself(record), *_check_trials(record, records.get(record.experiment, ()))]
        if record.experiment in manifests:
            problems += _check_manifest(record, manifests[record.experiment])
        yield from (f"{path}: {problem}" for problem in problems)


def _check_itself(record: StackRecord) -> Iterator[str]:
    for number, result in enumerate(record.results):
        if not math.isclose(fmean(result.per_query), result.values[record.primary], abs_tol=ROUNDING):
            yield f"result {number}: {record.primary} is not the mean of its queries"
    for training in record.trained:
        if {row for batch in training.rows for row in batch} != set(range(record.train_rows)):
            yield f"seed {training.seed}: its batches are not of the {record.train_rows} training rows"
    first = {training.seed: training for training in record.published.trainings}
    for training in record.replayed:
        if not _is_replay(training, first.get(training.seed)):
            yield f"replayed: seed {training.seed} is not on the batches of the {record.stack} stack"


def _is_replay(training: StackTraining, first: StackTraining | None) -> bool:
    return first is not None and (training.rows, training.batches) == (first.rows, first.batches)


def _check_trials(record: StackRecord, trials: Sequence[Record]) -> Iterator[str]:
    """Hold it against the records of the same model: the data they were of, and how many queries were asked."""
    for trial in trials:
        if trial.trial.model != record.model:
            continue
        if trial.data.digest != record.data_digest:
            yield f"data_digest: is not that of {trial.place}"
        if len(trial.query_ids) != len(record.today.untrained.per_query):
            yield f"{len(record.today.untrained.per_query)} queries, {trial.place} has {len(trial.query_ids)}"


def _check_manifest(record: StackRecord, whole: Experiment) -> Iterator[str]:
    if record.experiment_digest not in _list_digests(whole):
        yield f"experiment_digest: the manifest of {whole.name} declares something else; run it again"
    if whole.stacks.get(record.stack) != record.pins:
        yield f"pins: are not those of [stacks.{record.stack}] in the manifest of {whole.name}"
    if all(model.name != record.model or record.recipe not in model.recipes for model in whole.models):
        yield f"{record.model}/{record.recipe}: is not among the trials of {whole.name}"
    for name, found, declared in (
        ("primary", record.primary, whole.evaluation.primary),
        ("margin", record.margin, whole.verdicts.margin),
    ):
        if found != declared:
            yield f"{name}: reads {found}, the manifest says {declared}"


def _list_digests(whole: Experiment) -> Iterator[str]:
    """Yield a manifest's digest, as written and with either way of embedding on a GPU: stacks run on the CPU alone."""
    yield whole.digest
    for way in WAYS_ON_GPU:
        recipes = {
            name: recipe.replace(embedding=recipe.embedding.replace(cuda=way)) for name, recipe in whole.recipes.items()
        }
        yield whole.replace(recipes=recipes).digest
