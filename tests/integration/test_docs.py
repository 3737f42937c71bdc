"""What the docs show of a command's output is what the command says."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.docs import PAGES, ROOT, Shown, list_commands
from tests.support.tiny_model import build_tiny_model

COMMAND = (sys.executable, "-c", "import sys; from harness.cli.main import main; sys.exit(main())")
SHOWN = [shown for page in PAGES for shown in list_commands(page)]
# The next command of a block tells the exit code of the one before.
PAIRS = [
    (before, int(after.output))
    for before, after in itertools.pairwise(SHOWN)
    if after.command == "echo $?" and before.command.startswith("harness ")
]


@pytest.mark.parametrize(("shown", "code"), PAIRS, ids=[shown.command for shown, _ in PAIRS])
def test_a_command_says_what_the_docs_show(shown: Shown, code: int) -> None:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("GITHUB_")}
    done = subprocess.run(
        [*COMMAND, *shown.arguments[1:]],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=plain | {"PYTHONIOENCODING": "utf-8", "PYTHONPATH": str(ROOT)},
    )
    assert done.stdout == shown.output
    assert done.returncode == code


def test_the_gate_is_shown_passing_then_undecided_then_failing() -> None:
    assert [code for _, code in PAIRS] == [0, 3, 1]


def test_init_says_of_the_examples_table_what_the_tutorial_shows(tmp_path: Path) -> None:
    shown = [one for one in SHOWN if one.arguments[:2] == ["harness", "init"] and one.output.strip()]
    assert [one.page.name for one in shown] == ["tutorial.md"]
    shutil.copy(ROOT / "examples" / "other-repository" / "faq.csv", tmp_path)
    build_tiny_model(tmp_path / "all-MiniLM-L6-v2")
    done = subprocess.run(
        [*COMMAND, *shown[0].arguments[1:]],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=os.environ | {"PYTHONIOENCODING": "utf-8", "PYTHONPATH": str(ROOT)},
    )
    assert done.stdout == shown[0].output, done.stderr
