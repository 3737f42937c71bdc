"""The golden reference: fixed records beside the accepted ones, so that small accepted drops cannot add up unseen."""

from __future__ import annotations

from pathlib import Path

from harness.core.files import LINK, list_folders
from harness.records.untrusted import GOLDEN_FOLDER, Intake, take_in


def take_in_golden(reference: Path) -> Intake:
    """Read the folder `golden` of an experiment's reference, or of each experiment's in a folder; there may be none.

    Args:
        reference: an experiment's reference folder, or a folder of these.
    """
    # A link among the experiments' folders is named by whoever reads the reference.
    own = [folder for folder in list_folders(reference) if not folder.is_symlink()]
    folders = [reference / GOLDEN_FOLDER, *(folder / GOLDEN_FOLDER for folder in own)]
    links = [f"golden: {folder}: {LINK}" for folder in folders if folder.is_symlink()]
    found = [take_in(folder, side="golden") for folder in folders if folder.is_dir() and not folder.is_symlink()]
    return Intake(
        tuple(record for intake in found for record in intake.records),
        (*links, *(problem for intake in found for problem in intake.problems)),
    )
