"""The table "faults survived" of the docs comes from the fault suite's own report, and is checked against it.

``python -m tests.fault.table`` writes it, with ``--check`` it compares only.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from tabulate import tabulate

from harness.core.files import write_atomically
from harness.core.schema import Frozen, decode_json, read_text
from harness.errors import RecordError
from harness.report.markdown import escape

FAULTS_FILE = "faults.json"
LIMIT_BYTES = 1_000_000
BEGIN, END = "<!-- faults survived: begin -->", "<!-- faults survived: end -->"


class Fault(Frozen):
    """A fault, how often the suite committed it, how often it was survived, or why it could not be committed."""

    fault: str
    times: Annotated[int, Field(ge=0)]
    survived: Annotated[int, Field(ge=0)]
    skipped: str | None = None


class FaultReport(Frozen):
    """What one run of the fault suite wrote."""

    schema_version: Literal[1]
    faults: tuple[Fault, ...]


def read_faults(path: Path) -> FaultReport:
    """Parse the fault suite's report.

    Raises:
        RecordError: absent or malformed.
    """
    text = read_text(path, limit_bytes=LIMIT_BYTES, error=RecordError)
    return decode_json(FaultReport, text, place=str(path), error=RecordError)


def render_faults(report: FaultReport) -> str:
    """Write the report as a markdown table."""
    rows = [
        (
            escape(fault.fault),
            fault.times,
            escape(f"not committed: {fault.skipped}") if fault.skipped else fault.survived,
        )
        for fault in report.faults
    ]
    total = (
        "in all",
        sum(fault.times for fault in report.faults),
        sum(fault.survived for fault in report.faults),
    )
    columns = ("fault", "times", "survived")
    return tabulate([*rows, total], headers=columns, tablefmt="pipe", colalign=("left", "right", "right"))


def insert_faults(text: str, table: str, *, place: str) -> str:
    """Return a text with the table between its two marks.

    Raises:
        RecordError: the marks are not there, each once and in order.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in after:
        raise RecordError(f"{place}: expected the marks {BEGIN!r} and {END!r}, each once")
    return f"{before}{BEGIN}\n\n{table}\n\n{END}{after}"


def update_page(page: Path, faults: Path, *, check: bool) -> bool:
    """Put the table into a page, or only compare, and return whether it was up to date.

    Raises:
        RecordError: the report or the page cannot be read, or the page not written.
    """
    table = render_faults(read_faults(faults))
    text = read_text(page, limit_bytes=LIMIT_BYTES, error=RecordError)
    wanted = insert_faults(text, table, place=str(page))
    if not check and wanted != text:
        try:
            write_atomically(page, wanted.encode())
        except OSError as cause:
            raise RecordError(f"{page}: cannot be written: {cause.strerror or cause}") from cause
    return wanted == text


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the table, or compare it, and return 0 where it is up to date."""
    parser = argparse.ArgumentParser(description="Write the docs' table of faults survived from the suite's report.")
    parser.add_argument(
        "report", type=Path, nargs="?", default=Path("results", FAULTS_FILE), help="default: %(default)s"
    )
    parser.add_argument("--page", type=Path, default=Path("docs/faults.md"), help="default: %(default)s")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where the table differs")
    options = parser.parse_args(arguments)
    same = update_page(options.page, options.report, check=options.check)
    if not same:
        print(f"{options.page}: {f'differs from what {options.report} says' if options.check else 'written'}")
    return int(options.check and not same)


if __name__ == "__main__":
    sys.exit(main())
