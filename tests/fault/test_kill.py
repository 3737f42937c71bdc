"""SIGKILL at any point of any stage, signals, two at once and a clock set back: what comes out is always the same."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.pipeline.store import Cost, Store
from harness.pipeline.store_cleanup import collect_garbage, find_broken, list_outputs
from tests.fault.conftest import Faults
from tests.support.children import CHILD_SECONDS, start_child
from tests.support.tiny_trials import Kill, Place, make_place, run_trials, run_with_clock_set_back, summarise

SEED = int(os.environ.get("HARNESS_SEED", "0")) or random.randrange(1, 2**32)
STORE_KILLS = 44
STAGES = ("prepare", "baseline", "train", "evaluate")
KILLS_PER_STAGE = 3
FORK = multiprocessing.get_context("fork")


@pytest.fixture
def generator() -> random.Random:
    print(f"HARNESS_SEED={SEED}")
    return random.Random(SEED)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A tiny experiment that ran once, undisturbed."""
    place = make_place(tmp_path_factory.mktemp("undisturbed"))
    assert place.run() == 0
    return place


@pytest.fixture(scope="module")
def expected(place: Place) -> list[dict[str, Any]]:
    return summarise(place.read())


def write_output(target: Path, seed: int) -> None:
    """Write files slowly, whose content follows from the seed."""
    for number in range(4):
        (target / f"part-{number}").mkdir()
        content = random.Random(seed * 10 + number).randbytes(20_000)
        with (target / f"part-{number}" / "file").open("wb") as stream:
            for start in range(0, len(content), 5000):
                stream.write(content[start : start + 5000])
                stream.flush()
                time.sleep(0.0005)


def make_outputs(root: Path, ready: Any, last: int | None = None) -> None:
    """Make one output after another, without end where no last one is given."""
    store = Store(root)
    ready.set()
    for seed in itertools.count():

        def make(target: Path, scratch: Path, seed: int = seed) -> Cost:
            (scratch / "checkpoint").write_bytes(b"c" * 1000)
            write_output(target, seed)
            return Cost(1.0, 1, None)

        store.get_or_make("train", {"seed": seed}, make)
        if seed == last:
            return


def test_makers_killed_at_random_leave_whole_outputs_only(
    tmp_path: Path, generator: random.Random, faults: Faults
) -> None:
    root = tmp_path / "store"
    for _ in range(STORE_KILLS):
        ready = FORK.Event()
        child = FORK.Process(target=make_outputs, args=(root, ready), daemon=True)
        child.start()
        assert ready.wait(60)
        time.sleep(generator.uniform(0.0, 0.12))
        with faults.commit("SIGKILL while an output of the store is made"):
            child.kill()
            child.join(60)
            assert child.exitcode == -signal.SIGKILL
            store = Store(root)
            if root.is_dir():
                assert find_broken(store) == []
    last = len(list_outputs(store)) + 2
    make_outputs(root, FORK.Event(), last)
    outputs = {item.entry.inputs["seed"]: item.path for item in list_outputs(store) if item.entry is not None}
    assert set(outputs) == set(range(last + 1))
    for seed, folder in outputs.items():
        for number in range(4):
            content = random.Random(seed * 10 + number).randbytes(20_000)
            assert (folder / f"part-{number}" / "file").read_bytes() == content
    # A kill just after the rename leaves the checkpoints, which the next collection takes.
    list(collect_garbage(store, keep=None, dry_run=False))
    assert list((root / "scratch").iterdir()) == []


@pytest.mark.parametrize("stage", STAGES)
def test_pipeline_killed_in_a_stage_ends_as_if_it_never_was(
    place: Place,
    expected: list[dict[str, Any]],
    tmp_path: Path,
    *,
    generator: random.Random,
    faults: Faults,
    stage: str,
) -> None:
    took = max(record.stages[stage].seconds for record in place.read() if stage in record.stages)
    disturbed = place.at(tmp_path)
    with faults.commit(f"SIGKILL in the stage {stage}", KILLS_PER_STAGE):
        for _ in range(KILLS_PER_STAGE):
            assert disturbed.run(Kill(stage, generator.uniform(0, took))) == -signal.SIGKILL
            if disturbed.store.is_dir():
                assert find_broken(Store(disturbed.store)) == []
        assert disturbed.run() == 0
        assert summarise(disturbed.read()) == expected


