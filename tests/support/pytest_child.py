"""Runs the benchmarks as a user does, in a child that has torch already, and keeps what they said."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from tests.support.children import end_child, start_child

ROOT = Path(__file__).parents[2]
# The child has imported the library before pytest could rewrite its assertions, of which it has none.
IMPORTED = "ignore:Module already imported:pytest.PytestAssertRewriteWarning"
PLAIN = ("-p", "no:cacheprovider", "-W", IMPORTED, "--benchmark-disable-gc", "--color=no")


@dataclass(frozen=True)
class Ended:
    """How a session of pytest ended, and all that it wrote."""

    code: int
    said: str


def start_benchmarks(log: Path, *arguments: str) -> ForkServerProcess:
    """Start `pytest benchmarks/` with these arguments in a new process; what it says goes into a file."""
    return _start("test_reproduce.py", log, *arguments)


def run_benchmarks(log: Path, *arguments: str) -> Ended:
    """Run `pytest benchmarks/` with these arguments in a new process."""
    return _end(start_benchmarks(log, *arguments), log)


def run_claims(log: Path, *arguments: str) -> Ended:
    """Run `pytest benchmarks/test_claims.py`, which judges the stored records only, in a new process."""
    return _end(_start("test_claims.py", log, *arguments), log)


def _start(module: str, log: Path, *arguments: str) -> ForkServerProcess:
    return start_child(_run_pytest, log, [f"benchmarks/{module}", *PLAIN, *arguments])


def _end(child: ForkServerProcess, log: Path) -> Ended:
    return Ended(end_child(child), log.read_text(encoding="utf-8"))


def _run_pytest(log: Path, arguments: list[str]) -> None:
    import pytest

    os.chdir(ROOT)
    # pytest-benchmark would take this session for a worker's, and measure nothing.
    os.environ.pop("PYTEST_XDIST_WORKER", None)
    with log.open("wb") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    code = int(pytest.main(arguments))
    sys.stdout.flush()
    sys.exit(code)
