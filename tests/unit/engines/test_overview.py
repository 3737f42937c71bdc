"""The one view of trials that run beside each other."""

from __future__ import annotations

import io

from harness.engines.overview import Overview
from harness.experiment.trial import Trial

FIRST, SECOND, THIRD = (Trial(experiment="e", model="m", variant="r", seed=seed) for seed in range(3))


class Screen(io.StringIO):
    """A stream that may be a terminal."""

    def __init__(self, *, interactive: bool) -> None:
        super().__init__()
        self.interactive = interactive

    def isatty(self) -> bool:
        """Say what it was made to be."""
        return self.interactive


def play(*, interactive: bool) -> tuple[str, list[str]]:
    """Let one trial end, one run and one wait; return all that was written and its lines."""
    now = [0.0]
    screen = Screen(interactive=interactive)
    view = Overview(screen, clock=lambda: now[0])
    view.wait_for([FIRST, SECOND, THIRD])
    view.begin(FIRST, "node1", 1)
    view.begin(SECOND, "node2", 2)
    view.tell(FIRST, "note: the same", keep=True)
    view.tell(SECOND, "note: the same", keep=True)
    view.tell(THIRD, "from an attempt that is over", keep=True)
    view.tell(SECOND, "train: step 3/9, loss 0.5000, 7 s left", keep=False)
    view.redraw()
    view.end(FIRST, "mrr@10 0.5000", seconds=30.0)
    now[0] += 20
    view.redraw()
    return screen.getvalue(), screen.getvalue().splitlines()


def test_a_log_has_what_happened_and_a_block_every_few_seconds() -> None:
    _, lines = play(interactive=False)
    assert lines == [
        "e/m/r/seed0 on node1: begins",
        "e/m/r/seed1 on node2: begins, attempt 2",
        "e/m/r/seed0 on node1: note: the same",
        "e/m/r/seed0 on node1: mrr@10 0.5000",
        "1 done, 0 failed, 1 running, 1 waiting; all done in about 45 s",
        "  e/m/r/seed1 on node2: train: step 3/9, loss 0.5000, 7 s left",
    ]


def test_a_terminal_has_the_block_drawn_over() -> None:
    text, lines = play(interactive=True)
    assert text.count("e/m/r/seed0 on node1: mrr@10 0.5000") == 1
    # Three lines stood there when the last but one was drawn: counts and two running trials.
    assert "\x1b[3A\x1b[J" in text
    assert lines[-1] == "  e/m/r/seed1 on node2: train: step 3/9, loss 0.5000, 7 s left"


def test_what_is_lost_waits_again_and_what_failed_is_counted() -> None:
    screen = Screen(interactive=False)
    now = [0.0]
    view = Overview(screen, clock=lambda: now[0])
    view.wait_for([FIRST, SECOND])
    view.begin(FIRST, "node1", 1)
    view.lose(FIRST, "node1 went away")
    view.begin(SECOND, "node2", 1)
    view.end(SECOND, "DataError: \x1b[31mred", seconds=None, failed=True)
    now[0] += 20
    view.redraw()
    said = screen.getvalue()
    assert "e/m/r/seed0 on node1: lost, runs again: node1 went away\n" in said
    assert said.endswith("0 done, 1 failed, 0 running, 1 waiting\n")
    assert "\x1b" not in said
