"""A trial's results: values from runs and judgements, and the files that they follow from, below the results folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from harness.core.files import hash_file, write_atomically
from harness.errors import RecordError
from harness.experiment.manifest import Experiment
from harness.experiment.trial import Trial
from harness.pipeline.rows import Row
from harness.pipeline.stages import EMBEDDINGS_FILE, PreparedTest, Retrieved, name_run_file
from harness.pipeline.train_overlap import count_overlap
from harness.records.artifacts import format_texts
from harness.records.measures import average, best_reachable, best_reachable_mrr, evaluate_run, list_relevant
from harness.records.record import Artifact, DataSummary, Record, Result, read_record, read_records, write_record
from harness.records.trec import write_qrels

QRELS_FILE = "qrels.gz"
TEXTS_FILE = "texts.json.gz"


def make_results(
    on: str,
    trial: Trial,
    test: PreparedTest,
    retrieved: Retrieved,
    experiment: Experiment,
    *,
    results: Path,
    train: Mapping[str, Sequence[Row]],
) -> dict[str, Result]:
    """Judge a model's runs on one test set, and keep what the values follow from.

    Args:
        on: the test set, DATA/PART.
        trial: whose runs they are.
        test: the test set's data.
        retrieved: the runs, by dimension.
        experiment: says which measures, and whether texts may be quoted.
        results: folder that runs, judgements and texts are written below.
        train: the rows for training, by data set.

    Returns:
        Results by name, DATA/PART or DATA/PART@DIM.

    Raises:
        RecordError: a file cannot be read or written.
    """
    folder = results / "runs" / trial.experiment / on.replace("/", ".")
    qrels = _write_qrels(test, folder, results)
    texts = _write_texts(test, folder, results) if experiment.attribution is not None else None
    summary = _summarise(on, test, train, experiment.evaluation.measures)
    foreign = experiment.model(trial.model).kind == "run"
    made = {}
    for dim, run in retrieved.runs.items():
        per_query = evaluate_run(run, test.data.qrels, experiment.evaluation.measures, allow_missing=foreign)
        target = folder / (f"{trial.stem}.run.gz" if dim is None else f"{trial.stem}.dim={dim}.run.gz")
        source = retrieved.output.folder / name_run_file(dim)
        made[on if dim is None else f"{on}@{dim}"] = Result(
            data=summary,
            truncated_texts=retrieved.truncated_texts,
            truncated_passages=retrieved.truncated_passages,
            notes=retrieved.notes,
            embeddings_sha256=retrieved.output.entry.files.get(EMBEDDINGS_FILE),
            values=average(per_query),
            query_ids=tuple(test.data.qrels),
            per_query={measure: tuple(values.tolist()) for measure, values in per_query.items()},
            run=_write(_read(source), target, results),
            qrels=qrels,
            texts=texts,
        )
    return made


def replace_record(record: Record, results: Path) -> None:
    """Write a record in the place of an older one, and remove what that one named and no record names any more.

    Raises:
        RecordError: the disk refuses.
    """
    path = results / record.place
    try:
        before = read_record(path).artifacts if path.is_file() else ()
    except RecordError:
        before = ()  # broken, and about to be replaced: what it named is left for verify to find
    write_record(record, results)
    if set(before) <= set(record.artifacts):
        return
    try:
        named = {artifact.path for one in read_records(path.parent) for artifact in one.artifacts}
    except RecordError:
        return  # what a broken record names is not known, and the report says that it is broken
    for artifact in before:
        if artifact.path not in named:
            _remove(results / artifact.path)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as cause:
        raise RecordError(f"{path}: cannot be removed: {cause.strerror or cause}") from cause


def list_cautions(on: str, test: PreparedTest, train: Mapping[str, Sequence[Row]]) -> Iterator[str]:
    """Yield what is known of a test set before anything is trained and limits what its values can say."""
    data = _summarise(on, test, train, ("mrr@10",))
    if data.duplicate_passages:
        yield (
            f"{on}: {data.duplicate_passages} of {data.passages} passages repeat another's text; "
            f"best reachable mrr@10 {data.best_reachable_mrr:.4f}"
        )
    if data.queries_in_train_normalised:
        where = "train" if len(train) == 1 else f"train of {', '.join(train)}"
        yield (
            f"{on}: {data.queries_in_train} of {data.queries} queries are also in {where}, "
            f"{data.queries_in_train_normalised} but for case, punctuation and white space"
        )


def _summarise(on: str, test: PreparedTest, train: Mapping[str, Sequence[Row]], measures: Sequence[str]) -> DataSummary:
    data, own = test.data, on.partition("/")[0]
    # Of the part that is trained on every query is one.
    asked = {name: rows for name, rows in train.items() if (name, "train") != (own, test.part)}
    known = [row.query for rows in asked.values() for row in rows]
    shared = count_overlap(data.queries.values(), known) if asked else None
    return DataSummary(
        digest=test.output.entry.digest,
        train_pairs=len(train[own]),
        queries=len(data.queries),
        passages=len(data.corpus),
        duplicate_passages=data.duplicate_passages,
        best_reachable_mrr=best_reachable_mrr(list_relevant(data.qrels), data.corpus),
        queries_in_train=None if shared is None else shared.exact,
        queries_in_train_normalised=None if shared is None else shared.normalised,
        best_reachable=best_reachable(data.qrels, data.corpus, measures),
    )


def _write_qrels(test: PreparedTest, folder: Path, results: Path) -> Artifact:
    with TemporaryDirectory() as scratch:
        write_qrels(test.data.qrels, Path(scratch) / QRELS_FILE)
        return _write(_read(Path(scratch) / QRELS_FILE), folder / QRELS_FILE, results)


def _write_texts(test: PreparedTest, folder: Path, results: Path) -> Artifact | None:
    """Write the texts that a report quotes, where they are few enough."""
    content = format_texts(test.data.queries, test.data.corpus)
    return None if content is None else _write(content, folder / TEXTS_FILE, results)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as cause:
        raise RecordError(f"{path}: cannot be read: {cause.strerror or cause}") from cause


def _write(content: bytes, path: Path, results: Path) -> Artifact:
    try:
        write_atomically(path, content)
    except OSError as cause:
        raise RecordError(f"{path}: cannot be written: {cause.strerror or cause}") from cause
    return Artifact(path=path.relative_to(results).as_posix(), sha256=hash_file(path))
