"""The store gives back whole outputs or makes them again, whoever else works on it and whatever was left behind."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.cli.main import main
from harness.errors import SourceError, StoreError
from harness.pipeline.store import Cost, Maker, Store, check_output
from harness.pipeline.store_cleanup import collect_garbage, find_broken, list_items, list_needed, list_outputs
from harness.records.record import write_record
from tests.support.manifests import parse
from tests.support.records import make_record

INPUTS: dict[str, Any] = {"version": 1, "seed": 7, "rate": 2e-5}


def make_files(*, times: list[int] | None = None, seconds: float = 12.5) -> Maker:
    """Return a maker of two files that counts its calls."""

    def make(target: Path, scratch: Path) -> Cost:
        assert scratch.is_dir()
        (target / "deep").mkdir()
        (target / "deep" / "weights.bin").write_bytes(bytes(range(256)) * 40)
        (target / "log.json").write_text('{"loss": 0.5}', encoding="utf-8")
        if times is not None:
            times.append(1)
        return Cost(seconds, 1000, None)

    return make


def never(target: Path, scratch: Path) -> Cost:
    raise AssertionError((target, scratch))


def test_output_is_made_once_and_found_with_the_seconds_of_then(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    made = store.get_or_make("train", INPUTS, make_files())
    found = store.get_or_make("train", INPUTS, never)
    assert not made.cached
    assert found.cached
    assert found.entry == made.entry
    assert found.entry.seconds == 12.5
    assert (found.folder / "log.json").read_text(encoding="utf-8") == '{"loss": 0.5}'


@pytest.mark.parametrize(
    "other", [{**INPUTS, "seed": 8}, {**INPUTS, "version": 2}, {**INPUTS, "rate": 3e-5}, {**INPUTS, "more": None}]
)
def test_other_inputs_are_another_output(tmp_path: Path, other: dict[str, Any]) -> None:
    store, calls = Store(tmp_path), list[int]()
    first = store.get_or_make("train", INPUTS, make_files(times=calls))
    second = store.get_or_make("train", other, make_files(times=calls))
    third = store.get_or_make("evaluate", INPUTS, make_files(times=calls))
    assert len(calls) == 3
    assert len({first.entry.key, second.entry.key, third.entry.key}) == 3


def flip_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def change_seconds(path: Path) -> None:
    entry = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(entry | {"seconds": 1.5}), encoding="utf-8")


def change_inputs(path: Path) -> None:
    entry = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(entry | {"inputs": {"seed": 9}, "seal": None}), encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "damage", "named"),
    [
        ("deep/weights.bin", flip_bit, "deep/weights.bin has another SHA-256"),
        ("deep/weights.bin", cut_short, "deep/weights.bin has another SHA-256"),
        ("log.json", Path.unlink, "log.json is missing"),
        ("added.txt", Path.touch, "added.txt does not belong there"),
        ("entry.json", cut_short, "not valid JSON"),
        ("entry.json", Path.unlink, "entry.json: cannot be read"),
        ("entry.json", change_seconds, "entry.json was changed after it was written"),
        ("entry.json", change_inputs, "inputs that do not give its key"),
    ],
)
def test_broken_output_is_moved_aside_named_and_made_again(
    tmp_path: Path, name: str, damage: Callable[[Path], None], named: str
) -> None:
    store, calls = Store(tmp_path), list[int]()
    output = store.get_or_make("train", INPUTS, make_files(times=calls))
    damage(output.folder / name)
    assert any(named in problem for problem in find_broken(store))
    with pytest.warns(UserWarning, match="is made again") as warned:
        again = store.get_or_make("train", INPUTS, make_files(times=calls))
    assert named in str(warned[0].message)
    assert len(calls) == 2
    assert not again.cached
    assert len(list((tmp_path / "aside").iterdir())) == 1
    assert find_broken(store) == []
    assert store.get_or_make("train", INPUTS, never).cached


def test_failed_maker_leaves_nothing_but_its_scratch(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def fail(target: Path, scratch: Path) -> Cost:
        (target / "half").touch()
        (scratch / "checkpoint").touch()
        raise StoreError("no more")

    with pytest.raises(StoreError, match="no more"):
        store.get_or_make("train", INPUTS, fail)
    assert list_outputs(store) == []
    assert [item.kind for item in list_items(store)] == ["checkpoints of a training"]

    def go_on(target: Path, scratch: Path) -> Cost:
        assert [path.name for path in scratch.iterdir()] == ["checkpoint"]
        return make_files()(target, scratch)

    assert not store.get_or_make("train", INPUTS, go_on).cached
    assert list((tmp_path / "scratch").iterdir()) == []


def _make_slowly(root: Path, log: Path, inputs: dict[str, Any]) -> None:
    def make(target: Path, scratch: Path) -> Cost:
        with log.open("a", encoding="utf-8") as stream:
            stream.write(f"{os.getpid()}\n")
        time.sleep(0.2)
        return make_files()(target, scratch)

    output = Store(root).get_or_make("train", inputs, make)
    if output.folder.joinpath("deep/weights.bin").stat().st_size != 256 * 40:
        raise AssertionError(output)


def test_processes_that_want_the_same_output_share_one_making(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=_make_slowly, args=(tmp_path / "s", tmp_path / "log", INPUTS)) for _ in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0, 0, 0, 0]
    assert len((tmp_path / "log").read_text(encoding="utf-8").split()) == 1
    assert find_broken(Store(tmp_path / "s")) == []


def test_output_of_a_killed_maker_is_not_there_and_its_leftovers_can_go(tmp_path: Path) -> None:
    def die(target: Path, scratch: Path) -> Cost:
        (target / "half").write_bytes(b"x" * 5000)
        (scratch / "checkpoint").touch()
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    child = multiprocessing.get_context("fork").Process(
        target=Store(tmp_path).get_or_make, args=("train", INPUTS, die), daemon=True
    )
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL
    store = Store(tmp_path)
    assert list_outputs(store) == []
    told = list(collect_garbage(store, keep=None, dry_run=True))
    assert [(removal.item.kind, removal.item.size_bytes) for removal in told] == [("half-made output", 5000)]
    assert [item.kind for item in list_items(store)] == ["half-made output", "checkpoints of a training"]
    assert list(collect_garbage(store, keep=None, dry_run=False)) == told
    assert [item.kind for item in list_items(store)] == ["checkpoints of a training"]
    assert not store.get_or_make("train", INPUTS, make_files()).cached


def test_garbage_is_what_no_record_names_and_never_what_is_being_made(tmp_path: Path) -> None:
    store = Store(tmp_path)
    kept = store.get_or_make("train", INPUTS, make_files())
    dropped = store.get_or_make("train", {**INPUTS, "seed": 8}, make_files())

    def collect(target: Path, scratch: Path) -> Cost:
        (target / "half").touch()
        told = list(collect_garbage(store, keep={kept.entry.key}, dry_run=False))
        assert [removal.item.path for removal in told] == [dropped.folder]
        return make_files()(target, scratch)

    made = store.get_or_make("train", {**INPUTS, "seed": 9}, collect)
    assert {item.path for item in list_outputs(store)} == {kept.folder, made.folder}


def test_what_was_half_unpacked_or_half_removed_goes_a_day_later(tmp_path: Path) -> None:
    store = Store(tmp_path)
    output = store.get_or_make("train", INPUTS, make_files())
    left = [tmp_path / "sources" / ".unpacking-abc", tmp_path / "train" / ".removed-abc"]
    for path in left:
        path.mkdir(parents=True)
        (path / "half").touch()
    assert list(collect_garbage(store, keep=None, dry_run=False)) == []
    for path in left:
        os.utime(path, (0, 0))
    told = list(collect_garbage(store, keep=None, dry_run=False))
    assert [removal.item.path for removal in told] == left
    assert not any(path.exists() for path in left)
    assert check_output(output.folder) == []


def test_outputs_are_listed_with_the_trials_that_they_are_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, results = Store(tmp_path / "store"), tmp_path / "results"
    output = store.get_or_make("train", INPUTS, make_files())
    store.get_or_make("train", {**INPUTS, "seed": 8}, make_files())
    for seed in (0, 1):
        record = make_record({"mrr@10": (1.0,)}, experiment=parse(), model="small", seed=seed)
        cost = record.stages["train"].replace(key=output.entry.key)
        write_record(record.replace(stages={**record.stages, "train": cost}), results)
    assert main(["store", "ls", "--store", str(store.root), "--results", str(results)]) == 0
    lines = sorted(capsys.readouterr().out.splitlines(), key=lambda line: output.entry.key[:12] not in line)
    assert lines[0].endswith(" for tiny/small/finetuned/seed0 and 1 more")
    assert " for " not in lines[1]
    assert output.entry.key in list_needed(results)
    with pytest.raises(SourceError, match="every output would go"):
        list_needed(tmp_path)


def test_outputs_are_listed_with_what_they_weigh(tmp_path: Path) -> None:
    store = Store(tmp_path)
    output = store.get_or_make("train", INPUTS, make_files())
    (item,) = list_outputs(store)
    assert item.path == output.folder
    assert item.entry == output.entry
    assert item.size_bytes == 256 * 40 + 13 + (output.folder / "entry.json").stat().st_size


def test_store_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no such store"):
        list_outputs(Store(tmp_path / "none"))


def test_store_on_a_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"Not a directory \(store .*file\)"):
        Store(tmp_path / "file").get_or_make("train", INPUTS, make_files())
