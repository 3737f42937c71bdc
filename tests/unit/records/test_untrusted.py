"""The intake: every file that cannot be read is named, nothing outside of the folder is opened, sizes are bounded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.experiment.manifest import Experiment
from harness.records import untrusted as intake
from harness.records.record import write_record
from harness.records.untrusted import take_in
from tests.support.records import MODEL, make_record, read_manifest, spread

MEASURE = "mrr@10"
# With all that Python and its libraries map, in three quarters of the promised 2 GiB: records come on top.
TAKE_IN = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (3 * 2**29, 3 * 2**29))
from pathlib import Path
from harness.records.untrusted import take_in
print(*take_in(Path(sys.argv[1]), side="candidate").problems, sep="\\n")
"""


@pytest.fixture(scope="module")
def experiment() -> Experiment:
    found = read_manifest("bioasq", seeds=(0, 1, 2), claims=(), thresholds=())
    return found.replace(models=found.models[:1], evaluation=found.evaluation.replace(measures=(MEASURE,)))


@pytest.fixture
def folder(tmp_path: Path, experiment: Experiment) -> Path:
    """An experiment's folder with a baseline and two seeds."""
    write_record(make_record({MEASURE: spread(0.8, 20)}, experiment=experiment, variant="baseline"), tmp_path)
    for seed in (0, 1):
        write_record(make_record({MEASURE: spread(0.9, 20)}, experiment=experiment, seed=seed), tmp_path)
    return tmp_path / "records" / "bioasq"


def name(seed: int) -> str:
    return f"{MODEL}.finetuned.seed={seed}.json"


def test_one_experiment_and_a_folder_of_experiments_are_read_alike(folder: Path) -> None:
    alone, among = take_in(folder, side="candidate"), take_in(folder.parent, side="candidate")
    assert (alone.problems, among.problems) == ((), ())
    assert alone.records == among.records
    assert [record.trial.seed for record in alone.records] == [None, 0, 1]


def test_every_broken_file_is_named_and_the_others_are_read(folder: Path) -> None:
    (folder / name(2)).write_text("{", encoding="utf-8")
    (folder / name(3)).write_bytes(b"\xff\xfe")
    data = json.loads((folder / name(0)).read_text(encoding="utf-8"))
    data["evaluations"]["bioasq/test"]["values"][MEASURE] = "0.9"
    (folder / name(0)).write_text(json.dumps(data), encoding="utf-8")
    found = take_in(folder.parent, side="candidate")
    assert [record.trial.seed for record in found.records] == [None, 1]
    for seed, text in ((0, "expected a valid number"), (2, "not valid JSON"), (3, "not UTF-8")):
        assert any(f"candidate: bioasq/{name(seed)}: " in line and text in line for line in found.problems)


def test_numbers_that_are_none_are_refused(folder: Path) -> None:
    text = (folder / name(0)).read_text(encoding="utf-8")
    (folder / name(0)).write_text(text.replace('"seconds": 100.0', '"seconds": NaN', 1), encoding="utf-8")
    (problem,) = take_in(folder, side="candidate").problems
    assert "stages.train.seconds" in problem
    assert "finite" in problem


