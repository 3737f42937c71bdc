"""Trials as tasks of a Ray cluster. No other module knows of Ray.

Ray places tasks, moves what they need and give back, and says when a worker is lost. It does not retry by itself, so
that attempts are counted and shown; and it is never asked for anything but plain data, so that no pickle of ours lies
anywhere.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from harness.engines.driver import DamagedError, Driver, Room, count_threads
from harness.engines.engine import EngineConfig
from harness.engines.job import Files, Outcome
from harness.engines.overview import Overview
from harness.engines.sharing import Span, count_together
from harness.engines.worker import run_job
from harness.errors import HarnessError
from harness.experiment.trial import Trial
from harness.pipeline.progress import Stream
from harness.pipeline.selection import RunConfig, Selected
from harness.records.environment import count_cpus, list_gpus
from harness.records.record import Execution, Record

# A trial whose worker is lost so often takes its workers with it, by its memory for one.
MOST_ATTEMPTS = 4
# Handed to Ray at a time, where nobody says how many: it holds what each is told.
MOST_SUBMITTED = 1000
LISTEN_SECONDS = 0.2
CONNECT_SECONDS = 10
# Libraries read how many threads they may have when they are loaded.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass
class Attempt:
    """A task that was handed to Ray."""

    trial: Trial
    number: int
    place: str = "?"
    span: Span | None = None
    submitted: float = field(default_factory=time.time)


class Board:
    """Keeps what workers say until the driver takes it; an actor, so that what is told is in order."""

    def __init__(self) -> None:
        self._told: list[tuple[Any, ...]] = []

    def add(self, *told: Any) -> None:
        """Keep what a worker says of an attempt."""
        self._told.append(told)

    def take(self) -> list[tuple[Any, ...]]:
        """Give what came since."""
        told, self._told = self._told, []
        return told


def work(attempt: int, job: str, board: Any, names: Sequence[str], *parts: Mapping[str, NDArray[np.uint8]]) -> Outcome:
    """Run a trial in a worker. Nothing is waited for in here: Ray would give the waiting task's CPU to another one.

    Args:
        attempt: the driver's number of it.
        job: what the trial is.
        board: takes what is told.
        names: what the worker may ask for.
        parts: the files under each of them; views of the node's memory, not copies.
    """
    machine = ray.util.get_node_ip_address()
    place = f"{machine} {ray.get_runtime_context().get_node_id()[:6]}"
    board.add.remote(attempt, "begin", machine, place, time.time())

    def tell(text: str, keep: bool) -> None:  # noqa: FBT001 - as a function of two values
        board.add.remote(attempt, "tell", text, keep)

    held = dict(zip(names, parts, strict=True))
    return run_job(job, ask=lambda name: _unwrap(held[name]), tell=tell)


def _wrap(files: Files) -> dict[str, NDArray[np.uint8]]:
    return {name: np.frombuffer(content, dtype=np.uint8) for name, content in files.items()}


def _unwrap(files: Mapping[str, NDArray[np.uint8]]) -> Files:
    return {name: content.tobytes() for name, content in files.items()}


class RayEngine:
    """Hands trials to a cluster, and files what comes back while any trial is waited for."""

    timed = False

    def __init__(self, config: EngineConfig, selected: Selected, run: RunConfig, stream: Stream) -> None:
        """Connect to the cluster, or start one on this machine.

        Raises:
            HarnessError: there is no cluster at that address, or what would stop every trial.
        """
        if run.device not in {"auto", "cpu", "cuda"}:
            raise HarnessError(f"device is {run.device!r}; with the engine ray expected auto, cpu or cuda: Ray assigns")
        self._overview = Overview(stream)
        self._parallel = config.parallel or MOST_SUBMITTED
        self._threads = config.cpus_per_trial or count_threads()
        _connect(config, self._threads)
        try:
            self._gpus = _choose_gpus(config, run)
            room = Room("cuda" if self._gpus else "cpu", self._gpus, self._threads)
            self._driver = Driver(selected, run, room)
            self._start()
        except BaseException:
            ray.shutdown()
            raise

    def submit(self, trials: Sequence[Trial]) -> None:
        """Take trials; those that came back in an earlier session are filed at once."""
        for trial in trials:
            record = self._driver.find_done(trial)
            if record is None:
                self._waiting.append((trial, 1))
                self._overview.wait_for([trial])
            else:
                self._ended[trial] = record
                self._overview.end(trial, f"{_summarise(record)}, as it came back before", seconds=None)
        self._fill()

    def wait(self, trial: Trial) -> Record:
        """Return a trial's record, or raise what kept it from running."""
        if trial not in self._ended and not any(trial == one for one in self._list_open()):
            self.submit([trial])
        while trial not in self._ended:
            self._step(LISTEN_SECONDS)
        ended = self._ended[trial]
        if isinstance(ended, Exception):
            raise ended
        return ended

    def close(self) -> None:
        """File what has ended, and give up the rest."""
        try:
            self._waiting.clear()
            self._step(0)
        finally:
            ray.shutdown()

    def _start(self) -> None:
        self._waiting: list[tuple[Trial, int]] = []
        self._running: dict[Any, Attempt] = {}
        self._attempts: list[Attempt] = []
        self._ended: dict[Trial, Record | Exception] = {}
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._board = ray.remote(num_cpus=0, scheduling_strategy=here)(Board).remote()
        self._parts = [ray.put(_wrap(self._driver.read(name))) for name in self._driver.names]
        self._work = ray.remote(
            num_cpus=self._threads, num_gpus=self._gpus, max_retries=0, scheduling_strategy="SPREAD"
        )(work)
        self._overview.note(_describe_cluster(self._threads, self._gpus))

    def _list_open(self) -> Iterator[Trial]:
        yield from (trial for trial, _ in self._waiting)
        yield from (attempt.trial for attempt in self._running.values())

    def _fill(self) -> None:
        while self._waiting and len(self._running) < self._parallel:
            trial, number = self._waiting.pop(0)
            told = self._driver.make_job(trial)
            reference = self._work.remote(len(self._attempts), told, self._board, self._driver.names, *self._parts)
            self._attempts.append(Attempt(trial, number))
            self._running[reference] = self._attempts[-1]

    def _step(self, seconds: float) -> None:
        """Wait a moment for something to end, and take what was told."""
        ready: list[Any] = []
        if self._running:
            waited_for = list(self._running)
            ready, _ = ray.wait(waited_for, num_returns=len(waited_for), timeout=seconds, fetch_local=False)
        self._listen()
        for reference in ready:
            self._finish(reference)
        self._fill()
        self._overview.redraw()

    def _listen(self) -> None:
        for number, kind, *told in ray.get(self._board.take.remote()):
            attempt = self._attempts[number]
            if kind == "begin":
                machine, attempt.place, begun = told
                attempt.span = Span(machine, begun)
                self._overview.begin(attempt.trial, attempt.place, attempt.number)
            else:
                self._overview.tell(attempt.trial, told[0], keep=told[1])

    def _finish(self, reference: Any) -> None:
        attempt = self._running.pop(reference)
        trial = attempt.trial
        try:
            outcome: Outcome = ray.get(reference)
            if attempt.span is not None:
                attempt.span = Span(attempt.span.machine, outcome.begun, outcome.ended)
            record = self._driver.receive(trial, outcome, self._describe(attempt))
        except RayTaskError as error:
            # Of a kind that nobody foresaw: shown with the worker's traceback.
            self._fail(attempt, error)
        except (RayError, DamagedError) as error:
            self._lose(attempt, error)
        except HarnessError as error:
            self._fail(attempt, type(error)(f"{error} (on {attempt.place})"))
        else:
            self._ended[trial] = record
            self._overview.end(trial, _summarise(record), seconds=outcome.ended - outcome.begun)

    def _fail(self, attempt: Attempt, error: Exception) -> None:
        self._ended[attempt.trial] = error
        first = str(error).partition("\n")[0]
        self._overview.end(attempt.trial, f"{type(error).__name__}: {first}", seconds=None, failed=True)

    def _lose(self, attempt: Attempt, error: Exception) -> None:
        """Have a trial run again whose worker, node or files were lost; errors of its own never come here."""
        if attempt.span is not None:
            attempt.span.ended = time.time()
        reason = " ".join(str(error).split())
        if attempt.number >= MOST_ATTEMPTS:
            said = f"{attempt.trial.id}: lost {attempt.number} times, last on {attempt.place}: {reason}"
            self._fail(attempt, HarnessError(said))
            return
        self._overview.lose(attempt.trial, f"{type(error).__name__}: {reason}")
        self._waiting.insert(0, (attempt.trial, attempt.number + 1))

    def _describe(self, attempt: Attempt) -> Execution:
        spans = [one.span for one in self._attempts if one.span is not None]
        together = 1 if attempt.span is None else count_together(attempt.span, spans)
        return Execution(
            engine="ray", attempts=attempt.number, trials_on_machine=together, gpus_per_trial=float(self._gpus)
        )


