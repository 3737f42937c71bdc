"""What a user brings is looked at, and no further than the folder that was named."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import DataError
from harness.pipeline.own_data import list_judged


@pytest.mark.parametrize("name", ["private.txt", "test.tsv"])
def test_judgements_behind_a_link_are_refused_before_their_names_are_listed(tmp_path: Path, name: str) -> None:
    elsewhere, beir = tmp_path / "elsewhere", tmp_path / "beir"
    elsewhere.mkdir()
    beir.mkdir()
    (elsewhere / name).touch()
    (beir / "qrels").symlink_to(elsewhere)
    with pytest.raises(DataError, match=r"beir/qrels: is a link to a folder, .*; copy them instead") as caught:
        list_judged(beir)
    assert "private" not in str(caught.value)
