"""The reference is the accepted records that the gate compares with; here it is replaced, in one reviewed step."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.core.schema import format_json
from harness.errors import RecordError
from harness.experiment.trial import Trial
from harness.gate.compare import GateReport, compare
from harness.gate.golden import take_in_golden
from harness.gate.policy import Policy
from harness.records.history import HISTORY_FILE, History, read_history, take_snapshot
from harness.records.record import Record
from harness.records.untrusted import ENDING, GOLDEN_FOLDER, take_in

REPLACED = ".old"


@dataclass(frozen=True, slots=True)
class Acceptance:
    """What accepting the records of one experiment would do.

    Attributes:
        experiment: its name.
        folder: the reference that is replaced, as a whole.
        before: the records in it now, as far as they can be read.
        after: those that take their place.
        unread: what is wrong with what is there now.
        history: what was accepted before.
        changed: whether any file would be another one.
        gate: what the gate says of the new records, by its default policy.
        golden: the fixed reference that is kept beside them.
    """

    experiment: str
    folder: Path
    before: tuple[Record, ...]
    after: tuple[Record, ...]
    unread: tuple[str, ...]
    history: History
    changed: bool
    gate: GateReport
    golden: tuple[Record, ...]

    @property
    def added(self) -> tuple[Trial, ...]:
        """Trials that the reference does not have yet."""
        return _subtract(self.after, self.before)

    @property
    def removed(self) -> tuple[Trial, ...]:
        """Trials that the reference would have no more."""
        return _subtract(self.before, self.after)


def plan_acceptance(candidate: Path, reference: Path, *, golden: bool = False) -> tuple[Acceptance, ...]:
    """Say what accepting candidate records would change; nothing is written.

    Args:
        candidate: a folder of one experiment's records, or of such folders.
        reference: the experiment's own reference folder, where it is named like it or has records; else the folder
            that holds one per experiment. It need not be there yet.
        golden: whether the new records also become the golden reference. Without one the records accepted so far do,
            or the new ones where these are the first.

    Raises:
        RecordError: naming every candidate record that is broken or does not go with the others, or a broken history.
    """
    intake = take_in(candidate, side="candidate")
    # A reference that cannot be compared with itself would fail every gate from now on.
    itself = compare(intake.records, intake.records, Policy(), unread=intake.problems)
    if itself.problems:
        raise RecordError("\n".join(dict.fromkeys(itself.problems)))
    names = sorted({record.trial.experiment for record in intake.records})
    return tuple(
        _plan(name, [one for one in intake.records if one.trial.experiment == name], reference, golden=golden)
        for name in names
    )


def accept(acceptance: Acceptance) -> None:
    """Put the new records in the place of the reference, whole or not at all, and note them in its history.

    The new folder is written beside the old one, brought to the disk, and the two change names, by two renames: killed
    between them, it leaves the old one whole beside its place, as ``.NAME.*.old``, and git, where it lies, has it too.

    Raises:
        RecordError: the disk refuses; the reference is as it was.
    """
    target = acceptance.folder
    history = acceptance.history.extend(take_snapshot(acceptance.after))
    contents = {_name(record): _format(record) for record in acceptance.after} | {HISTORY_FILE: history.format()}
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
        try:
            beside.chmod(0o755)
            for name, text in contents.items():
                _write(beside / name, text.encode())
            golden = beside / GOLDEN_FOLDER
            golden.mkdir()
            for record in acceptance.golden:
                _write(golden / _name(record), _format(record).encode())
            _sync(golden)
            _sync(beside)
            _swap(beside, target)
            _sync(target.parent)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    except OSError as cause:
        raise RecordError(f"{target}: the reference cannot be replaced: {cause.strerror or cause}") from cause


def _plan(experiment: str, records: Sequence[Record], reference: Path, *, golden: bool) -> Acceptance:
    own = reference.name == experiment or any(path.name != HISTORY_FILE for path in reference.glob(f"*{ENDING}"))
    folder = reference if own else reference / experiment
    before = take_in(folder, side="reference") if _check_folder(folder) else None
    old = tuple(before.records) if before else ()
    foreign = sorted({record.trial.experiment for record in old} - {experiment})
    if foreign:
        raise RecordError(f"{folder}: holds records of {', '.join(foreign)}, expected {experiment}")
    new = tuple(sorted(records, key=_name))
    texts = {record.trial: _format(record) for record in new}
    kept = take_in_golden(folder)
    if kept.problems and not golden:
        raise RecordError("\n".join(kept.problems))
    fixed = new if golden else kept.records or old or new
    return Acceptance(
        experiment=experiment,
        folder=folder,
        before=old,
        after=new,
        unread=before.problems if before else (),
        history=read_history(folder),
        changed=bool(before and before.problems)
        or {record.trial: _format(record) for record in old} != texts
        or (golden and [_format(record) for record in kept.records] != [_format(record) for record in new]),
        gate=compare(old, new, Policy(), golden=kept.records),
        golden=fixed,
    )


def _check_folder(folder: Path) -> bool:
    """Say whether there is a reference, and refuse a folder that holds what replacing it would delete."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise RecordError(f"{folder}: a file or a symbolic link, expected a folder")
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    for path in found:
        if path.name == GOLDEN_FOLDER and path.is_dir() and not path.is_symlink():
            continue
        if path.is_dir() or path.suffix != ENDING:
            raise RecordError(f"{folder}: holds {path.name!r}, which is no record and would be lost")
    return any(path.name not in (HISTORY_FILE, GOLDEN_FOLDER) for path in found)


def _subtract(records: Sequence[Record], others: Sequence[Record]) -> tuple[Trial, ...]:
    known = {record.trial for record in others}
    return tuple(record.trial for record in records if record.trial not in known)


def _name(record: Record) -> str:
    return f"{record.trial.stem}{ENDING}"


def _format(record: Record) -> str:
    return format_json(record.model_dump(mode="json")) + "\n"


def _write(path: Path, content: bytes) -> None:
    with path.open("xb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _swap(new: Path, target: Path) -> None:
    """Put ``new`` in the place of ``target``; the old one, if any, is at ``new`` afterwards.

    Two renames: should the second fail, the first is taken back.
    """
    if not target.exists():
        new.rename(target)
        return
    aside = new.with_name(f"{new.name}{REPLACED}")
    target.rename(aside)
    try:
        new.rename(target)
    except OSError:
        aside.rename(target)
        raise
    aside.rename(new)
