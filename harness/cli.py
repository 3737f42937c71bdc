"""The ``harness`` command line: one subcommand per thing done with records, locks and the store."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from harness.errors import HarnessError, LockError

PASSED, DIFFERS = 0, 1
EXPERIMENTS = Path("benchmarks/experiments")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0 well, 1 the answer is no, 2 it could not be done."""
    options = make_parser().parse_args(arguments)
    try:
        code: int = options.run(options)
    except HarnessError as error:
        print(f"harness: {type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code
    return code


def make_parser() -> argparse.ArgumentParser:
    """Describe the commands. What a command needs is imported when it runs, so that help comes at once."""
    parser = argparse.ArgumentParser(prog="harness", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    report = commands.add_parser("report", help="write the tables again from the records")
    report.add_argument("results", type=Path, nargs="?", default=Path("results"), help="default: results")
    report.add_argument("--check", action="store_true", help="write nothing; exit 1 where the tables differ")
    report.add_argument("--junit", type=Path, metavar="DIR", help="also write EXPERIMENT.xml, as test reports, there")
    report.set_defaults(run=_report)

    lock = commands.add_parser("lock", help="fetch an experiment's sources and pin every file's SHA-256")
    lock.add_argument("experiment", help="name or manifest")
    lock.add_argument("--check", action="store_true", help="write nothing; exit 1 where the lock differs")
    lock.add_argument("--store", type=Path, default=Path(".store"), help="default: .store")
    lock.add_argument("--data-dir", type=Path, help="folder in place of the manifest's data folder")
    lock.set_defaults(run=_lock)
    return parser


def _report(options: argparse.Namespace) -> int:
    from harness.results import compare_tables, write_junit, write_tables  # noqa: PLC0415 - see make_parser

    if not options.check:
        rendered = write_tables(options.results)
        written = [options.results / name for name in rendered.contents]
        if options.junit is not None:
            written += write_junit(rendered.reports, options.junit)
        for path in written:
            print(path)
        return PASSED
    differing = compare_tables(options.results)
    for line in differing:
        print(line)
    return DIFFERS if differing else PASSED


def _lock(options: argparse.Namespace) -> int:
    from harness.experiment import read_experiment  # noqa: PLC0415 - see make_parser
    from harness.lock import format_lock  # noqa: PLC0415
    from harness.record import write_atomically  # noqa: PLC0415
    from harness.selection import choose_data_dir, find_manifest  # noqa: PLC0415
    from harness.sources import make_lock  # noqa: PLC0415

    manifest = find_manifest(options.experiment, EXPERIMENTS)
    experiment = read_experiment(manifest)
    data_dir = choose_data_dir(options.data_dir, experiment, os.environ)
    lock = make_lock(experiment, cache=options.store / "sources", base=manifest.parent, override=data_dir)
    path, text = manifest.with_suffix(".lock"), format_lock(lock)
    if path.is_file() and path.read_bytes() == text.encode():
        print(f"{path}: nothing changed")
        return PASSED
    if options.check:
        print(f"{path}: differs from what the sources hold now")
        return DIFFERS
    try:
        write_atomically(path, text.encode())
    except OSError as cause:
        raise LockError(f"{path}: cannot be written: {cause.strerror or cause}") from cause
    print(f"{path}: written")
    return PASSED
