"""Tables say what the records say, beside what was published; nothing in them is typed by hand."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from harness.records.record import write_record
from harness.report.results_folder import compare_tables, write_tables
from tests.support.manifests import change, parse
from tests.support.records import make_record

FEW_ROUNDS = 100
HOSTILE = ("<script>alert(1)</script>", "a | b", "[x](http://evil)", "![x](http://evil/x.png)")
BEFORE = {"mrr@10": (0.5, 0.25, 0.0), "map@100": (0.5, 0.25, 0.1), "accuracy@1": (0.0, 0.0, 0.0)}


def make_values(first: float) -> dict[str, tuple[float, ...]]:
    return {"mrr@10": (first, 0.5, 0.0), "map@100": (first, 0.5, 0.1), "accuracy@1": (1.0, 0.0, 0.0)}


def write(results: Path, data: dict[str, Any] | None = None) -> None:
    experiment = parse(data)
    write_record(make_record(BEFORE, experiment=experiment, variant="baseline", model="small"), results)
    for seed, first in enumerate((1.0, 0.7)):
        write_record(make_record(make_values(first), experiment=experiment, model="small", seed=seed), results)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables of one plain experiment, and of one that is marked and has a stranger's title."""
    folder = tmp_path_factory.mktemp("results")
    write(folder)
    marked = change("published.not_comparable", "rebuilt data")
    write(folder, {**marked, "name": "marked", "title": f"Look: {' '.join(HOSTILE)}"})
    write_tables(folder, rounds=FEW_ROUNDS)
    return folder


@pytest.fixture
def table(results: Path) -> str:
    return (results / "tiny.md").read_text(encoding="utf-8")


def test_published_values_stand_beside_ours_with_mean_and_deviation(table: str) -> None:
    lines = [line for line in table.splitlines() if line.startswith("|") and "mrr@10" in line]
    row = next(line for line in lines if "0.8919" in line)
    assert "0.2500" in row  # before
    assert "0.4500" in row  # the mean of 0.5 and 0.4 after it
    assert "0.0707" in row  # their standard deviation


def test_every_measure_has_a_row(table: str) -> None:
    for measure in ("accuracy@1", "mrr@10", "map@100"):
        assert any(line.startswith("|") and measure in line for line in table.splitlines())


def test_environment_costs_and_the_way_to_run_it_again_are_told(table: str) -> None:
    assert "some CPU" in table
    assert "2.13.0" in table
    assert "nox -s reproduce -- --experiment tiny" in table


def test_data_that_are_not_comparable_are_marked(results: Path, table: str) -> None:
    assert "rebuilt data" not in table
    assert "rebuilt data" in (results / "marked.md").read_text(encoding="utf-8")


def test_text_of_a_stranger_is_shown_never_obeyed(results: Path) -> None:
    text = (results / "marked.md").read_text(encoding="utf-8")
    assert "Look: " in text
    assert [hostile for hostile in HOSTILE if hostile in text] == []


def test_the_index_lists_every_experiment_with_its_mark(results: Path) -> None:
    rows = (results / "README.md").read_text(encoding="utf-8").splitlines()
    (tiny,) = [row for row in rows if "(tiny.md)" in row]
    (marked,) = [row for row in rows if "(marked.md)" in row]
    assert "rebuilt data" not in tiny
    assert "rebuilt data" in marked


def test_what_was_written_is_up_to_date_until_it_is_edited_or_removed(results: Path, tmp_path: Path) -> None:
    copy = tmp_path / "results"
    shutil.copytree(results, copy)
    assert compare_tables(copy, rounds=FEW_ROUNDS).differing == ()
    (copy / "tiny.md").write_text("edited", encoding="utf-8")
    (copy / "README.md").unlink()
    differing = "\n".join(compare_tables(copy, rounds=FEW_ROUNDS).differing)
    assert f"{copy / 'tiny.md'}:1: " in differing
    assert f"{copy / 'README.md'}: is missing" in differing


def test_records_in_the_folder_of_another_experiment_are_refused(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "records" / "tiny").rename(tmp_path / "records" / "other")
    assert write_tables(tmp_path, rounds=FEW_ROUNDS).problems == {
        "other": f"{tmp_path / 'records' / 'other'}: holds records of 'tiny'"
    }
