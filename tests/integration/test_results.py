"""The results folder: the same records give the same files, and what differs from them is named."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.cli.main import main
from harness.core.memo import Memo
from harness.errors import RecordError
from harness.gate.reference import accept, plan_acceptance
from harness.records.record import Record
from harness.report.document import Picture, Report, Table
from harness.report.experiment import build_report
from harness.report.results_folder import Rendered, compare_tables, render_results, write_junit, write_tables
from harness.report.svg import draw_picture
from tests.support.evidence import make_results
from tests.support.records import make_record, read_manifest

ROUNDS = 50
# Of the processor, not of the wall, so that a busy machine does not matter; torch alone would take longer.
CPU_SECONDS = 6.0
COMMAND = """
import sys, time
from harness.cli.main import main
came = sorted({"jinja2", "matplotlib"} & set(sys.modules))
assert not came, f"{came} came with the import"
code = main(sys.argv[1:])
heavy = sorted({"torch", "sentence_transformers", "transformers", "datasets"} & set(sys.modules))
print(code, heavy, time.process_time(), file=sys.stderr)
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with the records of two experiments, which tests only read."""
    folder = tmp_path_factory.mktemp("made")
    make_results(folder, read_manifest("bioasq-rebuilt"))
    make_results(folder, read_manifest("hpo"), model="all-MiniLM-L6-v2", seeds=(0, 1))
    return folder


@pytest.fixture(scope="module")
def rendered(made: Path) -> Rendered:
    """What is generated for them: drawing takes longer than all the rest, so it is done once."""
    return render_results(made, rounds=ROUNDS)


@pytest.fixture
def results(made: Path, tmp_path: Path) -> Path:
    """A copy of both experiments' records to write to."""
    return shutil.copytree(made, tmp_path / "results")


@pytest.fixture
def small(results: Path) -> Path:
    """The records of one of them, whose few pictures are soon drawn."""
    for kind in ("records", "runs"):
        shutil.rmtree(results / kind / "bioasq-rebuilt")
    return results


def test_the_same_records_give_the_same_bytes(results: Path, rendered: Rendered) -> None:
    contents = write_tables(results, rounds=ROUNDS).contents
    assert contents == rendered.contents
    assert {Path(name).suffix for name in contents} == {".md", ".html", ".svg", ""}
    for name, content in contents.items():
        assert (results / name).read_bytes() == content.encode()


def test_edited_files_are_named_with_their_line(small: Path) -> None:
    write_tables(small, rounds=ROUNDS)
    assert compare_tables(small, rounds=ROUNDS).differing == ()
    edited = {small / "hpo.md", small / "hpo.html", next(small.rglob("*.svg"))}
    for path in edited:
        path.write_text(path.read_text(encoding="utf-8").replace("0", "9", 1), encoding="utf-8")
    lines = compare_tables(small, rounds=ROUNDS).differing
    assert len(lines) == len(edited)
    assert all(any(re.match(rf"{re.escape(str(path))}:\d+: reads ", line) for line in lines) for path in edited)


def test_the_command_writes_tables_and_tells_what_was_changed(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(small)]) == 0
    assert str(small / "hpo.md") in capsys.readouterr().out.splitlines()
    assert main(["report", str(small), "--check"]) == 0
    assert capsys.readouterr().out == ""
    text = (small / "hpo.md").read_text(encoding="utf-8")
    (small / "hpo.md").write_text(text.replace("mrr@10", "mrr@11"), encoding="utf-8")
    assert main(["report", str(small), "--check"]) == 1
    assert "mrr@11" in capsys.readouterr().out


def test_missing_and_left_over_files_are_named_and_left_over_pictures_deleted(small: Path) -> None:
    write_tables(small, rounds=ROUNDS)
    (small / "hpo.html").unlink()
    stale = small / "pictures" / "old.svg"
    stale.write_text("<svg/>", encoding="utf-8")
    lines = compare_tables(small, rounds=ROUNDS).differing
    assert lines == (f"{small / 'hpo.html'}: is missing", f"{stale}: no report has this picture")
    write_tables(small, rounds=ROUNDS)
    assert not stale.exists()


def test_the_mark_stands_by_every_table_and_picture_with_published_values(rendered: Rendered) -> None:
    report = rendered.reports["bioasq-rebuilt"]
    assert report.mark is not None
    blocks = [block for section in report.sections for block in section.blocks]
    marked = [block for block in blocks if getattr(block, "mark", None)]
    assert len(marked) == 4  # in short, before, after, and the picture of values
    for block in marked:
        assert "rebuilt data" in str(getattr(block, "mark", ""))


