"""The commands `gate` and `accept`: candidate records against the reference, and in its place."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.cli.further_seeds import FurtherSeeds
from harness.cli.say import guard_lines
from harness.core.files import write_atomically
from harness.errors import RecordError
from harness.gate.acceptance_report import build_acceptance_report
from harness.gate.compare import GateOutcome, compare
from harness.gate.golden import take_in_golden
from harness.gate.policy import Policy, read_policy
from harness.gate.reference import Acceptance, accept, plan_acceptance
from harness.gate.report import build_gate_report, name_gate_report
from harness.records.untrusted import Intake, take_in
from harness.report.document import Report
from harness.report.failure import build_failure_report
from harness.report.github import ACTIONS_VARIABLE, list_commands, publish_summary, render_comment
from harness.report.markdown import render_markdown
from harness.report.terminal import render_terminal

DONE, DECLINED = 0, 1


@dataclass(frozen=True, slots=True)
class OutputFiles:
    """The files that a gate's report is also written to; None where it is not asked for."""

    markdown: Path | None = None
    comment: Path | None = None
    junit: Path | None = None
    html: Path | None = None


@dataclass(frozen=True, slots=True)
class GateSides:
    """The folders that are compared, and the policy; None where there is none.

    Attributes:
        reference: a folder of accepted records, or of such folders.
        candidate: likewise, the records to be judged; nothing in it is trusted.
        policy: a policy file; None takes the defaults.
        rerun: records of the reference's trials as run in this job, in turns with the candidate's.
    """

    reference: Path
    candidate: Path
    policy: Path | None = None
    rerun: Path | None = None


def run_gate(
    sides: GateSides,
    *,
    outputs: OutputFiles,
    environment: Mapping[str, str],
    further: FurtherSeeds | None = None,
) -> int:
    """Compare two folders of records, show the report, and return the exit code.

    0 pass, 1 regression, 2 cannot tell, 3 suspect: the further seeds that the last line names decide.

    Args:
        sides: what is compared.
        outputs: further files to write, whatever happens: where it could not be judged, they say so.
        environment: the process's variables, which say whether this is a GitHub runner.
        further: runs the further seeds that are asked for, after which it is judged once more; None leaves that to
            the caller.

    Raises:
        HarnessError: the policy is wrong, a file cannot be written, or further seeds could not be run.
    """
    judged = _judge(sides, outputs, environment)
    wanted = None if further is None else judged.further_seeds.get(further.manifest.stem)
    if further is not None and wanted is not None and judged.exit_code == GateOutcome.SUSPECT.exit_code:
        try:
            # Said at once, since what follows takes long; one answer is published, the last there is.
            _show_report(judged.report, environment)
            _say_seeds(judged.further_seeds)
            further.run(wanted)
        except Exception:
            _publish(judged.report, environment)
            raise
        judged = _judge(sides, outputs, environment)
    try:
        _show_report(judged.report, environment)
    finally:
        _publish(judged.report, environment)
    # Last, for who runs them by hand.
    _say_seeds(judged.further_seeds)
    return judged.exit_code


@dataclass(frozen=True, slots=True)
class _Judged:
    """What the gate said, its exit code, and the seeds of each experiment that would decide what is suspect."""

    report: Report
    exit_code: int
    further_seeds: Mapping[str, tuple[int, ...]]


def _judge(sides: GateSides, outputs: OutputFiles, environment: Mapping[str, str]) -> _Judged:
    """Compare, and write every file that is asked for."""
    # First, since the name by which the next run finds this report's comment follows from it.
    before = take_in(sides.reference, side="reference")
    try:
        rules = Policy() if sides.policy is None else read_policy(sides.policy)
        after = take_in(sides.candidate, side="candidate")
        golden = take_in_golden(sides.reference)
        again = Intake((), ()) if sides.rerun is None else take_in(sides.rerun, side="rerun reference")
        result = compare(
            before.records,
            after.records,
            rules,
            golden=golden.records,
            rerun=again.records,
            unread=(*before.problems, *after.problems, *golden.problems, *again.problems),
        )
        report = build_gate_report(result, before.records, after.records, [sides.candidate, sides.reference])
        written = _render_outputs(report, outputs)
    except Exception as cause:
        # On GitHub an older "passed" would stay otherwise, as if it were about these records.
        failed = build_failure_report(
            name_gate_report(before.records), "Gate cannot tell: the records could not be judged", cause
        )
        _write_all(_render_outputs(failed, outputs))
        _publish(failed, environment)
        raise
    try:
        # Before anything is shown, since whoever reads that may go away.
        _write_all(written)
    except Exception:
        _show_report(report, environment)
        _publish(report, environment)
        raise
    return _Judged(report, result.outcome.exit_code, result.further_seeds)


