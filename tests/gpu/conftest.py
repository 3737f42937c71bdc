"""What runs on a GPU: every test has its device from here, so that a CPU runs the same code where that makes sense."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.tiny_model import build_tiny_model

DEVICE_VARIABLE = "HARNESS_GPU_TESTS"
MEASURED = "measured"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.gpu)


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


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what tests measured, which no test holds against a limit."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name == MEASURED:
                terminalreporter.write_line(f"{MEASURED}: {value}")
