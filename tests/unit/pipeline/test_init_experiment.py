"""What is out of range is refused before any data are looked at, or lists made of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import ManifestError, SourceError
from harness.pipeline.init_experiment import Brought, init_experiment


@pytest.mark.parametrize("negatives", [-1, 0, 99, 10**24])
def test_as_many_negatives_as_a_manifest_takes(tmp_path: Path, negatives: int) -> None:
    brought = Brought("absent", "absent", negatives=negatives)
    with pytest.raises(ManifestError, match=f"negatives are {negatives} a row, expected 1 to 98"):
        init_experiment(brought, tmp_path, store=tmp_path / "store")


@pytest.mark.parametrize("negatives", [None, 1, 98])
def test_others_are_no_obstacle(tmp_path: Path, negatives: int | None) -> None:
    brought = Brought("absent", "absent", negatives=negatives)
    with pytest.raises(SourceError, match="absent: neither a path that is there nor"):
        init_experiment(brought, tmp_path, store=tmp_path / "store")
