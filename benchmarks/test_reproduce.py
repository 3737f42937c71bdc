"""Every trial of the experiment is one case: it runs the pipeline, times it and asserts the thresholds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from harness.experiment.trial import Trial
from harness.pipeline.progress import Progress
from harness.pipeline.run_trial import Workplace, check_thresholds, run_trial
from harness.pytest_plugin import describe
from harness.records.record import Record


def test_trial(
    trial: Trial, workplace: Workplace, progress: Progress, keep_record: Callable[[Record], None], benchmark: Any
) -> None:
    record = benchmark.pedantic(run_trial, args=(trial, workplace, progress), rounds=1, iterations=1)
    benchmark.extra_info.update(describe(record))
    keep_record(record)
    check_thresholds(record)
