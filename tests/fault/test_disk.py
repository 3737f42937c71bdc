"""A disk that is full or cannot be written gives an error that names it, and takes nothing that was finished."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.errors import RecordError, StoreError
from harness.pipeline.store import Cost, Maker, Store
from harness.pipeline.store_cleanup import collect_garbage, find_broken, list_items, list_outputs
from harness.records.record import read_record, write_record
from tests.fault.conftest import Faults
from tests.support.records import make_record, read_manifest
from tests.support.tiny_trials import error_file, make_place, summarise

MOUNT, UMOUNT = "/bin/mount", "/bin/umount"
KIBIBYTE = 1024
POINTS = 24


@contextmanager
def small_disk(folder: Path, size: str, faults: Faults, name: str) -> Iterator[Path]:
    """Mount a disk in memory; where that is not permitted, the test is skipped and the report says so."""
    folder.mkdir(parents=True)
    command = [MOUNT, "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        refused = done.stderr.strip() if done.returncode else ""
    except OSError as cause:
        refused = str(cause)
    if refused:
        faults.skip(name, f"a disk cannot be mounted here: {refused}")
    try:
        yield folder
    finally:
        subprocess.run([UMOUNT, "--lazy", str(folder)], check=True)


def remount(folder: Path, option: str) -> None:
    subprocess.run([MOUNT, "-o", f"remount,{option}", str(folder)], check=True)


def make_bytes(size: int) -> Maker:
    def make(target: Path, scratch: Path) -> Cost:
        (scratch / "checkpoint").write_bytes(b"c" * 100)
        (target / "weights").write_bytes(random.Random(size).randbytes(size))
        return Cost(1.0, 1, None)

    return make


def ask(store: Store, inputs: dict[str, int]) -> str:
    """Ask the store for an output and return what it says of the disk, nothing if all went well."""
    try:
        store.get_or_make("train", inputs, make_bytes(60 * KIBIBYTE))
    except StoreError as error:
        return str(error)
    return ""


def test_full_disk_is_named_and_takes_no_finished_output(tmp_path: Path, faults: Faults) -> None:
    name = "disk full while an output of the store is made"
    with small_disk(tmp_path / "disk", "1m", faults, name) as disk:
        store = Store(disk / "store")
        first = store.get_or_make("train", {"seed": 1}, make_bytes(100 * KIBIBYTE))
        failed = 0
        for point in range(POINTS):
            stuffing = disk / "stuffing"
            free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
            # Page by page, so that every write on the way to an output is the one that fails.
            stuffing.write_bytes(b"x" * max(0, free - point * 4 * KIBIBYTE))
            with faults.commit(name):
                said = ask(store, {"seed": 2, "point": point})
                if said:
                    failed += 1
                    assert "No space left on device" in said
                    assert str(disk) in said
                    assert [item.path for item in list_outputs(store)] == [first.folder]
                assert find_broken(store) == []
                stuffing.unlink()
                made = store.get_or_make("train", {"seed": 2, "point": point}, make_bytes(60 * KIBIBYTE))
                assert (made.folder / "weights").stat().st_size == 60 * KIBIBYTE
                list(collect_garbage(store, keep={first.entry.key}, dry_run=False))
        assert failed >= POINTS // 2
        assert store.get_or_make("train", {"seed": 1}, make_bytes(0)).cached


def test_disk_full_while_training_is_named_and_training_goes_on_after_it(tmp_path: Path, faults: Faults) -> None:
    place = make_place(tmp_path / "undisturbed")
    assert place.run() == 0
    expected = summarise(place.read())
    name = "disk full while the pipeline runs"
    with small_disk(tmp_path / "disk", "200k", faults, name) as disk:
        disturbed = place.at(disk)
        for size in (200, 500, 900, 1300):
            remount(disk, f"size={size}k")
            error_file(place).unlink(missing_ok=True)
            with faults.commit(name):
                assert disturbed.run() == 2, size
                said = error_file(place).read_text(encoding="utf-8")
                assert said.startswith(("StoreError: ", "RecordError: ")), said
                assert str(disk) in said
                if (disturbed.store / "locks").is_dir():
                    assert find_broken(Store(disturbed.store)) == []
        remount(disk, "size=50m")
        assert disturbed.run() == 0
        assert summarise(disturbed.read()) == expected


def test_full_disk_leaves_the_old_record(tmp_path: Path, faults: Faults) -> None:
    name = "disk full while a record is written"
    # No record holds stacks.
    experiment = read_manifest("hpo", stacks={})
    old = make_record({"mrr@10": [0.5, 1.0]}, experiment=experiment, seed=0)
    new = make_record({"mrr@10": [0.5, 0.5] * 4000}, experiment=experiment, seed=0)
    with small_disk(tmp_path / "disk", "256k", faults, name) as disk:
        path = write_record(old, disk)
        free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
        (disk / "stuffing").write_bytes(b"x" * (free - 8 * KIBIBYTE))
        with faults.commit(name):
            with pytest.raises(RecordError, match="No space left on device"):
                write_record(new, disk)
            assert read_record(path) == old
            assert [found.name for found in path.parent.iterdir()] == [path.name]


def test_store_that_cannot_be_written_serves_what_it_has(tmp_path: Path, faults: Faults) -> None:
    name = "read-only store"
    with small_disk(tmp_path / "disk", "1m", faults, name) as disk:
        store = Store(disk / "store")
        made = store.get_or_make("train", {"seed": 1}, make_bytes(KIBIBYTE))
        record = make_record({"mrr@10": [0.5, 1.0]}, experiment=read_manifest("hpo"), seed=0)
        (made.folder.parent.parent / "aside" / "x").mkdir(parents=True)
        remount(disk, "ro")
        with faults.commit(name, 4):
            assert store.get_or_make("train", {"seed": 1}, make_bytes(0)).entry == made.entry
            with pytest.raises(StoreError, match=r"Read-only file system \(store "):
                store.get_or_make("train", {"seed": 2}, make_bytes(KIBIBYTE))
            with pytest.raises(RecordError, match="Read-only file system"):
                write_record(record, disk)
            with pytest.raises(StoreError, match="Read-only file system"):
                list(collect_garbage(store, keep=None, dry_run=False))
            assert len([item for item in list_items(store) if item.kind == "output"]) == 1
