"""The records of one experiment by model and variant, checked to belong together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from harness.errors import RecordError
from harness.experiment.claims import BASELINE
from harness.experiment.manifest import Experiment, Variant
from harness.experiment.trial import Pair
from harness.records.record import Record


class Shelf:
    """Records by model and variant, of one experiment, recipe and data.

    Raises:
        RecordError: on construction: two records of one trial, or one of another experiment, recipe or data.
    """

    def __init__(self, experiment: Experiment, records: Sequence[Record]) -> None:
        self.experiment = experiment
        self._records: dict[tuple[str, Variant], dict[int | None, Record]] = {}
        for record in records:
            trial = record.trial
            self._check(record, records[0])
            seeds = self._records.setdefault((trial.model, trial.variant), {})
            if trial.seed in seeds:
                raise RecordError(f"{trial.id}: two records of this trial, expected one")
            seeds[trial.seed] = record

    def _check(self, record: Record, first: Record) -> None:
        experiment, trial = self.experiment, record.trial
        if trial.experiment != experiment.name:
            raise RecordError(f"{trial.id}: a record of {trial.experiment!r}, expected {experiment.name!r}")
        if trial.model not in {model.name for model in experiment.models}:
            raise RecordError(f"{trial.id}: the manifest has no model {trial.model!r}")
        recipes = (one.recipes.get(trial.variant) for one in (record.experiment, experiment))
        own, declared = (None if recipe is None else recipe.as_run_on(record.device) for recipe in recipes)
        if record.experiment.data != experiment.data:
            raise RecordError(f"{trial.id}: recorded under another [data] than the manifest's: run it again")
        if own != declared:
            raise RecordError(f"{trial.id}: recorded under another recipe than the manifest's: run it again")
        ours, theirs = (one.model(trial.model).replace(recipes=()) for one in (experiment, record.experiment))
        if ours != theirs:
            raise RecordError(f"{trial.id}: recorded with another source or encoding of the model than the manifest's")
        known = {view.on: view for view in first.views}
        for view in record.views:
            other = known.get(view.on, view)
            if (view.data.digest, view.query_ids) != (other.data.digest, other.query_ids):
                raise RecordError(
                    f"{trial.id}: data {view.data.digest[:12]}, expected {other.data.digest[:12]} as in "
                    f"{first.trial.id}, or other queries of {view.on}"
                )

    def select(
        self, model: str, variant: Variant, *, on: str | None = None, dim: int | None = None
    ) -> tuple[Record, ...]:
        """Return the records of a model and variant in the order of their seeds, as seen from a test set and dimension.

        Raises:
            RecordError: a record has no such result.
        """
        found = self._records.get((model, variant), {})
        ordered = sorted(found, key=lambda seed: -1 if seed is None else seed)
        return tuple(found[seed].at(on, dim) for seed in ordered)

    def select_pair(self, pair: Pair) -> tuple[tuple[Record, ...], tuple[Record, ...]]:
        """Return the records of a model before and after training by one recipe."""
        tuned = () if pair.recipe is None else self.select(pair.model, pair.recipe)
        return self.select(pair.model, BASELINE), tuned

    def find_missing(self, model: str, variant: Variant) -> tuple[str, ...]:
        """Name the trials of a model and variant that the manifest expects and that have no record."""
        expected: Sequence[int | None] = [None] if variant == BASELINE else self.experiment.seeds
        found = self._records.get((model, variant), {})
        stem = f"{self.experiment.name}/{model}/{variant}"
        return tuple(stem if seed is None else f"{stem}/seed{seed}" for seed in expected if seed not in found)


def list_values(records: Sequence[Record], measure: str) -> tuple[float, ...]:
    """Return each record's value of a measure.

    Raises:
        RecordError: a record lacks the measure.
    """
    for record in records:
        if measure not in record.values:
            raise RecordError(f"{record.trial.id}: the record has no {measure!r}")
    return tuple(record.values[measure] for record in records)


def tabulate_queries(records: Sequence[Record], measure: str) -> NDArray[np.float64]:
    """Return each record's values per query, shape (records, queries).

    Raises:
        RecordError: a record lacks the measure.
    """
    list_values(records, measure)
    return np.asarray([record.per_query[measure] for record in records], dtype=np.float64)


def list_seeds(records: Sequence[Record]) -> tuple[int, ...]:
    """Return the seeds of records; a baseline has none."""
    return tuple(record.trial.seed for record in records if record.trial.seed is not None)
