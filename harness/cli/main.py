"""The ``harness`` command line: one subcommand per thing done with records, locks and the store."""

from __future__ import annotations

import argparse
import io
import os
import select
import sys
import traceback
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from harness.cli.compare import add_compare_command
from harness.cli.data import add_data_commands
from harness.cli.evidence import add_evidence_commands
from harness.cli.run import add_run_command, run_experiment
from harness.cli.say import complain, say
from harness.cli.sources import add_hub_commands
from harness.errors import COULD_NOT_RUN, DIFFERS, PASSED, HarnessError, RecordError
from harness.sources.hub_client import check_variables

# What a shell reports of a tool that ended when its reader went away: 128 and the number of SIGPIPE.
READER_GONE = 128 + 13


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0 well, 1 the answer is no, 2 it could not be done."""
    _accept_any_letter()
    given = list(sys.argv[1:] if arguments is None else arguments)
    place = given.index("--") if "--" in given else len(given)
    parser = make_parser()
    options = parser.parse_args(given[:place])
    options.further = given[place + 1 :]
    if options.further and not (options.run is run_experiment or (options.run is _gate and options.manifest)):
        parser.error(f"only `run`, and `gate` with --manifest, hand options on: {' '.join(options.further)}")
    try:
        check_variables(os.environ)
        code: int = options.run(options)
        if sys.stdout is not None:
            sys.stdout.flush()  # here, where a reader that went away is met, rather than as Python ends
    except HarnessError as error:
        complain(f"harness: {type(error).__name__}: {error}")
        return error.exit_code
    except MemoryError:
        # A traceback takes memory, too.
        complain("harness: too little memory")
        return COULD_NOT_RUN
    except Exception as error:  # noqa: BLE001 - whatever nobody foresaw is no answer: Python's own exit code would say "no"
        if isinstance(error, BrokenPipeError) and _has_lost_reader():
            return READER_GONE
        if isinstance(error, OSError):
            _flush_or_drop()
            complain(f"harness: {type(error).__name__}: {error}")
            return COULD_NOT_RUN
        complain(traceback.format_exc())
        return COULD_NOT_RUN
    return code


def _accept_any_letter() -> None:
    """Let stdout write what its encoding lacks, such as a plus-minus sign in ASCII, as an escape; stderr does so."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _has_lost_reader() -> bool:
    """Say whether stdout's reader went away, as ``head`` does; if so, what is left to write goes nowhere."""
    poller = select.poll()
    poller.register(sys.stdout.fileno(), 0)
    lost = any(event & (select.POLLERR | select.POLLHUP) for _, event in poller.poll(0))
    if lost:
        _drop_stdout()
    return lost


