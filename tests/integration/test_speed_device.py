"""The run on a device measures every way and the search, and writes a record and the page that follows from it."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest

from benchmarks.speed import on_device
from benchmarks.speed.__main__ import main
from benchmarks.speed.device_recipe import WAYS, StepClock
from benchmarks.speed.made_up import SHAPES
from benchmarks.speed.on_device import SEARCHED, Budget, render
from benchmarks.speed.workbench import Finished
from harness.errors import HarnessError
from tests.support.tiny_model import build_tokenizer

MODEL = "all-MiniLM-L6-v2"


def run_here(*command: str) -> Finished:
    """Run a module's main in this process: a new one takes long to import what is here already."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        importlib.import_module(command[0]).main(list(command[1:]))
    return Finished(said.getvalue(), 0.0)


def test_every_way_is_measured_and_the_page_follows_from_the_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_device, "run_module", run_here)
    monkeypatch.setattr(on_device, "RATE_SECONDS", 0.01)
    asked = ["--device", "cpu", "--tiny", "--models", MODEL, "--precision", "fp32", "--results", str(tmp_path)]
    assert main(asked) == 0
    record = json.loads((tmp_path / "speed-cpu.json").read_text(encoding="utf-8"))
    (model,) = record["models"]
    assert set(model["rounds"]) == set(WAYS)
    for rounds in model["rounds"].values():
        (once,) = rounds
        # Of 8 batches the first five load what is needed.
        assert once["steps"] == 3
        assert once["train_seconds"] > 0
        assert once["evaluate_seconds"] > 0
    assert model["largest_difference"] < 1e-6
    assert model["tokens_per_step"] > 32 * 3
    assert model["limits"]["steps_per_second"] > 0
    assert set(record["search"]["rounds"]) == set(SEARCHED)
    assert record["search"]["largest_difference"] < 1e-6
    page = (tmp_path / "speed-cpu.md").read_text(encoding="utf-8")
    assert page == render(record)
    for way in (*WAYS, "limit"):
        assert f"| {way} " in page


def test_a_vocabulary_is_as_large_as_the_real_one() -> None:
    for shape in SHAPES.values():
        tokenizer = build_tokenizer(shape.architecture, shape.length, size=shape.vocabulary)
        assert len(tokenizer) == shape.vocabulary
        assert tokenizer.tokenize("w0 w30000") == ["w0", "w30000"]


def test_operations_are_those_of_the_layers() -> None:
    """By hand: four products of width by width and two of width by inner, twice for each number; attention beside."""
    shape = SHAPES[MODEL].tiny
    linear = 2 * (4 * 32 * 32 + 2 * 32 * 64)
    assert shape.count_operations(tokens=10, squares=100) == 2 * (linear * 10 + 4 * 32 * 100)


def test_a_round_that_would_not_end_in_time_is_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    def run_for(seconds: float) -> Any:
        return lambda *_: Finished("{}", seconds)

    budget = Budget(100.0)
    monkeypatch.setattr(on_device, "run_module", run_for(60.0))
    budget.run("any")
    assert budget.has_room()
    monkeypatch.setattr(on_device, "run_module", run_for(120.0))
    budget.run("any")
    assert not budget.has_room()


@pytest.mark.parametrize(
    ("wanted", "seen", "taken"),
    [("cuda", "", "0"), ("cuda:2", "", "2"), ("cuda:1", "5,7", "7"), ("cuda", "GPU-8f", "GPU-8f")],
)
def test_one_gpu_is_seen_since_the_plain_trainer_takes_all(
    monkeypatch: pytest.MonkeyPatch, wanted: str, seen: str, taken: str
) -> None:
    monkeypatch.setattr(on_device, "pick_device", lambda device: device)
    # Set to nothing it is as if it were not set, and it is put back in any case.
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", seen)
    assert on_device.isolate(wanted) == "cuda:0"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == taken


def test_a_gpu_that_is_not_seen_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    with pytest.raises(HarnessError, match=r"device is 'cuda:2', but CUDA_VISIBLE_DEVICES is '5,7'"):
        on_device.isolate("cuda:2")


def test_steps_are_timed_from_the_end_of_the_first_few_to_the_last() -> None:
    clock = StepClock("cpu")
    for step in range(1, 9):
        clock.tick(step, 8)
    assert clock.steps == 3
    assert 0 <= clock.seconds < 1
    short = StepClock("cpu")
    for step in (1, 2):
        short.tick(step, 2)
    assert short.steps == 1
