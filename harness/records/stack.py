"""What a recipe gave in a published stack of packages and with today's, by one and the same script."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from harness.core.files import list_folders, refuse_links
from harness.core.schema import (
    Digest,
    Frozen,
    Line,
    Natural,
    Positive,
    Seconds,
    Unit,
    check_part,
    decode_json,
    read_text,
)
from harness.errors import RecordError
from harness.experiment.manifest import Seed, Variant
from harness.experiment.stack import Stack
from harness.experiment.trial import PlainName

STACK_LIMIT_BYTES = 16 * 2**20
FOLDER = "stacks"
ShortHash = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
Distance = Annotated[float, Field(ge=0, le=1e6)]


class StackEnvironment(Frozen):
    """What a stack ran with, as its own interpreter says it."""

    python: Line
    packages: dict[str, Line]
    threads: Natural


class StackResult(Frozen):
    """What one set of embeddings is worth: every measure's mean, and the primary measure query by query."""

    embeddings_sha256: Digest
    values: dict[str, Unit]
    per_query: Annotated[tuple[Unit, ...], Field(min_length=1)]


class StackProbe(Frozen):
    """Loss and gradient of the untrained model on the first batch of rows in file order, without dropout."""

    # Both sides' are divided by each other.
    loss: Annotated[float, Field(gt=0, le=1e6)]
    gradient_norm: Annotated[float, Field(gt=0, le=1e6)]


class StackTraining(Frozen):
    """One training: of each step the loss, the rows of the batch, and a hash of its token ids; and what came out."""

    seed: Seed
    loss: Annotated[tuple[Distance, ...], Field(min_length=1)]
    rows: tuple[tuple[Natural, ...], ...]
    batches: tuple[ShortHash, ...]
    seconds: Seconds
    weights_sha256: Digest
    result: StackResult

    @model_validator(mode="after")
    def _aligned(self) -> Self:
        if not len(self.loss) == len(self.rows) == len(self.batches):
            found = (len(self.loss), len(self.rows), len(self.batches))
            raise ValueError(f"loss, rows and batches must have a value for each step, found {found}")
        return self


class StackSide(Frozen):
    """What one set of packages gave."""

    environment: StackEnvironment
    probe: StackProbe
    untrained: StackResult
    trainings: tuple[StackTraining, ...] = ()


class StackInputs(Frozen):
    """How far both sides start from the same.

    ``layer_differences`` are the largest absolute differences of the layers' outputs (means over tokens, of some
    texts), the embedding layer first; ``embedding_difference`` is that of all texts' embeddings. Both are of the
    untrained model.
    """

    texts: Natural
    traced_texts: Natural
    differing_tokens: Natural
    layer_differences: tuple[Distance, ...]
    embedding_difference: Distance

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        check_part("traced_texts", self.traced_texts, "texts", self.texts)
        check_part("differing_tokens", self.differing_tokens, "texts", self.texts)
        return self


class StackRecord(Frozen):
    """One recipe and the same prepared data in two stacks.

    ``experiment_digest`` is that of the whole manifest. ``replayed`` are trainings with today's packages on the
    published stack's batches: they tell what the batches changed from what the arithmetic did.
    """

    schema_version: Literal[1]
    experiment: PlainName
    experiment_digest: Digest
    model: PlainName
    recipe: Variant
    stack: PlainName
    pins: Stack
    created: Line
    commit: Line | None
    cpu: Line
    model_digest: Digest
    data_digest: Digest
    train_rows: Natural
    primary: Line
    margin: Positive
    published: StackSide
    today: StackSide
    replayed: tuple[StackTraining, ...] = ()
    inputs: StackInputs

    @property
    def place(self) -> str:
        """The record's own path below the results folder."""
        return f"{FOLDER}/{self.experiment}/{self.model}.{self.recipe}.{self.stack}.json"

    @property
    def trained(self) -> tuple[StackTraining, ...]:
        """All trainings."""
        return (*self.published.trainings, *self.replayed, *self.today.trainings)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        for name, trainings in (
            ("published", self.published.trainings),
            ("replayed", self.replayed),
            ("today", self.today.trainings),
        ):
            seeds = [training.seed for training in trainings]
            if len(set(seeds)) != len(seeds):
                raise ValueError(f"{name}: a seed is listed twice: {seeds}")
        replayed = {training.seed for training in self.replayed}
        if unknown := sorted(replayed - {training.seed for training in self.published.trainings}):
            raise ValueError(f"replayed: the published stack has no training of seed {unknown[0]}")
        highest = max((row for training in self.trained for batch in training.rows for row in batch), default=-1)
        check_part("a row of a batch", highest + 1, "train_rows", self.train_rows)
        if len({frozenset(result.values) for result in self.results}) > 1:
            raise ValueError("every result needs the same measures")
        queries = {len(result.per_query) for result in self.results}
        if len(queries) > 1 or any(self.primary not in result.values for result in self.results):
            raise ValueError(f"every result needs {self.primary} of the same queries; found {sorted(queries)} queries")
        return self

    @property
    def results(self) -> tuple[StackResult, ...]:
        """All results: the untrained ones, then those of the trainings."""
        return (self.published.untrained, self.today.untrained, *(training.result for training in self.trained))


def read_stack_record(path: Path, results: Path) -> StackRecord:
    """Parse a comparison that is stored in a results folder.

    Raises:
        RecordError: naming the file and what is wrong with it; a link is, and one that lies in another's place.
    """
    refuse_links(path, below=results)
    text = read_text(path, limit_bytes=STACK_LIMIT_BYTES, error=RecordError)
    record = decode_json(StackRecord, text, place=str(path), error=RecordError)
    if path != results / record.place:
        raise RecordError(f"{path}: holds the record whose place is {record.place}")
    return record


def list_stack_records(results: Path, experiment: str = "*") -> list[Path]:
    """List the files of an experiment's comparisons, or of all, by name.

    Raises:
        RecordError: a folder of them is a link.
    """
    folders = list_folders(results / FOLDER) if experiment == "*" else [results / FOLDER / experiment]
    return [path for folder in folders for path in sorted(refuse_links(folder, below=results).glob("*.json"))]


def read_stack_records(results: Path, experiment: str = "*") -> tuple[StackRecord, ...]:
    """Read those of an experiment, or all of a results folder, in the order of their places.

    Raises:
        RecordError: one is broken, or lies in another's place.
    """
    return tuple(read_stack_record(path, results) for path in list_stack_records(results, experiment))
