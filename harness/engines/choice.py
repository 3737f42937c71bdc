"""The engine that was asked for: today's way, one trial after another in this process, or one of a cluster."""

from __future__ import annotations

from collections.abc import Sequence

from harness.engines.engine import Engine, EngineConfig
from harness.errors import HarnessError
from harness.experiment.trial import Trial, list_trials
from harness.pipeline.progress import Progress, Stream
from harness.pipeline.run_trial import RunContext, open_context, run_trial
from harness.pipeline.selection import RunConfig, Selected
from harness.records.record import Record


class LocalEngine:
    """Runs each trial in this process when it is waited for."""

    timed = True

    def __init__(self, context: RunContext, progress: Progress) -> None:
        self._context = context
        self._progress = progress

    def submit(self, trials: Sequence[Trial]) -> None:
        """Do nothing: a trial is run when it is waited for."""

    def wait(self, trial: Trial) -> Record:
        """Run the trial."""
        return run_trial(trial, self._context, self._progress)

    def close(self) -> None:
        """Do nothing: nothing runs."""


def open_engine(config: EngineConfig, selected: Selected, run: RunConfig, stream: Stream) -> Engine:
    """Look at the machine, or connect to the cluster.

    Args:
        config: where trials are to run.
        selected: the experiment.
        run: how they are to run.
        stream: where progress is shown.

    Raises:
        HarnessError: what would stop every trial.
    """
    config.check()
    if config.name == "local":
        return LocalEngine(open_context(selected, run), Progress(stream, list(list_trials(selected.experiment))))
    try:
        from harness.engines.ray_engine import RayEngine  # noqa: PLC0415 - an extra that most have no use for
    except ModuleNotFoundError as cause:
        if cause.name != "ray":
            raise
        raise HarnessError("the engine ray needs the package: pip install 'retrieval-harness[ray]'") from cause
    return RayEngine(config, selected, run, stream)
