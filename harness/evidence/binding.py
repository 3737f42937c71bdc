"""What a record says must go together with manifest and lock, with its machine, with the other records, with git."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from harness.errors import HarnessError
from harness.experiment.data import PART_NAMES
from harness.experiment.lock import Lock, SourceName, list_sources, name_source
from harness.experiment.manifest import Experiment
from harness.experiment.trial import Trial, list_trials, narrow
from harness.records.artifacts import Evidence
from harness.records.plan import PlannedTrial
from harness.records.record import Record

GIT_SECONDS = 60


def compare_manifest(record: Record, whole: Experiment) -> Iterator[str]:
    """Hold all that a record says of its experiment against the manifest; the seeds of one run may be a part of its.

    What recipes say of another kind of device than the record's is left out.
    """
    own = record.experiment
    try:
        declared = narrow(whole, models=[model.name for model in own.models], seeds=own.seeds)
    except HarnessError as cause:
        yield str(cause)
        return
    recipes = [{name: one.as_run_on(record.device) for name, one in any_.recipes.items()} for any_ in (own, declared)]
    for part in type(own).model_fields:
        same = recipes[0] == recipes[1] if part == "recipes" else getattr(own, part) == getattr(declared, part)
        if not same:
            yield f"experiment.{part}: is not what the manifest of {whole.name} declares"


def compare_rows(record: Record) -> Iterator[str]:
    """Hold the queries of the result that a record is seen from against the rows that the manifest says."""
    name, _, part = record.on.partition("/")
    data, known = record.experiment.data.get(name), next((known for known in PART_NAMES if known == part), None)
    rows = None if data is None or known is None else data.expected_rows(known)
    if data is None or rows is None:
        return
    own = data.has_own_queries
    found = record.data.queries
    if found > rows or (own and found != rows):
        yield f"data.queries: reads {found}, the manifest says {rows} rows of {part}"


def compare_sources(record: Record, lock: Lock) -> Iterator[str]:
    """Hold the files that a record names against the lock; what was evaluated and trained on must be among them."""
    own, recipe = record.experiment, record.experiment.recipes.get(record.trial.variant)
    data = {SourceName.of("data", test_set.data) for test_set in own.evaluation.test_sets}
    trained = set() if recipe is None else {SourceName.of("data", recipe.data)}
    model = {name_source(model) for model in own.models if model.name == record.trial.model}
    for name in (name for name in list_sources(own) if name in data | trained | model or name in record.sources):
        source, locked = record.sources.get(name), lock.sources.get(name)
        if source is None or locked is None:
            yield f"sources.{name}: is missing in the record or the lock"
            continue
        for path, digest in sorted(source.files.items()):
            expected = locked.files.get(path)
            if expected not in {digest, None} or (expected is None and locked.complete):
                yield f"sources.{name}, file {path!r}: SHA-256 {digest[:16]}... is not the locked one"
        if source.locked != locked.complete:
            yield f"sources.{name}.locked: reads {source.locked}, the lock is {'' if locked.complete else 'in'}complete"


def compare_machine(record: Record) -> Iterator[str]:
    """Hold the device against the machine's, and the commit of a training that was not cached against the record's."""
    machine, device = record.environment, record.device_name
    if record.device == "cpu":
        if device != machine.cpu:
            yield f"device_name: reads {device!r}, the machine's processor is {machine.cpu!r}"
    elif machine.gpus and not any(device.startswith(gpu.name) for gpu in machine.gpus):
        yield f"device_name: reads {device!r}, the machine's GPUs are {', '.join(gpu.name for gpu in machine.gpus)}"
    elif not machine.gpus:
        yield f"device_name: reads {device!r}, the machine's GPUs are none"
    cost = record.stages.get("train")
    if cost is not None and not cost.cached and cost.commit not in (None, machine.revision):
        yield f"stages.train.commit: reads {cost.commit}, the environment's is {machine.revision}"


def compare_training(record: Record) -> Iterator[str]:
    """Hold a training's steps against rows, batch and epochs, and its curve and batches against its steps."""
    log, recipe = record.training, record.experiment.recipes.get(record.trial.variant)
    if log is None or recipe is None:
        return
    rows = record.experiment.data[recipe.data].expected_rows("train")
    if rows is None and recipe.data == record.on.partition("/")[0]:
        rows = record.data.train_pairs
    if rows is not None and record.mining is not None:
        if record.mining.given_rows != rows:
            yield f"mining.given_rows: reads {record.mining.given_rows}, the train part has {rows}"
        rows = record.mining.mined_rows
    if rows is not None and log.rows is not None and log.rows.given != rows:
        yield f"training.rows.given: reads {log.rows.given}, there were {rows}"
    arguments = recipe.arguments
    if rows is not None:
        steps = arguments.count_steps(rows)
        if log.steps != steps:
            yield f"training.steps: reads {log.steps}, rows and batch give {steps}"
    last = log.loss[-1].step if log.loss else 0
    if last != log.steps:
        yield f"training.loss: ends at step {last}, steps are {log.steps}"
    batches = log.steps if rows is None or log.steps != arguments.count_steps(rows) else arguments.count_batches(rows)
    if log.batches and len(log.batches) != batches:
        yield f"training.batches: are {len(log.batches)}, expected {batches}"


