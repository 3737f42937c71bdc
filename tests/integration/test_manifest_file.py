"""`pytest my.toml` in a folder that holds only manifest and lock: trials, then claims, with all that pytest can do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from harness.cli.main import main
from tests.support.manifests import write_data, write_manifest
from tests.support.tiny_model import build_tiny_model

ROOT = Path(__file__).parents[2]
BASELINE, TRAINED = "test_experiment_trial[tiny/small/baseline]", "test_experiment_trial[tiny/small/finetuned/seed0]"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with my.toml and my.lock; model and data are elsewhere."""
    sources = tmp_path_factory.mktemp("sources")
    build_tiny_model(sources / "model")
    write_data(sources / "data")
    folder = tmp_path_factory.mktemp("mine")
    text = (
        write_manifest(sources / "draft").read_text(encoding="utf-8").replace('path = "', f'path = "../{sources.name}/')
    )
    start, end = text.index("[[claims]]"), text.index("[prices_usd_per_hour]")
    (folder / "tiny.toml").write_text(text[:start] + text[end:], encoding="utf-8")
    assert main(["lock", str(folder / "tiny.toml"), "--store", str(sources / "store")]) == 0
    return folder


def run_pytest(
    folder: Path,
    *arguments: str,
    module: tuple[str, ...] = ("pytest", "tiny.toml"),
    kibibytes: int | None = None,
    **variables: str,
) -> tuple[int, str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    environment |= {"PYTHONPATH": str(ROOT), **variables}
    command = [sys.executable, "-m", *module, *arguments]
    if kibibytes is not None:
        command = ["bash", "-c", f'ulimit -v {kibibytes}; exec "$@"', "bash", *command]
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return ended.returncode, ended.stdout + ended.stderr


@pytest.fixture(scope="module")
def first(place: Path) -> tuple[int, str]:
    options = ("--harness-models=small", "--harness-seeds=1", "--harness-device=cpu")
    return run_pytest(place, *options, "--junitxml=junit.xml", "--benchmark-json=times.json")


def test_trials_run_before_claims_and_are_timed(place: Path, first: tuple[int, str]) -> None:
    code, said = first
    assert code == 0, said
    cases = [case.get("name") for case in ET.parse(place / "junit.xml").iter("testcase")]  # noqa: S314 - our own
    claims = [f"test_experiment_claims[tiny/small/{variant}]" for variant in ("baseline", "finetuned")]
    assert cases == [BASELINE, TRAINED, *claims]
    timed = json.loads((place / "times.json").read_text(encoding="utf-8"))["benchmarks"]
    assert [benchmark["extra_info"]["trial"] for benchmark in timed] == [
        "tiny/small/baseline",
        "tiny/small/finetuned/seed0",
    ]
    assert "experiment tiny: as asked" in said
    assert (place / "results" / "tiny.md").is_file()
    assert (place / ".store" / "train").is_dir()


def test_a_case_is_chosen_by_its_seed(place: Path, first: tuple[int, str]) -> None:
    assert first[0] == 0
    code, said = run_pytest(
        place, "--harness-models=small", "--harness-seeds=1", "--harness-device=cpu", "-k", "seed0", "-v"
    )
    assert code == 0, said
    assert "1 passed, 3 deselected" in said
    assert TRAINED in said


def test_the_last_failed_case_alone_is_run_again(place: Path, first: tuple[int, str]) -> None:
    """A seed without a record fails its model's claims, with exit code 2; --lf then takes that case alone."""
    assert first[0] == 0
    options = ("--harness-models=small", "--harness-seeds=2", "--harness-device=cpu")
    code, said = run_pytest(place, *options, "-k", "claims")
    assert code == 2, said
    assert "tiny/small/finetuned/seed1: there is no record of this trial" in said
    code, said = run_pytest(place, *options, "--lf", "-v")
    assert code == 2, said
    assert "1 failed" in said
    assert "passed" not in said


def test_harness_run_is_the_same_in_short(place: Path, first: tuple[int, str]) -> None:
    assert first[0] == 0
    options = ("tiny", "--models", "small", "--seeds", "1", "--device", "cpu", "--", "-v")
    code, said = run_pytest(place, *options, module=("harness", "run"))
    assert code == 0, said
    assert "4 passed" in said
    assert "test_experiment_claims[tiny/small/finetuned]" in said
    assert "cached, took" in said


OPTIONS = ("--harness-models=small", "--harness-seeds=1", "--harness-device=cpu")
LEAK = """
def pytest_runtest_setup(item):
    cycle = [open(__file__)]
    cycle.append(cycle)
"""
HUNGRY = """
import pytest

render = pytest.ExceptionInfo.getrepr

def getrepr(self, *arguments, **options):
    if isinstance(self.value, MemoryError):
        raise MemoryError
    return render(self, *arguments, **options)

pytest.ExceptionInfo.getrepr = getrepr

def pytest_runtest_call(item):
    raise MemoryError("8 GiB")
"""


def test_a_cache_that_cannot_be_written_is_no_missed_threshold(place: Path, first: tuple[int, str]) -> None:
    """As in a checkout that is read-only: pytest warns as it ends, and warnings are errors here."""
    assert first[0] == 0
    code, said = run_pytest(place, *OPTIONS, "-W", "error", "-o", f"cache_dir={place / 'tiny.toml' / 'cache'}")
    assert code == 2, said
    assert "could not run: PytestCacheWarning: " in said


def test_a_handle_that_a_library_leaks_is_no_missed_threshold(
    place: Path, first: tuple[int, str], tmp_path: Path
) -> None:
    """The leak is found as pytest ends, after it has said that all passed."""
    assert first[0] == 0
    (tmp_path / "leaking.py").write_text(LEAK, encoding="utf-8")
    search = os.pathsep.join((str(tmp_path), str(ROOT)))
    code, said = run_pytest(place, *OPTIONS, "-W", "error", "-p", "leaking", PYTHONPATH=search)
    assert code == 2, said
    assert "4 passed" in said
    assert "could not run: PytestUnraisableExceptionWarning: " in said
    assert "Traceback" not in said


def test_an_unrelated_suite_that_leaks_ends_as_it_does_without_the_plugin(tmp_path: Path) -> None:
    (tmp_path / "leaking.py").write_text(LEAK, encoding="utf-8")
    (tmp_path / "test_mine.py").write_text("def test_it():\n    pass\n", encoding="utf-8")
    search = os.pathsep.join((str(tmp_path), str(ROOT)))
    arguments = ("-W", "error", "-p", "leaking", "-p", "no:cacheprovider")
    ended = [
        run_pytest(tmp_path, *arguments, *off, module=("pytest",), PYTHONPATH=search)
        for off in ((), ("-p", "no:harness"))
    ]
    assert ended[0][0] == ended[1][0]
    assert "could not run" not in ended[0][1]


def test_too_little_memory_for_torch_is_said_and_no_missed_threshold(place: Path, tmp_path: Path) -> None:
    places = (f"--harness-store={tmp_path / 'store'}", f"--harness-results={tmp_path / 'results'}")
    code, said = run_pytest(place, *OPTIONS, *places, kibibytes=400_000)
    assert code == 2, said
    assert "too little memory: " in said
    assert "Traceback" not in said


def test_where_memory_ends_in_a_trial_not_even_a_traceback_is_made_of_it(
    place: Path, first: tuple[int, str], tmp_path: Path
) -> None:
    """To show one takes memory too: pytest ran out of it once more, and ended with an error of its own."""
    assert first[0] == 0
    (tmp_path / "hungry.py").write_text(HUNGRY, encoding="utf-8")
    search = os.pathsep.join((str(tmp_path), str(ROOT)))
    code, said = run_pytest(place, *OPTIONS, "-p", "hungry", PYTHONPATH=search)
    assert code == 2, said
    assert "too little memory: MemoryError: 8 GiB" in said
    assert "INTERNALERROR" not in said


# Registered before ours, and so carried out behind it: as a library's own end is.
CRASHING = """
import atexit, os, signal
atexit.register(lambda: os.kill(os.getpid(), signal.SIGSEGV))
"""


def test_a_library_that_crashes_as_it_ends_without_memory_takes_no_verdict_along(
    place: Path, first: tuple[int, str], tmp_path: Path
) -> None:
    """With `ulimit -v 800000` all was said, and then the process ended by signal 11."""
    assert first[0] == 0
    (tmp_path / "crashing.py").write_text(HUNGRY + CRASHING, encoding="utf-8")
    search = os.pathsep.join((str(tmp_path), str(ROOT)))
    code, said = run_pytest(place, *OPTIONS, "-p", "crashing", PYTHONPATH=search)
    assert code == 2, said
    assert "too little memory: MemoryError: 8 GiB" in said


GREEDY = """
import pytest

def pytest_collection_finish():
    raise RuntimeError("any error")

@pytest.hookimpl(tryfirst=True)
def pytest_internalerror():
    raise MemoryError
"""


def test_where_pytest_has_no_memory_to_report_an_error_it_is_said_and_no_missed_threshold(
    place: Path, tmp_path: Path
) -> None:
    (tmp_path / "greedy.py").write_text(GREEDY, encoding="utf-8")
    search = os.pathsep.join((str(tmp_path), str(ROOT)))
    code, said = run_pytest(place, *OPTIONS, "-p", "greedy", PYTHONPATH=search)
    assert code == 2, said
    assert "could not run: too little memory" in said
    assert "Traceback" not in said
