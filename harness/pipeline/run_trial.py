"""The pipeline runs one trial from sources to record: prepare, baseline or train and evaluate, record."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from harness.core.schema import digest_json
from harness.errors import DataError, RecordError, ThresholdMissed
from harness.experiment.claims import BASELINE
from harness.experiment.data import PartName
from harness.experiment.data_facts import list_differences
from harness.experiment.evaluation import parse_test_set
from harness.experiment.lock import Lock, SourceName, list_sources, name_source
from harness.experiment.manifest import Experiment
from harness.experiment.model import Model
from harness.experiment.negatives import Negatives
from harness.experiment.trial import Trial, list_trials
from harness.models.device import describe_arithmetic, keep_freed_memory, name_device, pick_device
from harness.models.encoding import Encoding
from harness.models.lora import find_peft
from harness.models.training import choose_precision
from harness.pipeline import stages
from harness.pipeline.dataset import TRAIN_FILE, PreparedData
from harness.pipeline.mine import Mined, mine
from harness.pipeline.other_rankers import list_parameters, rank_words, take_run
from harness.pipeline.progress import Progress
from harness.pipeline.results import list_cautions, make_results, replace_record
from harness.pipeline.selection import RunConfig, Selected
from harness.pipeline.store import Output, Store
from harness.records.environment import Environment, collect_environment
from harness.records.plan import note_trials
from harness.records.record import EncodingLog, MiningLog, Record, Result, StageCost, StageName, TrainingLog
from harness.records.size import refuse_excess
from harness.sources.fetch import Fetched, Fetcher


@dataclass(frozen=True)
class RunContext:
    """Where and how trials run: everything a trial needs that its manifest does not say.

    Attributes:
        experiment: the experiment, narrowed to the models and seeds wanted.
        lock: the lock of the whole experiment.
        base: the folder of the manifest, where relative folder sources start.
        config: how the run is wanted.
        store: keeps stage outputs.
        device: ``cpu`` or ``cuda:0``.
        environment: this machine.
    """

    experiment: Experiment
    lock: Lock
    base: Path
    config: RunConfig
    store: Store
    device: str
    environment: Environment


def open_context(selected: Selected, config: RunConfig) -> RunContext:
    """Look at the machine and choose the device.

    What would stop every trial is looked at here, so that it is said once, and before hours of work.

    Raises:
        HarnessError: there is no such device, it cannot train in that precision, a tracker is not there, or the data
            cannot be had or are not those that were locked.
    """
    keep_freed_memory()
    experiment = selected.experiment
    chosen = pick_device(config.device)
    for recipe in experiment.recipes.values():
        choose_precision(recipe, chosen, config.precision)
        if recipe.lora is not None:
            find_peft()
    if config.trackers:
        from harness.models.trainer import check_trackers  # noqa: PLC0415 - loads torch, and this alone needs it here

        check_trackers(config.trackers)
    context = make_context(selected, config, device=chosen)
    fetch_source(context, SourceName.of("data", experiment.primary_set.data))
    note_trials(list_trials(experiment), config.results)
    return context


def make_context(selected: Selected, config: RunConfig, *, device: str) -> RunContext:
    """Describe this machine and open the store; nothing is looked at, and no data are fetched."""
    environment = describe_machine(selected.base)
    return RunContext(
        experiment=selected.experiment,
        lock=selected.lock,
        base=selected.base,
        config=config,
        store=Store(config.store, commit=environment.revision),
        device=device,
        environment=environment,
    )


def describe_machine(manifests: Path) -> Environment:
    """Describe this machine, its arithmetic included; ``manifests`` is the manifest's folder."""
    found = collect_environment(Path(__file__).parent, manifests)
    return found.replace(**dataclasses.asdict(describe_arithmetic()))


