"""Progress tells a waiting person which trial of how many runs, at which stage and step, and how long is left."""

from __future__ import annotations

import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Protocol

from harness.core.text import format_seconds
from harness.experiment.trial import Trial

LINE_SECONDS = 10.0
REDRAW_SECONDS = 0.2
CLEAR_LINE = "\r\x1b[2K"


class Stream(Protocol):
    """What progress is written to."""

    def write(self, text: str, /) -> int:
        """Write text and return how many characters it had."""

    def flush(self) -> None:
        """Show what was written."""

    def isatty(self) -> bool:
        """Say whether a line can be redrawn."""


class Progress:
    """Writes progress to a stream: one line that is redrawn on a terminal, else a line every ten seconds."""

    def __init__(self, stream: Stream, trials: Sequence[Trial], *, clock: Callable[[], float] = time.monotonic) -> None:
        """Take the stream to write to and all trials that will run."""
        self._stream = stream
        self._trials = list(trials)
        self._clock = clock
        self._interactive = stream.isatty()
        self._place = ""
        self._stage = ""
        self._started = 0.0
        self._drawn = clock()
        self._noted: set[str] = set()
        self._trial: Trial | None = None
        self._took: dict[tuple[str, str], list[float]] = defaultdict(list)

    def begin_trial(self, trial: Trial) -> None:
        """Say which trial starts."""
        self._trial, self._started = trial, self._clock()
        self._place = f"[{self._trials.index(trial) + 1}/{len(self._trials)}] {trial.id}"

    def begin_stage(self, stage: str) -> None:
        """Say which stage starts."""
        self._stage = stage
        self._show(f"{stage} ...", keep=not self._interactive)

    def note(self, text: str) -> None:
        """Say what a reader should know before hours of work, once for all trials."""
        if text not in self._noted:
            self._noted.add(text)
            self._show(f"note: {text}", keep=True)

    def advance_texts(self, done: int, total: int) -> None:
        """Say how many texts are encoded."""
        self._update(f"{self._stage}: {done}/{total} texts")

    def advance_steps(self, done: int, total: int, loss: float, seconds_left: float) -> None:
        """Say how training goes."""
        self._update(f"{self._stage}: step {done}/{total}, loss {loss:.4f}, {format_seconds(seconds_left)} left")

    def end_stage(self, seconds: float, *, cached: bool) -> None:
        """Say what the stage took."""
        took = f"cached, took {format_seconds(seconds)} when it was done" if cached else format_seconds(seconds)
        self._show(f"{self._stage}: {took}", keep=True)

    def end_trial(self, summary: str) -> None:
        """Say what came out, and how long the rest should take."""
        if self._trial is not None:
            self._took[self._trial.model, self._trial.variant].append(self._clock() - self._started)
            left = self._estimate(self._trials[self._trials.index(self._trial) + 1 :])
            rest = "" if left is None else f"; all trials done in about {format_seconds(left)}"
            self._show(f"{summary}{rest}", keep=True)

    def _estimate(self, rest: Sequence[Trial]) -> float | None:
        """Return the seconds that the rest should take, or None where its kind has not been seen."""
        total = 0.0
        for trial in rest:
            took = self._took.get((trial.model, trial.variant))
            if not took:
                return None
            total += sum(took) / len(took)
        return total if rest else None

    def _update(self, text: str) -> None:
        pause = REDRAW_SECONDS if self._interactive else LINE_SECONDS
        if self._clock() - self._drawn >= pause:
            self._show(text, keep=not self._interactive)

    def _show(self, text: str, *, keep: bool) -> None:
        self._drawn = self._clock()
        line = f"{self._place} {text}"
        if self._interactive and not keep:
            # What wraps cannot be cleared, and would leave a line behind at every redraw; the end matters more.
            width = shutil.get_terminal_size().columns - 1
            line = line if len(line) <= width else f"...{line[-(width - 3) :]}"
        start = CLEAR_LINE if self._interactive else ""
        self._stream.write(start + line + ("\n" if keep else ""))
        self._stream.flush()