def test_worst_queries_are_shown_with_what_ranked_above(rendered: Rendered) -> None:
    text = rendered.contents["bioasq-rebuilt.md"]
    worst = text.partition("## Worst queries")[2].partition("\n## ")[0]
    assert worst.count("### what is question") == 10
    assert "After fine-tuning: rank" in worst
    assert "1. the answer to question" in worst


def test_texts_of_another_record_are_refused(small: Path) -> None:
    (small / "runs" / "hpo" / "texts.json.gz").write_bytes(b"other")
    assert "texts.json.gz: has the SHA-256" in render_results(small, rounds=ROUNDS).problems["hpo"]


def test_a_link_out_of_the_folder_is_refused(small: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    run = next((small / "runs" / "hpo").glob("*.run.gz"))
    outside = tmp_path_factory.mktemp("outside") / "x.gz"
    run.rename(outside)
    run.symlink_to(outside)
    assert "a symbolic link, which could lead elsewhere" in render_results(small, rounds=ROUNDS).problems["hpo"]


def test_an_absent_run_is_named(small: Path) -> None:
    run = next((small / "runs" / "hpo").glob("*.run.gz"))
    run.unlink()
    assert run.name in render_results(small, rounds=ROUNDS).problems["hpo"]


def test_what_was_accepted_over_time_is_drawn(small: Path) -> None:
    name = "pictures/hpo-history-all-MiniLM-L6-v2.svg"
    assert name not in render_results(small, rounds=ROUNDS).contents
    accept(plan_acceptance(small / "records" / "hpo", small / "reference")[0])
    contents = render_results(small, rounds=ROUNDS).contents
    assert "00000000" in contents[name]
    assert "2026-01-01" in contents[name]


def test_junit_files_are_written_beside_each_other(rendered: Rendered, tmp_path: Path) -> None:
    paths = write_junit(rendered.reports, tmp_path / "junit")
    assert [path.name for path in paths] == ["bioasq-rebuilt.xml", "hpo.xml"]
    assert 'name="mrr@10"' in paths[1].read_text(encoding="utf-8")


def test_a_report_is_written_without_torch_and_help_without_matplotlib(small: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", COMMAND, "report", str(small)], capture_output=True, text=True, check=True, timeout=120
    )
    code, heavy, seconds = ended.stderr.splitlines()[-1].split(maxsplit=2)
    assert (code, heavy) == ("0", "[]")
    assert float(seconds) < CPU_SECONDS


def test_long_line_is_shown_where_it_differs(small: Path) -> None:
    write_tables(small, rounds=ROUNDS)
    page = small / "hpo.html"
    text = page.read_text(encoding="utf-8")
    number, line = next((n, line) for n, line in enumerate(text.splitlines(), start=1) if len(line) > 400)
    page.write_text(text.replace(line, f"{line[:300]}forged{line[306:]}"), encoding="utf-8")
    (said,) = compare_tables(small, rounds=ROUNDS).differing
    assert said.startswith(f"{page}:{number}: reads ...")
    assert f"{line[260:300]}forged" in said.replace("\\'", "'")
    assert line[260:306] in said.replace("\\'", "'")


def break_record(results: Path, experiment: str) -> Path:
    """Cut a record off in the middle."""
    path = next((results / "records" / experiment).glob("*.json"))
    path.write_bytes(path.read_bytes()[:100])
    return path


def test_a_broken_record_keeps_no_other_experiment_from_its_tables(
    results: Path, rendered: Rendered, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tables(results, rounds=ROUNDS)
    path = break_record(results, "bioasq-rebuilt")
    for name in ("hpo.md", "hpo.html", "README.md"):
        (results / name).unlink()
    assert main(["report", str(results), "--junit", str(results / "junit")]) == 2
    said = capsys.readouterr()
    assert f"harness: bioasq-rebuilt could not be judged: {path}" in said.err
    assert str(results / "hpo.md") in said.out
    # The number of sign patterns is the command's own here, so that intervals differ from the fixture's.
    assert (results / "hpo.md").read_text(encoding="utf-8").splitlines()[0] == rendered.contents["hpo.md"].splitlines()[
        0
    ]
    for name in ("bioasq-rebuilt.md", "bioasq-rebuilt.html", "junit/bioasq-rebuilt.xml", "README.md"):
        text = (results / name).read_text(encoding="utf-8")
        assert "could not be judged" in text
        assert "0.8" not in text
    assert not list((results / "pictures").glob("bioasq-rebuilt-*"))
    assert "not be judged" not in (results / "junit" / "hpo.xml").read_text(encoding="utf-8")
    assert main(["report", str(results), "--check"]) == 2
    assert capsys.readouterr().out == ""


def test_a_check_names_what_differs_beside_what_cannot_be_judged(results: Path) -> None:
    write_tables(results, rounds=ROUNDS)
    break_record(results, "bioasq-rebuilt")
    (results / "hpo.md").write_text("edited", encoding="utf-8")
    found = compare_tables(results, rounds=ROUNDS)
    assert list(found.problems) == ["bioasq-rebuilt"]
    # The index and the list of sums follow from every record.
    assert {line.partition(":")[0] for line in found.differing} == {
        str(results / name) for name in ("hpo.md", "README.md", "SHA256SUMS")
    }


def test_what_nobody_foresaw_in_one_experiment_keeps_no_other_from_its_tables(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(records: tuple[Record, ...], **more: Any) -> Report:
        if records[0].trial.experiment == "hpo":
            raise ZeroDivisionError("division by zero")
        return build_report(records, **more)

    monkeypatch.setattr("harness.report.results_folder.build_report", build)
    found = write_tables(results, rounds=ROUNDS)
    assert found.problems == {"hpo": "ZeroDivisionError: division by zero"}
    assert "ZeroDivisionError" in (results / "hpo.md").read_text(encoding="utf-8")
    assert "In short" in (results / "bioasq-rebuilt.md").read_text(encoding="utf-8")


def test_a_recipe_edited_for_one_seed_names_the_older_records_not_the_new_one() -> None:
    before = read_manifest("hpo").replace(seeds=(0, 1))
    recipe = before.recipes["finetuned"]
    longer = recipe.replace(arguments=recipe.arguments.replace(num_train_epochs=7))
    edited = before.replace(seeds=(0,), recipes={**before.recipes, "finetuned": longer})
    values = {measure: [0.5, 0.5] for measure in before.evaluation.measures}
    old = make_record(values, experiment=before, model="all-MiniLM-L6-v2", seed=1, created="2026-01-01T00:00:00+00:00")
    new = make_record(values, experiment=edited, model="all-MiniLM-L6-v2", seed=0, created="2026-02-01T00:00:00+00:00")
    for records in ((old, new), (new, old)):
        with pytest.raises(
            RecordError, match=r"seed1: recorded under another recipe than the manifest's: run it again"
        ):
            build_report(records)


def test_what_was_rendered_before_is_not_made_again_and_what_was_edited_is_named(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memo = Memo(tmp_path / "memo")
    made = write_tables(small, rounds=ROUNDS, memo=memo)
    assert set(made.reports) == {"hpo"}
    with monkeypatch.context() as patch:
        patch.setattr("harness.report.results_folder.build_report", lambda *_, **__: pytest.fail("made again"))
        again = write_tables(small, rounds=ROUNDS, memo=memo)
        assert (again.contents, again.reports) == (made.contents, {})
        picture = next((small / "pictures").glob("*.svg"))
        picture.write_text(picture.read_text(encoding="utf-8").replace("0", "9", 1), encoding="utf-8")
        (said,) = compare_tables(small, rounds=ROUNDS, memo=memo).differing
        assert said.startswith(f"{picture}:")
        # Other records, another number of rounds and another run beside them are another report.
        with pytest.raises(BaseException, match="made again"):
            write_tables(small, rounds=ROUNDS + 1, memo=memo)
        next((small / "records" / "hpo").glob("*seed=1.json")).unlink()
        with pytest.raises(BaseException, match="made again"):
            write_tables(small, rounds=ROUNDS, memo=memo)


def test_a_picture_that_did_not_change_is_drawn_once(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memo, drawn = Memo(tmp_path / "memo"), []

    def draw(picture: Picture) -> str:
        drawn.append(picture.name)
        return draw_picture(picture)

    monkeypatch.setattr("harness.report.results_folder.draw_picture", draw)
    write_tables(small, rounds=ROUNDS, memo=memo)
    pictures = len(drawn)
    assert pictures > 1
    # When a record was written is in a table alone: no chart shows it.
    path = next((small / "records" / "hpo").glob("*seed=1.json"))
    path.write_text(path.read_text(encoding="utf-8").replace('"created": "', '"created": "2', 1), encoding="utf-8")
    write_tables(small, rounds=ROUNDS, memo=memo)
    assert len(drawn) == pictures


def test_the_agreement_of_runs_is_told_between_seeds_and_with_the_untrained_model(rendered: Rendered) -> None:
    report = rendered.reports["bioasq-rebuilt"]
    section = next(section for section in report.sections if section.heading == "Agreement of runs")
    table = section.blocks[1]
    assert isinstance(table, Table)
    assert [row[1:3] for row in table.rows] == [("one another", "3"), ("the untrained model", "3")]
    # What is trained anew differs less from itself than from what was not trained.
    (_, _, _, *between), (_, _, _, *before) = table.rows
    assert float(between[0]) < float(before[0])
    assert all(0 <= float(row[-1]) <= 1 for row in table.rows)
