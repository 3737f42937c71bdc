"""The device's memory: its peak in the records, and one line that says what to change where it does not suffice."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from harness.errors import HarnessError, TrainingError
from harness.experiment.recipe import Embedding
from tests.support.tiny_training import make_recipe, train_tiny
from tests.support.tiny_trials import make_place

PADDED = Embedding(cuda="padded", cpu="padded")


def test_records_have_the_devices_peak_and_are_whole(tmp_path: Path, device: str) -> None:
    from harness.cli.main import main
    from harness.records.record import read_records

    place = make_place(tmp_path)
    run = [
        "run", str(place.manifest), "--device", device, "--store", str(place.store), "--results", str(place.results),
    ]  # fmt: skip
    assert main(run) == 0
    records = read_records(place.results / "records" / "tiny")
    assert {record.device for record in records} == {device}
    for record in records:
        peak = record.stages["baseline" if record.training is None else "train"].peak_device_memory_bytes
        assert (peak is None) if device == "cpu" else (peak is not None and peak > 2**16)
    assert main(["verify", str(place.results), "--experiments", str(place.manifest.parent)]) == 0


def test_training_without_memory_names_the_batch_and_what_to_change(
    base: Path, tmp_path: Path, device: str, no_memory: pytest.MonkeyPatch
) -> None:
    import torch

    recipe = make_recipe(embedding=PADDED, batch_sampler="batch_sampler")
    with pytest.raises(TrainingError) as raised:
        train_tiny(base, tmp_path / "target", tmp_path / "scratch", recipe, device=device)
    said = str(raised.value)
    assert "\n" not in said
    assert isinstance(raised.value.__cause__, torch.OutOfMemoryError)
    for part in (
        "step 1, 8 texts of up to ",
        "too little memory: OutOfMemoryError: CUDA out of memory. Tried to allocate",
        "take the loss CachedMultipleNegativesRankingLoss with a mini_batch_size below 8",
        "lower per_device_train_batch_size (8) and raise gradient_accumulation_steps (1)",
    ):
        assert part in said
    # Nothing is held on to: the same training fits once there is memory.
    no_memory.undo()
    done = train_tiny(base, tmp_path / "again", tmp_path / "scratch", recipe, device=device)
    assert (done.log.steps, done.log.resumes) == (12, 0)


def test_encoding_without_memory_names_the_batch_and_what_to_change(
    base: Path, device: str, request: pytest.FixtureRequest
) -> None:
    from harness.models.encoder import encode_texts, open_encoder

    encoder = open_encoder(base, device=device)
    # A CPU's packed way does not call what is broken here.
    ways = {role: dataclasses.replace(way, path="padded") for role, way in encoder.ways.items()}
    padded = dataclasses.replace(encoder, ways=ways)
    request.getfixturevalue("no_memory")
    with pytest.raises(HarnessError, match=r"^embedding 3 texts of up to \d+ tokens on .*lower batch_tokens \(512\)$"):
        encode_texts(padded, ["gene", "a protein", "the cell"], role="query", batch_tokens=512)
