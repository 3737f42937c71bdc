"""The commands on evidence and its keeping: verify, bundle, rerun, doctor and store."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from harness.cli.say import complain, say
from harness.errors import COULD_NOT_RUN, DIFFERS, PASSED

RESULTS, STORE = Path("results"), Path(".store")
EXPERIMENTS, CONSTRAINTS = Path("benchmarks/experiments"), Path("constraints.txt")
BUNDLE = Path("evidence.zip")
MEBIBYTE = 2**20
SHOWN_CHARACTERS = 2000  # of a finding, which may quote a stranger


def add_evidence_commands(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
) -> None:
    """Describe the commands. What a command needs is imported when it runs, so that help comes at once."""
    verify = commands.add_parser("verify", help="recompute every number from runs and records, and check every digest")
    verify.add_argument("target", type=Path, nargs="?", default=RESULTS, help="results or a bundle; default: results")
    verify.add_argument("--experiments", type=Path, help=f"manifests; default: {EXPERIMENTS}")
    verify.add_argument("--rerun", choices=["baseline"], help="also run the untrained trials again, from their locks")
    verify.add_argument("--device", default="auto", help="to run them on: auto, cpu or cuda:N")
    verify.add_argument("--data-dir", type=Path, help="folder in place of the manifests' data folder, to run them")
    verify.add_argument("--store", type=Path, help="also check the outputs that it still has; lends its sources")
    verify.set_defaults(run=_verify)

    bundle = commands.add_parser("bundle", help="pack all evidence into one archive that a stranger can verify")
    bundle.add_argument("results", type=Path, nargs="?", default=RESULTS, help="default: results")
    bundle.add_argument("--experiments", type=Path, default=EXPERIMENTS, help=f"manifests; default: {EXPERIMENTS}")
    bundle.add_argument("--constraints", type=Path, default=CONSTRAINTS, help=f"default: {CONSTRAINTS}")
    bundle.add_argument("--to", type=Path, default=BUNDLE, metavar="FILE", help=f"default: {BUNDLE}")
    bundle.set_defaults(run=_bundle)

    rerun = commands.add_parser("rerun", help="run a trial twice from nothing and name the first layer that diverges")
    rerun.add_argument("experiment", nargs="?", help="name or manifest")
    rerun.add_argument("--records", type=Path, nargs=2, metavar="RECORD", help="compare two records instead")
    rerun.add_argument("--trial", metavar="ID", help="default: the first that is fine-tuned")
    rerun.add_argument("--device", default="auto", help="auto, cpu or cuda:N")
    rerun.add_argument("--precision", choices=["fp16", "bf16", "fp32"], help="of training (default: the manifest's)")
    rerun.add_argument("--data-dir", type=Path, help="folder in place of the manifest's data folder")
    rerun.add_argument("--store", type=Path, default=STORE, help="only its unpacked sources are used; default: .store")
    rerun.set_defaults(run=_rerun)

    doctor = commands.add_parser("doctor", help="say what this machine can run, and why not")
    doctor.add_argument("--experiments", type=Path, help=f"manifests; default: {EXPERIMENTS}")
    doctor.add_argument("--constraints", type=Path, default=CONSTRAINTS, help=f"default: {CONSTRAINTS}")
    doctor.add_argument("--store", type=Path, default=STORE, help="default: .store")
    doctor.add_argument("--results", type=Path, default=RESULTS, help="default: results")
    doctor.set_defaults(run=_doctor)

    store = commands.add_parser("store", help="look after the store of stage outputs")
    actions = store.add_subparsers(required=True, metavar="ACTION")
    for name, run, text in (
        ("ls", _list, "list the outputs, with what making them took"),
        ("du", _measure, "say what takes room"),
        ("verify", _check, "check every byte of every output"),
        ("gc", _collect, "remove what is no longer needed"),
    ):
        action = actions.add_parser(name, help=text)
        action.add_argument("--store", type=Path, default=STORE, help="default: .store")
        action.set_defaults(run=run)
        if name == "ls":
            action.add_argument(
                "--results", type=Path, default=RESULTS, help="records that name them; default: results"
            )
        if name == "gc":
            action.add_argument("--dry-run", action="store_true", help="say what would be removed, and remove nothing")
            action.add_argument(
                "--results", type=Path, help="also remove outputs and idle checkpoints that no record there names"
            )


def _verify(options: argparse.Namespace) -> int:
    # Before the imports, since what follows takes seconds; not on stdout, which is for what was found.
    complain(f"{options.target}: computing every value, interval and table again")
    from harness.core.memo import open_memo  # noqa: PLC0415 - see add_evidence_commands
    from harness.core.text import clip  # noqa: PLC0415
    from harness.evidence.baselines import Rerun  # noqa: PLC0415
    from harness.evidence.verify import verify_bundle, verify_results  # noqa: PLC0415 - see add_evidence_commands
    from harness.pipeline.store import SOURCES, Store  # noqa: PLC0415

    store = None if options.store is None else Store(options.store)
    sources = (options.store or STORE) / SOURCES
    rerun = Rerun(options.device, sources, options.data_dir) if options.rerun else None

    memo = open_memo()
    experiments = _find_experiments(options.experiments)
    if options.target.is_dir():
        done = verify_results(options.target, experiments=experiments, rerun=rerun, store=store, memo=memo)
    else:
        done = verify_bundle(options.target, rerun=rerun, store=store)
    for problem in done.problems:
        for line in problem.splitlines():
            say(clip(line, SHOWN_CHARACTERS))
    for line in done.attested:
        say(clip(f"attested only: {line}", SHOWN_CHARACTERS))
    if options.target.is_dir() and experiments is None:
        say(f"not held against manifests and locks: there is no folder {EXPERIMENTS}; --experiments names one")
    say(
        f"{options.target}: {done.records} records, {done.values} values per query and {done.files} files checked, "
        + (f"{len(done.problems)} do not match" if done.problems else "all match")
        + (f"; {memo.found['record']} records as this machine computed them before" if memo.found["record"] else "")
    )
    return DIFFERS if done.problems else PASSED


def _find_experiments(given: Path | None) -> Path | None:
    """Return the folder of manifests that was named, or the usual one where it is there.

    Raises:
        ManifestError: there is no folder of the name that was given.
    """
    from harness.errors import ManifestError  # noqa: PLC0415 - see add_evidence_commands

    if given is not None and not given.is_dir():
        raise ManifestError(f"--experiments {given}: there is no such folder")
    return given or (EXPERIMENTS if EXPERIMENTS.is_dir() else None)


def _bundle(options: argparse.Namespace) -> int:
    from harness.core.files import hash_file  # noqa: PLC0415
    from harness.evidence.bundle import write_bundle  # noqa: PLC0415 - see add_evidence_commands

    sums = write_bundle(options.results, options.experiments, options.constraints, options.to)
    say(f"{options.to}: {len(sums)} files, SHA-256 {hash_file(options.to)}")
    say(f"to check it: harness verify {options.to}")
    return PASSED


def _rerun(options: argparse.Namespace) -> int:
    from harness.errors import ManifestError  # noqa: PLC0415 - see add_evidence_commands
    from harness.evidence.determinism import Sameness, TrialOutcome, compare_outcomes, describe_comparison, find_results  # noqa: PLC0415

    if (options.experiment is None) == (options.records is None):
        raise ManifestError("rerun needs either an experiment or --records with two records")
    if options.records is not None:
        from harness.records.record import read_record  # noqa: PLC0415

        first, second = (TrialOutcome(read_record(path), find_results(path)) for path in options.records)
        comparison = compare_outcomes(first, second)
    else:
        from harness.evidence.determinism import rerun_trial  # noqa: PLC0415
        from harness.pipeline.selection import locate_experiments  # noqa: PLC0415
        from harness.pipeline.store import SOURCES  # noqa: PLC0415

        with tempfile.TemporaryDirectory(prefix="harness-rerun-") as folder:
            comparison = rerun_trial(
                options.experiment,
                locate_experiments(Path()),
                folder=Path(folder),
                trial=options.trial,
                device=options.device,
                precision=options.precision,
                data_dir=options.data_dir,
                sources=options.store / SOURCES,
            )
    for line in describe_comparison(comparison):
        say(line)
    return PASSED if comparison.sameness is Sameness.BITS else DIFFERS


def _doctor(options: argparse.Namespace) -> int:
    from harness.pipeline.doctor import Health, examine  # noqa: PLC0415 - see add_evidence_commands

    worst = PASSED
    for finding in examine(
        experiments=_find_experiments(options.experiments),
        constraints=options.constraints,
        store=options.store,
        results=options.results,
    ):
        say(f"{finding.health:<7} {finding.what}: {finding.text}")
        if finding.health is Health.BAD:
            worst = COULD_NOT_RUN
    return worst


def _list(options: argparse.Namespace) -> int:
    from harness.core.text import format_seconds  # noqa: PLC0415
    from harness.pipeline.store import Store  # noqa: PLC0415
    from harness.pipeline.store_cleanup import list_outputs, list_users  # noqa: PLC0415 - see add_evidence_commands
    from harness.records.untrusted import take_in  # noqa: PLC0415

    # What is broken there is for `harness verify` to say.
    users = list_users(take_in(options.results / "records", side="records").records)
    for item in list_outputs(Store(options.store)):
        stage, key, entry = item.path.parent.name, item.path.name, item.entry
        took = "broken" if entry is None else f"took {format_seconds(entry.seconds)}, made {entry.created}"
        names = users.get(key, ())
        of = f" for {names[0]}{f' and {len(names) - 1} more' if names[1:] else ''}" if names else ""
        seed = "" if entry is None or of or "seed" not in entry.inputs else f"seed {entry.inputs['seed']}, "
        say(f"{stage:<9} {key[:12]} {_format(item.size_bytes):>11}  {seed}{took}{of}")
    return PASSED


def _measure(options: argparse.Namespace) -> int:
    from harness.pipeline.store import Store  # noqa: PLC0415
    from harness.pipeline.store_cleanup import list_items  # noqa: PLC0415 - see add_evidence_commands

    totals: dict[str, tuple[int, int]] = {}
    for item in list_items(Store(options.store)):
        name = f"{item.path.parent.name} outputs" if item.kind == "output" else f"{item.kind}"
        count, size = totals.get(name, (0, 0))
        totals[name] = (count + 1, size + item.size_bytes)
    for name, (count, size) in sorted(totals.items()):
        say(f"{_format(size):>11}  {count:>4}  {name}")
    say(f"{_format(sum(size for _, size in totals.values())):>11}        in all")
    return PASSED


def _check(options: argparse.Namespace) -> int:
    from harness.pipeline.store import Store  # noqa: PLC0415
    from harness.pipeline.store_cleanup import find_broken, list_outputs  # noqa: PLC0415 - see add_evidence_commands

    store = Store(options.store)
    broken = find_broken(store)
    for line in broken:
        say(line)
    say(f"{options.store}: {len(list_outputs(store))} outputs, {len(broken)} findings")
    return DIFFERS if broken else PASSED


def _collect(options: argparse.Namespace) -> int:
    from harness.pipeline.store import Store  # noqa: PLC0415
    from harness.pipeline.store_cleanup import collect_garbage, list_needed  # noqa: PLC0415 - see add_evidence_commands

    keep = None if options.results is None else list_needed(options.results)
    freed = 0
    for removal in collect_garbage(Store(options.store), keep=keep, dry_run=options.dry_run):
        item = removal.item
        freed += item.size_bytes
        say(f"{_format(item.size_bytes):>11}  {item.kind} {item.path}: {removal.reason}")
    say(f"{_format(freed):>11}  {'would be freed' if options.dry_run else 'freed'}")
    return PASSED


def _format(size_bytes: int) -> str:
    return f"{size_bytes / MEBIBYTE:.1f} MiB"
