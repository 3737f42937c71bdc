"""Training only ever goes on from a checkpoint that is whole, and loses none that is."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from harness.models.checkpoints import find_checkpoint, prune_checkpoints, seal_checkpoint


def write(folder: Path, step: int, *, seconds: float = 1.0) -> Path:
    """Have a checkpoint written as the trainer does, then sealed."""
    written = folder / "writing"
    (written / "deep").mkdir(parents=True)
    (written / "model.safetensors").write_bytes(bytes([step]) * 1000)
    (written / "deep" / "config.json").write_text("{}", encoding="utf-8")
    target = folder / f"checkpoint-{step}"
    batches = tuple(f"batch {number}" for number in range(step))
    seal_checkpoint(written, target, seconds=seconds, batches=batches)
    assert not written.exists()
    return target


def test_newest_is_the_highest_step_whatever_the_clock_says(tmp_path: Path) -> None:
    for step in (9, 10, 100):
        folder = write(tmp_path, step, seconds=float(step))
        os.utime(folder, (1e9 - step, 1e9 - step))
    newest = find_checkpoint(tmp_path)
    assert newest is not None
    assert newest.folder.name == "checkpoint-100"
    assert newest.seal.seconds == 100
    assert len(newest.seal.batches) == 100


def test_none_is_found_where_none_was_written(tmp_path: Path) -> None:
    assert find_checkpoint(tmp_path) is None
    assert find_checkpoint(tmp_path / "absent") is None


@pytest.mark.parametrize("damage", ["cut", "flipped", "missing", "added", "unsealed", "broken seal", "empty folder"])
def test_broken_one_is_named_and_the_one_before_it_serves(tmp_path: Path, damage: str) -> None:
    write(tmp_path, 2)
    broken = write(tmp_path, 4)
    weights = broken / "model.safetensors"
    match damage:
        case "cut":
            weights.write_bytes(weights.read_bytes()[:-1])
        case "flipped":
            weights.write_bytes(b"\x05" + weights.read_bytes()[1:])
        case "missing":
            weights.unlink()
        case "added":
            (broken / "more").touch()
        case "unsealed":
            (broken / "seal.json").unlink()
        case "broken seal":
            (broken / "seal.json").write_text("{", encoding="utf-8")
        case _:
            for path in (weights, broken / "deep" / "config.json", broken / "seal.json"):
                path.unlink()
    with pytest.warns(UserWarning, match="checkpoint-4: a broken checkpoint is not used"):
        newest = find_checkpoint(tmp_path)
    assert newest is not None
    assert newest.folder.name == "checkpoint-2"
    assert not broken.exists()


def test_oldest_go_first_by_step(tmp_path: Path) -> None:
    for step in (2, 4, 8, 16):
        os.utime(write(tmp_path, step), (1e9 - step, 1e9 - step))
    prune_checkpoints(tmp_path, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-16", "checkpoint-8"]


def test_sealing_replaces_a_broken_one_of_the_same_step(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-4").mkdir()
    (tmp_path / "checkpoint-4" / "rest").touch()
    write(tmp_path, 4)
    newest = find_checkpoint(tmp_path)
    assert newest is not None
    assert sorted(newest.seal.files) == ["deep/config.json", "model.safetensors"]


def test_a_flipped_bit_anywhere_in_a_seal_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seal = write(tmp_path, 2) / "seal.json"
    whole = seal.read_bytes()
    # That a broken one is removed is looked at elsewhere; here it serves again.
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        seal.write_bytes(damaged)
        with pytest.warns(UserWarning, match="a broken checkpoint is not used"):
            assert find_checkpoint(tmp_path) is None