def find_copies(records: Sequence[Record], known: Evidence) -> Iterator[str]:
    """Find trials that share what only copies share: two seeds have no weights, embeddings or lists in common."""
    seen: dict[tuple[str, object], Record] = {}
    for record in records:
        marks: list[tuple[str, object]] = []
        if record.training is not None:
            marks.append(("weights", record.training.weights_sha256))
        for view in record.views:
            if view.embeddings_sha256 is not None:
                marks.append(("embeddings", view.embeddings_sha256))
            if view.run.path in known.marks:
                marks.append(("run", known.marks[view.run.path]))
        for what, mark in marks:
            first = seen.setdefault((what, mark), record)
            if first.trial.seed != record.trial.seed:
                yield f"{record.trial.id}: has the {what} of {first.trial.id}"


def find_missing(records: Sequence[Record], declared: Experiment) -> Iterator[str]:
    """Name the trials that a manifest declares for the models that there are records of, and that have none."""
    known = {record.trial for record in records}
    models = {trial.model for trial in known}
    for trial in list_trials(declared):
        if trial.model in models and trial not in known:
            yield f"{trial.id}: there is no record of this trial, which the manifest of {declared.name} declares"


def compare_plan(records: Sequence[Record], plan: Sequence[PlannedTrial]) -> Iterator[str]:
    """Hold the records against the list of trials that was written before them, where there is one."""
    listed = {planned.trial: planned for planned in plan}
    known: dict[Trial, Record] = {record.trial: record for record in records}
    for trial, planned in listed.items():
        record = known.get(trial)
        if record is None:
            yield f"{trial.id}: was to be run, by the list of {planned.listed}, and has no record"
        elif not planned.afterwards and record.created < planned.listed:
            yield f"{trial.id}: the record is of {record.created}, the list that it was to be run of {planned.listed}"
    for trial in known:
        if listed and trial not in listed:
            yield f"{trial.id}: is not in the list of trials that were to be run"


class CommitsSeen(StrEnum):
    """Whether commits could be looked for."""

    LOOKED = "looked for"
    NO_REPOSITORY = "there is no git repository of the manifests at hand"
    SHALLOW = "the git repository at hand is a shallow clone"


@dataclass(frozen=True)
class CommitCheck:
    """Which commits a repository does not have, and whether it could say."""

    seen: CommitsSeen
    missing: frozenset[str]


def look_for_commits(records: Sequence[Record], manifests: Sequence[Path]) -> CommitCheck:
    """Ask the git repository that tracks the manifests for every commit that records name."""
    if not manifests:
        return CommitCheck(CommitsSeen.NO_REPOSITORY, frozenset())
    folder = manifests[0].parent
    if _git(folder, "ls-files", "--error-unmatch", "--", *(path.name for path in manifests)) is None:
        return CommitCheck(CommitsSeen.NO_REPOSITORY, frozenset())
    if _git(folder, "rev-parse", "--is-shallow-repository") != "false\n":
        return CommitCheck(CommitsSeen.SHALLOW, frozenset())
    commits = sorted({commit for record in records for _, commit in list_commits(record)})
    answer = _git(folder, "cat-file", "--batch-check", asked="".join(f"{commit}^{{commit}}\n" for commit in commits))
    lines = (answer or "").splitlines()
    if len(lines) != len(commits):
        return CommitCheck(CommitsSeen.NO_REPOSITORY, frozenset())
    missing = {commit for commit, line in zip(commits, lines, strict=True) if " commit " not in line}
    return CommitCheck(CommitsSeen.LOOKED, frozenset(missing))


def list_commits(record: Record) -> list[tuple[str, str]]:
    """Return (place in the record, commit) of every commit that a record names."""
    places = [("environment.commit", record.environment.commit)]
    places += [(f"stages.{name}.commit", cost.commit) for name, cost in record.stages.items()]
    return [(place, commit.partition("+")[0]) for place, commit in places if commit is not None]


def _git(folder: Path, *arguments: str, asked: str = "") -> str | None:
    program = shutil.which("git")
    if program is None:
        return None
    try:
        done = subprocess.run(
            [program, "-C", str(folder), *arguments],
            input=asked,
            capture_output=True,
            text=True,
            timeout=GIT_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout
