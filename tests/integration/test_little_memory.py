"""Too little memory is one line that names the batch and what to change, in training and in encoding."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.tiny_model import build_tiny_model

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux limits address space")

LIMIT = """
import resource, sys
from pathlib import Path
import torch
from harness.errors import HarnessError
from harness.models.encoder import encode_texts, open_encoder
from harness.models.training import train_model
from tests.support.tiny_training import make_recipe, make_rows

folder = Path(sys.argv[1])
torch.set_num_threads(1)
# What is loaded late, threads included, must not be what does not fit.
texts = [f"gene {number} " * 40 for number in range(2000)]
encoder = open_encoder(folder / "model", device="cpu")

def limit():
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**26, -1))

def train(count):
    for name in ("target", "scratch"):
        (folder / f"{name}{count}").mkdir()
    columns = {"positive": ["gene cell " * 40] * count, "anchor": ["heart risk " * 40] * count}
    recipe = make_recipe(per_device_train_batch_size=count, batch_sampler="batch_sampler", num_train_epochs=1)
    train_model(
        folder / "model", columns, recipe, seed=0, device="cpu", precision="fp32",
        target=folder / f"target{count}", scratch=folder / f"scratch{count}",
    )

try:
    DO
except HarnessError as cause:
    print(f"{type(cause).__name__}: {cause}")
"""


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        (
            "limit(); encode_texts(encoder, texts, role='query', batch_tokens=200_000)",
            "HarnessError: embedding 2000 texts of up to 64 tokens on cpu: too little memory: ",
        ),
        (
            "train(4); limit(); train(2000)",
            "TrainingError: step 1, 2000 texts of up to 64 tokens and 2000 texts of up to 64 tokens: ",
        ),
    ],
    ids=["encoding", "training"],
)
def test_too_little_memory_names_the_batch_and_what_to_change(tmp_path: Path, action: str, expected: str) -> None:
    build_tiny_model(tmp_path / "model")
    script = LIMIT.replace("DO\n", f"{action}\n")
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.stdout.startswith(expected), done.stdout + done.stderr[-3000:]
    assert done.stdout.count("\n") == 1
    assert "lower" in done.stdout
