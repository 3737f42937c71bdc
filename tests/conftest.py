"""Has workers share the machine, and gathers what they counted of faults into the report that HARNESS_FAULTS names.

That stands here and not beside the fault suite, since the process that starts the workers collects no tests, and so
knows the conftest.py of no folder below.
"""

from __future__ import annotations

import gc
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.fault.conftest import FAULTS, Faults

REPORT_VARIABLE = "HARNESS_FAULTS"


def pytest_configure(config: pytest.Config) -> None:
    config.stash[FAULTS] = Faults()
    # Before NumPy is loaded. Tiny models and tables gain nothing from threads, which keep a core busy with waiting for
    # each other, and workers share the cores already.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # Tests change code and files beneath each other: nothing of one may be known to another.
    os.environ["HARNESS_CACHE"] = ""


def pytest_collection_finish() -> None:
    # What was imported stays, and a test leaves little that is found by counting no references only: looking for it
    # again and again takes a tenth of the time.
    gc.freeze()
    gc.set_threshold(50_000)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Add what a worker of pytest-xdist counted; one that crashed has told nothing, and has failed its test."""
    counted = getattr(node, "workeroutput", {}).get(REPORT_VARIABLE)
    if counted is not None:
        node.config.stash[FAULTS].add(**counted)


def pytest_sessionfinish(session: pytest.Session) -> None:
    found = session.config.stash[FAULTS]
    to_controller: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if to_controller is not None:
        to_controller[REPORT_VARIABLE] = vars(found)
        return
    path = os.environ.get(REPORT_VARIABLE)
    if not path or not (found.times or found.skipped):
        return
    rows = [
        {"fault": name, "times": found.times.get(name, 0), "survived": found.survived.get(name, 0)}
        | ({"skipped": found.skipped[name]} if name in found.skipped else {})
        for name in sorted({*found.times, *found.skipped})
    ]
    Path(path).write_text(json.dumps({"schema_version": 1, "faults": rows}, indent=1) + "\n", encoding="utf-8")
