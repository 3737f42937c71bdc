"""What runs on a GPU: every test has its device from here, so that a CPU runs the same code where that makes sense."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.tiny_model import build_tiny_model

DEVICE_VARIABLE = "HARNESS_GPU_TESTS"
MEASURED = "measured"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.gpu)
            # What a driver or its packages warn of is shown, and fails no test.
            item.add_marker(pytest.mark.filterwarnings("default"))


@pytest.fixture(scope="session")
def device() -> str:
    """The device that is tested: the GPU, or what the variable names."""
    from torch import cuda

    wanted = os.environ.get(DEVICE_VARIABLE, "cuda:0")
    if wanted.startswith("cuda") and not cuda.is_available():
        pytest.skip(f"there is no GPU here; {DEVICE_VARIABLE}=cpu runs the same code on the CPU")
    return wanted


@pytest.fixture
def gpu(device: str) -> str:
    """The device, where only a GPU will do."""
    if not device.startswith("cuda"):
        pytest.skip(f"means nothing on {device}")
    return device


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT."""
    return build_tiny_model(tmp_path_factory.mktemp("gpu") / "model")


@pytest.fixture(scope="session")
def still(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model without dropout, whose masks differ with the type of the numbers, and from one kernel to another."""
    return build_tiny_model(tmp_path_factory.mktemp("gpu") / "still", dropout=0.0)


@pytest.fixture(scope="session")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT wide and deep enough for a GPU's faster but less exact products to show."""
    return build_tiny_model(tmp_path_factory.mktemp("gpu") / "wide", hidden_size=128, layers=4)


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    """Leave torch's precision of products as it was found."""
    import torch

    before = torch.backends.cuda.matmul.fp32_precision
    yield
    # The older setting first: it sets both, and they refuse to differ.
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cuda.matmul.fp32_precision = before


@pytest.fixture
def no_memory(device: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Have the model ask for more than there is: of a GPU's allocator; elsewhere its error is raised in its place."""
    import torch
    from transformers import BertModel

    def ask(*_: Any, **__: Any) -> None:
        if device.startswith("cuda"):
            torch.empty(2**45, dtype=torch.uint8, device=device)
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 32768.00 GiB. GPU 0 has 80.00 GiB in all.")

    with monkeypatch.context() as patch:
        patch.setattr(BertModel, "forward", ask)
        yield patch


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what tests measured, which no test holds against a limit."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name == MEASURED:
                terminalreporter.write_line(f"{MEASURED}: {value}")
