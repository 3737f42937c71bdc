"""A plan lists the trials before they are run: who keeps three seeds of twenty has to take lines out of it."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from pydantic import Field

from harness.core.files import refuse_links
from harness.core.schema import Frozen, decode_json, read_text
from harness.errors import RecordError
from harness.experiment.trial import Trial

PLAN_FILE = "planned.jsonl"
PLAN_LIMIT_BYTES = 4_000_000


class PlannedTrial(Frozen):
    """A trial that was to be run; ``afterwards`` says that it had a record already when it was listed."""

    trial: Trial
    listed: Annotated[str, Field(max_length=40)]
    afterwards: bool


def locate_plan(results: Path, experiment: str) -> Path:
    """Return where an experiment's plan lies below a results folder."""
    return results / "runs" / experiment / PLAN_FILE


def note_trials(trials: Iterable[Trial], results: Path) -> None:
    """Add trials to the plans of their experiments, each once, before they run.

    Lines are only ever added, by one write, so that processes beside each other lose none.

    Raises:
        RecordError: the disk refuses, a plan is broken, or a folder of an experiment is a link.
    """
    by_experiment: dict[str, list[Trial]] = {}
    for trial in trials:
        by_experiment.setdefault(trial.experiment, []).append(trial)
    listed = datetime.now(UTC).isoformat(timespec="seconds")
    for experiment, wanted in by_experiment.items():
        path = locate_plan(results, experiment)
        # What follows writes there.
        refuse_links(results / "records" / experiment, below=results)
        known = {planned.trial for planned in read_plan(path)}
        lines = "".join(
            PlannedTrial(
                trial=trial,
                listed=listed,
                afterwards=(results / "records" / experiment / f"{trial.stem}.json").exists(),
            ).model_dump_json()
            + "\n"
            for trial in wanted
            if trial not in known
        )
        try:
            if lines:
                path.parent.mkdir(parents=True, exist_ok=True)
                _append(path, lines.encode())
        except OSError as cause:
            raise RecordError(f"{path}: cannot be written: {cause.strerror or cause}") from cause


def read_plan(path: Path) -> tuple[PlannedTrial, ...]:
    """Read a plan; an absent one is empty.

    Raises:
        RecordError: naming the file, the line and what is wrong with it; a link is.
    """
    refuse_links(path, below=path.parents[2])
    if not path.exists():
        return ()
    text = read_text(path, limit_bytes=PLAN_LIMIT_BYTES, error=RecordError)
    return tuple(
        decode_json(PlannedTrial, line, place=f"{path}:{number}", error=RecordError)
        for number, line in enumerate(text.splitlines(), start=1)
    )


def _append(path: Path, content: bytes) -> None:
    """Add lines whole or not at all: half a line, as a full disk leaves, would break the plan for every later run.

    Raises:
        OSError: the disk refuses.
    """
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        # Others that add lines wait meanwhile, so that what is cut off again is our own.
        fcntl.flock(handle, fcntl.LOCK_EX)
        before = os.fstat(handle).st_size
        written = os.write(handle, content)
        if written == len(content):
            os.fsync(handle)
            return
        os.ftruncate(handle, before)
    finally:
        os.close(handle)
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
