"""Runs a recipe in a published stack of packages and with today's, and records where the two part."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from harness.core.files import hash_file, write_atomically
from harness.core.schema import digest_json
from harness.errors import RecordError, StackError
from harness.experiment.lock import SourceName, name_source
from harness.experiment.manifest import Experiment, Variant, read_experiment
from harness.experiment.model import Model
from harness.experiment.recipe import Recipe
from harness.experiment.stack import Stack
from harness.models.device import describe_arithmetic
from harness.models.encoding import OWN_ENCODING
from harness.models.search import retrieve
from harness.pipeline import stages
from harness.pipeline.dataset import TestData
from harness.pipeline.rows import list_columns
from harness.pipeline.run_trial import fetch_source, make_context, make_encoding, prepare_data
from harness.pipeline.selection import RunConfig, Selected, choose_experiment, find_manifest, select_experiment
from harness.pipeline.stack_environment import Job, Training, hash_stack, make_stack, run_job
from harness.pipeline.store import STACKS
from harness.records.environment import list_packages
from harness.records.measures import average, evaluate_run
from harness.records.stack import (
    StackEnvironment,
    StackInputs,
    StackProbe,
    StackRecord,
    StackResult,
    StackSide,
    StackTraining,
)

# Bumped by hand when the runner would write something else for the same job.
RUNNER_VERSION = 1
# What the runner's script knows of a recipe and of its loss, and what of the arguments is not the trainer's there.
KNOWN_RECIPE = {"base", "data", "inputs", "loss", "precision", "embedding", "arguments"}
KNOWN_LOSS = {"name", "scale"}
NOT_HANDED_ON = {"batch_sampler", "save_steps", "save_total_limit", "eval_steps"}

Say = Callable[[str], None]
Parsed = TypeVar("Parsed")


def run_stack(config: RunConfig, name: str, folder: Path, say: Say) -> list[Path]:
    """Run each model and recipe of an experiment in a stack and with today's packages, and return the records' files.

    For each seed: a training in the stack, one with today's packages on the batches that the stack drew, and one on
    those that today's draw. A record is written after each, so that a run which is interrupted leaves what it had; what
    was done is kept in the store and not done again. All is on the CPU and in fp32, which every version can do.

    Args:
        config: experiment, models, seeds, store, results and data folder.
        name: of the stack, as the manifest has it.
        folder: where manifests are found by name.
        say: told what is done.

    Raises:
        StackError: there is no such stack, it cannot be made, or its script does not know what a recipe wants.
        HarnessError: as for a trial.
    """
    chosen = dataclasses.replace(config, experiment=config.experiment or choose_experiment()[0])
    selected = select_experiment(chosen, folder)
    experiment = selected.experiment
    whole = read_experiment(find_manifest(str(chosen.experiment), folder))
    stacks = whole.stacks
    if name not in stacks:
        known = ", ".join(stacks) or "none"
        raise StackError(f"{experiment.name}: there is no [stacks.{name}] in its manifest; there are: {known}")
    pairs = [(model, recipe) for model in experiment.models for recipe in model.recipes]
    for model, recipe in pairs:
        check_known(model, experiment.recipes[recipe], place=f"{experiment.name}/{model.name}/{recipe}")
    cases = _Cases(chosen, selected, whole.digest, name, stacks[name])
    environments = cases.context.store.root / STACKS / "environments"
    interpreter = make_stack(stacks[name], environments, say)
    written = []
    for model, recipe in pairs:
        case, job = cases.make(model, recipe)
        folder_of = cases.context.store.root / STACKS / "jobs"
        threads = describe_arithmetic().threads
        published = _Side(
            interpreter, folder_of / _hash_job(job, case, hash_stack(stacks[name]), threads), threads, say
        )
        today = _Side(Path(sys.executable), folder_of / _hash_job(job, case, list_packages(), threads), threads, say)
        for record in _compare(case, job, published, today, experiment.seeds):
            path = chosen.results / record.place
            try:
                write_atomically(path, (record.model_dump_json(indent=1) + "\n").encode())
            except OSError as cause:
                raise RecordError(f"{path}: cannot be written: {cause.strerror or cause}") from cause
            if path not in written:
                written.append(path)
    return written


def check_known(model: Model, recipe: Recipe, *, place: str) -> None:
    """Refuse what the script that runs in a stack would pass over.

    Raises:
        StackError: naming it.
    """
    unknown = sorted(recipe.model_dump(exclude_none=True, exclude_defaults=True).keys() - KNOWN_RECIPE)
    unknown += [f"loss.{key}" for key in sorted(recipe.loss.model_dump(exclude_defaults=True).keys() - KNOWN_LOSS)]
    if recipe.loss.name != "MultipleNegativesRankingLoss":
        unknown.append(f"loss.name = {recipe.loss.name!r}")
    own = dataclasses.replace(make_encoding(model), similarity=None)
    if model.kind != "dense" or own != OWN_ENCODING or model.similarity not in {None, "cosine"}:
        unknown.append(
            f"model {model.name!r} with settings of its own (kind, prompts, similarity, length or dimensions)"
        )
    if unknown:
        raise StackError(f"{place}: the script that runs in a stack does not know: {', '.join(unknown)}")


@dataclass(frozen=True)
class _Case:
    """What is compared, and what the record says of it."""

    experiment: Experiment
    digest: str
    model: str
    recipe: Variant
    stack: str
    pins: Stack
    model_digest: str
    data_digest: str
    train_rows: int
    test: TestData
    commit: str | None
    cpu: str


class _Cases:
    """Fetches and prepares what the models and recipes of an experiment need."""

    def __init__(self, config: RunConfig, selected: Selected, digest: str, stack: str, pins: Stack) -> None:
        self.digest, self.stack, self.pins = digest, stack, pins
        self.context = make_context(selected, config, device="cpu")

    def make(self, model: Model, name: Variant) -> tuple[_Case, Job]:
        experiment = self.context.experiment
        recipe, on = experiment.recipes[name], experiment.primary_set
        tested, trained = self._prepare(on.data), self._prepare(recipe.data)
        base = fetch_source(self.context, name_source(model))
        test = tested.data.select(on.part)
        columns = list_columns(trained.data.train, recipe.inputs)
        case = _Case(
            experiment=experiment,
            digest=self.digest,
            model=model.name,
            recipe=name,
            stack=self.stack,
            pins=self.pins,
            model_digest=digest_json(base.resolved.files),
            data_digest=tested.output.entry.digest,
            train_rows=len(trained.data.train),
            test=test,
            commit=self.context.environment.revision,
            cpu=self.context.environment.cpu,
        )
        job = Job(
            model=str(base.folder.resolve()),
            texts=[*test.queries.values(), *test.corpus.values()],
            columns=columns,
            arguments=recipe.arguments.model_dump(exclude_none=True, exclude=NOT_HANDED_ON),
            batch_sampler=recipe.arguments.batch_sampler,
            # Its own check refuses the one loss that is known here without a scale.
            scale=float(recipe.loss.scale or 0),
        )
        return case, job

    def _prepare(self, name: str) -> stages.Prepared:
        return prepare_data(self.context, name, fetch_source(self.context, SourceName.of("data", name)))


@dataclass(frozen=True)
class _Side:
    """One interpreter with the folder that its job's files lie in."""

    interpreter: Path
    folder: Path
    threads: int
    say: Say

    def run(self, job: Job, *trainings: Training) -> None:
        run_job(
            self.interpreter,
            dataclasses.replace(job, trainings=trainings),
            self.folder,
            threads=self.threads,
            say=self.say,
        )

    def read(self, name: str) -> Any:
        return self._take(name, lambda path: json.loads(path.read_text(encoding="utf-8")))

    def load(self, name: str) -> NDArray[np.float32]:
        return self._take(name, lambda path: np.asarray(np.load(path, allow_pickle=False), dtype=np.float32))

    def _take(self, name: str, parse: Callable[[Path], Parsed]) -> Parsed:
        path = self.folder / name
        try:
            return parse(path)
        except (OSError, ValueError) as cause:
            raise StackError(f"{path}: cannot be read: {cause}; remove {self.folder} to have it made again") from cause


