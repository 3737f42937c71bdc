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
EXAMPLE = ROOT / "examples" / "other-repository" / ".github" / "workflows" / "gate.yml"
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
    pinned = r"uses: ([\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$|\./ )"
    assert [line for line in used if not re.search(pinned, line)] == []


def test_one_action_has_one_version() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in (*WORKFLOWS, EXAMPLE))
    pins = set(re.findall(r"uses: (\S+)@(\S+ # \S+)", text))
    assert len(pins) == len({name for name, _ in pins})


@each_workflow
def test_nothing_is_called_but_sessions_of_nox_that_exist(path: Path) -> None:
    called = {
        name for step in find_steps(path) for names in CALL.findall(step.get("run", "")) for name in names.split()
    }
    assert called <= find_sessions()
    # CI's script calls them there, and the gate is the action, as others use it.
    assert called or path.stem in {"ci", "gate"}


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


ACTION = ROOT / "action.yml"


def test_no_input_of_the_action_reaches_a_shell_but_as_a_variable() -> None:
    steps = yaml.safe_load(ACTION.read_text(encoding="utf-8"))["runs"]["steps"]
    for step in [*steps, *(one for path in WORKFLOWS for one in find_steps(path))]:
        assert "${{" not in step.get("run", ""), step
    # Nor may a script take a variable apart, or run what is in one.
    for step in steps:
        script = ROOT / step["run"].removeprefix('bash "$GITHUB_ACTION_PATH/').removesuffix('"')
        text = script.read_text(encoding="utf-8")
        assert text.startswith("#!/usr/bin/env bash\n")
        assert "set -euo pipefail" in text
        assert "eval" not in text
        assert re.findall(r"""(?<!["{\w=])\$\{?[A-Za-z]\w*""", re.sub(r"#.*|'[^']*'|\"[^\"]*\"", "", text)) == []
        assert [name for name in step["env"] if f"{name}" not in text] == []


def test_the_action_gives_what_it_promises() -> None:
    action = yaml.safe_load(ACTION.read_text(encoding="utf-8"))
    script = (ROOT / "action" / "gate.sh").read_text(encoding="utf-8")
    outcomes = re.findall(r'end [0-3] "([a-z ]+)"', script)
    said = action["outputs"]["outcome"]["description"]
    assert sorted(set(outcomes)) == sorted(re.split(r", | or ", said))
    for name, output in action["outputs"].items():
        assert output["value"] == f"${{{{ steps.gate.outputs.{name} }}}}"
        assert f'"{name}=' in script
    given = {value for step in action["runs"]["steps"] for value in step["env"].values()}
    assert given == {f"${{{{ inputs.{name} }}}}" for name in action["inputs"]}


@pytest.mark.parametrize("path", [ROOT / ".github" / "workflows" / "gate.yml", EXAMPLE], ids=["ours", "example"])
def test_a_workflow_calls_the_action_with_inputs_that_it_has_and_reads_outputs_that_it_gives(path: Path) -> None:
    action = yaml.safe_load(ACTION.read_text(encoding="utf-8"))
    (step,) = (step for step in find_steps(path) if step.get("id") == "gate")
    assert step["uses"] == "./" or step["uses"].startswith("OWNER/retrieval-harness@")
    required = {name for name, given in action["inputs"].items() if given.get("required")}
    assert required <= set(step["with"]) <= set(action["inputs"])
    for name in ("manifest", "reference"):
        assert path == EXAMPLE or (ROOT / step["with"][name]).exists()
    read = set(re.findall(r"steps\.gate\.outputs\.(\w+)", path.read_text(encoding="utf-8")))
    assert read
    assert read <= set(action["outputs"])


def test_the_gates_page_has_the_examples_workflow_and_every_input_output_and_outcome() -> None:
    page = (ROOT / "docs" / "gate.md").read_text(encoding="utf-8")
    assert f"```yaml\n{EXAMPLE.read_text(encoding='utf-8')}```\n" in page
    inputs, outputs, outcomes = re.findall(r"(?:^\|.*\n)+", page.partition("<!-- action -->")[2], flags=re.MULTILINE)[
        :3
    ]
    action = yaml.safe_load(ACTION.read_text(encoding="utf-8"))
    said = dict(re.findall(r"^\| `([a-z-]+)` \| (\w+) \|", inputs, flags=re.MULTILINE))
    assert said == {name: "required" if given.get("required") else "none" for name, given in action["inputs"].items()}
    assert re.findall(r"^\| `([a-z-]+)`", outputs, flags=re.MULTILINE) == list(action["outputs"])
    script = (ROOT / "action" / "gate.sh").read_text(encoding="utf-8")
    ends = {(name, code) for code, name in re.findall(r'end ([0-3]) "([a-z ]+)"', script)}
    assert set(re.findall(r"^\| `([a-z ]+)` \| ([0-3]) \|", outcomes, flags=re.MULTILINE)) == ends
