"""Whether an experiment's records could be read again is known from rows and measures before anything is trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from harness.errors import RecordError
from harness.experiment.lock import Lock, list_rows
from harness.experiment.manifest import Experiment
from harness.experiment.model import Model
from harness.experiment.recipe import Recipe
from harness.records.record import MOST_VALUES

# Of a point of the loss: its step, its value and the learning rate; there is one for each step.
POINT_VALUES = 3


def refuse_excess(experiment: Experiment, queries: Mapping[str, int], rows: Mapping[str, int]) -> None:
    """Refuse an experiment whose records nobody would read: each value per query, each step and batch is a value there.

    Args:
        experiment: the manifest, whole or narrowed.
        queries: of each test set whose number is known, DATA/PART -> queries.
        rows: of the part train of each data set whose number is known.

    Raises:
        RecordError: naming the model, what its record would hold at least, and how many values are read.
    """
    for model in experiment.models:
        for named, held in _count(experiment, model, queries, rows):
            if held > MOST_VALUES:
                raise RecordError(
                    f"{experiment.name}/{model.name}: a record of {named} would hold {held} values or more, at most "
                    f"{MOST_VALUES} are read: take fewer queries, measures, test sets or steps"
                )


def _count(
    experiment: Experiment, model: Model, queries: Mapping[str, int], rows: Mapping[str, int]
) -> Iterator[tuple[str, int]]:
    """Yield what each of a model's records is of, in words, and how many values that makes."""
    evaluation, seen = experiment.evaluation, len(model.truncate_dims) or 1
    asked = sum(queries.get(on, 0) for on in evaluation.on)
    # Beside its values a query has an id.
    results = asked * seen * (len(evaluation.measures) + 1)
    said = f"{asked} queries, {len(evaluation.measures)} measures" + (f" and {seen} dimensions" if seen > 1 else "")
    yield said, results
    for name in model.recipes:
        recipe = experiment.recipes[name]
        steps, batches = _plan(recipe, rows.get(recipe.data))
        yield f"{said}, and {steps} steps", results + POINT_VALUES * steps + batches


def _plan(recipe: Recipe, rows: int | None) -> tuple[int, int]:
    """Return steps and batches, none where they depend on rows that are not known."""
    arguments = recipe.arguments
    # How many rows negatives are found for is known afterwards.
    if rows is None or recipe.negatives is not None:
        return arguments.max_steps or 0, arguments.max_steps or 0
    return arguments.count_steps(rows), arguments.count_batches(rows)


def find_counts(experiment: Experiment, lock: Lock | None) -> tuple[dict[str, int], dict[str, int]]:
    """Return what manifest and lock say of the queries of test sets and of the rows of the parts train.

    Of queries only where each row is one of its own; else some rows may share one.
    """
    rows = list_rows(experiment, lock)
    queries = {
        str(one): rows[one.data][one.part]
        for one in experiment.evaluation.test_sets
        if experiment.data[one.data].has_own_queries and one.part in rows[one.data]
    }
    return queries, {name: parts["train"] for name, parts in rows.items() if "train" in parts}
