"""A recipe is run in another environment by a script that speaks files; what cannot be installed is said clearly."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli.main import main
from harness.errors import StackError
from harness.experiment.stack import Stack
from harness.pipeline.stack_environment import READY_FILE, Job, Training, hash_stack, make_stack, run_job
from harness.records.stack import read_stack_records
from harness.report.results_folder import compare_tables, write_tables
from tests.support.stacks import make_stack_record, write_stack_record
from tests.support.tiny_stacks import PINS, make_stack_place


def test_an_experiment_is_run_in_both_stacks_and_what_is_done_is_not_done_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both are today's packages here, so that nothing may part."""
    place = make_stack_place(tmp_path)
    options = ["run", str(place.manifest), "--stack", "published", "--seeds", "0,"]
    options += ["--store", str(place.store), "--results", str(place.results)]
    assert main(options) == 0
    (record,) = read_stack_records(place.results)
    (first,), (again,), (today,) = record.published.trainings, record.replayed, record.today.trainings
    assert record.inputs.differing_tokens == 0
    assert record.inputs.embedding_difference == 0.0
    assert record.published.probe == record.today.probe
    assert len(first.loss) == 5
    assert sorted(row for batch in first.rows for row in batch) == list(range(20))
    # The loss of a step says more than its value: dropout drew the same too.
    for other in (again, today):
        assert (other.loss, other.rows, other.batches) == (first.loss, first.rows, first.batches)
        assert (other.weights_sha256, other.result) == (first.weights_sha256, first.result)
    page = (place.results / "tiny-stack-published.md").read_text(encoding="utf-8")
    assert "small: the libraries changed nothing that was looked at; tokens are the same" in page
    assert "(tiny-stack-published.md)" in (place.results / "README.md").read_text(encoding="utf-8")
    capsys.readouterr()
    for interpreter in place.store.rglob("bin/python"):
        interpreter.unlink()  # nothing is left to do, and so nothing is started
    assert main(options) == 0
    assert "step" not in capsys.readouterr().out


def test_a_page_that_was_changed_is_named_and_a_broken_comparison_keeps_no_other_page_from_being_made(
    tmp_path: Path,
) -> None:
    path = write_stack_record(make_stack_record(), tmp_path)
    assert write_tables(tmp_path).problems == {}
    assert compare_tables(tmp_path).differing == ()
    page = tmp_path / "tiny-stack-published.md"
    page.write_text(page.read_text(encoding="utf-8").replace("small", "great"), encoding="utf-8")
    assert [line.partition(": ")[0] for line in compare_tables(tmp_path).differing] == [f"{page}:3"]
    broken = path.parent.with_name("other") / path.name
    broken.parent.mkdir()
    broken.write_text("{}", encoding="utf-8")
    rendered = write_tables(tmp_path)
    assert list(rendered.problems) == ["other-stack"]
    assert "small" in page.read_text(encoding="utf-8")
    assert "could not be compared" in (tmp_path / "other-stack.md").read_text(encoding="utf-8")


def test_a_stack_that_cannot_be_installed_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    stack = Stack(python="3.11", packages=("torch==0.0.9", *PINS[1:]))
    with pytest.raises(StackError) as caught:
        make_stack(stack, tmp_path, print)
    said = str(caught.value)
    assert said.startswith("these packages cannot be installed together with Python 3.11: torch==0.0.9, ")
    assert "torch==0.0.9" in said.partition(": ERROR: ")[2]
    # What was begun is no environment: without this file another call tries again.
    assert (tmp_path / hash_stack(stack)).is_dir()
    assert not list(tmp_path.rglob(READY_FILE))


def test_a_python_that_is_not_there_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(StackError, match=r"Python 3.99: there is no python3.99 on this machine's PATH; install it"):
        make_stack(Stack(python="3.99", packages=PINS), tmp_path, print)


def test_a_runner_that_fails_says_its_last_words(tmp_path: Path) -> None:
    interpreter = tmp_path / "python"
    interpreter.write_text("#!/bin/sh\necho 'ModuleNotFoundError: no torch' >&2\nexit 3\n", encoding="utf-8")
    interpreter.chmod(0o755)
    job = Job("model", [], {}, {}, "no_duplicates", 20.0, (Training(0, "seed=0"),))
    with pytest.raises(StackError, match=r"job: the runner ended with 3: ModuleNotFoundError: no torch"):
        run_job(interpreter, job, tmp_path / "job", threads=1, say=print)


def test_a_stack_that_the_manifest_does_not_have_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = make_stack_place(tmp_path)
    assert main(["run", str(place.manifest), "--stack", "old", "--store", str(place.store)]) == 2
    assert "tiny: there is no [stacks.old] in its manifest; there are: published" in capsys.readouterr().err


def test_options_that_a_stack_has_no_choice_of_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "tiny", "--stack", "published", "--device", "cuda:0", "--", "-x"]) == 2
    assert "--stack does not go with --device, -x: CPU and fp32 only" in capsys.readouterr().err


def test_another_order_of_the_pins_is_the_same_environment_and_another_version_is_not() -> None:
    same = Stack(python="3.11", packages=PINS[::-1])
    assert hash_stack(same) == hash_stack(Stack(python="3.11", packages=PINS))
    assert hash_stack(same) != hash_stack(Stack(python="3.11", packages=("torch==2.1.1", *PINS[1:])))
