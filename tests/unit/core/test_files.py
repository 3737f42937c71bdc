"""Files are written whole or not at all, and nothing half-made stays."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.core.files import write_atomically


@pytest.mark.parametrize("name", [".record.json.x1y2z3_4", ".record.json.folder_1"])
def test_what_a_killed_writer_left_is_removed_after_a_day_by_the_next(tmp_path: Path, name: str) -> None:
    old, fresh = tmp_path / name, tmp_path / ".record.json.fresh"
    other = tmp_path / ".other.json.x1"
    if name.endswith("folder"):
        old.mkdir()
        (old / "half").write_bytes(b"")
    else:
        old.write_bytes(b"half")
    for path in (fresh, other):
        path.write_bytes(b"")
    for path in (old, other):
        os.utime(path, (0, 0))
    write_atomically(tmp_path / "record.json", b"whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".other.json.x1", ".record.json.fresh", "record.json"]


@pytest.mark.parametrize("linked", [True, False])
def test_what_is_no_file_is_not_replaced_by_one(tmp_path: Path, *, linked: bool) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    path = tmp_path / "page.html" if linked else pipe
    if linked:
        path.symlink_to(pipe)
    with pytest.raises(OSError, match="not a regular file"):
        write_atomically(path, b"whole")
    assert pipe.is_fifo()
    assert path.is_symlink() is linked
