"""Runs the Hub's real clients in child processes, since they read the endpoint when they are imported."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

CANARY = "hf_canary"
"""The token that tests give to clients; `run_child` fails where it comes out again."""

PRELUDE = """
import json, sys, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

def outcome(act):
    start = time.monotonic()
    try:
        return {"value": act(), "seconds": time.monotonic() - start}
    except Exception as error:
        cause = error.__cause__
        response = getattr(error, "response", None) or getattr(cause, "response", None)
        return {"error": type(error).__name__, "cause": type(cause).__name__, "text": str(error),
                "status": getattr(response, "status_code", None), "seconds": time.monotonic() - start}
"""


def run_child(environment: dict[str, str], script: str, *arguments: object, **extra: str) -> Any:
    """Run `script` with `sys.argv[1:]` and return the JSON in its last line of output.

    `outcome(act)`, which tells what a call returned or raised, and common imports stand before the script. Variables
    in `extra` are added to the environment.

    Raises:
        AssertionError: the script failed, or said the token.
    """
    command = [sys.executable, "-c", PRELUDE + script, *map(str, arguments)]
    done = subprocess.run(command, env=environment | extra, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert CANARY not in done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def write_files(folder: Path, files: dict[str, bytes]) -> Path:
    """Write files below `folder` and return it."""
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


def read_files(folder: Path) -> dict[str, bytes]:
    """Read what `write_files` wrote."""
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
