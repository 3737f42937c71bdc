"""The workflows hold nothing that moves, give no more than is needed, and call sessions that exist."""

from __future__ import annotations

import ast
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
CALL = re.compile(r"\bnox\b(?:\s+-R|\s+--install-only)*\s+-s((?:\s+[a-z]+)+)")

each_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)


def read_jobs(path: Path) -> dict[str, dict[str, Any]]:
    jobs: dict[str, dict[str, Any]] = yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"]
    return jobs


def find_steps(path: Path) -> Iterator[dict[str, Any]]:
    for job in read_jobs(path).values():
        yield from job["steps"]


def find_sessions() -> set[str]:
    tree = ast.parse((ROOT / "noxfile.py").read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.decorator_list}


@each_workflow
def test_every_action_is_pinned_by_commit_with_its_version_beside_it(path: Path) -> None:
    used = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if re.search(r"\buses:", line)]
    assert used
    loose = [line for line in used if not re.search(r"uses: [\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line)]
    assert loose == []


def test_one_action_has_one_version() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in WORKFLOWS)
    pins = set(re.findall(r"uses: (\S+)@(\S+ # \S+)", text))
    assert len(pins) == len({name for name, _ in pins})


@each_workflow
def test_nothing_is_called_but_sessions_of_nox_that_exist(path: Path) -> None:
    called = {
        name for step in find_steps(path) for names in CALL.findall(step.get("run", "")) for name in names.split()
    }
    assert called <= find_sessions()
    assert called or path.stem == "ci"


@each_workflow
def test_jobs_end_in_time_and_may_do_what_they_need_only(path: Path) -> None:
    top = yaml.safe_load(path.read_text(encoding="utf-8"))["permissions"]
    assert top in ({}, {"contents": "read"})
    for name, job in read_jobs(path).items():
        assert job["timeout-minutes"] <= 180, name
        writes = {scope for scope, level in job.get("permissions", {}).items() if level == "write"}
        ours = [step for step in job["steps"] if "checkout" in step.get("uses", "") or "nox" in step.get("run", "")]
        assert not (writes and ours), f"{name} may write and runs code of the repository"


@each_workflow
def test_checkouts_leave_no_token_on_the_disk(path: Path) -> None:
    checkouts = [step for step in find_steps(path) if "actions/checkout@" in step.get("uses", "")]
    assert [step for step in checkouts if step["with"]["persist-credentials"] is not False] == []


@each_workflow
def test_secrets_are_in_no_step_that_installs_and_in_no_environment_that_anyone_may_use(path: Path) -> None:
    for name, job in read_jobs(path).items():
        assert "secrets." not in str({key: value for key, value in job.items() if key != "steps"}), name
        for step in job["steps"]:
            if "secrets." in str(step):
                assert job.get("environment"), f"{name}: a secret outside a protected environment"
                assert "nox -R " in step["run"], f"{name}: -R installs nothing; the step has a secret"
                assert "pip" not in step["run"]


GH = """#!/usr/bin/env bash
echo "$@" >> "$CALLS"
for part in "$@"; do
  case "$part" in body=@*) cat "${part#body=@}" >> "$CALLS" ;; esac
done
case "$*" in *"repos/o/r/pulls"*) echo 7 ;; *"--paginate"*) echo "$OLD" ;; esac
"""


def post(folder: Path, *, code: str, comment: str | None, old: str = "") -> str:
    """Run the step that posts, with a client that writes down what it is told."""
    (step,) = (one for one in read_jobs(ROOT / ".github/workflows/gate-comment.yml")["post"]["steps"] if "run" in one)
    client = folder / "bin" / "gh"
    client.parent.mkdir()
    client.write_text(GH, encoding="utf-8")
    client.chmod(0o755)
    if comment is not None:
        (folder / "comment").mkdir()
        (folder / "comment" / "comment.md").write_text(comment, encoding="utf-8")
    calls = folder / "calls"
    variables = {"REPOSITORY": "o/r", "COMMIT": "abc", "HEAD": "me:branch", "PAGE": "page", "CODE": code, "OLD": old}
    paths = {"PATH": f"{client.parent}:{os.environ['PATH']}", "RUNNER_TEMP": str(folder), "CALLS": str(calls)}
    subprocess.run(["/bin/bash", "-c", step["run"]], check=True, env={**variables, **paths})
    return calls.read_text(encoding="utf-8")


def test_a_judgement_is_posted_as_it_is(tmp_path: Path) -> None:
    said = post(tmp_path, code="0", comment="Gate passed\n")
    assert "state=success" in said
    assert "--method POST repos/o/r/issues/7/comments" in said
    assert "Gate passed" in said


def test_the_comment_that_is_there_is_kept_current(tmp_path: Path) -> None:
    assert "--method PATCH repos/o/r/issues/comments/31" in post(tmp_path, code="1", comment="worse\n", old="31")


@pytest.mark.parametrize("code", ["", "0", "2"])
def test_where_no_comment_was_made_an_error_takes_the_place_of_the_old_one(tmp_path: Path, code: str) -> None:
    said = post(tmp_path, code=code, comment=None, old="31")
    assert "state=error" in said
    assert "--method PATCH repos/o/r/issues/comments/31" in said
    assert "could not be run on abc" in said


def test_suspect_is_neither_passed_nor_failed(tmp_path: Path) -> None:
    said = post(tmp_path, code="3", comment="Gate undecided\n")
    assert "state=error" in said
    assert "further seeds" in said