def _connect(config: EngineConfig, threads: int) -> None:
    # Nothing is reported to anybody.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    variables = dict.fromkeys(THREAD_VARIABLES, str(threads)) | {"TOKENIZERS_PARALLELISM": "false"}
    where: dict[str, Any] = {"address": config.address}
    if config.address is None:
        # An address in the environment is for who asks for `auto`.
        where = {"address": "local", "num_cpus": max(count_cpus(), threads * (config.parallel or 1))}
        where["include_dashboard"] = False
    try:
        _knock(config.address or "")
        ray.init(**where, runtime_env={"env_vars": variables}, log_to_driver=False, logging_level="ERROR")
    except (OSError, RuntimeError, ValueError) as cause:
        reason = " ".join(str(cause).split())
        raise HarnessError(f"no Ray cluster at {config.address or 'this machine'}: {reason}") from cause


def _knock(address: str) -> None:
    """Ask whether anybody listens at HOST:PORT: Ray would try for a minute, and then end the process.

    Raises:
        OSError: nobody does.
    """
    host, _, port = address.rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()


def _choose_gpus(config: EngineConfig, run: RunConfig) -> float:
    there = ray.cluster_resources().get("GPU", 0)
    gpus = config.gpus_per_trial
    if run.device == "cpu":
        gpus = gpus or 0
    if gpus is None:
        gpus = 1 if there or (config.address is None and list_gpus()) or run.device == "cuda" else 0
    if run.device == "cpu" and gpus:
        raise HarnessError(f"device is cpu and gpus_per_trial {gpus:g}; leave one of them out")
    return gpus


def _describe_cluster(threads: int, gpus: float) -> str:
    """Say what the cluster has, and whether any node has room for a trial; more may come where it grows by itself."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    fits = any(node.get("CPU", 0) >= threads and node.get("GPU", 0) >= gpus for node in nodes)
    total = [f"{sum(node.get(kind, 0) for node in nodes):g} {kind}s" for kind in ("CPU", "GPU")]
    said = f"ray: {len(nodes)} nodes with {', '.join(total)}; a trial takes {threads} CPUs and {gpus:g} GPUs"
    return said if fits else f"{said}, which no node has: waiting for one that does"


def _summarise(record: Record) -> str:
    primary = record.experiment.evaluation.primary
    return f"{primary} {record.values[primary]:.4f}"