def test_a_link_out_of_the_folder_is_not_followed(folder: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.json"
    secret.write_text('{"schema_version": "s3cret"}', encoding="utf-8")
    (folder / name(2)).symlink_to(secret)
    (folder.parent / "elsewhere").symlink_to(tmp_path, target_is_directory=True)
    found = take_in(folder.parent, side="candidate")
    assert len(found.records) == 3
    assert len(found.problems) == 2
    assert all("symbolic link" in line for line in found.problems)
    assert any(f"bioasq/{name(2)}" in line for line in found.problems)
    assert any("candidate: elsewhere: " in line for line in found.problems)
    assert "s3cret" not in str(found.problems)


def test_a_pipe_does_not_make_it_wait(folder: Path) -> None:
    os.mkfifo(folder / name(2))
    (problem,) = take_in(folder, side="candidate").problems
    assert problem == f"candidate: {name(2)}: not a plain file"


def test_a_record_in_the_place_of_another_is_refused(folder: Path) -> None:
    (folder / name(7)).write_bytes((folder / name(0)).read_bytes())
    (problem,) = take_in(folder, side="candidate").problems
    assert f"{name(7)}: holds the record of bioasq/{MODEL}/finetuned/seed0, whose file is {name(0)}" in problem
    (folder / name(7)).unlink()
    folder.rename(folder.with_name("other"))
    problems = take_in(folder.parent, side="candidate").problems
    assert len(problems) == 3
    assert "holds a record of 'bioasq', expected 'other'" in problems[0]


def test_sizes_are_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = (folder / name(0)).stat().st_size
    monkeypatch.setattr(intake, "FILE_LIMIT_BYTES", size)
    (folder / name(0)).write_bytes((folder / name(0)).read_bytes() + b" ")
    assert any(f"{name(0)}: larger than {size} bytes" in line for line in take_in(folder, side="candidate").problems)
    monkeypatch.setattr(intake, "FOLDER_LIMIT_BYTES", size + 10)
    found = take_in(folder, side="candidate")
    assert len(found.records) == 1
    assert "the limit" in found.problems[-1]
    monkeypatch.setattr(intake, "FOLDER_LIMIT_BYTES", 2**20)
    monkeypatch.setattr(intake, "MOST_FOLDER_VALUES", (folder / name(1)).read_bytes().count(b",") + 10)
    assert "the limit" in take_in(folder, side="candidate").problems[-1]
    monkeypatch.setattr(intake, "MOST_ENTRIES", 2)
    (problem,) = take_in(folder, side="candidate").problems
    assert "more than 2 files" in problem


def test_what_follows_many_broken_files_is_not_read(folder: Path) -> None:
    for number in range(30):
        (folder / f"a{number:02}.json").write_text("{", encoding="utf-8")
    found = take_in(folder, side="candidate")
    assert found.records == ()
    assert len(found.problems) == intake.MOST_BROKEN + 1
    assert found.problems[-1].endswith("a20.json: not read, nor what follows: 20 files are broken already")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{" + ",".join(f'"k{number:07}":0' for number in range(450_000)) + "}", "449999 commas, at most 400000"),
        ('{"x":' + "[]," * 250_000 + "[]}", "opening brackets, at most 100000"),
        ("[" * 8_000_000, "8000000 opening brackets, at most 100000"),
        ('{"schema_version": 2,' + ",".join(f'"k{number:06}":0' for number in range(399_000)) + "}", "unknown key"),
        ('{"schema_version": 2, "x": [' + ",".join(["[" * 90 + "]" * 90] * 1_100) + "]}", "unknown key 'x'"),
        ('{"schema_version": 2, "x": [' + ",".join(["{}"] * 99_000) + "]}", "unknown key 'x'"),
        ('{"schema_version": 1, "x": [' + ",".join(["{}"] * 99_000) + "]}", "expected a table"),
    ],
    ids=["keys", "lists", "depth", "most keys", "most depth", "most tables", "older"],
)
def test_a_file_with_too_much_in_it_is_refused_in_little_memory(tmp_path: Path, content: str, said: str) -> None:
    """Three records of 830,000 unknown keys took 66 s and 2.7 GiB; 2 GiB are promised."""
    (tmp_path / "a.json").write_text(content, encoding="utf-8")
    done = subprocess.run([sys.executable, "-c", TAKE_IN, str(tmp_path)], capture_output=True, text=True, check=True)
    assert said in done.stdout


def test_an_absent_an_empty_and_a_results_folder_say_what_is_wrong(tmp_path: Path, folder: Path) -> None:
    (absent,) = take_in(tmp_path / "nowhere", side="reference").problems
    assert absent.startswith("reference: ")
    assert "No such file" in absent
    (results,) = take_in(tmp_path, side="candidate").problems
    assert f"did you mean {folder.parent}?" in results


def test_a_history_and_hidden_files_are_no_records(folder: Path) -> None:
    for other in ("history.json", ".left-over.json", "notes.md"):
        (folder / other).write_text("x", encoding="utf-8")
    assert take_in(folder, side="reference").problems == ()
