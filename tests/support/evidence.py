"""Results folders with whole evidence: records, runs, qrels and texts that belong together, made from a seed."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.experiment.lock import Lock, LockedSource, ResolvedSource, digest_sources, format_lock
from harness.experiment.manifest import Experiment, Variant, read_experiment
from harness.records.artifacts import format_texts
from harness.records.measures import best_reachable_mrr, evaluate_run
from harness.records.record import Artifact, LossPoint, Record, TrainingLog, write_record
from harness.records.run import Run, write_run
from harness.records.trec import write_qrels
from tests.support.records import DIGEST, MANIFESTS, MODEL, change_result, make_cost, make_record

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
            weights_sha256=hashlib.sha256(name.encode()).hexdigest(),
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


def make_evidence(folder: Path, name: str = "hpo") -> Path:
    """Make whole results of an experiment of 30 queries and three seeds, with its manifest and lock beside them.

    Below the folder are ``results``, and ``experiments`` with ``NAME.toml`` and ``NAME.lock``. No table is written.
    """
    manifest = folder / "experiments" / f"{name}.toml"
    manifest.parent.mkdir(exist_ok=True)
    text = (MANIFESTS / "hpo.toml").read_text(encoding="utf-8")
    text = text.replace("test_rows = 500", "test_rows = 30").replace('name = "hpo"', f'name = "{name}"', 1)
    manifest.write_text(text, encoding="utf-8")
    whole = read_experiment(manifest)
    (model,) = whole.models
    locked = LockedSource(files={"model.safetensors": DIGEST}, complete=True)
    names = ("data:hpo", f"model:{model.name}")
    lock = Lock(
        schema_version=2,
        experiment=name,
        sources_digest=digest_sources(whole),
        sources=dict.fromkeys(names, locked),
    )
    manifest.with_suffix(".lock").write_text(format_lock(lock), encoding="utf-8")
    source = ResolvedSource(origin="here", files={"model.safetensors": DIGEST}, locked=True)
    queries = {f"q{number}": f"what is question {number}?" for number in range(30)}
    passages = {f"q{number}": f"answer {min(number, 49)}" for number in range(50)}
    rows = whole.data["hpo"].expected_rows("train") or 0
    steps = whole.recipes["finetuned"].arguments.count_steps(rows)
    for record in make_results(
        folder / "results", whole, queries=queries, passages=passages, model=model.name, steps=steps
    ):
        described = change_result(
            record,
            data=record.data.replace(
                queries=30,
                passages=50,
                train_pairs=rows,
                duplicate_passages=0,
                best_reachable_mrr=best_reachable_mrr({query: {query: 1} for query in queries}, passages),
            ),
        )
        stages = ("prepare", "train", "evaluate") if record.training is not None else ("prepare", "baseline")
        whole_record = described.replace(
            sources=dict.fromkeys(names, source), stages={stage: make_cost(5.0) for stage in stages}
        )
        write_record(whole_record, folder / "results")
    return folder


def find(evidence: Path, pattern: str) -> Path:
    """Return the one file of a results folder's that a pattern names."""
    (path,) = (evidence / "results").glob(pattern)
    return path


def edit_record(
    evidence: Path, change: Callable[[dict[str, Any]], None], pattern: str = "records/hpo/*seed=1.json"
) -> None:
    """Change the plain data of one record."""
    path = find(evidence, pattern)
    record = json.loads(path.read_text(encoding="utf-8"))
    change(record)
    path.write_text(json.dumps(record), encoding="utf-8")


def rewrite(path: Path, change: Callable[[list[str]], list[str]]) -> str:
    """Change the lines of a gzipped file and return its new SHA-256."""
    lines = gzip.decompress(path.read_bytes()).decode().splitlines(keepends=True)
    path.write_bytes(gzip.compress("".join(change(lines)).encode(), mtime=0))
    return hashlib.sha256(path.read_bytes()).hexdigest()
