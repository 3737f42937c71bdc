"""Benchmarks run other people's code for minutes: its warnings are shown, where tests turn them into errors."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Claims are judged by the records that the trials write, so they come last.
    items.sort(key=lambda item: item.path.stem == "test_claims")
    for item in items:
        item.add_marker(pytest.mark.filterwarnings("default"))
