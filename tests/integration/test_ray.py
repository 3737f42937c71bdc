"""Trials on a real Ray cluster of two nodes with stores of their own: values as ever, whatever is lost on the way."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil
import pytest

from harness.cli.main import main
from harness.engines.engine import EngineConfig
from harness.errors import HarnessError
from harness.pipeline.selection import RunConfig
from harness.records.record import Record, read_records
from tests.support.tiny_trials import Place, make_place, summarise

pytest.importorskip("ray", reason="ray is not installed: nox -s cluster installs the extra")

ROOT = Path(__file__).parents[2]
STEMS = ("small.baseline", "small.finetuned.seed=0", "small.finetuned.seed=1")
PATIENCE_SECONDS = 240
# A shell that starts a job in the background has it ignore interrupts, and children inherit that.
MAIN = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from harness.cli.main import main
raise SystemExit(main())
"""
TOKEN = secrets.token_hex(32)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work where no manifests of others are at hand."""
    monkeypatch.chdir(tmp_path)


@dataclass(frozen=True)
class Cluster:
    """Two nodes on this machine."""

    address: str
    stores: tuple[Path, Path]
    nodes: tuple[int, ...]

    def forget(self) -> None:
        """Empty the nodes' stores."""
        for store in self.stores:
            shutil.rmtree(store, ignore_errors=True)

    def list_workers(self) -> list[psutil.Process]:
        """Return the processes of this cluster that run a trial, as Ray calls them meanwhile."""
        return [process for node in self.nodes for process in list_workers(node)]


def list_workers(parent: int) -> list[psutil.Process]:
    """Return the processes below one that run a trial, as Ray calls them meanwhile."""
    found = []
    for process in psutil.Process(parent).children(recursive=True):
        with suppress(psutil.Error):
            if process.cmdline()[:1] and process.cmdline()[0].startswith("ray::work"):
                found.append(process)
    return found


def spell_environment(**more: str) -> dict[str, str]:
    """Return the environment of a process that finds this tree's harness, and computes with one thread."""
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        # A head takes up a token where one lies in the home folder, and then all need it.
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": TOKEN,
        "TOKENIZERS_PARALLELISM": "false",
        **more,
    }


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A head and a second node, each with two CPUs, its store its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"127.0.0.1:{port}"
    stores = (tmp_path_factory.mktemp("one") / "store", tmp_path_factory.mktemp("two") / "store")
    start = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus=2"]
    common = ["--object-store-memory=100000000", "--disable-usage-stats"]
    head = [*start, "--head", f"--port={port}", "--node-ip-address=127.0.0.1", "--include-dashboard=false", *common]
    nodes: list[subprocess.Popen[bytes]] = []
    try:
        for command, store in zip((head, [*start, f"--address={address}", *common]), stores, strict=True):
            log = store.with_suffix(".log")
            with log.open("wb") as stream:
                nodes.append(subprocess.Popen(command, env=spell_environment(HARNESS_STORE=str(store)), stdout=stream))
            wait_until(partial(has_started, log))
        yield Cluster(address, stores, tuple(node.pid for node in nodes))
    finally:
        for node in nodes:
            for process in psutil.Process(node.pid).children(recursive=True):
                process.kill()
            node.kill()
            node.wait()


def has_started(log: Path) -> bool:
    """Say whether a node has said so."""
    return "Ray runtime started" in log.read_text(encoding="utf-8")


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until something is so."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not so after {PATIENCE_SECONDS} s")
        time.sleep(0.1)


