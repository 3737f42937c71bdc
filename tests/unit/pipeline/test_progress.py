"""A waiting person sees which trial of how many runs, at which stage and step, with what loss, and what is left."""

from __future__ import annotations

import os
import shutil

import pytest

from harness.core.text import format_seconds
from harness.experiment.trial import Trial
from harness.pipeline.progress import CLEAR_LINE, Progress

TRIALS = [
    Trial(experiment="e", model="m", variant="baseline", seed=None),
    *(Trial(experiment="e", model="m", variant="finetuned", seed=seed) for seed in range(3)),
]


class Screen:
    """Keeps what is written to it, and is a terminal or not."""

    def __init__(self, *, terminal: bool) -> None:
        self.terminal = terminal
        self.text = ""

    def write(self, text: str, /) -> int:
        """Keep the text."""
        self.text += text
        return len(text)

    def flush(self) -> None:
        """Hold nothing back."""

    def isatty(self) -> bool:
        """Say what the test wants."""
        return self.terminal


class Clock:
    """A clock that goes on when the test says so."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def run_trial(progress: Progress, clock: Clock, number: int, seconds: float) -> None:
    progress.begin_trial(TRIALS[number])
    clock.seconds += seconds
    progress.end_trial("mrr@10 0.8000")


def test_the_place_among_all_trials_stage_step_loss_and_time_left_are_told(clock: Clock) -> None:
    screen = Screen(terminal=False)
    progress = Progress(screen, TRIALS, clock=clock)
    progress.begin_trial(TRIALS[1])
    progress.begin_stage("train")
    clock.seconds += 11
    progress.advance_steps(3, 63, 0.5, 125.0)
    progress.end_stage(20.0, cached=False)
    assert screen.text.splitlines() == [
        "[2/4] e/m/finetuned/seed0 train ...",
        "[2/4] e/m/finetuned/seed0 train: step 3/63, loss 0.5000, 2 min 5 s left",
        "[2/4] e/m/finetuned/seed0 train: 20 s",
    ]


def test_a_file_gets_a_line_every_ten_seconds_and_no_control_characters(clock: Clock) -> None:
    screen = Screen(terminal=False)
    progress = Progress(screen, TRIALS, clock=clock)
    progress.begin_trial(TRIALS[0])
    progress.begin_stage("baseline")
    for done in range(100):
        clock.seconds += 1
        progress.advance_texts(done, 100)
    assert len(screen.text.splitlines()) == 11
    assert "\x1b" not in screen.text
    assert "\r" not in screen.text


def test_a_terminals_line_is_redrawn_not_repeated(clock: Clock) -> None:
    screen = Screen(terminal=True)
    progress = Progress(screen, TRIALS, clock=clock)
    progress.begin_trial(TRIALS[0])
    progress.begin_stage("baseline")
    for done in range(10):
        clock.seconds += 1
        progress.advance_texts(done, 10)
    assert "\n" not in screen.text
    assert screen.text.count(CLEAR_LINE) == 11
    progress.end_stage(9.0, cached=False)
    assert screen.text.endswith("baseline: 9.0 s\n")


def test_a_terminals_line_never_wraps_and_keeps_its_end(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "get_terminal_size", lambda *_, **__: os.terminal_size((40, 24)))  # pytest asks too
    screen = Screen(terminal=True)
    progress = Progress(screen, TRIALS, clock=clock)
    progress.begin_trial(TRIALS[1])
    progress.begin_stage("train")
    clock.seconds += 1
    progress.advance_steps(3, 63, 0.5, 125.0)
    lines = screen.text.split(CLEAR_LINE)
    assert max(map(len, lines)) == 39
    assert lines[-1].startswith("...")
    assert lines[-1].endswith("loss 0.5000, 2 min 5 s left")


def test_updates_that_come_too_fast_are_passed_over(clock: Clock) -> None:
    screen = Screen(terminal=True)
    progress = Progress(screen, TRIALS, clock=clock)
    progress.begin_trial(TRIALS[0])
    progress.begin_stage("baseline")
    for done in range(1000):
        clock.seconds += 0.001
        progress.advance_texts(done, 1000)
    assert screen.text.count(CLEAR_LINE) < 10


def test_a_cached_stage_says_so(clock: Clock) -> None:
    screen = Screen(terminal=False)
    progress = Progress(screen, TRIALS, clock=clock)
    progress.begin_trial(TRIALS[0])
    progress.begin_stage("prepare")
    progress.end_stage(7200.0, cached=True)
    assert screen.text.endswith("prepare: cached, took 2 h 0 min when it was done\n")


def test_the_time_left_is_told_once_each_kind_of_trial_has_been_seen(clock: Clock) -> None:
    screen = Screen(terminal=False)
    progress = Progress(screen, TRIALS, clock=clock)
    run_trial(progress, clock, 0, 5.0)
    assert screen.text.endswith("mrr@10 0.8000\n")
    run_trial(progress, clock, 1, 60.0)
    assert screen.text.endswith("mrr@10 0.8000; all trials done in about 2 min 0 s\n")
    run_trial(progress, clock, 2, 120.0)
    assert screen.text.endswith("; all trials done in about 1 min 30 s\n")
    run_trial(progress, clock, 3, 60.0)
    assert screen.text.endswith("[4/4] e/m/finetuned/seed2 mrr@10 0.8000\n")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"), (0.44, "0.4 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.4, "59 s"), (59.6, "1 min 0 s"),
        (303, "5 min 3 s"), (3599.6, "1 h 0 min"), (7500, "2 h 5 min"),
    ],
)  # fmt: skip
def test_durations_read_as_people_say_them(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text
