"""Training on the device: in every precision, with the same bits from the same seed, resumed, and on one GPU alone."""

from __future__ import annotations

import multiprocessing
import signal
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.experiment.recipe import Embedding, Recipe, WayOnGpu
from tests.gpu.conftest import MEASURED
from tests.support.children import end_child
from tests.support.tiny_training import make_recipe, train_tiny

if TYPE_CHECKING:
    from harness.models.device import Precision
    from harness.models.training import Checkpoint

STEPS = 12


def embed(way: WayOnGpu) -> Embedding:
    """Return an embedding that is the way on a GPU and, on a CPU, what is nearest to it."""
    return Embedding(cuda=way, cpu="padded" if way == "padded" else "packed")


def train(base: Path, folder: Path, recipe: Recipe, device: str, precision: Precision = "fp32") -> Checkpoint:
    return train_tiny(base, folder / "target", folder / "scratch", recipe, device=device, precision=precision)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("way", ["padded", "grouped"])
def test_narrow_training_learns_as_fp32_does(
    still: Path, tmp_path: Path, device: str, precision: Precision, way: WayOnGpu
) -> None:
    from safetensors.torch import load_file

    if precision == "fp16" and device == "cpu":
        pytest.skip("fp16 trains on GPUs alone")
    recipe = make_recipe(embedding=embed(way))
    wide = train(still, tmp_path / "fp32", recipe, device)
    narrow = train(still, tmp_path / precision, recipe, device, precision)
    assert (wide.log.precision, narrow.log.precision) == ("fp32", precision)
    assert narrow.log.batches == wide.log.batches
    assert narrow.log.weights_sha256 != wide.log.weights_sha256
    weights = load_file(narrow.folder / "model.safetensors").values()
    assert {str(one.dtype) for one in weights} == {"torch.float32"}
    found, expected = ([point.loss for point in log.loss] for log in (narrow.log, wide.log))
    assert found[0] == pytest.approx(expected[0], rel=0.02)
    assert found[-1] < 0.8 * found[0]
    if precision == "bf16":
        # In fp16 the first steps may be skipped, until the scale of the loss fits.
        assert found == pytest.approx(expected, rel=0.1)


@pytest.mark.usefixtures("device")
def test_torchs_fused_attention_is_not_taken_where_bits_must_repeat() -> None:
    """With warnings alone, as here, its backward pass on a GPU is in any order."""
    import torch

    from harness.models.trainer import deterministic_algorithms

    backends: Any = torch.backends.cuda
    flags = (backends.flash_sdp_enabled, backends.mem_efficient_sdp_enabled, backends.cudnn_sdp_enabled)
    before = [flag() for flag in flags]
    with deterministic_algorithms("cuda:0"):
        assert [flag() for flag in flags] == [False, False, False]
        assert backends.math_sdp_enabled()
    assert [flag() for flag in flags] == before
    with deterministic_algorithms("cpu"):
        assert [flag() for flag in flags] == before


@pytest.mark.parametrize("way", ["padded", "grouped"])
def test_the_same_seed_gives_the_same_bits(base: Path, tmp_path: Path, device: str, way: WayOnGpu) -> None:
    recipe = make_recipe(embedding=embed(way))
    first, second = (train(base, tmp_path / name, recipe, device) for name in ("first", "second"))
    assert first.log.nondeterministic == second.log.nondeterministic == ()
    assert first.log.loss == second.log.loss
    assert first.log.weights_sha256 == second.log.weights_sha256


def test_what_the_same_bits_cost_is_measured(
    base: Path,
    tmp_path: Path,
    device: str,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Any,
) -> None:
    recipe = make_recipe(embedding=embed("padded"))
    train(base, tmp_path / "warm", recipe, device)
    repeated = train(base, tmp_path / "repeated", recipe, device)
    monkeypatch.setattr("harness.models.trainer.deterministic_algorithms", lambda _: nullcontext(()))
    free = train(base, tmp_path / "free", recipe, device)
    assert free.log.batches == repeated.log.batches
    assert free.log.loss[0].loss == pytest.approx(repeated.log.loss[0].loss, rel=1e-5)
    seconds = (
        f"{repeated.seconds / STEPS:.4f} s a step with deterministic algorithms, {free.seconds / STEPS:.4f} s without"
    )
    record_property(MEASURED, f"{device}: {seconds}")


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_killed_training_ends_in_the_bits_of_one_that_never_was(
    base: Path, tmp_path: Path, device: str, precision: Precision
) -> None:
    if precision == "fp16" and device == "cpu":
        pytest.skip("fp16 trains on GPUs alone")
    recipe = make_recipe(embedding=embed("padded"))
    undisturbed = train(base, tmp_path / "undisturbed", recipe, device, precision)
    # A process of its own, not forked: CUDA does not live on in a fork.
    child = multiprocessing.get_context("spawn").Process(
        target=train_tiny,
        args=(base, tmp_path / "target-killed", tmp_path / "killed" / "scratch", recipe, 7),
        kwargs={"device": device, "precision": precision},
    )
    child.start()
    assert end_child(child) == -signal.SIGKILL
    resumed = train(base, tmp_path / "killed", recipe, device, precision)
    assert (undisturbed.log.resumes, resumed.log.resumes) == (0, 1)
    assert undisturbed.log.steps == STEPS
    assert resumed.log.batches == undisturbed.log.batches
    assert resumed.log.loss == undisturbed.log.loss
    assert resumed.log.weights_sha256 == undisturbed.log.weights_sha256


def test_the_trainer_keeps_to_the_device_asked_for(tmp_path: Path, device: str) -> None:
    from harness.models.trainer import make_arguments

    arguments = make_arguments(make_recipe(), seed=0, device=device, precision="fp32", output=tmp_path)
    assert str(arguments.device) == device
    assert arguments.n_gpu == int(device.startswith("cuda"))
    assert arguments.train_batch_size == make_recipe().arguments.per_device_train_batch_size


def test_of_several_gpus_one_is_taken_and_its_batch_is_the_recipes(
    tmp_path: Path, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there are fewer, they are made believe: nothing is computed."""
    import torch

    from harness.models.trainer import make_arguments

    if torch.cuda.device_count() <= 1 or device == "cpu":
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
        monkeypatch.setattr(torch.cuda, "set_device", lambda _: None)
    arguments = make_arguments(make_recipe(), seed=0, device="cuda:1", precision="fp32", output=tmp_path)
    assert str(arguments.device) == "cuda:1"
    assert arguments.n_gpu == 1
    assert arguments.train_batch_size == make_recipe().arguments.per_device_train_batch_size
