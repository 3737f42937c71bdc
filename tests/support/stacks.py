"""Comparisons of stacks made up for tests of what reads them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.core.files import write_atomically
from harness.experiment.stack import Stack
from harness.records.stack import (
    StackEnvironment,
    StackInputs,
    StackProbe,
    StackRecord,
    StackResult,
    StackSide,
    StackTraining,
)

PINS = ("torch==2.1.2", "sentence-transformers==3.0.1", "transformers==4.41.2")
IN_ORDER = ((0, 1), (2, 3), (4, 5))
SHUFFLED = ((3, 0), (5, 1), (2, 4))


def make_result(per_query: Sequence[float] = (1.0, 0.5, 1.0, 0.0)) -> StackResult:
    """Make a result whose primary value follows from its queries."""
    return StackResult(
        embeddings_sha256="a" * 64, values={"mrr@10": sum(per_query) / len(per_query)}, per_query=tuple(per_query)
    )


def make_training(
    seed: int,
    *,
    loss: Sequence[float] = (0.5, 0.4, 0.3),
    rows: Sequence[Sequence[int]] = IN_ORDER,
    per_query: Sequence[float] = (1.0, 0.5, 1.0, 0.5),
) -> StackTraining:
    """Make a training of three steps; equal rows have equal batches."""
    return StackTraining(
        seed=seed,
        loss=tuple(loss),
        rows=tuple(map(tuple, rows)),
        batches=tuple(f"{10000 * (first + 1) + second:016x}" for first, second in rows),
        seconds=1.5,
        weights_sha256=f"{seed:064x}",
        result=make_result(per_query),
    )


def make_side(torch: str, *trainings: StackTraining) -> StackSide:
    """Make a side with one version of torch."""
    return StackSide(
        environment=StackEnvironment(python="3.11.7", packages={"torch": torch, "numpy": "1.26.4"}, threads=2),
        probe=StackProbe(loss=0.5, gradient_norm=4.0),
        untrained=make_result(),
        trainings=trainings,
    )


def make_stack_record(
    published: Sequence[StackTraining] = (make_training(0), make_training(1)),
    replayed: Sequence[StackTraining] = (make_training(0), make_training(1)),
    today: Sequence[StackTraining] = (make_training(0, rows=SHUFFLED), make_training(1, rows=SHUFFLED)),
) -> StackRecord:
    """Make a comparison whose published stack gives rows in file order and whose other one shuffles."""
    return StackRecord(
        schema_version=1,
        experiment="tiny",
        experiment_digest="0" * 64,
        model="small",
        recipe="finetuned",
        stack="published",
        pins=Stack(python="3.11", packages=PINS),
        created="2026-11-25T10:00:00+00:00",
        commit="f" * 40,
        cpu="A processor",
        model_digest="1" * 64,
        data_digest="2" * 64,
        train_rows=6,
        primary="mrr@10",
        margin=0.01,
        published=make_side("2.1.2", *published),
        today=make_side("2.13.0", *today),
        replayed=tuple(replayed),
        inputs=StackInputs(
            texts=10,
            traced_texts=4,
            differing_tokens=0,
            layer_differences=(0.0, 1e-7),
            embedding_difference=2e-7,
        ),
    )


def write_stack_record(record: StackRecord, results: Path) -> Path:
    """Write a comparison to its place below a results folder."""
    path = results / record.place
    write_atomically(path, (record.model_dump_json(indent=1) + "\n").encode())
    return path
