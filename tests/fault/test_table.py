"""The docs' table of faults survived says what the fault suite's report says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.errors import RecordError
from tests.fault.table import BEGIN, END, Fault, FaultReport, insert_faults, main, read_faults, render_faults

ROOT = Path(__file__).parents[2]
REPORT = FaultReport(
    schema_version=1,
    faults=(
        Fault(fault="a kill", times=40, survived=39),
        Fault(fault="a | full disk", times=0, survived=0, skipped="no mount"),
    ),
)


def test_table_has_a_row_per_fault_and_their_sum() -> None:
    rows = [[cell.strip() for cell in line.split(" | ")] for line in render_faults(REPORT).splitlines()]
    assert rows[0] == ["| fault", "times", "survived |"]
    assert rows[2] == ["| a kill", "40", "39 |"]
    assert rows[3] == [r"| a \| full disk", "0", "not committed: no mount |"]
    assert rows[4] == ["| in all", "40", "39 |"]


def test_table_is_put_between_its_marks_and_stays_the_same_there() -> None:
    text = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    once = insert_faults(text, "new", place="faults.md")
    assert once == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"
    assert insert_faults(once, "new", place="faults.md") == once


@pytest.mark.parametrize("text", ["", BEGIN, f"{END} {BEGIN}", f"{BEGIN} {BEGIN} {END}", f"{BEGIN} {END} {END}"])
def test_page_without_the_marks_is_refused(text: str) -> None:
    with pytest.raises(RecordError, match="expected the marks"):
        insert_faults(text, "new", place="faults.md")


def test_command_writes_the_table_and_tells_when_it_is_old(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    faults, page = tmp_path / "faults.json", tmp_path / "faults.md"
    faults.write_text(REPORT.model_dump_json(), encoding="utf-8")
    page.write_text(f"{BEGIN}\n{END}\n", encoding="utf-8")
    options = [str(faults), "--page", str(page)]
    assert main([*options, "--check"]) == 1
    assert main(options) == 0
    assert "a kill" in page.read_text(encoding="utf-8")
    assert main([*options, "--check"]) == 0
    changed = json.loads(faults.read_text(encoding="utf-8"))
    changed["faults"][0]["survived"] = 40
    faults.write_text(json.dumps(changed), encoding="utf-8")
    assert main([*options, "--check"]) == 1
    assert "differs from what" in capsys.readouterr().out


def test_broken_report_is_refused(tmp_path: Path) -> None:
    (tmp_path / "faults.json").write_text('{"schema_version": 1, "faults": [{"fault": "x"}]}', encoding="utf-8")
    with pytest.raises(RecordError, match=r"faults\.json: key 'faults\[0\]\.times' is missing"):
        read_faults(tmp_path / "faults.json")


def test_docs_say_what_the_committed_report_says() -> None:
    table = render_faults(read_faults(ROOT / "results" / "faults.json"))
    text = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
    assert insert_faults(text, table, place="faults.md") == text
