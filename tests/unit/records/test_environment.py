"""The environment of a value: machine, packages and commit, and nothing that names the host or its user."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from harness.records.environment import Environment, collect_environment, count_cpus, list_gpus, list_packages
from tests.support.records import MACHINE

IDENTITY = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *IDENTITY, *arguments],  # noqa: S607 - whichever git there is
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A committed repository with the library in a folder of its own, as ours is."""
    if shutil.which("git") is None:
        pytest.skip("there is no git")
    for name in ("harness/a.py", "benchmarks/experiments/a.toml", "results/a.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("a", encoding="utf-8")
    git(tmp_path, "init", "-q", "--template=")  # hooks are many files, and none is called
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "a")
    return tmp_path


def test_the_commit_is_told_and_the_checkout_is_clean(checkout: Path) -> None:
    environment = collect_environment(checkout / "harness")
    assert (environment.commit, environment.dirty) == (git(checkout, "rev-parse", "HEAD"), False)


@pytest.mark.parametrize("name", ["harness/a.py", "benchmarks/experiments/a.toml", "new.py"])
def test_what_could_change_a_value_makes_the_checkout_dirty(checkout: Path, name: str) -> None:
    (checkout / name).write_text("b", encoding="utf-8")
    assert collect_environment(checkout / "harness").dirty is True


def test_what_a_run_writes_does_not_make_the_checkout_dirty(checkout: Path) -> None:
    (checkout / "results" / "a.md").write_text("b", encoding="utf-8")
    (checkout / "results" / "new.md").write_text("b", encoding="utf-8")
    (checkout / ".store").mkdir()
    (checkout / ".store" / "new").write_text("b", encoding="utf-8")
    assert collect_environment(checkout / "harness").dirty is False


def test_a_copy_installed_inside_another_checkout_has_no_commit(checkout: Path) -> None:
    installed = checkout / "venv" / "harness"
    installed.mkdir(parents=True)
    (installed / "a.py").write_text("a", encoding="utf-8")
    environment = collect_environment(installed)
    assert (environment.commit, environment.dirty) == (None, None)


def test_without_a_checkout_there_is_no_commit(tmp_path: Path) -> None:
    environment = collect_environment(tmp_path)
    assert (environment.commit, environment.dirty) == (None, None)


def test_neither_host_nor_user_nor_a_path_is_told(tmp_path: Path) -> None:
    text = collect_environment(tmp_path).model_dump_json()
    assert socket.gethostname() not in text
    assert str(Path.home()) not in text
    user = getpass.getuser()
    assert user == "root" or user not in text


def test_machine_and_packages_are_told(tmp_path: Path) -> None:
    environment = collect_environment(tmp_path)
    assert environment.python == sys.version.split()[0]
    assert environment.cpu_count == count_cpus() >= 1
    assert environment.memory_bytes > 2**28
    assert environment.cpu
    assert environment.packages == list_packages()
    assert {"torch", "sentence-transformers", "numpy"} <= set(environment.packages)


@pytest.mark.parametrize(
    "changes",
    [
        {"cpu": "x"},
        {"cpu_count": 3},
        {"memory_bytes": 2**34},
        {"packages": {"torch": "1"}},
        {"architecture": "x"},
        # Two processors that a virtual machine shows under one name.
        {"cpu_model": "cpu family 25 model 17 stepping 1"},
        {"cpu_model": MACHINE.cpu_model or "x", "cpu_features": ("avx512_bf16",)},
    ],
)
def test_what_decides_speed_decides_the_fingerprint(changes: dict[str, object]) -> None:
    assert MACHINE.replace(**changes).fingerprint != MACHINE.fingerprint


@pytest.mark.parametrize("changes", [{"commit": "1" * 40}, {"dirty": True}, {"python": "3.12.0"}, {"os": "x"}])
def test_what_does_not_decide_speed_leaves_the_fingerprint(changes: dict[str, object]) -> None:
    changed: Environment = MACHINE.replace(**changes)
    assert changed.fingerprint == MACHINE.fingerprint


def install_nvidia_smi(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    command = folder / "nvidia-smi"
    command.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_gpus_are_those_the_driver_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_nvidia_smi(tmp_path, monkeypatch, "echo 'NVIDIA A10G, 535.1, 23028'; echo 'a line, of something else'")
    assert [(gpu.name, gpu.driver, gpu.memory_bytes) for gpu in list_gpus()] == [
        ("NVIDIA A10G", "535.1", 23028 * 2**20)
    ]


def test_a_driver_that_does_not_answer_is_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_nvidia_smi(tmp_path, monkeypatch, "echo 'Failed to initialize NVML'; exit 9")
    assert list_gpus() == ()


def test_the_commit_of_the_manifests_own_repository_is_told_beside_the_harnesss(checkout: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "my.toml").write_text("a", encoding="utf-8")
    git(mine, "init", "-q", "--template=")
    git(mine, "add", ".")
    git(mine, "commit", "-qm", "another")
    commits = git(checkout, "rev-parse", "HEAD"), git(mine, "rev-parse", "HEAD")
    assert commits[0] != commits[1]
    environment = collect_environment(checkout / "harness", mine)
    assert (environment.commit, environment.manifest_commit) == commits
    assert environment.manifest_dirty is False
    (mine / "my.toml").write_text("b", encoding="utf-8")
    assert collect_environment(checkout / "harness", mine).manifest_dirty is True


def test_a_record_of_before_reads_with_no_commit_of_the_manifest_and_the_same_fingerprint() -> None:
    old = {key: value for key, value in MACHINE.model_dump(mode="json").items() if not key.startswith("manifest_")}
    read = Environment.model_validate_json(json.dumps(old))
    assert (read.manifest_commit, read.manifest_dirty) == (None, None)
    assert read.replace(manifest_commit="0" * 40, manifest_dirty=True).fingerprint == read.fingerprint
