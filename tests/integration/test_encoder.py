"""Encoding must give what the library's own `encode` gives."""

from __future__ import annotations

import platform
import random
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from harness.errors import HarnessError, SourceError
from tests.support.tiny_model import Architecture, build_tiny_model, put_beyond_embeddings

ARCHITECTURES: tuple[Architecture, ...] = get_args(Architecture)

TEXTS = [
    "what is the role of gene p53 in cancer",
    "heart",
    "",
    "the receptor binds the ligand and the kinase pathway is activated " * 12,
    "heart",
    "does treatment with the drug reduce the risk of heart attack",
    "Heart",
] + [f"list molecule {number} that interacts with receptor {number * 7}" for number in range(40)]


@pytest.mark.parametrize("batch_tokens", [1, 100, 5000])
@pytest.mark.parametrize("packs", [True, False], ids=["packed", "padded"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_embeddings_are_those_of_the_librarys_encode(
    tmp_path: Path, architecture: Architecture, batch_tokens: int, monkeypatch: pytest.MonkeyPatch, *, packs: bool
) -> None:
    from harness.models import embedding_paths
    from harness.models.encoder import encode_texts, open_encoder

    if not packs:
        monkeypatch.setattr(embedding_paths, "can_pack", lambda _: False)
    encoder = open_encoder(build_tiny_model(tmp_path, architecture=architecture), device="cpu")
    assert encoder.ways["query"].path == ("packed" if packs else "padded")
    assert encoder.notes == ()
    # Dropout must not survive from training.
    encoder.model.train()
    embeddings = encode_texts(encoder, TEXTS, role="query", batch_tokens=batch_tokens)
    expected = encoder.model.encode(TEXTS, batch_size=8, show_progress_bar=False)
    assert embeddings.dtype == np.float32
    assert embeddings.shape == expected.shape
    np.testing.assert_allclose(embeddings, expected, rtol=0, atol=1e-6)


def test_a_model_that_fails_at_a_text_of_the_data_alone_is_named(tmp_path: Path) -> None:
    from harness.models.encoder import encode_texts, open_encoder

    # No text that every model is tried with has this word.
    put_beyond_embeddings(build_tiny_model(tmp_path / "broken"), "cancer")
    encoder = open_encoder(tmp_path / "broken", device="cpu")
    with pytest.raises(SourceError, match=r"broken: the model cannot embed texts.*: IndexError"):
        encode_texts(encoder, TEXTS, role="query", batch_tokens=200)


def test_each_distinct_text_is_encoded_once_and_progress_is_told(tmp_path: Path) -> None:
    from harness.models.encoder import encode_texts, open_encoder

    encoder = open_encoder(build_tiny_model(tmp_path), device="cpu")
    calls: list[tuple[int, int]] = []
    embeddings = encode_texts(
        encoder, TEXTS * 3, role="query", batch_tokens=200, progress=lambda done, total: calls.append((done, total))
    )
    assert len(embeddings) == 3 * len(TEXTS)
    assert {total for _, total in calls} == {len(set(TEXTS))}
    assert calls[-1] == (len(set(TEXTS)), len(set(TEXTS)))
    assert sorted(calls) == calls
    np.testing.assert_array_equal(embeddings[1], embeddings[4])


def test_no_texts_give_no_rows(tmp_path: Path) -> None:
    from harness.models.encoder import encode_texts, open_encoder

    encoder = open_encoder(build_tiny_model(tmp_path), device="cpu")
    assert encode_texts(encoder, [], role="passage", batch_tokens=100).shape == (0, 32)


def test_a_batch_without_room_for_a_token_is_refused(tmp_path: Path) -> None:
    from harness.models.encoder import encode_texts, open_encoder

    encoder = open_encoder(build_tiny_model(tmp_path), device="cpu")
    with pytest.raises(HarnessError, match="batch_tokens is 0"):
        encode_texts(encoder, TEXTS, role="query", batch_tokens=0)


def test_a_seed_fixes_every_generator() -> None:
    import torch

    from harness.models.device import seed_everything

    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))  # noqa: NPY002 - it must be seeded too

    seed_everything(7)
    first = draw()
    seed_everything(7)
    assert draw() == first
    seed_everything(8)
    assert draw() != first


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_that_a_generator_cannot_take_is_refused(seed: int) -> None:
    from harness.models.device import seed_everything

    with pytest.raises(HarnessError, match=str(seed)):
        seed_everything(seed)


def test_devices_are_picked_or_refused() -> None:
    import torch

    from harness.models.device import native_bf16, peak_device_memory_bytes, pick_device, synchronize

    assert pick_device("cpu") == "cpu"
    assert pick_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")
    for wanted in ("cuda:99", "toaster"):
        with pytest.raises(HarnessError, match=wanted):
            pick_device(wanted)
    synchronize("cpu")
    assert peak_device_memory_bytes("cpu") is None
    assert native_bf16("cpu") == any(
        torch.cpu.get_capabilities().get(name, False) for name in ("amx_bf16", "avx512_bf16", "bf16")
    )


MEMORY_SCRIPT = """
from harness.models.device import keep_freed_memory, return_freed_memory

assert keep_freed_memory()
import torch

def resident_bytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

before = resident_bytes()
tensors = [torch.ones(2_000_000) for _ in range(50)]
del tensors
kept = resident_bytes() - before
assert return_freed_memory()
print(kept, resident_bytes() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc can be told to keep memory")
def test_freed_memory_is_kept_until_it_is_returned() -> None:
    done = subprocess.run([sys.executable, "-c", MEMORY_SCRIPT], capture_output=True, text=True, check=True)
    kept, left = (int(number) for number in done.stdout.split())
    assert kept > 350_000_000
    assert left < 50_000_000


PAGES_SCRIPT = """
from harness.models.device import keep_freed_memory

keep_freed_memory()
import torch

address = torch.ones(20_000_000).data_ptr()
inside = False
for line in open("/proc/self/smaps"):
    first, *_ = line.split()
    if "-" in first:
        low, high = (int(part, 16) for part in first.split("-"))
        inside = low <= address < high
    elif inside and first == "VmFlags:":
        print("hg" in line.split())
"""


@pytest.mark.skipif(not Path("/sys/kernel/mm/transparent_hugepage").is_dir(), reason="this system has no huge pages")
def test_large_tensors_ask_for_large_pages() -> None:
    done = subprocess.run([sys.executable, "-c", PAGES_SCRIPT], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True"]
