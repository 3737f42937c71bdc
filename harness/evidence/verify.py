"""Verification recomputes every number of a results folder from its runs, qrels and records, and names what differs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.analysis.paired_queries import ROUNDS
from harness.errors import HarnessError, SourceError
from harness.experiment.claims import BASELINE
from harness.experiment.lock import Lock, SourceName, list_sources, name_source, read_lock
from harness.experiment.manifest import Experiment, read_experiment
from harness.experiment.trial import list_trials, narrow
from harness.records.artifacts import Evidence
from harness.records.measures import average, best_reachable_mrr, evaluate_run
from harness.records.record import Record, read_record
from harness.records.trec import Qrels
from harness.report.results_folder import compare_tables

# What differs between two builds of the C library's logarithm, and nothing that a table could show.
ROUNDING = 1e-12
SHOWN_QUERIES = 3
SECONDS_PER_HOUR = 3600
# The parts of a manifest that values and verdicts rest on.
BINDING = (
    "seeds",
    "data",
    "models",
    "recipes",
    "evaluation",
    "verdicts",
    "thresholds",
    "claims",
    "comparisons",
    "forgetting",
)


@dataclass(frozen=True)
class Verification:
    """What was checked, and one line for everything that does not match; no line means that all does."""

    records: int
    values: int
    files: int
    problems: tuple[str, ...]


def verify_results(results: Path, *, experiments: Path | None = None, rounds: int = ROUNDS) -> Verification:
    """Check a results folder: its records, as `verify_records` does, and all generated files.

    The generated files hold every interval and verdict, and the SHA-256 of every record and run; they are made again
    and compared.

    Args:
        results: folder with ``records``, ``runs`` and the generated files.
        experiments: folder with manifests and locks.
        rounds: sign patterns of the randomization test that the tables were made with.

    Raises:
        SourceError: there is no such folder, or no record in it.
    """
    known = Evidence(results)
    done = verify_records(results, experiments=experiments, evidence=known)
    found = compare_tables(results, rounds=rounds, evidence=known)
    # A broken record was named already.
    unmade = [
        f"{results}: the tables cannot be made again: {problem}"
        for problem in found.problems.values()
        if problem not in done.problems
    ]
    return replace(done, problems=(*done.problems, *found.differing, *unmade))


def verify_records(results: Path, *, experiments: Path | None = None, evidence: Evidence | None = None) -> Verification:
    """Check records against runs and qrels, and against the manifests and locks where they are at hand.

    Of every record: its place and digest of the manifest, the digests of its files, each value per query and each
    mean from run and qrels, what it says of the data and the cost. Then that no file lies there that no record
    names.

    Args:
        results: folder with ``records`` and ``runs``.
        experiments: folder with manifests and locks.
        evidence: what was read of the folder already; None reads it anew.

    Raises:
        SourceError: there is no such folder, or no record in it.
    """
    paths = sorted((results / "records").glob("*/*.json"))
    if not paths:
        raise SourceError(f"{results}: holds no records/EXPERIMENT/*.json to verify")
    problems: list[str] = []
    records: list[Record] = []
    for path in paths:
        try:
            records.append(read_record(path))
        except HarnessError as cause:
            problems.append(str(cause))
            continue
        if path != results / records[-1].place:
            problems.append(f"{path}: holds the record of {records[-1].trial.id}, whose place is {records[-1].place}")
    known = evidence or Evidence(results)
    for record in records:
        problems += _check_record(record, known)
    problems += _check_folder(records, results)
    if experiments is not None:
        problems += _check_manifests(records, experiments)
    values = sum(len(view.query_ids) * len(view.per_query) for record in records for view in record.views)
    return Verification(len(records), values, known.files, tuple(problems))


def _check_record(record: Record, known: Evidence) -> Iterator[str]:
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
    yield from (f"{place}: {problem}" for problem in _compare_costs(record))


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
    for measure, mean in average(computed).items():
        if not math.isclose(record.values[measure], mean, rel_tol=0, abs_tol=ROUNDING):
            yield f"values[{measure!r}]: reads {record.values[measure]}, run and qrels give {mean}"


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
            "best_reachable_mrr": best_reachable_mrr(qrels, passages),
        }
    for name, value in expected.items():
        if not math.isclose(getattr(data, name), value, rel_tol=0, abs_tol=ROUNDING):
            yield f"data.{name}: reads {getattr(data, name)}, the evidence gives {value}"


def _compare_costs(record: Record) -> Iterator[str]:
    needed = {"prepare", "baseline"} if record.trial.variant == BASELINE else {"prepare", "train", "evaluate"}
    if set(record.stages) != needed:
        yield f"stages: are {', '.join(sorted(record.stages))}, expected {', '.join(sorted(needed))}"
        return
    if record.stages["prepare"].output_digest != record.data.digest:
        yield "data.digest: is not the digest of the stage that prepared the data"
    price = record.experiment.prices_usd_per_hour.get(record.device_name)
    cost = None if price is None or "train" not in record.stages else price * record.stages["train"].seconds
    expected = None if cost is None else cost / SECONDS_PER_HOUR
    found = record.training_cost_usd
    same = found is expected is None or (
        found is not None and expected is not None and math.isclose(found, expected, rel_tol=ROUNDING)
    )
    if not same:
        yield f"training_cost_usd: reads {found}, price and seconds give {expected}"


def _check_folder(records: Sequence[Record], results: Path) -> Iterator[str]:
    """Find files that no record names, and records of one experiment that are not of the same data."""
    named = {artifact.path for record in records for artifact in record.artifacts}
    for path in sorted((results / "runs").rglob("*")):
        name = path.relative_to(results).as_posix()
        if path.is_file() and name not in named:
            yield f"{path}: no record names this file"
    for name in sorted({record.trial.experiment for record in records}):
        views = [view for record in records if record.trial.experiment == name for view in record.views]
        for on in sorted({view.on for view in views}):
            digests = {view.data.digest for view in views if view.on == on}
            if len(digests) > 1:
                yield f"{results / 'records' / name}: {on}: the records are of {len(digests)} different data sets"


def _check_manifests(records: Sequence[Record], experiments: Path) -> Iterator[str]:
    """Compare what records say of their experiment and sources with the manifest and the lock of that name."""
    for name in sorted({record.trial.experiment for record in records}):
        manifest = experiments / f"{name}.toml"
        if not manifest.is_file():
            yield f"{manifest}: there is no such manifest, but records of it"
            continue
        try:
            whole = read_experiment(manifest)
            lock = read_lock(manifest.with_suffix(".lock"), whole)
        except HarnessError as cause:
            yield str(cause)
            continue
        for record in records:
            if record.trial.experiment == name:
                yield from (f"{record.place}: {problem}" for problem in _compare_manifest(record, whole, lock))


def _compare_manifest(record: Record, whole: Experiment, lock: Lock) -> Iterator[str]:
    own = record.experiment
    try:
        declared = narrow(whole, models=[model.name for model in own.models], seeds=own.seeds)
    except HarnessError as cause:
        yield str(cause)
        return
    for part in BINDING:
        if getattr(own, part) != getattr(declared, part):
            yield f"experiment.{part}: is not what the manifest of {whole.name} declares"
    data = {SourceName.of("data", test_set.data) for test_set in own.evaluation.test_sets}
    model = {name_source(model) for model in own.models if model.name == record.trial.model}
    for name in (name for name in list_sources(declared) if name in data | model):
        source, locked = record.sources.get(name), lock.sources.get(name)
        if source is None or locked is None:
            yield f"sources.{name}: is missing in the record or the lock"
            continue
        for path, digest in sorted(source.files.items()):
            expected = locked.files.get(path)
            if expected not in {digest, None} or (expected is None and locked.complete):
                yield f"sources.{name}, file {path!r}: SHA-256 {digest[:16]}... is not the locked one"
        if source.locked != locked.complete:
            yield f"sources.{name}.locked: reads {source.locked}, the lock is {'' if locked.complete else 'in'}complete"
