"""Child processes that can be killed at any time, forked from one server that has imported torch already."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess, SpawnProcess
from multiprocessing.forkserver import set_forkserver_preload
from typing import Any

PRELOADED = [
    "harness.pipeline.run_trial",
    "harness.models.trainer",
    "harness.models.packed_encoder",
    "sentence_transformers",
    "datasets",
]
CHILD_SECONDS = 300


def start_child(act: Callable[..., Any], *arguments: Any) -> ForkServerProcess:
    """Start a function of a module in a new process, which a kill of this one also ends."""
    # The server imports, and never computes: forking after torch has used its threads would hang the child.
    set_forkserver_preload(PRELOADED)
    child = multiprocessing.get_context("forkserver").Process(target=_act, args=(act, *arguments), daemon=True)
    child.start()
    return child


def end_child(child: ForkServerProcess | SpawnProcess) -> int:
    """Wait for a child and return its exit code; a signal's is its negative number."""
    child.join(CHILD_SECONDS)
    if child.exitcode is None:
        child.kill()
        raise TimeoutError(f"a child took more than {CHILD_SECONDS} s")
    return child.exitcode


def run_in_child(act: Callable[..., Any], *arguments: Any) -> int:
    """Run a function in a new process and return the exit code."""
    return end_child(start_child(act, *arguments))


def die() -> None:
    """Be killed, as by `kill -9`: nothing of this process runs any more."""
    os.kill(os.getpid(), signal.SIGKILL)


def _act(act: Callable[..., Any], *arguments: Any) -> None:
    import torch

    # Collecting garbage would visit, and so copy, the million objects of the imports, again and again.
    gc.freeze()
    # A shell that starts a job in the background has it ignore interrupts, and children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Tiny models gain nothing from threads, which wait for each other for long where a machine is busy.
    torch.set_num_threads(1)
    act(*arguments)
