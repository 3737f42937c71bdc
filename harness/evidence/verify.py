"""Verification recomputes every number of a results folder from its runs, qrels and records, and names what differs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.analysis.paired_queries import ROUNDS
from harness.core.files import find_unfit, list_folders
from harness.core.memo import NOTHING, Memo
from harness.errors import HarnessError, RecordError, SourceError
from harness.evidence.attested import list_attested, list_untried
from harness.evidence.baselines import Rerun, rerun_baselines
from harness.evidence.binding import (
    compare_manifest,
    compare_plan,
    compare_sources,
    find_copies,
    find_missing,
    list_commits,
    look_for_commits,
)
from harness.evidence.bundle import EXPERIMENTS, RESULTS, check_environments, find_strays, unpack_bundle
from harness.evidence.kept import check_kept
from harness.evidence.recompute import check_means, check_record_once
from harness.evidence.stacks import check_stacks
from harness.experiment.lock import Lock, read_lock
from harness.experiment.manifest import Experiment, read_experiment
from harness.pipeline.store import Store
from harness.records.artifacts import Evidence
from harness.records.history import read_history, take_snapshot
from harness.records.plan import PlannedTrial, locate_plan, read_plan
from harness.records.record import Record, read_record
from harness.records.untrusted import GOLDEN_FOLDER, take_in
from harness.report.results_folder import REFERENCE, compare_tables


@dataclass(frozen=True)
class Verification:
    """What was checked: a line for everything that does not match, and one for all that nobody can recompute."""

    records: int
    values: int
    files: int
    problems: tuple[str, ...]
    attested: tuple[str, ...] = ()


def verify_results(
    results: Path,
    *,
    experiments: Path | None = None,
    rounds: int = ROUNDS,
    rerun: Rerun | None = None,
    store: Store | None = None,
    memo: Memo = NOTHING,
) -> Verification:
    """Check a results folder: its records, as `verify_records` does, and all generated files.

    The generated files hold every interval and verdict, and the SHA-256 of every record and run; they are made again
    and compared.

    Args:
        results: folder with ``records``, ``runs`` and the generated files.
        experiments: folder with manifests and locks.
        rounds: sign patterns of the randomization test that the tables were made with.
        rerun: how untrained trials are run again; None does not.
        store: whose outputs are held against the records; None holds none.
        memo: of what was found whole on this machine before.

    Raises:
        HarnessError: an untrained trial cannot be run again here.
        SourceError: there is no such folder, or no record in it.
    """
    known = Evidence(results)
    done = verify_records(results, experiments=experiments, evidence=known, rerun=rerun, store=store, memo=memo)
    found = compare_tables(results, rounds=rounds, evidence=known, memo=memo)
    # A broken record was named already.
    unmade = [
        f"{results}: the tables cannot be made again: {problem}"
        for problem in found.problems.values()
        if problem not in done.problems
    ]
    return replace(done, problems=(*done.problems, *found.differing, *unmade))


def verify_bundle(bundle: Path, *, rerun: Rerun | None = None, store: Store | None = None) -> Verification:
    """Check a bundle of unknown origin: its files by its list of hashes, then its results as `verify_results` does.

    Raises:
        SourceError: it is not a bundle, or holds no records.
    """
    if not bundle.is_file():
        raise SourceError(f"{bundle}: neither a results folder nor a bundle")
    with tempfile.TemporaryDirectory(prefix="harness-bundle-") as name:
        folder = Path(name)
        problems = [*unpack_bundle(bundle, folder), *find_strays(folder)]
        done = verify_results(folder / RESULTS, experiments=folder / EXPERIMENTS, rerun=rerun, store=store)
        problems += [line.replace(f"{folder}/", "") for line in (*check_environments(folder), *done.problems)]
    return replace(done, problems=tuple(problems))


def verify_records(
    results: Path,
    *,
    experiments: Path | None = None,
    evidence: Evidence | None = None,
    rerun: Rerun | None = None,
    store: Store | None = None,
    memo: Memo = NOTHING,
) -> Verification:
    """Check records against runs and qrels, against one another, and against manifests, locks and git where at hand.

    Of every record: its place and digest of the manifest, the digests of its files, each value per query and each
    mean from run and qrels, what it says of the data, the machine, the training and the cost. Then that every declared
    trial is there once, and that no file lies there that no record names.

    Args:
        results: folder with ``records`` and ``runs``.
        experiments: folder with manifests and locks.
        evidence: what was read of the folder already; None reads it anew.
        rerun: how untrained trials are run again; None does not.
        store: whose outputs are held against the records; None holds none.
        memo: of what was found whole on this machine before.

    Raises:
        HarnessError: an untrained trial cannot be run again here.
        SourceError: there is no such folder, or no record in it.
    """
    problems = list(find_unfit(results))
    folders = [] if (results / "records").is_symlink() else list_folders(results / "records")
    paths = sorted(path for folder in folders if not folder.is_symlink() for path in folder.glob("*.json"))
    if not paths:
        raise SourceError("\n".join([*problems, f"{results}: holds no records/EXPERIMENT/*.json to verify"]))
    by_experiment: dict[str, list[Record]] = {}
    for path in paths:
        try:
            record = read_record(path)
        except HarnessError as cause:
            problems.append(str(cause))
            continue
        by_experiment.setdefault(record.trial.experiment, []).append(record)
        if path != results / record.place:
            problems.append(f"{path}: holds the record of {record.trial.id}, whose place is {record.place}")
    records = [record for found in by_experiment.values() for record in found]
    known = evidence or Evidence(results)
    for record in records:
        problems += check_record_once(record, known, memo)
    problems += _find_unnamed(records, results)
    problems += _check_references(results)
    manifests = _read_manifests(sorted(by_experiment), experiments, problems)
    plans = _read_plans(results, by_experiment, problems)
    for name, found in by_experiment.items():
        problems += _check_experiment(name, found, known, manifests.get(name), plans[name])
    problems += check_stacks(results, by_experiment, {name: whole for name, (whole, _) in manifests.items()})
    tracked = [] if experiments is None else [experiments / f"{name}.toml" for name in manifests]
    commits = look_for_commits(records, tracked)
    problems += [
        f"{results / record.place}: {place}: reads {commit}, which this repository does not have"
        for record in records
        for place, commit in list_commits(record)
        if commit in commits.missing
    ]
    problems += _check_beyond(records, results, experiments, rerun=rerun, store=store)
    planned = [one for plan in plans.values() for one in plan]
    attested = list(list_attested(records, planned, commits.seen, reran=rerun is not None))
    for whole, _ in manifests.values():
        attested += list_untried(whole, records)
    values = sum(len(view.query_ids) * len(view.per_query) for record in records for view in record.views)
    # A link is named where it lies, and by whoever would have read it.
    return Verification(len(records), values, known.files, tuple(dict.fromkeys(problems)), tuple(attested))


def _check_beyond(
    records: Sequence[Record], results: Path, experiments: Path | None, *, rerun: Rerun | None, store: Store | None
) -> Iterator[str]:
    """Hold records against what the results folder does not have: a store's outputs, and trials that are run again."""
    if store is not None:
        yield from check_kept(records, store)
    if rerun is not None:
        if experiments is None:
            raise SourceError(f"{results}: to run trials again, their manifests are needed, and none are at hand")
        yield from rerun_baselines(records, experiments, rerun)


