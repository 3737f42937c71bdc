"""The results folder: the same records give the same files, and what differs from them is named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import HarnessError, RecordError
from harness.history import History, take_snapshot
from harness.record import read_records
from harness.results import compare_tables, render_results, write_junit, write_tables
from tests.support.evidence import make_results
from tests.support.records import read_manifest

ROUNDS = 50


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A results folder with the records of two experiments."""
    make_results(tmp_path, read_manifest("bioasq-rebuilt"))
    make_results(tmp_path, read_manifest("hpo"), model="all-MiniLM-L6-v2", seeds=(0,))
    return tmp_path


def test_the_same_records_give_the_same_bytes(results: Path) -> None:
    first = write_tables(results, rounds=ROUNDS).contents
    assert render_results(results, rounds=ROUNDS).contents == first
    assert compare_tables(results, rounds=ROUNDS) == []
    assert {Path(name).suffix for name in first} == {".md", ".html", ".svg", ""}
    for name, content in first.items():
        assert (results / name).read_bytes() == content.encode()


@pytest.mark.parametrize("suffix", ["md", "html", "svg"])
def test_an_edited_file_is_named_with_its_line(results: Path, suffix: str) -> None:
    write_tables(results, rounds=ROUNDS)
    path = next(results.rglob(f"*.{suffix}"))
    path.write_text(path.read_text(encoding="utf-8").replace("0", "9", 1), encoding="utf-8")
    (line,) = compare_tables(results, rounds=ROUNDS)
    assert line.startswith(f"{path}:")


def test_missing_and_left_over_files_are_named_and_left_over_pictures_deleted(results: Path) -> None:
    write_tables(results, rounds=ROUNDS)
    (results / "hpo.html").unlink()
    stale = results / "pictures" / "old.svg"
    stale.write_text("<svg/>", encoding="utf-8")
    lines = compare_tables(results, rounds=ROUNDS)
    assert lines == [f"{results / 'hpo.html'}: is missing", f"{stale}: no report has this picture"]
    write_tables(results, rounds=ROUNDS)
    assert not stale.exists()


def test_the_mark_stands_by_every_table_and_picture_with_published_values(results: Path) -> None:
    report = render_results(results, rounds=ROUNDS).reports["bioasq-rebuilt"]
    assert report.mark is not None
    blocks = [block for section in report.sections for block in section.blocks]
    marked = [block for block in blocks if getattr(block, "mark", None)]
    assert len(marked) >= 6
    for block in marked:
        assert "rebuilt data" in str(getattr(block, "mark", ""))


def test_worst_queries_are_shown_with_what_ranked_above(results: Path) -> None:
    text = render_results(results, rounds=ROUNDS).contents["bioasq-rebuilt.md"]
    worst = text.partition("## Worst queries")[2].partition("\n## ")[0]
    assert worst.count("### what is question") == 10
    assert "After fine-tuning: rank" in worst
    assert "1. the answer to question" in worst


def test_texts_of_another_record_are_refused(results: Path) -> None:
    (results / "runs" / "hpo" / "texts.json.gz").write_bytes(b"other")
    with pytest.raises(RecordError, match=r"texts\.json\.gz: has the SHA-256"):
        render_results(results, rounds=ROUNDS)


def test_a_link_out_of_the_folder_is_refused(results: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    run = next((results / "runs" / "hpo").glob("*.run.gz"))
    outside = tmp_path_factory.mktemp("outside") / "x.gz"
    run.rename(outside)
    run.symlink_to(outside)
    with pytest.raises(RecordError, match="lies outside"):
        render_results(results, rounds=ROUNDS)


def test_an_absent_run_is_named(results: Path) -> None:
    run = next((results / "runs" / "hpo").glob("*.run.gz"))
    run.unlink()
    with pytest.raises(HarnessError, match=run.name):
        render_results(results, rounds=ROUNDS)


def test_what_was_accepted_over_time_is_drawn(results: Path) -> None:
    records = read_records(results / "records" / "hpo")
    history = History().extend(take_snapshot(records)).extend(take_snapshot(records))
    folder = results / "reference" / "hpo"
    folder.mkdir(parents=True)
    (folder / "history.json").write_text(history.format(), encoding="utf-8")
    contents = render_results(results, rounds=ROUNDS).contents
    assert "00000000" in contents["pictures/hpo-history-all-MiniLM-L6-v2.svg"]


def test_junit_files_are_written_beside_each_other(results: Path, tmp_path: Path) -> None:
    paths = write_junit(render_results(results, rounds=ROUNDS).reports, tmp_path / "junit")
    assert [path.name for path in paths] == ["bioasq-rebuilt.xml", "hpo.xml"]
    assert 'name="mrr@10"' in paths[1].read_text(encoding="utf-8")


def test_a_report_is_built_without_torch_and_help_without_matplotlib(results: Path) -> None:
    code = (
        "import sys, pathlib\n"
        "from harness.results import render_results\n"
        "assert 'matplotlib' not in sys.modules, 'matplotlib came with the import'\n"
        f"render_results(pathlib.Path({str(results)!r}), rounds=10)\n"
        "assert not {'torch', 'transformers', 'datasets'} & set(sys.modules), 'heavy packages'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
