"""The pipeline runs one trial from sources to record: prepare, baseline or train and evaluate, record."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from harness.core.files import hash_file, write_atomically
from harness.errors import RecordError, ThresholdMissed
from harness.experiment.claims import BASELINE
from harness.experiment.lock import Lock, list_sources
from harness.experiment.manifest import Experiment
from harness.experiment.not_yet import refuse_not_yet
from harness.experiment.trial import Trial
from harness.models.device import describe_arithmetic, keep_freed_memory, name_device, pick_device
from harness.models.training import choose_precision
from harness.pipeline import stages
from harness.pipeline.progress import Progress
from harness.pipeline.store import Output, Store
from harness.records.artifacts import format_texts
from harness.records.environment import Environment, collect_environment
from harness.records.measures import average, best_reachable_mrr, evaluate_run
from harness.records.record import (
    Artifact,
    DataSummary,
    Record,
    Result,
    StageCost,
    StageName,
    TrainingLog,
    write_record,
)
from harness.sources.fetch import Fetched, fetch_source, find_role

SECONDS_PER_HOUR = 3600


@dataclass(frozen=True)
class Workplace:
    """Where and how trials run: everything a trial needs that its manifest does not say.

    Attributes:
        experiment: the experiment, narrowed to the models and seeds wanted.
        lock: the lock of the whole experiment.
        base: the folder of the manifest, where relative folder sources start.
        store: keeps stage outputs.
        results: folder that records and runs are written below.
        device: ``cpu`` or ``cuda:0``.
        environment: this machine.
        precision: of training, where the user insists on one.
        data_dir: folder to use in place of a folder source's path.
        trackers: told of training beside TensorBoard, as ``wandb``.
    """

    experiment: Experiment
    lock: Lock
    base: Path
    store: Store
    results: Path
    device: str
    environment: Environment
    precision: str | None = None
    data_dir: Path | None = None
    trackers: tuple[str, ...] = ()


def open_workplace(
    experiment: Experiment,
    lock: Lock,
    *,
    base: Path,
    store: Path,
    results: Path,
    device: str,
    precision: str | None = None,
    data_dir: Path | None = None,
    trackers: Sequence[str] = (),
) -> Workplace:
    """Look at the machine and choose the device (``auto`` takes a GPU where there is one).

    What would stop every trial is looked at here, so that it is said once, and before hours of work.

    Raises:
        HarnessError: there is no such device, it cannot train in that precision, a tracker is not there, or the data
            cannot be had or are not those that were locked.
    """
    keep_freed_memory()
    chosen = pick_device(device)
    refuse_not_yet(experiment)
    for recipe in experiment.recipes.values():
        choose_precision(recipe, chosen, precision)
    if trackers:
        from harness.models.trainer import check_trackers  # noqa: PLC0415 - loads torch, and this alone needs it here

        check_trackers(trackers)
    environment = collect_environment(Path(__file__).parent).replace(**dataclasses.asdict(describe_arithmetic()))
    workplace = Workplace(
        experiment=experiment,
        lock=lock,
        base=base,
        store=Store(store, commit=environment.revision),
        results=results,
        device=chosen,
        environment=environment,
        precision=precision,
        data_dir=data_dir,
        trackers=tuple(trackers),
    )
    _fetch(workplace, f"data:{experiment.primary_set.data}")
    return workplace


def run_trial(trial: Trial, workplace: Workplace, progress: Progress) -> Record:
    """Run one trial and store its record, run and qrels below the results folder.

    Raises:
        HarnessError: the trial could not be made; what was finished stays in the store.
    """
    progress.begin_trial(trial)
    experiment, store, device = workplace.experiment, workplace.store, workplace.device
    model = experiment.model(trial.model)
    data_name = experiment.primary_set.data
    data_source = _fetch(workplace, f"data:{data_name}")
    model_source = _fetch(workplace, f"model:{model.name}")
    base_digest = stages.digest_files(model_source.resolved.files)
    done = _Stages(progress)

    progress.begin_stage("prepare")
    prepared = stages.prepare(experiment.data[data_name], data_source.resolved, data_source.folder, store=store)
    done.note("prepare", prepared.output)

    log: TrainingLog | None = None
    if trial.variant == BASELINE:
        stage: StageName = "baseline"
        folder, digest = model_source.folder, base_digest
    else:
        stage = "evaluate"
        if trial.seed is None:
            raise RecordError(f"{trial.id}: a trained trial needs a seed")
        recipe = experiment.recipes[trial.variant]
        progress.begin_stage("train")
        trained = stages.train(
            model_source.folder,
            base_digest,
            prepared,
            recipe,
            experiment.evaluation,
            seed=trial.seed,
            device=device,
            precision=choose_precision(recipe, device, workplace.precision),
            store=store,
            progress=progress.advance_steps,
            trackers=workplace.trackers,
        )
        done.note("train", trained.output)
        folder, digest, log = trained.folder, trained.output.entry.digest, trained.log

    progress.begin_stage(stage)
    retrieved = stages.evaluate(
        folder,
        digest,
        prepared,
        experiment.evaluation,
        stage=stage,
        device=device,
        store=store,
        progress=progress.advance_texts,
    )
    done.note(stage, retrieved.output)

    qrels = prepared.data.qrels
    per_query = evaluate_run(retrieved.run, qrels, experiment.evaluation.measures)
    result = Result(
        data=_summarise(prepared),
        truncated_texts=retrieved.truncated_texts,
        embeddings_sha256=retrieved.output.entry.files.get(stages.EMBEDDINGS_FILE),
        values=average(per_query),
        query_ids=tuple(qrels),
        per_query={measure: tuple(values.tolist()) for measure, values in per_query.items()},
        run=_publish(workplace.results, retrieved.output.folder / stages.RUN_FILE, f"{trial.stem}.run.gz", trial),
        qrels=_publish(workplace.results, prepared.output.folder / "qrels.gz", "qrels.gz", trial),
        texts=_publish_texts(workplace, prepared, trial),
    )
    record = Record(
        schema_version=2,
        trial=trial,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        experiment=experiment,
        experiment_digest=experiment.digest,
        device=device,
        device_name=name_device(device, workplace.environment.cpu),
        environment=workplace.environment,
        sources={f"data:{data_name}": data_source.resolved, f"model:{model.name}": model_source.resolved},
        stages=done.costs,
        training=log,
        training_cost_usd=None,
        evaluations={str(experiment.primary_set): result},
    )
    record = record.replace(training_cost_usd=_price(record))
    write_record(record, workplace.results)
    primary = experiment.evaluation.primary
    progress.end_trial(f"{primary} {record.values[primary]:.4f}")
    return record


def check_thresholds(record: Record) -> None:
    """Compare a record with the manifest's thresholds.

    Raises:
        ThresholdMissed: naming value, bound and trial.
    """
    trial = record.trial
    missed = [
        f"{trial.id}: {bound.measure} is {record.values[bound.measure]:.4f}, must be above {bound.above}"
        for bound in record.experiment.thresholds
        if (bound.model, bound.variant) == (trial.model, trial.variant)
        and not record.values[bound.measure] > bound.above
    ]
    if missed:
        raise ThresholdMissed("\n".join(missed))


class _Stages:
    """Collects what the stages took."""

    def __init__(self, progress: Progress) -> None:
        self.costs: dict[StageName, StageCost] = {}
        self._progress = progress

    def note(self, stage: StageName, output: Output) -> None:
        entry = output.entry
        self.costs[stage] = StageCost(
            seconds=entry.seconds,
            cached=output.cached,
            peak_memory_bytes=entry.peak_memory_bytes,
            peak_device_memory_bytes=entry.peak_device_memory_bytes,
            key=entry.key,
            output_digest=entry.digest,
            commit=entry.commit,
        )
        self._progress.end_stage(entry.seconds, cached=output.cached)


def _fetch(workplace: Workplace, name: str) -> Fetched:
    experiment = workplace.experiment
    role = find_role(name)
    return fetch_source(
        list_sources(experiment)[name],
        workplace.lock.sources[name],
        role,
        cache=workplace.store.root / "sources",
        base=workplace.base,
        override=workplace.data_dir if role == "data" else None,
    )


def _summarise(prepared: stages.Prepared) -> DataSummary:
    data = prepared.data
    return DataSummary(
        digest=prepared.output.entry.digest,
        train_pairs=len(data.train),
        queries=len(data.queries),
        passages=len(data.corpus),
        duplicate_passages=data.duplicate_passages,
        best_reachable_mrr=best_reachable_mrr(data.qrels, data.corpus),
    )


def _publish(results: Path, source: Path, name: str, trial: Trial) -> Artifact:
    """Copy a file of the store below the results folder."""
    try:
        content = source.read_bytes()
    except OSError as cause:
        raise RecordError(f"{source}: cannot be read: {cause.strerror or cause}") from cause
    return _write_artifact(results, content, name, trial)


def _publish_texts(workplace: Workplace, prepared: stages.Prepared, trial: Trial) -> Artifact | None:
    """Write the texts that a report quotes, where the manifest says whose they are and they are few enough."""
    if workplace.experiment.attribution is None:
        return None
    content = format_texts(prepared.data.queries, prepared.data.corpus)
    return None if content is None else _write_artifact(workplace.results, content, "texts.json.gz", trial)


def _write_artifact(results: Path, content: bytes, name: str, trial: Trial) -> Artifact:
    path = f"runs/{trial.experiment}/{name}"
    try:
        write_atomically(results / path, content)
    except OSError as cause:
        raise RecordError(f"{results / path}: cannot be written: {cause.strerror or cause}") from cause
    return Artifact(path=path, sha256=hash_file(results / path))


def _price(record: Record) -> float | None:
    """Return what training cost in USD, where the GPU's price is known."""
    price = record.experiment.prices_usd_per_hour.get(record.device_name)
    if price is None or "train" not in record.stages:
        return None
    return price * record.stages["train"].seconds / SECONDS_PER_HOUR
