"""What an engine is: it takes trials and gives their records; and how one is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from harness.core.text import quote
from harness.errors import HarnessError
from harness.experiment.trial import Trial
from harness.records.record import Record

ENGINES = ("local", "ray")
# Trials at a time, and a trial's CPUs or GPUs: beyond any machine or cluster that these are for.
MOST = 1024


@dataclass(frozen=True)
class EngineConfig:
    """Where trials are to run, as people type it.

    Attributes:
        name: ``local`` or ``ray``.
        address: of a running cluster, ``auto`` or HOST:PORT; None to start one on this machine, and stop it.
        parallel: most trials at a time; None for as many as the cluster has room for.
        gpus_per_trial: may be a fraction; None for 1 where the cluster has GPUs, else 0.
        cpus_per_trial: also the threads that a trial computes with; None for those that this process would use.
    """

    name: str = "local"
    address: str | None = None
    parallel: int | None = None
    gpus_per_trial: float | None = None
    cpus_per_trial: int | None = None

    def check(self) -> None:
        """Refuse what contradicts itself.

        Raises:
            HarnessError: no such engine, an option that the local one has no use for, or a number out of range.
        """
        if self.name not in ENGINES:
            raise HarnessError(f"engine is {self.name!r}, expected {' or '.join(ENGINES)}")
        given = {name: value for name, value in vars(self).items() if name != "name" and value is not None}
        if self.name == "local" and given:
            raise HarnessError(f"{', '.join(given)}: only with the engine ray; the local one runs trials one by one")
        for name, value in given.items():
            least = 0 if name == "gpus_per_trial" else 1
            if name != "address" and not value >= least:
                raise HarnessError(f"{name} is {value}, expected at least {least}")
            if name != "address" and value > MOST:
                raise HarnessError(f"{name} is {quote(value)}, expected at most {MOST}")


class Engine(Protocol):
    """Runs trials; progress is shown while one is waited for."""

    @property
    def timed(self) -> bool:
        """Whether waiting for a trial takes as long as the trial."""

    def submit(self, trials: Sequence[Trial]) -> None:
        """Take trials, to be run in this order as far as there is room."""

    def wait(self, trial: Trial) -> Record:
        """Return a trial's record once it is below the results folder.

        Raises:
            HarnessError: what kept the trial from running.
        """

    def close(self) -> None:
        """Give up what has not ended; what has is recorded."""
