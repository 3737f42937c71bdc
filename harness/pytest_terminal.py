"""What is said on the terminal while an experiment's cases run: outside of pytest's capturing, and before them."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from harness.pipeline.selection import Selected


def introduce(selected: Selected) -> list[str]:
    """Return what is said of an experiment before it runs."""
    from harness.core.text import printable  # noqa: PLC0415 - only for our own cases
    from harness.experiment.trial import list_trials  # noqa: PLC0415

    experiment = selected.experiment
    seeds, trials = ", ".join(map(str, experiment.seeds)), len(list(list_trials(experiment)))
    lines = [
        f"experiment {experiment.name}: {selected.reason}",
        f"{experiment.title}: {trials} trials, seeds {seeds}",
    ]
    if experiment.published is not None and experiment.published.not_comparable:
        lines.append(f"{experiment.published.not_comparable}: not comparable with the published values cell by cell")
    return [printable(line) for line in lines]


class Terminal(io.TextIOBase):
    """The terminal as it is outside of pytest's capturing."""

    def __init__(self, config: pytest.Config) -> None:
        self._capture = config.pluginmanager.getplugin("capturemanager")
        with self._capture.global_and_fixture_disabled():
            self._interactive = sys.stdout.isatty()
        self._fresh = True

    def write(self, text: str) -> int:
        """Write at once, behind whatever pytest has said."""
        with self._capture.global_and_fixture_disabled():
            # pytest leaves the cursor behind the name of the case.
            written = sys.stdout.write(f"\n{text}" if self._fresh else text)
            sys.stdout.flush()
        self._fresh = False
        return written

    def flush(self) -> None:
        """Every write is flushed already."""

    def isatty(self) -> bool:
        """Say whether a person looks on."""
        return self._interactive