def run_trial(trial: Trial, context: RunContext, progress: Progress) -> Record:
    """Run one trial and store its record, runs and qrels below the results folder.

    Raises:
        HarnessError: the trial could not run; what was finished stays in the store.
    """
    progress.begin_trial(trial)
    experiment, device = context.experiment, context.device
    evaluation, model = experiment.evaluation, experiment.model(trial.model)
    done = _Stages(progress)
    fetched = {} if model.source is None else {name_source(model): fetch_source(context, name_source(model))}
    prepared: dict[str, stages.Prepared] = {}
    # Every trial reads all of them: whether a query is also in train is asked of whatever may be trained on.
    for name in experiment.data_read:
        data_name = SourceName.of("data", name)
        source = fetched[data_name] = fetch_source(context, data_name)
        progress.begin_stage("prepare")
        prepared[name] = prepare_data(context, name, source)
        done.note("prepare", prepared[name].output)
    tests = {str(one): _select_test(prepared[one.data], one.part) for one in evaluation.test_sets}

    rows = {name: one.data.train for name, one in prepared.items()}
    asked = {on: len(test.data.queries) for on, test in tests.items()}
    refuse_excess(experiment, asked, {name: len(own) for name, own in rows.items()})
    for on, test in tests.items():
        for caution in list_cautions(on, test, rows):
            progress.note(caution)
    subject = None if model.kind == "bm25" else _Subject.of(fetched[name_source(model)])
    if trial.variant != BASELINE and subject is not None:
        subject = _train(trial, context, subject, prepared, fetched, test=tests[evaluation.on[0]], done=done)
    stage: StageName = "baseline" if trial.variant == BASELINE else "evaluate"
    results: dict[str, Result] = {}
    log: EncodingLog | None = None
    for on, test in tests.items():
        progress.begin_stage(stage)
        retrieved = _rank(model, subject, on, test, context=context, stage=stage, progress=progress)
        done.note(stage, retrieved.output)
        log = log or retrieved.encoding
        if retrieved.truncated_passages:
            progress.note(f"{on}: {retrieved.truncated_passages} passages are longer than {model.name} reads")
        results |= make_results(on, trial, test, retrieved, experiment, results=context.config.results, train=rows)

    record = Record(
        schema_version=2,
        trial=trial,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        experiment=experiment,
        experiment_digest=experiment.digest,
        device=device,
        device_name=name_device(device, context.environment.cpu),
        environment=context.environment,
        sources={str(name): one.resolved for name, one in sorted(fetched.items())},
        stages=done.costs,
        training=None if subject is None else subject.log,
        training_cost_usd=None,
        encoding=log,
        mining=None if subject is None else subject.mining,
        parameters=list_parameters() if model.kind == "bm25" else None,
        evaluations=results,
    )
    record = record.replace(training_cost_usd=record.price_training())
    replace_record(record, context.config.results)
    progress.end_trial(f"{evaluation.primary} {record.values[evaluation.primary]:.4f}")
    return record


@dataclass(frozen=True)
class _Subject:
    """What is evaluated: its folder and files, the digest that stands for it, and what mining and training logged."""

    folder: Path
    files: Mapping[str, str]
    digest: str
    log: TrainingLog | None
    mining: MiningLog | None = None

    @classmethod
    def of(cls, fetched: Fetched) -> _Subject:
        """Take what was fetched as it is."""
        files = fetched.resolved.files
        return cls(fetched.folder, files, digest_json(files), None)


def _rank(
    model: Model,
    subject: _Subject | None,
    on: str,
    test: stages.PreparedTest,
    *,
    context: RunContext,
    stage: StageName,
    progress: Progress,
) -> stages.Retrieved:
    """Rank a test set's passages, each kind of model its own way; BM25 has no files."""
    evaluation, store = context.experiment.evaluation, context.store
    if subject is None:
        return rank_words(test, evaluation, store=store)
    if model.kind == "run":
        return take_run(subject.folder, subject.files, on, test, evaluation, store=store)
    return stages.evaluate(
        subject.folder,
        subject.digest,
        test,
        evaluation,
        stage=stage,
        device=context.device,
        store=store,
        encoding=make_encoding(model),
        progress=progress.advance_texts,
    )


def make_encoding(model: Model) -> Encoding:
    """Return how the manifest wants a model asked."""
    prompts = model.prompts
    return Encoding(
        query_prompt=None if prompts is None else prompts.query,
        passage_prompt=None if prompts is None else prompts.passage,
        similarity=model.similarity,
        similarity_override=model.similarity_override,
        max_seq_length=model.max_seq_length,
        truncate_dims=model.truncate_dims,
    )


def _select_test(prepared: stages.Prepared, part: PartName) -> stages.PreparedTest:
    return stages.PreparedTest(prepared.data.select(part), part, prepared.output)


def _train(
    trial: Trial,
    context: RunContext,
    base: _Subject,
    prepared: Mapping[str, stages.Prepared],
    fetched: dict[SourceName, Fetched],
    *,
    test: stages.PreparedTest,
    done: _Stages,
) -> _Subject:
    """Train the base by the trial's recipe; models that help it are added to ``fetched``."""
    experiment = context.experiment
    recipe = experiment.recipes[trial.variant]
    if trial.seed is None:
        raise RecordError(f"{trial.id}: a trained trial needs a seed")
    helpers = {}
    for model in recipe.helpers.values():
        name = name_source(experiment.model(model))
        fetched[name] = fetched.get(name) or fetch_source(context, name)
        helpers[model] = _Subject.of(fetched[name])
    source = prepared[recipe.data]
    rows, output, mining = source.data.train, source.output, None
    if recipe.negatives is not None:
        mined = _mine(recipe.negatives, context, helpers[recipe.negatives.model], source, done=done)
        rows, output, mining = mined.rows, mined.output, mined.log
    guide = None if recipe.loss.guide is None else helpers[recipe.loss.guide]
    if recipe.select is not None:
        dev = parse_test_set(recipe.select.on)
        test = _select_test(prepared[dev.data], dev.part)
    done.progress.begin_stage("train")
    trained = stages.train(
        base.folder,
        base.digest,
        rows,
        output.entry.files[TRAIN_FILE],
        recipe,
        test=test,
        evaluation=experiment.evaluation,
        seed=trial.seed,
        device=context.device,
        precision=choose_precision(recipe, context.device, context.config.precision),
        store=context.store,
        encoding=make_encoding(experiment.model(trial.model)),
        progress=done.progress.advance_steps,
        trackers=context.config.trackers,
        guide=None if guide is None else stages.Guide(guide.folder, guide.digest),
    )
    done.note("train", trained.output)
    return _Subject(trained.folder, {}, trained.output.entry.digest, trained.log, mining)


