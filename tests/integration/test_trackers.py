"""Trackers beside TensorBoard are the trainer's own: named by the user, handed on, refused where they are not there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.errors import TrainingError
from tests.support.hub_child import write_files
from tests.support.tiny_training import make_recipe


def list_trackers(output: Path, *names: str) -> Sequence[str]:
    from harness.models.trainer import make_arguments

    arguments = make_arguments(make_recipe(), seed=0, device="cpu", precision="fp32", output=output, trackers=names)
    assert isinstance(arguments.report_to, list)
    return arguments.report_to


def test_nobody_is_told_of_training_unless_asked(tmp_path: Path) -> None:
    assert list_trackers(tmp_path) == []


def test_a_tracker_that_is_installed_is_handed_to_the_trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_files(tmp_path / "installed", {"trackio/__init__.py": b""})
    monkeypatch.syspath_prepend(str(tmp_path / "installed"))
    assert list_trackers(tmp_path, "trackio", "tensorboard") == ["trackio"], "TensorBoard has a callback already"


def test_a_tracker_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"tracker 'wandbb': not known or not installed; here are: .*tensorboard"):
        list_trackers(tmp_path, "wandbb")
