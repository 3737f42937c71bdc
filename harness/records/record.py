"""A record is a trial's stored outcome: one JSON file, versioned, finite, enough to judge it without a GPU."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from harness.core.files import refuse_links, write_atomically
from harness.core.schema import (
    Bytes,
    Count,
    Digest,
    Dollars,
    Frozen,
    Natural,
    Number,
    Seconds,
    Unit,
    canonical_json,
    check_part,
    decode,
    decode_json,
    format_json,
    read_text,
)
from harness.core.text import clip
from harness.errors import RecordError
from harness.experiment.claims import BASELINE
from harness.experiment.lock import ResolvedSource, Role, SourceName
from harness.experiment.manifest import Experiment
from harness.experiment.model import Similarity
from harness.experiment.trial import Trial
from harness.experiment.upgrade import upgrade_experiment
from harness.records.environment import Environment

SCHEMA_VERSION = 2
SHOWN_CHARACTERS = 80
SECONDS_PER_HOUR = 3600
RECORD_LIMIT_BYTES = 64 * 2**20
# Bounded by what it becomes, too. Measured: 32 bytes for a value, 2 KiB for one that is wrong, while errors are
# counted, and 3 KiB for a list in lists.
MOST_VALUES = 400_000
MOST_LISTS = 100_000
# Paths of a record's files stay below the results folder, whoever wrote the record.
RELATIVE_PATH = r"^(?:[A-Za-z0-9][A-Za-z0-9_.=-]*/)*[A-Za-z0-9][A-Za-z0-9_.=-]*$"

StageName = Literal["prepare", "baseline", "mine", "train", "evaluate"]


class StageCost(Frozen):
    """What a stage took when it was done; ``cached`` says that this was earlier, by the harness at ``commit``."""

    seconds: Seconds
    cached: bool
    peak_memory_bytes: Bytes
    peak_device_memory_bytes: Bytes | None
    key: Digest
    output_digest: Digest
    commit: str | None


class DataSummary(Frozen):
    """The prepared data in numbers."""

    digest: Digest
    train_pairs: Natural
    queries: Natural
    passages: Natural
    duplicate_passages: Natural
    best_reachable_mrr: Unit
    # The first records have none of what follows. Queries that are also in the part train of any data set that the
    # experiment reads: letter for letter, and normalised.
    queries_in_train: Natural | None = None
    queries_in_train_normalised: Natural | None = None
    best_reachable: dict[str, Unit] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        check_part("duplicate_passages", self.duplicate_passages, "passages", self.passages)
        exact, normalised = self.queries_in_train, self.queries_in_train_normalised
        if (exact is None) != (normalised is None):
            raise ValueError("queries_in_train and queries_in_train_normalised are told both or not at all")
        if exact is not None and normalised is not None:
            check_part("queries_in_train", exact, "queries_in_train_normalised", normalised)
            check_part("queries_in_train_normalised", normalised, "queries", self.queries)
        return self


class LossPoint(Frozen):
    """The mean training loss over the steps since the last point."""

    step: Natural
    loss: Number
    learning_rate: Number


class RowsUsed(Frozen):
    """What the sampler makes of the rows in the first epoch: how many are in a batch, and of how many batches."""

    given: Natural
    used: Natural
    batches: Natural
    batches_of_one: Natural

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        check_part("used", self.used, "given", self.given)
        check_part("batches_of_one", self.batches_of_one, "batches", self.batches)
        least = 2 * self.batches - self.batches_of_one
        if self.used < least:
            raise ValueError(f"used is {self.used}, expected at least {least} in {self.batches} batches")
        return self


class AdapterLog(Frozen):
    """An adapter that was trained beside frozen weights and merged into them: its own file, and how many numbers."""

    peft: str
    trained: Natural
    weights_sha256: Digest


class SelectionLog(Frozen):
    """The step whose weights were kept, and what it scored on the dev part that chose it."""

    on: str
    measure: str
    step: Natural
    value: Unit


class TrainingLog(Frozen):
    """How training went.

    ``loss`` is the curve, ``resumes`` how often training went on from a checkpoint, ``batches`` a short hash of every
    step's batch (of its token ids, column by column), ``nondeterministic`` the operators that have no algorithm on the
    device that gives the same bits every time. ``weights_sha256`` is that of the whole model, an adapter merged.
    """

    precision: Literal["fp16", "bf16", "fp32"]
    steps: Natural
    # The first records did not say.
    rows: RowsUsed | None = None
    loss: tuple[LossPoint, ...]
    resumes: Natural
    batches: tuple[str, ...] = ()
    nondeterministic: tuple[str, ...] = ()
    weights_sha256: Digest
    adapter: AdapterLog | None = None
    selected: SelectionLog | None = None
    # None stands for the model's own.
    attention: str | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        places = [point.step for point in self.loss]
        if places != sorted(set(places)) or 0 in places:
            raise ValueError("loss: the steps of its points must grow from 1")
        if places:
            check_part("the last point's step of loss", places[-1], "steps", self.steps)
        if self.selected is not None:
            check_part("selected.step", self.selected.step, "steps", self.steps)
        return self


class MiningLog(Frozen):
    """Who found the negatives, for how many rows of those given; the others were left out of training."""

    model: str
    given_rows: Natural
    mined_rows: Natural

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        check_part("mined_rows", self.mined_rows, "given_rows", self.given_rows)
        return self


class EncodingLog(Frozen):
    """How a model was asked: what stood before its texts by role, how they were compared, and what to know of it."""

    prompts: dict[Literal["query", "passage"], str]
    similarity: Similarity
    notes: tuple[str, ...] = ()


class Artifact(Frozen):
    """A file below the results folder."""

    path: Annotated[str, Field(pattern=RELATIVE_PATH)]
    sha256: Digest


class Result(Frozen):
    """What a trial's model achieved on one test set, at one dimension of its embeddings.

    ``per_query`` holds, for each measure, one value per entry of ``query_ids``, in that order; ``values`` their means.
    ``embeddings_sha256`` is that of all embeddings in their file. ``texts`` are those of queries and passages, where
    they are few enough to be published.
    """

    data: DataSummary
    truncated_texts: Natural
    # Those of them that are passages; the first records do not tell.
    truncated_passages: Natural | None = None
    # What a reader of the values should know, such as queries without a ranked list.
    notes: tuple[str, ...] = ()
    embeddings_sha256: Digest | None = None
    values: Annotated[dict[str, Unit], Field(min_length=1)]
    query_ids: Annotated[tuple[str, ...], Field(min_length=1)]
    per_query: dict[str, tuple[Unit, ...]]
    run: Artifact
    qrels: Artifact
    texts: Artifact | None = None

    @model_validator(mode="after")
    def _aligned(self) -> Self:
        if set(self.values) != set(self.per_query):
            raise ValueError("values and per_query must hold the same measures")
        for measure, values in self.per_query.items():
            if len(values) != len(self.query_ids):
                raise ValueError(f"per_query[{measure!r}] has {len(values)} values for {len(self.query_ids)} queries")
        if len(set(self.query_ids)) != len(self.query_ids):
            raise ValueError("query_ids: a query is listed twice")
        self._check_counts()
        return self

    def _check_counts(self) -> None:
        data, passages = self.data, self.truncated_passages
        if data.queries != len(self.query_ids):
            raise ValueError(f"data.queries is {data.queries}, and query_ids are {len(self.query_ids)}")
        check_part("truncated_texts", self.truncated_texts, "queries and passages", data.queries + data.passages)
        if passages is not None:
            check_part("truncated_passages", passages, "truncated_texts", self.truncated_texts)
            check_part("truncated_passages", passages, "passages", data.passages)
            check_part("truncated queries", self.truncated_texts - passages, "queries", data.queries)

    @property
    def artifacts(self) -> tuple[Artifact, ...]:
        """The files that it names."""
        return tuple(artifact for artifact in (self.run, self.qrels, self.texts) if artifact is not None)


class Execution(Frozen):
    """How a trial ran that did not run in the driver's own process.

    ``attempts`` counts those that were lost with their worker too. ``trials_on_machine`` is how many trials of the
    same session ran on its machine at once, at most and itself included: its seconds are those of a shared machine.
    """

    engine: Literal["ray"]
    attempts: Count
    trials_on_machine: Count
    gpus_per_trial: Annotated[Number, Field(ge=0)]


class Record(Frozen):
    """A trial's outcome: one result for every test set and dimension, the primary one first.

    ``values``, ``per_query`` and the like are those of the first result; `at` gives the record as seen from another.
    ``sources`` have the names of the lock. Each of ``stages`` sums up what was done for all test sets; its key and
    digest are those of the primary one.
    """

    schema_version: Literal[2]
    trial: Trial
    created: str
    experiment: Experiment
    experiment_digest: Digest
    device: str
    device_name: str
    environment: Environment
    sources: dict[str, ResolvedSource]
    stages: dict[StageName, StageCost]
    training: TrainingLog | None
    training_cost_usd: Dollars | None
    # The first records had none.
    encoding: EncodingLog | None = None
    # Of recipes whose negatives are mined.
    mining: MiningLog | None = None
    # Of BM25, which is no encoder.
    parameters: dict[str, str | Number] | None = None
    # None where it ran in a process that ran one trial after another.
    execution: Execution | None = None
    evaluations: Annotated[dict[str, Result], Field(min_length=1)]

    @model_validator(mode="after")
    def _aligned(self) -> Self:
        if (self.training is None) != (self.trial.variant == BASELINE):
            raise ValueError("a trained trial has a training log and a baseline has none")
        if self.mining is not None and self.training is None:
            raise ValueError("a baseline has no mined negatives")
        return self

    @property
    def place(self) -> str:
        """The record's own path below the results folder."""
        return f"records/{self.trial.experiment}/{self.trial.stem}.json"

    def price_training(self) -> float | None:
        """Return what training cost in USD, by its seconds, where the manifest knows the device's price."""
        price = self.experiment.prices_usd_per_hour.get(self.device_name)
        if price is None or "train" not in self.stages:
            return None
        return price * self.stages["train"].seconds / SECONDS_PER_HOUR

    def at(self, on: str | None = None, dim: int | None = None) -> Record:
        """Return the record as seen from one test set and dimension, whose result it then has alone.

        Args:
            on: DATA/PART; None for the first test set.
            dim: one of the model's ``truncate_dims``; None for the first of that test set.

        Raises:
            RecordError: there is no such result.
        """
        for name, result in self.evaluations.items():
            place, _, size = name.partition("@")
            if on in (None, place) and (dim is None or str(dim) == size):
                return self.model_copy(update={"evaluations": {name: result}})
        asked = "the first test set" if on is None else on
        there = ", ".join(self.evaluations)
        raise RecordError(
            f"{self.trial.id}: no result for {asked}{'' if dim is None else f' at {dim}'}; it has {there}"
        )

    @property
    def views(self) -> tuple[Record, ...]:
        """The record as seen from each of its results."""
        return tuple(self.model_copy(update={"evaluations": {name: one}}) for name, one in self.evaluations.items())

    @property
    def result_name(self) -> str:
        """The first result's name, DATA/PART or DATA/PART@DIM."""
        return next(iter(self.evaluations))

    @property
    def on(self) -> str:
        """The first result's test set, DATA/PART."""
        return self.result_name.partition("@")[0]

    @property
    def result(self) -> Result:
        """The first result."""
        return self.evaluations[self.result_name]

    @property
    def data(self) -> DataSummary:
        """The first result's data."""
        return self.result.data

    @property
    def values(self) -> dict[str, float]:
        """The first result's means."""
        return self.result.values

    @property
    def query_ids(self) -> tuple[str, ...]:
        """The first result's queries."""
        return self.result.query_ids

    @property
    def per_query(self) -> dict[str, tuple[float, ...]]:
        """The first result's values per query."""
        return self.result.per_query

    @property
    def truncated_texts(self) -> int:
        """How many of the first result's texts are longer than the model reads."""
        return self.result.truncated_texts

    @property
    def embeddings_sha256(self) -> str | None:
        """The digest of the first result's embeddings."""
        return self.result.embeddings_sha256

    @property
    def run(self) -> Artifact:
        """The first result's ranked lists."""
        return self.result.run

    @property
    def qrels(self) -> Artifact:
        """The first result's judgements."""
        return self.result.qrels

    @property
    def texts(self) -> Artifact | None:
        """The first result's texts."""
        return self.result.texts

    @property
    def artifacts(self) -> tuple[Artifact, ...]:
        """The files of all results, each once."""
        return tuple(dict.fromkeys(artifact for one in self.evaluations.values() for artifact in one.artifacts))

    @property
    def data_source(self) -> ResolvedSource | None:
        """Where the first result's data came from."""
        return self.sources.get(SourceName.of("data", self.on.partition("/")[0]))

    @property
    def model_source(self) -> ResolvedSource | None:
        """Where the model came from, if from anywhere."""
        roles: tuple[Role, ...] = ("model", "run")
        return next(filter(None, (self.sources.get(SourceName.of(role, self.trial.model)) for role in roles)), None)