@dataclass(frozen=True)
class Driver:
    """A session that was started, and what it says."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def said(self) -> str:
        """All that it wrote so far."""
        return self.log.read_text(encoding="utf-8")

    def end(self) -> int:
        """Wait for its end and return the exit code."""
        try:
            return self.process.wait(PATIENCE_SECONDS)
        finally:
            self.process.kill()


def start(place: Place, *options: str) -> Driver:
    """Start `harness run` as a user does."""
    log = place.results.with_suffix(".log")
    log.parent.mkdir(parents=True, exist_ok=True)
    places = [f"--store={place.store}", f"--results={place.results}"]
    command = [sys.executable, "-c", MAIN, "run", str(place.manifest), *places, *options]
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [*command, "--", "-p", "no:cacheprovider", "-p", "no:xdist"],
            env=spell_environment(),
            cwd=place.manifest.parent,
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
    return Driver(process, log)


def read(place: Place) -> list[Record]:
    """Return all records."""
    return list(read_records(place.results / "records" / "tiny"))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A tiny experiment of three trials."""
    return make_place(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def sequential(place: Place) -> list[Record]:
    """The records of trials that ran one after another, in one process."""
    driver = start(place)
    assert driver.end() == 0, driver.said
    records = read(place)
    assert [record.trial.stem for record in records] == list(STEMS)
    assert {record.execution for record in records} == {None}
    return records


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_values_weights_and_runs_are_those_of_one_process(
    place: Place,
    sequential: list[Record],
    cluster: Cluster,
    tmp_path: Path,
    workers: int,
) -> None:
    cluster.forget()
    there = place.at(tmp_path)
    driver = start(there, "--engine=ray", f"--address={cluster.address}", f"--parallel={workers}")
    if workers == 2:
        wait_until(lambda: " train" in driver.said or driver.process.poll() is not None)
        workers_at_work = cluster.list_workers()
        assert workers_at_work
        for process in workers_at_work:
            process.kill()
    assert driver.end() == 0, driver.said
    records = read(there)
    assert summarise(records) == summarise(sequential)
    executions = [record.execution for record in records]
    assert all(one is not None and one.trials_on_machine <= workers for one in executions)
    assert max(one.attempts for one in executions if one is not None) == (2 if workers == 2 else 1)
    assert ("lost, runs again" in driver.said) is (workers == 2)
    # All that values follow from has come back, not only the records.
    assert main(["verify", str(there.results)]) == 0
    # What is in the driver's store came from workers, so neither embeddings nor weights are there.
    assert not (there.store / "train").exists()
    assert len(list((there.store / "trial").rglob("events.out.tfevents*"))) == 2


def test_a_driver_that_is_killed_goes_on_with_what_is_done(
    place: Place, sequential: list[Record], cluster: Cluster, tmp_path: Path
) -> None:
    cluster.forget()
    there = place.at(tmp_path)
    options = ("--engine=ray", f"--address={cluster.address}", "--parallel=1")
    driver = start(there, *options)
    first = there.results / "records" / "tiny" / f"{STEMS[0]}.json"
    wait_until(lambda: first.is_file() or driver.process.poll() is not None)
    driver.process.kill()
    assert driver.end() == -signal.SIGKILL
    wait_until(lambda: cluster.list_workers() == [])
    shutil.rmtree(there.results)
    cluster.forget()
    again = start(there, *options)
    assert again.end() == 0, again.said
    assert "tiny/small/baseline: mrr@10 0.6500, as it came back before" in again.said
    assert again.said.count("as it came back before") == 1
    records = read(there)
    assert summarise(records) == summarise(sequential)
    assert [record.stages["prepare"].cached for record in records] == [True, True, True]
    assert records[0].stages["baseline"].cached
    assert not records[1].stages["train"].cached


def test_a_lost_worker_is_followed_from_the_last_checkpoint_of_a_shared_store(tmp_path: Path) -> None:
    longer = make_place(tmp_path / "longer")
    text = longer.manifest.read_text(encoding="utf-8")
    assert "num_train_epochs = 1\n" in text
    longer.manifest.write_text(text.replace("num_train_epochs = 1\n", "num_train_epochs = 20\n"), encoding="utf-8")
    alone = longer.at(tmp_path / "alone")
    driver = start(alone, "--seeds=1")
    assert driver.end() == 0, driver.said
    # Without an address all workers are on this machine, and theirs is the driver's store.
    there = longer.at(tmp_path / "there")
    driver = start(there, "--engine=ray", "--parallel=1", "--seeds=1")
    try:
        wait_until(lambda: len(list(there.store.glob("**/checkpoint-*"))) > 1 or driver.process.poll() is not None)
        for process in list_workers(driver.process.pid):
            process.kill()
    finally:
        assert driver.end() == 0, driver.said
    assert "lost, runs again" in driver.said
    records = read(there)
    assert summarise(records) == summarise(read(alone))
    training, execution = records[1].training, records[1].execution
    assert training is not None
    assert training.resumes == 1
    assert execution is not None
    assert execution.attempts == 2


def test_an_interrupt_ends_the_workers_and_leaves_what_is_finished(
    place: Place, cluster: Cluster, tmp_path: Path
) -> None:
    cluster.forget()
    there = place.at(tmp_path)
    driver = start(there, "--engine=ray", f"--address={cluster.address}", "--parallel=1")
    first = there.results / "records" / "tiny" / f"{STEMS[0]}.json"
    wait_until(lambda: first.is_file() or driver.process.poll() is not None)
    driver.process.send_signal(signal.SIGINT)
    assert driver.end() == 2, driver.said
    assert [record.trial.stem for record in read(there)] == [STEMS[0]]
    wait_until(lambda: cluster.list_workers() == [])


def test_an_error_of_the_trial_itself_is_not_tried_again(place: Place, tmp_path: Path) -> None:
    # Without an address, the cluster is the session's own.
    there = place.at(tmp_path)
    driver = start(there, "--engine=ray", "--parallel=2", "--seeds=1", "--precision=fp16")
    assert driver.end() == 2, driver.said
    assert "TrainingError: precision fp16 needs a GPU; the device is 'cpu' (on " in driver.said
    assert "runs again" not in driver.said
    assert [record.trial.stem for record in read(there)] == [STEMS[0]]


def test_no_cluster_at_an_address_is_said_before_anything_runs(place: Place, tmp_path: Path) -> None:
    driver = start(place.at(tmp_path), "--engine=ray", "--address=127.0.0.1:9")
    assert driver.end() == 2
    assert "no Ray cluster at 127.0.0.1:9" in driver.said


@pytest.mark.parametrize(
    ("case", "given"),
    [
        ((4, "auto", None), 1),
        ((4, "auto", 0.5), 0.5),
        ((4, "auto", 0), 0),
        ((4, "cpu", None), 0),
        ((0, "auto", None), 0),
        ((0, "cuda", None), 1),
    ],
)
def test_a_trial_takes_a_gpu_where_there_are_some(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, case: tuple[int, str, float | None], given: float
) -> None:
    from harness.engines import ray_engine

    there, device, asked = case
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 4.0, "GPU": float(there)})
    config = EngineConfig("ray", address="auto", gpus_per_trial=asked)
    assert ray_engine._choose_gpus(config, RunConfig(tmp_path, tmp_path, device=device)) == given


def test_a_gpu_for_a_trial_on_the_cpu_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from harness.engines import ray_engine

    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 4.0, "GPU": 4.0})
    with pytest.raises(HarnessError, match=r"device is cpu and gpus_per_trial 0\.5"):
        ray_engine._choose_gpus(
            EngineConfig("ray", "auto", gpus_per_trial=0.5), RunConfig(tmp_path, tmp_path, device="cpu")
        )


def test_a_machine_runs_no_more_trials_than_it_has_cpus_for(place: Place, cluster: Cluster, tmp_path: Path) -> None:
    """Ray gives the CPU of a task that waits for something to another one."""
    cluster.forget()
    there = place.at(tmp_path)
    driver = start(there, "--engine=ray", f"--address={cluster.address}", "--cpus-per-trial=2", "--seeds=4")
    assert driver.end() == 0, driver.said
    executions = [record.execution for record in read(there)]
    assert max(one.trials_on_machine for one in executions if one is not None) <= 2
