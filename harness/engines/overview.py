"""One view of trials that run beside each other: where, how far, how long is left, and how many are done."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence

from harness.core.text import clip, format_seconds, printable
from harness.experiment.trial import Trial
from harness.pipeline.progress import LINE_SECONDS, REDRAW_SECONDS, Stream

# Of running trials, more than which no terminal has room for.
SHOWN_TRIALS = 20
UP_AND_CLEAR = "\x1b[{}A\x1b[J"


class Overview:
    """Draws a block that is redrawn on a terminal, else the same block every ten seconds; what is kept is a line."""

    def __init__(self, stream: Stream, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Take the stream to write to."""
        self._stream = stream
        self._clock = clock
        self._interactive = stream.isatty()
        self._waiting: set[Trial] = set()
        self._running: dict[Trial, tuple[str, str]] = {}
        self._noted: set[str] = set()
        self._done = self._failed = 0
        self._took: list[float] = []
        self._drawn = clock()
        self._height = 0

    def wait_for(self, trials: Sequence[Trial]) -> None:
        """Take trials that are to run."""
        self._waiting |= set(trials)

    def begin(self, trial: Trial, place: str, attempt: int) -> None:
        """Say that a trial runs on a node."""
        self._waiting.discard(trial)
        self._running[trial] = (place, "begins")
        self._keep(trial, f"begins{'' if attempt == 1 else f', attempt {attempt}'}")

    def tell(self, trial: Trial, text: str, *, keep: bool) -> None:
        """Say how a trial goes; a note is shown once for all trials."""
        if trial not in self._running:
            return  # of an attempt that is over
        if keep:
            if not text.startswith("note: ") or text not in self._noted:
                self._noted.add(text)
                self._keep(trial, text)
        else:
            self._running[trial] = (self._running[trial][0], text)

    def lose(self, trial: Trial, reason: str) -> None:
        """Say that a trial's worker was lost, and that the trial waits again."""
        self._keep(trial, f"lost, runs again: {reason}")
        self._running.pop(trial, None)
        self._waiting.add(trial)

    def end(self, trial: Trial, summary: str, *, seconds: float | None, failed: bool = False) -> None:
        """Say what came out, and what it took; None for what had been done before."""
        self._keep(trial, summary)
        self._waiting.discard(trial)
        self._running.pop(trial, None)
        self._failed += failed
        self._done += not failed
        if seconds is not None:
            self._took.append(seconds)

    def note(self, text: str) -> None:
        """Say what concerns all trials."""
        if text not in self._noted:
            self._noted.add(text)
            self._write([text], block=False)

    def redraw(self) -> None:
        """Show the block, if it was not shown a moment ago."""
        if self._clock() - self._drawn >= (REDRAW_SECONDS if self._interactive else LINE_SECONDS):
            self._write([], block=True)

    def _keep(self, trial: Trial, text: str) -> None:
        place = self._running.get(trial, ("", ""))[0]
        self._write([f"{trial.id}{place and f' on {place}'}: {text}"], block=self._interactive)

    def _write(self, lines: Sequence[str], *, block: bool) -> None:
        drawn = self._list_block() if block else []
        clear = UP_AND_CLEAR.format(self._height) if self._height else ""
        width = shutil.get_terminal_size().columns - 1
        if self._interactive:
            # What wraps would not be cleared as a whole.
            drawn = [clip(line, width) for line in drawn]
        self._stream.write(clear + "".join(f"{printable(line)}\n" for line in [*lines, *drawn]))
        self._stream.flush()
        self._height = len(drawn) if self._interactive else 0
        if block:
            self._drawn = self._clock()

    def _list_block(self) -> list[str]:
        counts = f"{self._done} done, {self._failed} failed, {len(self._running)} running, {len(self._waiting)} waiting"
        lines = [counts + self._estimate()]
        for trial, (place, text) in list(self._running.items())[:SHOWN_TRIALS]:
            lines.append(f"  {trial.id} on {place}: {text}")
        if len(self._running) > SHOWN_TRIALS:
            lines.append(f"  and {len(self._running) - SHOWN_TRIALS} more")
        return lines

    def _estimate(self) -> str:
        """Say how long the rest should take, if every trial took what those that ended did."""
        left = len(self._waiting) + len(self._running) / 2
        if not self._took or not self._running or not left:
            return ""
        seconds = sum(self._took) / len(self._took) * left / len(self._running)
        return f"; all done in about {format_seconds(seconds)}"
