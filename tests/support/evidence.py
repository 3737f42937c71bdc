"""Results folders with whole evidence: records, runs, qrels and texts that belong together, made from a seed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from harness.experiment.manifest import Experiment, Variant
from harness.records.artifacts import format_texts
from harness.records.measures import evaluate_run
from harness.records.record import Artifact, LossPoint, Record, TrainingLog, write_record
from harness.records.run import Run, write_run
from harness.records.trec import write_qrels
from tests.support.records import DIGEST, MODEL, make_record

DEPTH = 20


def make_results(
    results: Path,
    experiment: Experiment,
    *,
    queries: Mapping[str, str] | None = None,
    passages: Mapping[str, str] | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    model: str = MODEL,
    steps: int = 30,
) -> list[Record]:
    """Write the records of a model's baseline and seeds with all that they name, and return them.

    Query ``n`` expects passage ``n``; tuned rankings have it higher than the baseline's on the whole.
    """
    queries = queries or {f"q{number}": f"what is question {number}?" for number in range(40)}
    passages = passages or {f"q{number}": f"the answer to question {number}" for number in range(60)}
    folder = results / "runs" / experiment.name
    folder.mkdir(parents=True, exist_ok=True)
    qrels = {query: {query: 1} for query in queries}
    write_qrels(qrels, folder / "qrels.gz")
    content = format_texts(queries, passages)
    assert content is not None
    (folder / "texts.json.gz").write_bytes(content)
    cells: list[tuple[Variant, int | None]] = [("baseline", None), *(("finetuned", seed) for seed in seeds)]
    records = []
    for number, (variant, seed) in enumerate(cells):
        name = f"{model}.{variant}" + ("" if seed is None else f".seed={seed}")
        run = _make_run(list(queries), list(passages), mean_rank=2.5 if seed is None else 1.2, seed=number)
        write_run(run, folder / f"{name}.run.gz")
        per_query = evaluate_run(run, qrels, experiment.evaluation.measures)
        generator = np.random.default_rng(number)
        losses = 0.2 + 0.8 * np.exp(-np.arange(steps) / 8) + generator.normal(0, 0.04, steps)
        log = TrainingLog(
            precision="fp32",
            steps=steps,
            loss=tuple(
                LossPoint(step=step + 1, loss=float(loss), learning_rate=2e-5) for step, loss in enumerate(losses)
            ),
            resumes=0,
            weights_sha256=DIGEST,
        )
        record = make_record(
            {measure: values.tolist() for measure, values in per_query.items()},
            experiment=experiment,
            variant=variant,
            seed=seed,
            model=model,
            query_ids=tuple(queries),
            training=None if seed is None else log,
            run=_name(results, folder / f"{name}.run.gz"),
            qrels=_name(results, folder / "qrels.gz"),
            texts=_name(results, folder / "texts.json.gz"),
        )
        write_record(record, results)
        records.append(record)
    return records


def _make_run(queries: Sequence[str], passages: Sequence[str], *, mean_rank: float, seed: int) -> Run:
    generator = np.random.default_rng(seed)
    lists = []
    for query in queries:
        others = [passage for passage in generator.permutation(passages).tolist() if passage != query][:DEPTH]
        place = int(generator.exponential(mean_rank))
        others.insert(place, query)
        lists.append(tuple(others[:DEPTH]))
    scores = tuple(float(np.float32(1 - rank / 100)) for rank in range(DEPTH))
    return Run(tuple(queries), tuple(lists), tuple(scores[: len(ranked)] for ranked in lists))


def _name(results: Path, path: Path) -> Artifact:
    return Artifact(path=path.relative_to(results).as_posix(), sha256=hashlib.sha256(path.read_bytes()).hexdigest())
