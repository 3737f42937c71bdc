"""A history is what was accepted as reference over time: a commit, a date and the values, without the queries'."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from harness.core.schema import Frozen, Unit, decode_json, format_json, read_text
from harness.errors import RecordError
from harness.experiment.data import COMMIT
from harness.experiment.manifest import Seed, Variant
from harness.experiment.trial import PlainName
from harness.records.record import Record

HISTORY_FILE = "history.json"
HISTORY_LIMIT_BYTES = 16 * 2**20
MOST_SNAPSHOTS = 1000


class TrialValues(Frozen):
    """The values of one trial."""

    model: PlainName
    variant: Variant
    seed: Seed | None
    values: dict[str, Unit]


class Snapshot(Frozen):
    """What was accepted at once.

    ``commit`` is the harness's own that made the records, and ``dirty`` whether it had uncommitted changes;
    ``date`` (``2026-11-23``) is that of the newest record.
    """

    commit: Annotated[str, Field(pattern=f"^{COMMIT.pattern}$")] | None
    dirty: bool | None
    date: Annotated[str, Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]
    trials: tuple[TrialValues, ...]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        known = [(one.model, one.variant, one.seed) for one in self.trials]
        if len(set(known)) != len(known):
            raise ValueError("trials: a trial is listed twice")
        return self

    @property
    def label(self) -> str:
        """The commit as pictures show it."""
        return "no commit" if self.commit is None else self.commit[:8] + ("+" if self.dirty else "")


class History(Frozen):
    """All that was accepted for one experiment, oldest first."""

    schema_version: Literal[1] = 1
    snapshots: Annotated[tuple[Snapshot, ...], Field(max_length=MOST_SNAPSHOTS)] = ()

    def extend(self, snapshot: Snapshot) -> History:
        """Return the history with one more snapshot; the oldest gives way where there are too many."""
        return History(snapshots=(*self.snapshots, snapshot)[-MOST_SNAPSHOTS:])

    def format(self) -> str:
        """Write the history as JSON, one snapshot a line."""
        return format_json(self.model_dump(mode="json")) + "\n"


def take_snapshot(records: Sequence[Record]) -> Snapshot:
    """Return the values of records, with commit and date of the newest.

    Raises:
        RecordError: no records, or a date that is none.
    """
    if not records:
        raise RecordError("a snapshot needs one or more records, found none")
    newest = max(records, key=lambda record: record.created)
    snapshot = {
        "commit": newest.environment.commit,
        "dirty": newest.environment.dirty,
        "date": newest.created[:10],
        "trials": [
            {
                "model": record.trial.model,
                "variant": record.trial.variant,
                "seed": record.trial.seed,
                "values": dict(record.values),
            }
            for record in records
        ],
    }
    return decode_json(Snapshot, format_json(snapshot), place=f"snapshot of {newest.trial.id}", error=RecordError)


def read_history(folder: Path) -> History:
    """Read the history in an experiment's reference folder; an absent one is empty.

    Raises:
        RecordError: naming the file and what is wrong with it.
    """
    path = folder / HISTORY_FILE
    if not path.exists() and not path.is_symlink():
        return History()
    if path.is_symlink() or not path.is_file():
        raise RecordError(f"{path}: not a plain file")
    text = read_text(path, limit_bytes=HISTORY_LIMIT_BYTES, error=RecordError)
    return decode_json(History, text, place=str(path), error=RecordError)