def wait_for(path: Path, pattern: str, seconds: float = CHILD_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not any(path.glob(pattern)):
        assert time.monotonic() < deadline, f"no {pattern} came into {path}"
        time.sleep(0.01)


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 1), ("SIGTERM", -signal.SIGTERM)])
def test_pipeline_told_to_stop_goes_on_where_it_was(
    place: Place, expected: list[dict[str, Any]], tmp_path: Path, *, faults: Faults, name: str, code: int
) -> None:
    disturbed = place.at(tmp_path)
    child = start_child(run_trials, disturbed, None)
    wait_for(disturbed.store, "scratch/train-*/checkpoints/checkpoint-*")
    with faults.commit(f"{name} while training"):
        assert child.pid is not None
        os.kill(child.pid, signal.Signals[name])
        child.join(CHILD_SECONDS)
        assert child.exitcode == code
        if name == "SIGINT":
            # Who is asked to stop has time to tidy up.
            assert list(disturbed.store.glob("scratch/.making-*")) == []
        assert disturbed.run() == 0
        assert summarise(disturbed.read()) == expected
        log = disturbed.read()[1].training
        assert log is not None
        assert log.resumes == 1


def test_clock_set_back_between_two_attempts_changes_nothing(
    place: Place, expected: list[dict[str, Any]], tmp_path: Path, faults: Faults
) -> None:
    disturbed = place.at(tmp_path)
    child = start_child(run_trials, disturbed, None)
    wait_for(disturbed.store, "scratch/train-*/checkpoints/checkpoint-2")
    child.kill()
    child.join(CHILD_SECONDS)
    with faults.commit("clock set back by a day before training goes on"):
        tomorrow = time.time() + 86400
        for path in disturbed.store.rglob("*"):
            os.utime(path, (tomorrow, tomorrow))
        again = start_child(run_with_clock_set_back, disturbed)
        again.join(CHILD_SECONDS)
        assert again.exitcode == 0
        assert summarise(disturbed.read()) == expected
        log = disturbed.read()[1].training
        assert log is not None
        assert log.resumes == 1


def test_two_pipelines_at_once_share_the_work(
    place: Place, expected: list[dict[str, Any]], tmp_path: Path, faults: Faults
) -> None:
    shared = place.at(tmp_path)
    other = Place(shared.manifest, shared.store, tmp_path / "other")
    with faults.commit("two pipelines on one store"):
        children = [start_child(run_trials, one, None) for one in (shared, other)]
        for child in children:
            child.join(CHILD_SECONDS)
        assert [child.exitcode for child in children] == [0, 0]
        records = [shared.read(), other.read()]
        assert [summarise(found) for found in records] == [expected, expected]
        for stage in STAGES:
            made = [found for found in itertools.chain(*records) if stage in found.stages]
            keys = {record.stages[stage].key for record in made}  # type: ignore[index]
            fresh = [record for record in made if not record.stages[stage].cached]  # type: ignore[index]
            assert len(keys) == len(fresh) == 1


def overwrite(path: Path, content: bytes, times: int) -> None:
    from harness.core.files import write_atomically

    for _ in range(times):
        write_atomically(path, content)


def test_two_writers_of_one_file_leave_one_of_both_whole(tmp_path: Path, faults: Faults) -> None:
    path = tmp_path / "record.json"
    contents = [b"a" * 50_000, b"b" * 70_000]

    def read_all(children: list[Any]) -> Iterator[bytes]:
        while any(child.is_alive() for child in children):
            if path.exists():
                yield path.read_bytes()
        yield path.read_bytes()

    with faults.commit("two writers of one record", 100):
        children = [FORK.Process(target=overwrite, args=(path, content, 50), daemon=True) for content in contents]
        for child in children:
            child.start()
        assert all(found in contents for found in read_all(children))
        assert [child.exitcode for child in children] == [0, 0]
    assert [found.name for found in tmp_path.iterdir()] == ["record.json"]
