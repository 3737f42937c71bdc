"""Every trial of the experiment is one case: it runs the pipeline, times it and asserts the thresholds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from harness.pipeline import Workplace, check_thresholds, run_trial
from harness.progress import Progress
from harness.pytest_plugin import describe
from harness.record import Record
from harness.trial import Trial


def test_trial(
    trial: Trial, workplace: Workplace, progress: Progress, keep_record: Callable[[Record], None], benchmark: Any
) -> None:
    record = benchmark.pedantic(run_trial, args=(trial, workplace, progress), rounds=1, iterations=1)
    benchmark.extra_info.update(describe(record))
    keep_record(record)
    check_thresholds(record)
