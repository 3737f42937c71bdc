"""The command line answers with 0, 1 or 2, and says on stderr what kept it from answering."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.experiment.lock import read_lock
from harness.records.record import write_record
from tests.support.manifests import make_rows, parse, write_data, write_manifest, write_rows
from tests.support.records import make_record

VALUES = {"mrr@10": (1.0, 0.5, 0.0), "map@100": (1.0, 0.5, 0.1), "accuracy@1": (1.0, 0.0, 0.0)}


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """A manifest beside its data and what stands for its model; locking never loads one."""
    write_data(tmp_path / "data")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}", encoding="utf-8")
    return write_manifest(tmp_path)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for seed in (0, 1):
        write_record(make_record(VALUES, experiment=parse(), model="small", seed=seed), tmp_path / "results")
    return tmp_path / "results"


def lock(manifest: Path, *options: str) -> int:
    return main(["lock", str(manifest), "--store", str(manifest.parent / "store"), *options])


@pytest.mark.parametrize("arguments", [[], ["unknown"], ["report", "--unknown"], ["lock"]])
def test_what_is_no_command_is_a_usage_error(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: harness" in capsys.readouterr().err


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    assert all(command in shown for command in ("report", "lock", "gate"))


def test_a_lock_is_written_beside_its_manifest_and_belongs_to_it(
    manifest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lock(manifest) == 0
    path = manifest.with_suffix(".lock")
    assert capsys.readouterr().out == f"{path}: written\n"
    assert set(read_lock(path, parse()).sources["data:tiny"].files) == {"train.jsonl", "test.jsonl"}
    assert lock(manifest) == 0
    assert capsys.readouterr().out == f"{path}: nothing changed\n"


def test_checking_a_lock_writes_nothing(manifest: Path) -> None:
    assert lock(manifest, "--check") == 1
    assert not manifest.with_suffix(".lock").exists()
    assert lock(manifest) == 0
    before = manifest.with_suffix(".lock").read_bytes()
    write_rows(manifest.parent / "data" / "test.jsonl", make_rows(50, 8))
    assert lock(manifest, "--check") == 1
    assert manifest.with_suffix(".lock").read_bytes() == before


def test_another_data_folder_is_locked_where_one_is_named(manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (manifest.parent / "data").rename(manifest.parent / "moved")
    assert lock(manifest) == 2
    assert lock(manifest, "--data-dir", str(manifest.parent / "moved")) == 0
    manifest.with_suffix(".lock").unlink()
    monkeypatch.setenv("HARNESS_DATA_DIR", str(manifest.parent / "moved"))
    assert lock(manifest) == 0


def test_an_error_of_ours_is_one_message_and_exit_code_2(manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest.write_text(manifest.read_text(encoding="utf-8").replace("epochs =", "epocs ="), encoding="utf-8")
    assert lock(manifest) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines()[0] == (
        f"harness: ManifestError: {manifest}: key 'recipes.finetuned.arguments.num_train_epochs' is missing"
    ) or captured.err.startswith(
        f"harness: ManifestError: {manifest}: unknown key 'recipes.finetuned.arguments.num_train_epocs'"
    )
    assert "unknown key 'recipes.finetuned.arguments.num_train_epocs'; did you mean 'num_train_epochs'?" in captured.err
    assert "Traceback" not in captured.err


def test_an_unknown_experiment_is_answered_with_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lock", "nonsense"]) == 2
    assert "harness: ManifestError: no experiment 'nonsense'" in capsys.readouterr().err


def test_a_full_disk_is_named(
    manifest: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    assert lock(manifest) == 2
    path = manifest.with_suffix(".lock")
    assert capsys.readouterr().err == f"harness: LockError: {path}: cannot be written: No space left on device\n"
    assert not path.exists()


def test_a_full_disk_under_stdout_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "harness", "store", "du", "--store", str(tmp_path)]
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "harness: OSError: [Errno 28] No space left on device\n"


@pytest.mark.parametrize(
    "command", [["report", "results"], ["gate", "--reference", "x", "--candidate", "y"], ["verify"]]
)
@pytest.mark.parametrize("full", ["2>/dev/full", ">/dev/full 2>&1", "2>&-"])
def test_where_nothing_can_be_said_the_exit_code_is_no_answer(tmp_path: Path, command: list[str], full: str) -> None:
    line = f"{sys.executable} -m harness {' '.join(command)} {full}"
    done = subprocess.run(["/bin/sh", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr + done.stdout


def test_nobody_at_stdin_is_nobody_to_ask(results: Path, tmp_path: Path) -> None:
    line = f"{sys.executable} -m harness accept --candidate {results}/records/tiny --reference reference <&-"
    done = subprocess.run(["/bin/sh", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "--yes" in done.stderr


@pytest.mark.parametrize("options", [[], ["--check"]])
def test_a_folder_that_is_not_there_has_no_tables_that_differ(tmp_path: Path, options: list[str]) -> None:
    assert main(["report", str(tmp_path / "typo"), *options]) == 2
    assert not (tmp_path / "typo").exists()


@pytest.mark.parametrize("name", ["x\n::add-mask::y.jsonl", "##[add-mask]y.jsonl", "\x1b[2Jx.jsonl"])
def test_names_of_files_command_neither_terminal_nor_runner(
    manifest: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lock(manifest) == 0
    (manifest.parent / "data" / name).write_text("{}\n", encoding="utf-8")
    (manifest.parent / "data" / "test.jsonl").unlink()
    capsys.readouterr()
    lock(manifest)
    shown = "".join(capsys.readouterr())
    assert "\x1b" not in shown
    assert "##[" not in shown
    assert not any(line.lstrip().startswith("::") for line in shown.splitlines())


def test_what_nobody_foresaw_is_no_answer(manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("harness.sources.locking.make_lock", fail)
    assert lock(manifest) == 2


def test_a_broken_record_is_named_not_left_out(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = results / "records" / "tiny" / "small.finetuned.seed=0.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**data, "vlues": {}}), encoding="utf-8")
    assert main(["report", str(results)]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == f"harness: tiny could not be judged: {path}: unknown key 'vlues'; did you mean 'values'?"


def test_where_memory_ends_one_line_says_so(
    manifest: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Python's own way would be a traceback, which takes memory, and exit code 1, which says no."""

    def starve(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("harness.experiment.manifest.read_text", starve)
    assert lock(manifest) == 2
    assert capsys.readouterr().err == "harness: too little memory\n"


@pytest.mark.parametrize("name", ["HF_HUB_DOWNLOAD_TIMEOUT", "HF_HUB_ETAG_TIMEOUT"])
def test_a_variable_that_the_hubs_client_fails_at_is_named(
    manifest: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, "soon")
    assert lock(manifest) == 2
    said = f"harness: SourceError: the environment variable {name} is 'soon', expected a whole number of seconds\n"
    assert capsys.readouterr().err == said
    monkeypatch.setenv(name, "20")
    assert lock(manifest) == 0


@pytest.mark.parametrize("command", ["verify", "doctor", "bundle", "run"])
def test_a_folder_of_manifests_that_is_not_there_ends_the_command(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    monkeypatch.chdir(results.parent)
    if command == "run":  # which has no such option
        with pytest.raises(SystemExit, match="2"):
            main([command, "--experiments", "nosuch"])
        assert "unrecognized arguments: --experiments" in capsys.readouterr().err
    else:
        assert main([command, "--experiments", "nosuch"]) == 2
        assert "nosuch" in capsys.readouterr().err


def test_the_doctor_ends_with_2_where_a_manifest_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.toml").write_text("[[[", encoding="utf-8")
    assert main(["doctor", "--experiments", str(tmp_path)]) == 2
    assert "bad.toml" in capsys.readouterr().out


@pytest.mark.parametrize("named", [True, False])
def test_verify_says_where_it_has_no_manifest_to_hold_records_against(
    results: Path, manifest: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, named: bool
) -> None:
    monkeypatch.chdir(results.parent)
    options = ["--experiments", str(manifest.parent)] if named else []
    main(["verify", str(results), *options])
    assert ("not held against manifests and locks" in capsys.readouterr().out) is not named
