"""Tables say what the records say, beside what was published; nothing in them is typed by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.errors import RecordError
from harness.record import write_record
from harness.results import compare_tables, write_tables
from tests.support.manifests import change, parse
from tests.support.records import make_record

FEW_ROUNDS = 100
BEFORE = {"mrr@10": (0.5, 0.25, 0.0), "map@100": (0.5, 0.25, 0.1), "accuracy@1": (0.0, 0.0, 0.0)}


def make_values(first: float) -> dict[str, tuple[float, ...]]:
    return {"mrr@10": (first, 0.5, 0.0), "map@100": (first, 0.5, 0.1), "accuracy@1": (1.0, 0.0, 0.0)}


def write(results: Path, data: dict[str, Any] | None = None) -> None:
    experiment = parse(data)
    write_record(make_record(BEFORE, experiment=experiment, variant="baseline", model="small"), results)
    for seed, first in enumerate((1.0, 0.7)):
        write_record(make_record(make_values(first), experiment=experiment, model="small", seed=seed), results)


def read_table(results: Path, data: dict[str, Any] | None = None) -> str:
    write(results, data)
    write_tables(results, rounds=FEW_ROUNDS)
    return (results / "tiny.md").read_text(encoding="utf-8")


def test_published_values_stand_beside_ours_with_mean_and_deviation(tmp_path: Path) -> None:
    lines = [line for line in read_table(tmp_path).splitlines() if line.startswith("|") and "mrr@10" in line]
    row = next(line for line in lines if "0.8919" in line)
    assert "0.2500" in row  # before
    assert "0.4500" in row  # the mean of 0.5 and 0.4 after it
    assert "0.0707" in row  # their standard deviation


def test_every_measure_has_a_row(tmp_path: Path) -> None:
    table = read_table(tmp_path)
    for measure in ("accuracy@1", "mrr@10", "map@100"):
        assert any(line.startswith("|") and measure in line for line in table.splitlines())


def test_environment_costs_and_the_way_to_run_it_again_are_told(tmp_path: Path) -> None:
    table = read_table(tmp_path)
    assert "some CPU" in table
    assert "2.13.0" in table
    assert "nox -s reproduce -- --experiment tiny" in table


def test_data_that_are_not_comparable_are_marked(tmp_path: Path) -> None:
    marked = change("published.not_comparable", "rebuilt data")
    assert "rebuilt data" not in read_table(tmp_path / "plain")
    assert "rebuilt data" in read_table(tmp_path / "marked", marked)
    assert "rebuilt data" in (tmp_path / "marked" / "README.md").read_text(encoding="utf-8")


def test_the_same_records_give_the_same_bytes_and_are_up_to_date(tmp_path: Path) -> None:
    assert read_table(tmp_path / "one") == read_table(tmp_path / "two")
    assert compare_tables(tmp_path / "one", rounds=FEW_ROUNDS) == []


def test_a_table_that_was_edited_or_removed_is_named(tmp_path: Path) -> None:
    read_table(tmp_path)
    (tmp_path / "tiny.md").write_text("edited", encoding="utf-8")
    (tmp_path / "README.md").unlink()
    differing = "\n".join(compare_tables(tmp_path, rounds=FEW_ROUNDS))
    assert f"{tmp_path / 'tiny.md'}:1: " in differing
    assert f"{tmp_path / 'README.md'}: is missing" in differing


def test_the_index_lists_every_experiment(tmp_path: Path) -> None:
    write(tmp_path)
    write(tmp_path, {**change("name", "second")})
    write_tables(tmp_path, rounds=FEW_ROUNDS)
    index = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "(tiny.md)" in index
    assert "(second.md)" in index


@pytest.mark.parametrize(
    "hostile", ["<script>alert(1)</script>", "a | b", "[x](http://evil)", "![x](http://evil/x.png)"]
)
def test_text_of_a_stranger_is_shown_never_obeyed(tmp_path: Path, hostile: str) -> None:
    table = read_table(tmp_path, change("title", hostile))
    assert hostile not in table


def test_records_in_the_folder_of_another_experiment_are_refused(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "records" / "tiny").rename(tmp_path / "records" / "other")
    with pytest.raises(RecordError, match="other"):
        write_tables(tmp_path, rounds=FEW_ROUNDS)
