"""Too little memory is one line that names the batch and what to change, in training and in encoding."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import HarnessError
from tests.support.children import run_in_child
from tests.support.tiny_model import build_tiny_model
from tests.support.tiny_training import make_recipe

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux limits address space")

SAID = "said.txt"


def limit_memory() -> None:
    """Allow this process 64 MiB more than it has."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**26, -1))


def encode(folder: Path) -> None:
    from harness.models.encoder import encode_texts, open_encoder

    texts = [f"gene {number} " * 40 for number in range(2000)]
    encoder = open_encoder(folder / "model", device="cpu")
    limit_memory()
    encode_texts(encoder, texts, role="query", batch_tokens=200_000)


def train(folder: Path) -> None:
    # What is loaded late, threads included, must not be what does not fit.
    _train(folder, 4)
    limit_memory()
    _train(folder, 2000)


def _train(folder: Path, count: int) -> None:
    from harness.models.training import train_model

    target, scratch = folder / f"target{count}", folder / f"scratch{count}"
    target.mkdir()
    scratch.mkdir()
    columns = {"positive": ["gene cell " * 40] * count, "anchor": ["heart risk " * 40] * count}
    recipe = make_recipe(per_device_train_batch_size=count, batch_sampler="batch_sampler", num_train_epochs=1)
    train_model(
        folder / "model",
        columns,
        recipe,
        seed=0,
        device="cpu",
        precision="fp32",
        target=target,
        scratch=scratch,
    )


def write_error(act: str, folder: Path) -> None:
    """Do one of the above in this process, and leave what it says."""
    try:
        {"encode": encode, "train": train}[act](folder)
    except HarnessError as cause:
        said = f"{type(cause).__name__}: {cause}"
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, -1))
        (folder / SAID).write_text(said, encoding="utf-8")


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        ("encode", "HarnessError: embedding 2000 texts of up to 64 tokens on cpu: too little memory: "),
        ("train", "TrainingError: step 1, 2000 texts of up to 64 tokens and 2000 texts of up to 64 tokens: "),
    ],
)
def test_too_little_memory_names_the_batch_and_what_to_change(tmp_path: Path, act: str, expected: str) -> None:
    build_tiny_model(tmp_path / "model")
    assert run_in_child(write_error, act, tmp_path) == 0
    said = (tmp_path / SAID).read_text(encoding="utf-8")
    assert said.startswith(expected), said
    assert "\n" not in said
    assert "lower" in said


def test_too_few_open_files_end_a_run_in_one_line(tmp_path: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (12, 12))

    command = [sys.executable, "-m", "harness", "run", "nosuch"]
    done = subprocess.run(command, preexec_fn=limit, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "harness: HarnessError: 12 files may be open at a time, a run needs 32: ulimit -n\n"
