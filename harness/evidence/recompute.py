"""Every value of a record follows from its run and qrels; here it is computed again, and what differs is named."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from harness.core.memo import Memo
from harness.errors import HarnessError
from harness.evidence.binding import compare_machine, compare_rows, compare_training
from harness.experiment.claims import BASELINE
from harness.experiment.trial import list_trials
from harness.records.artifacts import Evidence
from harness.records.measures import average, best_reachable, best_reachable_mrr, evaluate_run, list_relevant
from harness.records.record import Record
from harness.records.trec import Qrels

# What differs between two builds of the C library's logarithm, and nothing that a table could show.
ROUNDING = 1e-12
SHOWN_QUERIES = 3


def check_record_once(record: Record, known: Evidence, memo: Memo) -> Iterator[str]:
    """Do as `check_record`, unless the same record with the same files was found whole before, by the same code."""
    try:
        inputs = {
            "record": record.model_dump(mode="json"),
            "files": {one.path: known.hash(one) for one in record.artifacts},
        }
    except HarnessError:
        inputs = {}  # a file is missing, which is for the check to say
    marks = memo.find("record", inputs) if inputs else None
    if marks is not None:
        known.marks.update(marks)
        return
    problems = list(check_record(record, known))
    yield from problems
    if inputs and not problems:
        memo.keep("record", inputs, {view.run.path: known.marks[view.run.path] for view in record.views})


def check_record(record: Record, known: Evidence) -> Iterator[str]:
    """Compute a record's values again, and hold all that it says against one another and its files."""
    place = known.results / record.place
    experiment = record.experiment
    if record.experiment_digest != experiment.digest:
        yield f"{place}: experiment_digest is not the one of the experiment beside it"
    if record.trial not in list_trials(experiment):
        yield f"{place}: {record.trial.id} is not among the trials of its experiment"
    for artifact in record.artifacts:
        try:
            known.check(artifact)
        except HarnessError as cause:
            yield f"{place}: {cause}"
    yield from (f"{place}: {problem}" for problem in _compare_results(record))
    for view in record.views:
        where = f"{place}: {view.result_name}" if len(record.evaluations) > 1 else f"{place}"
        yield from (f"{where}: {problem}" for problem in _check_result(view, known))
    for compare in (_compare_costs, compare_machine, compare_training):
        yield from (f"{place}: {problem}" for problem in compare(record))


def check_means(record: Record) -> Iterator[str]:
    """Hold a record that has no runs beside it against itself: its means against its queries, and its digest."""
    if record.experiment_digest != record.experiment.digest:
        yield "experiment_digest is not the one of the experiment beside it"
    for view in record.views:
        values = {measure: np.asarray(found) for measure, found in view.per_query.items()}
        yield from _compare_means(view, values)


def _compare_results(record: Record) -> Iterator[str]:
    """Hold the results against the test sets and dimensions that the experiment evaluates the model at."""
    model = next((model for model in record.experiment.models if model.name == record.trial.model), None)
    expected = [] if model is None else record.experiment.evaluation.list_results(model.truncate_dims)
    if list(record.evaluations) != expected:
        yield f"evaluations: are of {', '.join(record.evaluations)}, expected {', '.join(expected)}"


def _check_result(record: Record, known: Evidence) -> Iterator[str]:
    """Compute a result's values again; ``record`` is seen from it."""
    if set(record.values) != set(record.experiment.evaluation.measures):
        yield "values are of other measures than the experiment's"
    try:
        qrels = known.read_qrels(record.qrels)
        run = known.read_run(record.run, record.qrels)
        computed = evaluate_run(run, qrels, tuple(record.per_query), allow_missing=_may_miss(record))
        yield from _compare_values(record, qrels, computed)
        yield from _compare_data(record, qrels, known)
        yield from compare_rows(record)
    except HarnessError as cause:
        yield f"the values cannot be computed again: {cause}"


def _may_miss(record: Record) -> bool:
    """Say whether a query without a ranked list counts as found nothing: so it does in the lists of somebody else."""
    return any(model.kind == "run" for model in record.experiment.models if model.name == record.trial.model)


def _compare_values(record: Record, qrels: Qrels, computed: dict[str, NDArray[np.float64]]) -> Iterator[str]:
    if record.query_ids != tuple(qrels):
        differing = sorted(set(record.query_ids) ^ set(qrels)) or ["the same ones in another order"]
        yield f"query_ids: not the queries of {record.qrels.path}: {', '.join(differing[:SHOWN_QUERIES])}"
        return
    for measure, values in computed.items():
        recorded = np.asarray(record.per_query[measure])
        wrong = np.flatnonzero(np.abs(recorded - values) > ROUNDING)
        for index in islice(wrong.tolist(), SHOWN_QUERIES):
            yield (
                f"per_query[{measure!r}], query {record.query_ids[index]!r}: reads {recorded[index]}, run and qrels "
                f"give {values[index]}"
            )
        if len(wrong) > SHOWN_QUERIES:
            yield f"per_query[{measure!r}]: and {len(wrong) - SHOWN_QUERIES} queries more"
    yield from _compare_means(record, computed)


def _compare_means(record: Record, values: dict[str, NDArray[np.float64]]) -> Iterator[str]:
    for measure, mean in average(values).items():
        if not math.isclose(record.values[measure], mean, rel_tol=0, abs_tol=ROUNDING):
            yield f"values[{measure!r}]: reads {record.values[measure]}, its queries give {mean}"


def _compare_data(record: Record, qrels: Qrels, known: Evidence) -> Iterator[str]:
    data, declared = record.data, record.experiment.data.get(record.on.partition("/")[0])
    expected: dict[str, float] = {"queries": len(qrels)}
    if declared is not None and (rows := declared.expected_rows("train")) is not None:
        expected["train_pairs"] = rows
    if record.texts is not None and known.has_read(record.texts):
        passages = known.read_texts(record.texts).passages
        expected |= {
            "passages": len(passages),
            "duplicate_passages": len(passages) - len(set(passages.values())),
            "best_reachable_mrr": best_reachable_mrr(list_relevant(qrels), passages),
        }
        if data.best_reachable is not None:
            for measure, value in best_reachable(qrels, passages, tuple(record.per_query)).items():
                found = data.best_reachable.get(measure, math.nan)
                if not math.isclose(found, value, rel_tol=0, abs_tol=ROUNDING):
                    yield f"data.best_reachable[{measure!r}]: reads {found}, the evidence gives {value}"
    for name, value in expected.items():
        if not math.isclose(getattr(data, name), value, rel_tol=0, abs_tol=ROUNDING):
            yield f"data.{name}: reads {getattr(data, name)}, the evidence gives {value}"


def _compare_costs(record: Record) -> Iterator[str]:
    needed = {"prepare", "baseline"} if record.trial.variant == BASELINE else {"prepare", "train", "evaluate"}
    if record.mining is not None:
        needed.add("mine")
    if set(record.stages) != needed:
        yield f"stages: are {', '.join(sorted(record.stages))}, expected {', '.join(sorted(needed))}"
        return
    if record.stages["prepare"].output_digest != record.data.digest:
        yield "data.digest: is not the digest of the stage that prepared the data"
    expected, found = record.price_training(), record.training_cost_usd
    same = found is expected is None or (
        found is not None and expected is not None and math.isclose(found, expected, rel_tol=ROUNDING)
    )
    if not same:
        yield f"training_cost_usd: reads {found}, price and seconds give {expected}"