def _mine(
    negatives: Negatives, context: RunContext, miner: _Subject, prepared: stages.Prepared, *, done: _Stages
) -> Mined:
    """Find the negatives that a recipe wants."""
    done.progress.begin_stage("mine")
    mined = mine(
        miner.folder,
        miner.digest,
        prepared,
        negatives,
        device=context.device,
        encoding=make_encoding(context.experiment.model(negatives.model)),
        store=context.store,
    )
    done.note("mine", mined.output)
    done.progress.note(f"negatives for {mined.log.mined_rows} of {mined.log.given_rows} rows")
    return mined


def prepare_data(context: RunContext, name: str, fetched: Fetched) -> stages.Prepared:
    """Prepare one of the experiment's data sets, and hold it against what the lock keeps of it.

    Raises:
        DataError: rows break a rule, or are not those that were locked.
        StoreError: the store cannot be used.
    """
    data = context.experiment.data[name]
    prepared = stages.prepare(data, fetched.resolved, fetched.folder, store=context.store)
    check_facts(name, prepared.data, context.lock)
    return prepared


def check_facts(name: str, data: PreparedData, lock: Lock) -> None:
    """Hold prepared data against what the lock keeps of them, if it does.

    Raises:
        DataError: naming what differs, as after a change of columns or parts.
    """
    locked = (lock.data or {}).get(name)
    differences = [] if locked is None else list(list_differences(data.facts, locked))
    if differences:
        raise DataError(
            f"data.{name}: {'; '.join(differences)}: the manifest's part on it changed since; look at the change, "
            f"then: harness lock {lock.experiment}"
        )


def check_thresholds(record: Record) -> None:
    """Compare a record with the manifest's thresholds.

    Raises:
        ThresholdMissed: naming value, bound and trial.
    """
    trial = record.trial
    missed = [
        f"{trial.id}: {bound.measure} is {value:.4f}, must be above {bound.above}"
        for bound in record.experiment.thresholds
        if (bound.model, bound.variant) == (trial.model, trial.variant)
        and not (value := record.at(bound.on, bound.dim).values[bound.measure]) > bound.above
    ]
    if missed:
        raise ThresholdMissed("\n".join(missed))


class _Stages:
    """Collects what the stages took; of a stage that ran several times the sum, under the first one's key."""

    def __init__(self, progress: Progress) -> None:
        self.costs: dict[StageName, StageCost] = {}
        self.progress = progress

    def note(self, stage: StageName, output: Output) -> None:
        entry, before = output.entry, self.costs.get(stage)
        cost = StageCost(
            seconds=entry.seconds,
            cached=output.cached,
            peak_memory_bytes=entry.peak_memory_bytes,
            peak_device_memory_bytes=entry.peak_device_memory_bytes,
            key=entry.key,
            output_digest=entry.digest,
            commit=entry.commit,
        )
        self.costs[stage] = cost if before is None else _add(before, cost)
        self.progress.end_stage(entry.seconds, cached=output.cached)


def _add(first: StageCost, other: StageCost) -> StageCost:
    device = [peak for peak in (first.peak_device_memory_bytes, other.peak_device_memory_bytes) if peak is not None]
    return first.replace(
        seconds=first.seconds + other.seconds,
        cached=first.cached and other.cached,
        peak_memory_bytes=max(first.peak_memory_bytes, other.peak_memory_bytes),
        peak_device_memory_bytes=max(device, default=None),
    )


def fetch_source(context: RunContext, name: SourceName) -> Fetched:
    """Bring one of the experiment's sources here, checked against the lock.

    Raises:
        SourceError: it cannot be had, or is not the locked one.
    """
    fetcher = Fetcher(base=context.base, cache=context.store.root / "sources", override=context.config.data_dir)
    return fetcher.fetch(name, list_sources(context.experiment)[name], context.lock.sources[name])