def read_record(path: Path) -> Record:
    """Parse one record, migrating what an older version wrote.

    Raises:
        RecordError: naming the file and what is wrong with it; a link is.
    """
    refuse_links(path, below=path.parent)
    return parse_record(read_text(path, limit_bytes=RECORD_LIMIT_BYTES, error=RecordError), place=str(path))


def parse_record(text: str, *, place: str) -> Record:
    """Parse a record's text, migrating what an older version wrote; ``place`` is what messages name.

    Raises:
        RecordError: naming the place and what is wrong with it; before it is parsed, where that is too much.
    """
    _refuse_excess(text, place=place)
    if f'"schema_version": {SCHEMA_VERSION},' not in text[:64]:
        text = _migrate(text, place=place)
    return decode_json(Record, text, place=place, error=RecordError)


def read_records(folder: Path) -> tuple[Record, ...]:
    """Parse every record of a folder, sorted by file name.

    Raises:
        RecordError: the folder is absent or a link, or one of the records is broken.
    """
    refuse_links(folder, below=folder.parent)
    if not folder.is_dir():
        raise RecordError(f"{folder}: no such folder of records")
    return tuple(read_record(path) for path in sorted(folder.glob("*.json")))


def write_record(record: Record, results: Path) -> Path:
    """Write a record below the results folder, whole or not at all, and return its path.

    Raises:
        RecordError: the disk refuses, or nobody would read so large a record.
    """
    path = results / record.place
    text = format_json(record.model_dump(mode="json")) + "\n"
    _refuse_excess(text, place=str(path))
    try:
        write_atomically(path, text.encode())
    except OSError as cause:
        raise RecordError(f"{path}: the record cannot be written: {cause.strerror or cause}") from cause
    return path


