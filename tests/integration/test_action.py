"""The action's scripts on a repository of their own, as a runner calls them: install, run, gate, further seeds."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.installed import clean_environment, copy_checkout, lend_packages
from tests.support.tiny_trials import make_place


@dataclass(frozen=True)
class Job:
    """What a job of a runner leaves behind."""

    code: int
    said: str
    outputs: dict[str, str]
    summary: str


@pytest.fixture(scope="module")
def action(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The action's own checkout."""
    return copy_checkout(tmp_path_factory.mktemp("action") / "checkout")


@pytest.fixture(scope="module")
def runner(action: Path) -> Path:
    """The folder of a runner on which the first step has installed the harness."""
    runner = action.parent / "runner"
    done = subprocess.run(
        ["/bin/bash", action / "action" / "install.sh"],
        capture_output=True,
        text=True,
        check=False,
        env=clean_environment(
            RUNNER_TEMP=str(runner),
            PIP_ARGUMENTS="--no-deps  --quiet\n",
            PATH=f"{Path(sys.executable).parent}:/usr/bin:/bin",
        ),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lend_packages(runner / "harness" / "venv")
    return runner


@pytest.fixture(scope="module")
def first(action: Path, runner: Path) -> Job:
    """The first call, in a repository that has accepted nothing yet."""
    make_place(action.parent / "repository")
    return call(action, runner, action.parent / "repository", REFERENCE="my reference;$(touch wrong)")


@pytest.fixture(scope="module")
def repository(action: Path, runner: Path, first: Job) -> Path:
    """The repository when its first records, made by the action, are accepted."""
    folder = action.parent / "repository"
    accept = ("accept", "--candidate", first.outputs["candidate"], "--reference", "reference", "--yes")
    subprocess.run([runner / "harness/venv/bin/harness", *accept], check=True, cwd=folder, env=clean_environment())
    return folder


Call = Callable[..., Job]


@pytest.fixture
def gate(action: Path, runner: Path, repository: Path, tmp_path: Path) -> Call:
    """Call the action in a copy of the repository, with a store that knows the first run."""

    def gate(change: Callable[[Path], object] | None = None, **inputs: str) -> Job:
        folder = Path(shutil.copytree(repository, tmp_path / "repository"))
        if change is not None:
            change(folder)
        # The environment is only read, and its programs name the folder that it was made in anyway.
        shutil.copytree(runner, tmp_path / "runner", ignore=shutil.ignore_patterns("results", "venv"))
        (tmp_path / "runner" / "harness" / "venv").symlink_to(runner / "harness" / "venv")
        return call(action, tmp_path / "runner", folder, **inputs)

    return gate


def call(action: Path, runner: Path, repository: Path, **inputs: str) -> Job:
    files = {name: runner / name for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
    for file in files.values():
        file.write_text("", encoding="utf-8")
    given = {"MANIFEST": "tiny.toml", "REFERENCE": "reference", "POLICY": "", "SEEDS": "", **inputs}
    done = subprocess.run(
        ["/bin/bash", action / "action" / "gate.sh"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        cwd=repository,
        env=clean_environment(
            RUNNER_TEMP=str(runner), GITHUB_ACTIONS="true", **given, **{name: str(file) for name, file in files.items()}
        ),
        timeout=600,
    )
    lines = files["GITHUB_OUTPUT"].read_text(encoding="utf-8").splitlines()
    return Job(
        done.returncode,
        done.stdout,
        dict(line.split("=", 1) for line in lines),
        files["GITHUB_STEP_SUMMARY"].read_text(encoding="utf-8"),
    )


def improve_reference(folder: Path) -> None:
    """Let the accepted models have found every passage first."""
    for path in (folder / "reference").rglob("small.finetuned.*.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        for result in record["evaluations"].values():
            result["per_query"] = {name: [1.0] * len(values) for name, values in result["per_query"].items()}
            result["values"] = dict.fromkeys(result["values"], 1.0)
        path.write_text(json.dumps(record), encoding="utf-8")


def change_manifest(folder: Path, before: str, after: str) -> None:
    path = folder / "tiny.toml"
    text = path.read_text(encoding="utf-8")
    assert text.count(before) == 1
    path.write_text(text.replace(before, after), encoding="utf-8")


def list_seeds(job: Job) -> set[str]:
    return {path.name.split(".")[2] for path in Path(job.outputs["candidate"]).glob("*.finetuned.*.json")}


def test_what_is_installed_is_a_build_of_the_actions_own_checkout(runner: Path) -> None:
    code = "import harness; print(harness.__file__)"
    command = [str(runner / "harness" / "venv" / "bin" / "python"), "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=runner, env=clean_environment())
    assert Path(done.stdout.strip()).is_relative_to(runner)


def test_without_a_reference_it_says_how_to_make_one_and_does_not_pass(first: Job, repository: Path) -> None:
    assert (first.code, first.outputs["outcome"], first.outputs["report"]) == (2, "no reference", ""), first.said
    assert "harness accept --candidate results/records/tiny --reference my\\ reference" in first.summary
    assert (Path(first.outputs["candidate"]) / "small.baseline.json").is_file()
    assert not (repository / "wrong").exists()


def test_an_unchanged_pipeline_passes_with_the_seeds_and_the_policy_that_were_given(gate: Call) -> None:
    def change(folder: Path) -> None:
        (folder / "policy.toml").write_text("[quality]\nseeds = [0]\n", encoding="utf-8")

    job = gate(change, SEEDS="0,", POLICY="policy.toml")
    assert (job.code, job.outputs["outcome"]) == (0, "passed"), job.said
    assert "Gate passed" in Path(job.outputs["report"]).read_text(encoding="utf-8")
    assert list_seeds(job) == {"seed=0"}
    assert job.summary.count("# Gate passed") == 1
    # The verdict comes before what the run says of itself.
    assert job.summary.index("# Gate passed") < job.summary.index("# A tiny experiment")


def test_what_is_suspect_runs_further_seeds_and_is_judged_once_more(gate: Call) -> None:
    job = gate(improve_reference)
    assert (job.code, job.outputs["outcome"]) == (1, "failed"), job.said
    undecided, judged = job.said.index("Gate undecided: suspect"), job.said.index("Gate failed: ")
    assert "suspect: run seeds 2,3,4 of tiny\n" in job.said[undecided:judged]
    assert list_seeds(job) == {f"seed={seed}" for seed in range(5)}
    # Whoever reads the job's page reads the last answer only.
    assert "Gate failed" in Path(job.outputs["report"]).read_text(encoding="utf-8")
    assert (job.summary.count("# Gate failed"), job.summary.count("# Gate undecided")) == (1, 0)


def test_an_experiment_that_cannot_be_run_is_no_pass_and_the_report_names_what_is_missing(gate: Call) -> None:
    job = gate(lambda folder: (folder / "tiny.lock").unlink())
    assert (job.code, job.outputs["outcome"]) == (2, "could not run"), job.said
    assert "tiny.lock" in job.said
    assert "missing" in Path(job.outputs["report"]).read_text(encoding="utf-8")


def test_a_missed_threshold_fails_what_is_no_worse_than_the_reference(gate: Call) -> None:
    job = gate(lambda folder: change_manifest(folder, "above = 0.0", "above = 1.0"))
    assert (job.code, job.outputs["outcome"]) == (1, "threshold missed"), job.said
    assert job.summary.count("# Gate passed") == 1


@pytest.mark.parametrize("name", ["tiny.toml\noutcome=passed", "$(id).toml", "-n.toml"])
def test_a_name_that_would_write_outputs_of_its_own_is_refused(gate: Call, name: str) -> None:
    job = gate(MANIFEST=name)
    assert (job.code, job.outputs) == (2, {})
