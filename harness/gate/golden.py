"""The golden reference: fixed records beside the accepted ones, so that small accepted drops cannot add up unseen."""

from __future__ import annotations

from pathlib import Path

from harness.records.untrusted import GOLDEN_FOLDER, Intake, take_in


def take_in_golden(reference: Path) -> Intake:
    """Read the folder `golden` of an experiment's reference, or of each experiment's in a folder; there may be none.

    Args:
        reference: an experiment's reference folder, or a folder of these.
    """
    folders = [reference / GOLDEN_FOLDER, *sorted(reference.glob(f"*/{GOLDEN_FOLDER}"))]
    found = [take_in(folder, side="golden") for folder in folders if folder.is_dir()]
    return Intake(
        tuple(record for intake in found for record in intake.records),
        tuple(problem for intake in found for problem in intake.problems),
    )