def _show_report(report: Report, environment: Mapping[str, str]) -> None:
    _show(f"{render_terminal(report)}\n\n{report.title}", environment)


def _say_seeds(asked: Mapping[str, tuple[int, ...]]) -> None:
    """Name the seeds; digits and a plain name, whoever wrote the records."""
    for experiment, seeds in asked.items():
        print(f"suspect: run seeds {','.join(map(str, seeds))} of {experiment}", flush=True)


def _publish(report: Report, environment: Mapping[str, str]) -> None:
    publish_summary(report, environment)
    for line in list_commands(report, environment):
        print(line)


def run_accept(
    reference: Path, candidate: Path, *, ask: Callable[[str], str] | None, yes: bool, golden: bool = False
) -> int:
    """Show what would change, make sure that it is wanted, and make candidate records the reference.

    Args:
        reference: where the reference is or shall be.
        candidate: the records.
        ask: puts a question to the person at the terminal; None where there is none.
        yes: whether the answer is yes already.
        golden: whether they also become the golden reference.

    Returns:
        0 when the reference is now as asked for, 1 when the person declined.

    Raises:
        HarnessError: a record is broken, nobody could be asked, or the disk refuses.
    """
    plans = plan_acceptance(candidate, reference, golden=golden)
    for plan in plans:
        print(f"{guard_lines(render_terminal(build_acceptance_report(plan)))}\n")
    changing = [plan for plan in plans if plan.changed]
    if not changing:
        print("the reference has these records already")
        return DONE
    if not yes and not _confirm(changing, ask):
        print("nothing was changed")
        return DECLINED
    for plan in changing:
        accept(plan)
        print(f"{plan.folder}: {len(plan.after)} records accepted")
    return DONE


def _show(text: str, environment: Mapping[str, str]) -> None:
    """Print text of which a runner shall carry out nothing, wherever a stranger's words begin a line."""
    if environment.get(ACTIONS_VARIABLE) != "true":
        print(text)
        return
    token = secrets.token_hex(16)
    print(f"::stop-commands::{token}\n{text}\n::{token}::")


def _confirm(plans: list[Acceptance], ask: Callable[[str], str] | None) -> bool:
    names = ", ".join(plan.experiment for plan in plans)
    if ask is None:
        raise RecordError(f"the reference of {names} would change, and there is no terminal to ask at: expected --yes")
    try:
        return ask(f"Make these the reference of {names}? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


def _render_outputs(report: Report, outputs: OutputFiles) -> list[tuple[Path, str]]:
    wanted: list[tuple[Path | None, Callable[[Report], str]]] = [
        (outputs.markdown, lambda report: render_markdown(report, pictures=None)),
        (outputs.comment, render_comment),
        (outputs.junit, _render_junit),
        (outputs.html, _render_html),
    ]
    return [(path, render(report)) for path, render in wanted if path is not None]


def _render_junit(report: Report) -> str:
    from harness.report.junit import render_junit  # noqa: PLC0415 - a gate without this file need not wait for it

    return render_junit(report)


def _render_html(report: Report) -> str:
    from harness.report.html import render_html  # noqa: PLC0415 - loads matplotlib where there are pictures
    from harness.report.svg import draw_picture  # noqa: PLC0415

    return render_html(report, {picture.name: draw_picture(picture) for picture in report.pictures})


def _write_all(written: Sequence[tuple[Path, str]]) -> None:
    """Write every file that the disk takes, then name those that it refused."""
    problems = []
    for path, text in written:
        try:
            write_atomically(path, text.encode())
        except OSError as cause:
            problems.append(f"{path}: cannot be written: {cause.strerror or cause}")
    if problems:
        raise RecordError("\n".join(problems))
