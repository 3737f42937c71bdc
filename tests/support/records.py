"""Records as a run would leave them, made from the published experiment's manifest and chosen values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from harness.experiment.claims import BASELINE
from harness.experiment.lock import ResolvedSource
from harness.experiment.manifest import Experiment, Variant, read_experiment
from harness.experiment.trial import Trial
from harness.records.environment import Environment
from harness.records.record import Artifact, DataSummary, Record, Result, StageCost, TrainingLog

MANIFESTS = Path(__file__).parents[2] / "benchmarks" / "experiments"
MODEL = "all-mpnet-base-v2"
DIGEST = "a" * 64
MACHINE = Environment(
    os="Linux 6.1",
    architecture="x86_64",
    cpu="some CPU",
    cpu_count=2,
    memory_bytes=24 * 2**30,
    gpus=(),
    python="3.11.5",
    packages={"torch": "2.13.0"},
    harness_version="0.1.0",
    commit="0" * 40,
    dirty=False,
)


def read_manifest(name: str = "bioasq", **changes: Any) -> Experiment:
    """Return a committed experiment, with some parts changed."""
    return read_experiment(MANIFESTS / f"{name}.toml").replace(**changes)


@cache
def spread(mean: float, queries: int = 200, *, seed: int = 0) -> tuple[float, ...]:
    """Return values per query, reciprocal ranks mostly, whose mean is exactly the one asked for."""
    values = np.random.default_rng(seed).choice([1.0, 1.0, 1.0, 0.5, 1 / 3, 0.25, 0.0], size=queries)
    for _ in range(100):
        before, values = values, np.clip(values + mean - values.mean(), 0, 1)
        if (values == before).all():
            break
    return tuple(float(value) for value in values)


def make_cost(seconds: float, memory: int = 2**30, *, cached: bool = False) -> StageCost:
    """Return what a stage took."""
    return StageCost(
        seconds=seconds,
        cached=cached,
        peak_memory_bytes=memory,
        peak_device_memory_bytes=None,
        key=DIGEST,
        output_digest=DIGEST,
        commit=None,
    )


def make_record(
    per_query: Mapping[str, Sequence[float]],
    *,
    experiment: Experiment,
    variant: Variant = "finetuned",
    seed: int | None = None,
    model: str = MODEL,
    **changes: Any,
) -> Record:
    """Return a whole record with these values; ``changes`` replace its other parts."""
    trained = variant != BASELINE
    queries = len(next(iter(per_query.values()), ()))
    stages = {"train": make_cost(100.0), "evaluate": make_cost(20.0)} if trained else {"baseline": make_cost(20.0)}
    log = TrainingLog(precision="fp32", steps=10, loss=(), resumes=0, weights_sha256=DIGEST)
    fields: dict[str, Any] = {
        "schema_version": 2,
        "trial": Trial(experiment=experiment.name, model=model, variant=variant, seed=seed),
        "created": "2026-01-01T00:00:00+00:00",
        "experiment": experiment,
        "experiment_digest": experiment.digest,
        "device": "cpu",
        "device_name": "some CPU",
        "environment": MACHINE,
        "sources": {f"model:{model}": ResolvedSource(origin="here", files={"model.safetensors": DIGEST}, locked=True)},
        "stages": {"prepare": make_cost(1.0), **stages},
        "training": log if trained else None,
        "training_cost_usd": None,
    }
    result: dict[str, Any] = {
        "data": DataSummary(
            digest=DIGEST,
            train_pairs=10,
            queries=queries,
            passages=10,
            duplicate_passages=0,
            best_reachable_mrr=1.0,
        ),
        "truncated_texts": 0,
        "values": {measure: float(np.mean(values)) for measure, values in per_query.items()},
        "query_ids": tuple(f"q{number}" for number in range(queries)),
        "per_query": {measure: tuple(values) for measure, values in per_query.items()},
        "run": Artifact(path="runs/x.run.gz", sha256=DIGEST),
        "qrels": Artifact(path="runs/qrels.gz", sha256=DIGEST),
    }
    result |= {name: changes.pop(name) for name in Result.model_fields if name in changes}
    return Record(**{**fields, "evaluations": {experiment.evaluation.on[0]: Result(**result)}, **changes})


def first_result(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the first result of a record that was read as plain data."""
    result: dict[str, Any] = next(iter(record["evaluations"].values()))
    return result


def change_result(record: Record, **changes: Any) -> Record:
    """Return a record with another first result."""
    return record.replace(evaluations={**record.evaluations, record.result_name: record.result.replace(**changes)})
