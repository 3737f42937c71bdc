"""The plugin acts on its own cases alone, and says at once what it cannot run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.manifests import write_manifest

ROOT = Path(__file__).parents[2]

UNRELATED = """
import sys
import pytest

LOADED = sorted(name for name in ("numpy", "pydantic", "torch", "harness.pytest_cases") if name in sys.modules)

@pytest.fixture
def trial():
    return 7

@pytest.fixture(params=["a", "b"])
def cell(request):
    return request.param

def test_fixtures(trial, cell, pytestconfig):
    assert (trial, pytestconfig.getoption("device")) == (7, "mine")
    assert cell in "ab"

@pytest.mark.parametrize("trial", [1, 2])
def test_trial(trial, selected, progress):
    assert trial in (1, 2)
    assert selected + progress == 3

@pytest.fixture
def selected():
    return 1

@pytest.fixture
def progress():
    return 2

def test_nothing_heavy_is_loaded():
    assert LOADED == []
"""

CONFTEST = """
def pytest_addoption(parser):
    for name in ("--device", "--models", "--seeds", "--store", "--results", "--experiment"):
        parser.addoption(name, default="mine")
"""


def run_pytest(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run pytest in a folder of its own, with the plugin as it is installed for everybody."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "HARNESS"))}
    environment |= {"PYTHONPATH": str(ROOT), **variables}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["one process", "workers"])
def test_an_unrelated_suite_with_names_like_ours_passes(tmp_path: Path, workers: tuple[str, ...]) -> None:
    (tmp_path / "test_mine.py").write_text(UNRELATED, encoding="utf-8")
    (tmp_path / "conftest.py").write_text(CONFTEST, encoding="utf-8")
    (tmp_path / "some.toml").write_text("[tool]\n", encoding="utf-8")
    ended = run_pytest(tmp_path, *workers)
    assert ended.returncode == 0, ended.stdout
    assert "5 passed" in ended.stdout


def test_two_manifests_end_with_2_at_once(tmp_path: Path) -> None:
    write_manifest(tmp_path)
    (tmp_path / "second.toml").write_text("", encoding="utf-8")
    ended = run_pytest(tmp_path, "tiny.toml", "second.toml")
    assert ended.returncode == 2
    assert "one manifest a session, found tiny.toml, second.toml" in ended.stderr


@pytest.mark.parametrize("broken", ["schema_version = 1\n", "not toml"])
def test_a_manifest_that_cannot_be_read_ends_with_2_and_one_line(tmp_path: Path, broken: str) -> None:
    (tmp_path / "my.toml").write_text(broken, encoding="utf-8")
    ended = run_pytest(tmp_path, "my.toml")
    assert ended.returncode == 2, ended.stdout
    assert "ManifestError: " in ended.stdout
    assert "Traceback" not in ended.stdout + ended.stderr


def test_workers_are_refused_before_any_trial(tmp_path: Path) -> None:
    folder = ROOT / "benchmarks" / "experiments"
    for name in ("hpo.toml", "hpo.lock"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    ended = run_pytest(tmp_path, "hpo.toml", "-n", "2", "-p", "no:benchmark")
    assert ended.returncode == 2, ended.stdout
    assert "an experiment runs in one process: workers (-n) would switch its timing off" in ended.stdout
    assert not (tmp_path / "results").exists()


def run_strictly(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run `harness run` on a manifest that cannot be read, in a project that makes warnings errors."""
    (folder / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n", encoding="utf-8")
    (folder / "my.toml").write_text("schema_version = 2\n", encoding="utf-8")
    command = [sys.executable, *options, "-m", "harness", "run", "my", "--", "-p", "no:cacheprovider"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_a_project_that_makes_warnings_errors_meets_none_of_ours(tmp_path: Path) -> None:
    ended = run_strictly(tmp_path)
    assert ended.returncode == 2
    assert "ManifestError: " in ended.stdout
    assert "PytestAssertRewriteWarning" not in ended.stdout + ended.stderr


def test_a_warning_that_ends_pytest_is_no_missed_threshold(tmp_path: Path) -> None:
    """Of -O pytest warns before it has any case."""
    ended = run_strictly(tmp_path, "-O")
    assert ended.returncode == 2
    assert "PytestConfigWarning" in ended.stdout + ended.stderr


BAD_WORDS = 'title = "A tiny experiment"', 'title = "%0A::add-mask::x ::set-output::"'


def list_commands(said: str) -> list[str]:
    """Return the lines that a runner of GitHub would carry out."""
    return [line for line in said.splitlines() if line.lstrip().startswith("::")]


@pytest.mark.parametrize("broken", [False, True], ids=["title", "error"])
@pytest.mark.parametrize("quiet", [(), ("-q",), ("-qq", "--no-header")], ids=["", "-q", "-qq"])
def test_on_github_nothing_of_a_strangers_manifest_is_carried_out(
    tmp_path: Path, quiet: tuple[str, ...], *, broken: bool
) -> None:
    """From before the first of a stranger's words to after the last one the runner listens to one secret word only."""
    manifest = write_manifest(tmp_path)
    text = manifest.read_text(encoding="utf-8").replace(*BAD_WORDS)
    manifest.write_text(text + ('\n"::error::" = 1\n' if broken else ""), encoding="utf-8")
    ended = run_pytest(tmp_path, "tiny.toml", "--collect-only", *quiet, GITHUB_ACTIONS="true")
    said = ended.stdout
    stop, resume = list_commands(said)
    token = stop.removeprefix("::stop-commands::")
    assert re.fullmatch("[0-9a-f]{32}", token)
    assert resume == f"::{token}::"
    before, after = said.split(stop)[0], said.split(resume)[1]
    assert "add-mask" not in before + after
    assert "tiny experiment" not in before + after
    # Without a lock nothing is collected, so that both say what is wrong.
    assert ended.returncode == 2
    assert "Error: " in said.split(stop)[1]


def test_a_line_end_in_a_title_is_refused_before_it_is_shown(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path)
    text = manifest.read_text(encoding="utf-8")
    manifest.write_text(text.replace(BAD_WORDS[0], 'title = "a\\n::add-mask::x"'), encoding="utf-8")
    ended = run_pytest(tmp_path, "tiny.toml")
    assert ended.returncode == 2
    assert "title: found 'a\\n::add-mask::x': U+000A at character 1" in ended.stdout
    assert list_commands(ended.stdout) == []


def test_an_unrelated_suite_prints_no_workflow_command(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text("def test_it():\n    pass\n", encoding="utf-8")
    ended = run_pytest(tmp_path, GITHUB_ACTIONS="true")
    assert (ended.returncode, list_commands(ended.stdout)) == (0, [])
