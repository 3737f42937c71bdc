"""The command `compare`: two stored sets of records, cell by cell."""

from __future__ import annotations

import argparse
from pathlib import Path

DONE = 0


def add_compare_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the command. What it needs is imported when it runs, so that help comes at once."""
    compare = commands.add_parser(
        "compare", help="say which of two stored sets of records is better, paired by query over seeds"
    )
    compare.add_argument("a", type=Path, metavar="A", help="a folder of records, as results/records/NAME")
    compare.add_argument("b", type=Path, metavar="B", help="likewise, also of another experiment on the same test set")
    compare.add_argument("--cell-a", metavar="MODEL[/RECIPE]", help="of A; default: the one of B, or all in common")
    compare.add_argument("--cell-b", metavar="MODEL[/RECIPE]", help="of B; default: the one of A, or all in common")
    compare.set_defaults(run=_compare)


def _compare(options: argparse.Namespace) -> int:
    from harness.analysis.pairing import compare_sets  # noqa: PLC0415 - see add_compare_command
    from harness.errors import RecordError  # noqa: PLC0415
    from harness.records.untrusted import take_in  # noqa: PLC0415
    from harness.report.comparison_tables import report_sets  # noqa: PLC0415
    from harness.report.terminal import render_terminal  # noqa: PLC0415

    sides = [take_in(folder, side=side) for folder, side in ((options.a, "A"), (options.b, "B"))]
    problems = [problem for side in sides for problem in side.problems]
    if problems:
        raise RecordError("\n".join(problems))
    compared = compare_sets(sides[0].records, sides[1].records, cell_a=options.cell_a, cell_b=options.cell_b)
    print(render_terminal(report_sets(compared, str(options.a), str(options.b))))
    return DONE