def _flush_or_drop() -> None:
    """Write what is left, if stdout's disk takes it."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        _drop_stdout()


def _drop_stdout() -> None:
    """Let what is left to write go nowhere: Python flushes once more as it ends, would complain, and end with 120."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def make_parser() -> argparse.ArgumentParser:
    """Describe the commands. What a command needs is imported when it runs, so that help comes at once."""
    parser = argparse.ArgumentParser(prog="harness", description=__doc__)
    parser.add_argument("--version", action="version", version=f"harness {metadata.version('retrieval-harness')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    add_run_command(commands)
    report = commands.add_parser("report", help="write the tables again from the records")
    report.add_argument("results", type=Path, nargs="?", default=Path("results"), help="default: results")
    report.add_argument("--check", action="store_true", help="write nothing; exit 1 where the tables differ")
    report.add_argument("--junit", type=Path, metavar="DIR", help="also write EXPERIMENT.xml, as test reports, there")
    report.set_defaults(run=_report)

    gate = commands.add_parser(
        "gate",
        help="compare records with the accepted reference: 0 pass, 1 worse, 2 cannot tell, 3 run more seeds",
        usage="harness gate --reference DIR --candidate DIR [options] [-- options of run, with --manifest]",
    )
    gate.add_argument(
        "--reference", type=Path, required=True, metavar="DIR", help="accepted records, or folders of them"
    )
    gate.add_argument("--candidate", type=Path, required=True, metavar="DIR", help="the records to be judged, likewise")
    gate.add_argument("--policy", type=Path, metavar="FILE", help="limits and levels in TOML; default: those built in")
    gate.add_argument(
        "--rerun-reference",
        type=Path,
        metavar="DIR",
        help="records of the reference's trials as run in this very job, in turns with the candidate's: costs are "
        "compared with these, and fail where the policy says so (costs.fail)",
    )
    gate.add_argument(
        "--manifest",
        type=Path,
        metavar="FILE",
        help="where the candidate, RESULTS/records/EXPERIMENT, is suspect, run the further seeds and judge once more",
    )
    gate.add_argument("--markdown", type=Path, metavar="FILE", help="also write the report there")
    gate.add_argument(
        "--comment", type=Path, metavar="FILE", help="also write the body of a pull-request comment there"
    )
    gate.add_argument("--junit", type=Path, metavar="FILE", help="also write it as a test report there")
    gate.add_argument("--html", type=Path, metavar="FILE", help="also write it as a page there")
    gate.set_defaults(run=_gate)

    accept = commands.add_parser("accept", help="make records the reference, after showing what changes")
    accept.add_argument("--candidate", type=Path, required=True, metavar="DIR", help="the records to be accepted")
    accept.add_argument("--reference", type=Path, required=True, metavar="DIR", help="the reference they replace")
    accept.add_argument("--yes", action="store_true", help="do not ask; needed where there is no terminal")
    accept.add_argument("--golden", action="store_true", help="make them the golden reference too, which stays")
    accept.set_defaults(run=_accept)

    add_compare_command(commands)
    add_data_commands(commands)
    add_hub_commands(commands)
    add_evidence_commands(commands)
    return parser


def _report(options: argparse.Namespace) -> int:
    if not options.results.is_dir():
        raise RecordError(f"{options.results}: there is no such folder, expected one with records")
    # Before the imports, since what follows takes seconds; not on stdout, which is for what was found.
    complain(f"{options.results}: making every table, page and picture from the records")
    from harness.core.memo import NOTHING, open_memo  # noqa: PLC0415 - see make_parser
    from harness.report.results_folder import compare_tables, write_junit, write_tables  # noqa: PLC0415 - see make_parser

    # JUnit is made of the reports themselves, which no memo keeps.
    memo = open_memo() if options.junit is None else NOTHING
    if options.check:
        found = compare_tables(options.results, memo=memo)
        lines, problems, code = list(found.differing), found.problems, DIFFERS if found.differing else PASSED
    else:
        rendered = write_tables(options.results, memo=memo)
        written = [options.results / name for name in rendered.contents]
        if options.junit is not None:
            written += write_junit(rendered.reports, options.junit)
        lines, problems, code = list(map(str, written)), rendered.problems, PASSED
    for line in lines:
        say(line)
    for name, problem in problems.items():
        complain(f"harness: {name} could not be judged: {problem}")
    return COULD_NOT_RUN if problems else code


def _gate(options: argparse.Namespace) -> int:
    complain(f"{options.candidate}: held against {options.reference}")  # see _report
    from harness.cli.further_seeds import FurtherSeeds  # noqa: PLC0415 - see make_parser
    from harness.cli.gate import GateSides, OutputFiles, run_gate  # noqa: PLC0415 - likewise

    further = None
    if options.manifest is not None:
        further = FurtherSeeds.beside(options.candidate, options.manifest, tuple(options.further))
    return run_gate(
        GateSides(options.reference, options.candidate, options.policy, options.rerun_reference),
        outputs=OutputFiles(options.markdown, options.comment, options.junit, options.html),
        environment=os.environ,
        further=further,
    )


def _accept(options: argparse.Namespace) -> int:
    from harness.cli.gate import run_accept  # noqa: PLC0415 - see make_parser

    ask = input if sys.stdin is not None and sys.stdin.isatty() else None
    return run_accept(options.reference, options.candidate, ask=ask, yes=options.yes, golden=options.golden)
