"""A tiny experiment whose published stack is today's packages: its environment is made already, in a line of shell."""

from __future__ import annotations

import sys
from pathlib import Path

from harness.experiment.stack import Stack
from harness.pipeline.stack_environment import READY_FILE, hash_stack
from harness.pipeline.store import STACKS
from tests.support.tiny_trials import Place, make_place

PINS = ("torch==2.1.2", "sentence-transformers==3.0.1", "transformers==4.41.2")
STACK = f"""
[stacks.published]
python = "3.11"
packages = [{", ".join(f'"{pin}"' for pin in PINS)}]
"""


def make_stack_place(folder: Path) -> Place:
    """Write the experiment, and stand in for its stack by the interpreter that runs the tests."""
    place = make_place(folder)
    with place.manifest.open("a", encoding="utf-8") as manifest:
        manifest.write(STACK)
    environment = place.store / STACKS / "environments" / hash_stack(Stack(python="3.11", packages=PINS))
    interpreter = environment / "bin" / "python"
    interpreter.parent.mkdir(parents=True)
    interpreter.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n', encoding="utf-8")
    interpreter.chmod(0o755)
    (environment / READY_FILE).write_text("", encoding="utf-8")
    return place