def _refuse_excess(text: str, *, place: str) -> None:
    values, lists = text.count(","), text.count("[") + text.count("{")
    if values > MOST_VALUES:
        raise RecordError(f"{place}: holds {values} commas, at most {MOST_VALUES} are read, about one a value")
    if lists > MOST_LISTS:
        raise RecordError(f"{place}: holds {lists} opening brackets, at most {MOST_LISTS} are read")


def _migrate(text: str, *, place: str) -> str:
    """Bring an older record's text to the present version, one version at a time."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as cause:
        raise RecordError(f"{place}: not valid JSON: {cause}") from cause
    version = data.get("schema_version") if isinstance(data, dict) else None
    # Asked of the type, since `true` equals 1 and a list cannot be looked up.
    known = type(version) is int
    if known and version == SCHEMA_VERSION:
        return text
    steps = dict(_list_migrations())
    while known and version in steps:
        data = steps[version](data, place)
        version = data["schema_version"]
    if not known or version != SCHEMA_VERSION:
        raise RecordError(f"{place}: schema_version {version!r}; this harness reads up to {SCHEMA_VERSION}")
    return json.dumps(data)


def _list_migrations() -> Iterator[tuple[int, Callable[[dict[str, Any], str], dict[str, Any]]]]:
    """Yield (version, function to the next version, told the place that messages name)."""
    yield 1, _migrate_first


def _migrate_first(data: dict[str, Any], place: str) -> dict[str, Any]:
    """Rewrite a record of version 1, once its experiment's digest is checked against what was written.

    Values and digests of files stay as they are: nothing is run again.
    """
    experiment = data.get("experiment")
    if not isinstance(experiment, dict):
        raise RecordError(f"{place}: experiment: found {clip(repr(experiment), SHOWN_CHARACTERS)}, expected a table")
    try:
        written = canonical_json(experiment)
    except (ValueError, RecursionError) as cause:
        raise RecordError(f"{place}: experiment: cannot be read: {cause}") from cause
    if data.get("experiment_digest") != hashlib.sha256(written.encode()).hexdigest():
        raise RecordError(f"{place}: experiment_digest is not the one of the experiment beside it")
    upgraded = decode(Experiment, upgrade_experiment(experiment), place=f"{place}: experiment", error=RecordError)
    trial, sources = data.get("trial"), data.get("sources")
    if isinstance(trial, dict) and isinstance(sources, dict):
        names = {"data": f"data:{upgraded.primary_set.data}", "model": f"model:{trial.get('model')}"}
        sources = {names.get(role, role): source for role, source in sources.items()}
    result = {key: data[key] for key in Result.model_fields if key in data}
    return {
        **{key: value for key, value in data.items() if key not in result},
        "schema_version": 2,
        "experiment": upgraded.model_dump(mode="json"),
        "experiment_digest": upgraded.digest,
        "sources": sources,
        "evaluations": {upgraded.evaluation.on[0]: result},
    }