def _check_experiment(
    name: str,
    records: Sequence[Record],
    known: Evidence,
    declared: tuple[Experiment, Lock] | None,
    plan: Sequence[PlannedTrial],
) -> Iterator[str]:
    """Hold an experiment's records against one another, its manifest and lock, and the list of its trials."""
    views = [view for record in records for view in record.views]
    for on in sorted({view.on for view in views}):
        digests = {view.data.digest for view in views if view.on == on}
        if len(digests) > 1:
            yield f"{known.results / 'records' / name}: {on}: the records are of {len(digests)} different data sets"
    yield from find_copies(records, known)
    yield from find_missing(records, records[0].experiment if declared is None else declared[0])
    yield from compare_plan(records, plan)
    if declared is None:
        return
    whole, lock = declared
    for record in records:
        for problem in (*compare_manifest(record, whole), *compare_sources(record, lock)):
            yield f"{record.place}: {problem}"


def _find_unnamed(records: Sequence[Record], results: Path) -> Iterator[str]:
    """Find files that no record names."""
    named = {artifact.path for record in records for artifact in record.artifacts}
    plans = {locate_plan(results, record.trial.experiment) for record in records}
    for path in sorted((results / "runs").rglob("*")):
        if path.is_file() and path.relative_to(results).as_posix() not in named and path not in plans:
            yield f"{path}: no record names this file"


def _read_manifests(
    names: Sequence[str], experiments: Path | None, problems: list[str]
) -> Mapping[str, tuple[Experiment, Lock]]:
    """Read manifests and locks, noting those that are not there or broken."""
    found = {}
    for name in names if experiments is not None else ():
        manifest = (experiments or Path()) / f"{name}.toml"
        if not manifest.is_file():
            problems.append(f"{manifest}: there is no such manifest, but records of it")
            continue
        try:
            whole = read_experiment(manifest)
            found[name] = whole, read_lock(manifest.with_suffix(".lock"), whole)
        except HarnessError as cause:
            problems.append(str(cause))
    return found


def _read_plans(
    results: Path, experiments: Mapping[str, object], problems: list[str]
) -> Mapping[str, tuple[PlannedTrial, ...]]:
    found: dict[str, tuple[PlannedTrial, ...]] = {}
    for name in experiments:
        try:
            found[name] = read_plan(locate_plan(results, name))
        except RecordError as cause:
            problems.append(str(cause))
            found[name] = ()
    return found


def _check_references(results: Path) -> Iterator[str]:
    """Check what a gate compares with: each mean from its queries, and the history's last entry from the records."""
    for folder in (path for path in list_folders(results / REFERENCE) if not path.is_symlink()):
        intake = take_in(folder, side=REFERENCE)
        golden = folder / GOLDEN_FOLDER
        kept = take_in(golden, side=GOLDEN_FOLDER) if golden.is_dir() and not golden.is_symlink() else None
        for place, found in ((folder, intake), *([(golden, kept)] if kept else [])):
            yield from found.problems
            for record in found.records:
                yield from (f"{place / record.trial.stem}.json: {problem}" for problem in check_means(record))
        try:
            history = read_history(folder).snapshots
            if history and history[-1] != take_snapshot(intake.records):
                yield f"{folder}: the last entry of its history is not of these records"
        except HarnessError as cause:
            yield str(cause)