def _hash_job(job: Job, case: _Case, packages: object, threads: int) -> str:
    """Return the name of a job's folder: all that its results depend on, save which seeds are asked for."""
    inputs = {**dataclasses.asdict(job), "model": case.model_digest, "trainings": None}
    return digest_json([RUNNER_VERSION, inputs, packages, threads])[:32]


def _compare(case: _Case, job: Job, published: _Side, today: _Side, seeds: tuple[int, ...]) -> Iterator[StackRecord]:
    """Do one thing after another, and give the record as it is after each."""
    for side, what in ((published, case.stack), (today, "today")):
        side.say(f"{case.model}: the untrained model in the stack of {what}, {len(job.texts)} texts")
        side.run(job)
    record = _begin(case, published, today)
    yield record
    for seed in seeds:
        replayed = f"replayed-{case.stack}-{hash_stack(case.pins)}-seed={seed}"
        own = f"seed={seed}"
        published.say(f"{case.model}/{case.recipe}: seed {seed} in the {case.stack} stack")
        published.run(job, Training(seed, own))
        first = _read_training(case, published, seed, own)
        record = record.replace(published=_add(record.published, first))
        yield record
        today.say(
            f"{case.model}/{case.recipe}: seed {seed} in today's, on the {case.stack} stack's batches and on its own"
        )
        today.run(job, Training(seed, replayed, first.rows), Training(seed, own))
        record = record.replace(
            replayed=(*record.replayed, _read_training(case, today, seed, replayed)),
            today=_add(record.today, _read_training(case, today, seed, own)),
        )
        yield record


def _begin(case: _Case, published: _Side, today: _Side) -> StackRecord:
    old, new = published.load("untrained/embeddings.npy"), today.load("untrained/embeddings.npy")
    old_layers, new_layers = published.load("untrained/layers.npy"), today.load("untrained/layers.npy")
    if old.shape != new.shape or old_layers.shape != new_layers.shape:
        raise StackError(
            f"{case.model}: embeddings are {old.shape} in the {case.stack} stack and {new.shape} in today's, layers "
            f"{old_layers.shape} and {new_layers.shape}: these are not the same model"
        )
    tokens = zip(published.read("untrained/tokens.json"), today.read("untrained/tokens.json"), strict=True)
    differences = np.abs(old_layers - new_layers).max(axis=(1, 2))
    return StackRecord(
        schema_version=1,
        experiment=case.experiment.name,
        experiment_digest=case.digest,
        model=case.model,
        recipe=case.recipe,
        stack=case.stack,
        pins=case.pins,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=case.commit,
        cpu=case.cpu,
        model_digest=case.model_digest,
        data_digest=case.data_digest,
        train_rows=case.train_rows,
        primary=case.experiment.evaluation.primary,
        margin=case.experiment.verdicts.margin,
        published=_begin_side(case, published),
        today=_begin_side(case, today),
        inputs=StackInputs(
            texts=len(old),
            traced_texts=old_layers.shape[1],
            differing_tokens=sum(one != other for one, other in tokens),
            layer_differences=tuple(map(float, differences)),
            embedding_difference=float(np.abs(old - new).max()),
        ),
    )


def _begin_side(case: _Case, side: _Side) -> StackSide:
    return StackSide(
        environment=StackEnvironment(**side.read("environment.json")),
        probe=StackProbe(**side.read("untrained/probe.json")),
        untrained=_judge(case, side, "untrained"),
    )


def _read_training(case: _Case, side: _Side, seed: int, place: str) -> StackTraining:
    log = side.read(f"{place}/training.json")
    return StackTraining(
        seed=seed,
        loss=tuple(log["loss"]),
        rows=tuple(map(tuple, log["rows"])),
        batches=tuple(log["batches"]),
        seconds=log["seconds"],
        weights_sha256=log["weights_sha256"],
        result=_judge(case, side, place),
    )


def _add(side: StackSide, training: StackTraining) -> StackSide:
    return side.replace(trainings=(*side.trainings, training))


def _judge(case: _Case, side: _Side, place: str) -> StackResult:
    """Rank and measure by the harness's own search and measures, the same for every set of embeddings."""
    name = f"{place}/embeddings.npy"
    embeddings, test, evaluation = side.load(name), case.test, case.experiment.evaluation
    count = len(test.queries)
    run = retrieve(
        np.ascontiguousarray(embeddings[:count]),
        list(test.queries),
        np.ascontiguousarray(embeddings[count:]),
        list(test.corpus),
        top_k=evaluation.top_k,
        device="cpu",
    )
    per_query = evaluate_run(run, test.qrels, evaluation.measures)
    return StackResult(
        embeddings_sha256=hash_file(side.folder / name),
        values=average(per_query),
        per_query=tuple(per_query[evaluation.primary].tolist()),
    )
