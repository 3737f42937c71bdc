"""Whatever an archive says of itself, only what may be written is written, and it is counted."""

from __future__ import annotations

import io
import stat
import tracemalloc
import zipfile
from contextlib import ExitStack
from pathlib import Path

import pytest

from harness.core.archives import Bounds, Member, open_zip, unpack
from harness.errors import SourceError

BOUNDS = Bounds(files=10, size=1000)


def make_member(name: str, content: bytes = b"x", *, announced: int | None = None) -> Member:
    return Member(name, len(content) if announced is None else announced, lambda: io.BytesIO(content), "evil.zip")


@pytest.mark.parametrize(
    "name",
    ["/abs/x", "//abs/x", "../x", "a/../../x", "a/..", "./x", "a//b", "a/", "", "C:/x", "C:x", "a\\b", "a\nb", "a\0b"],
)
def test_a_name_that_is_no_plain_relative_path_is_refused_and_nothing_is_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(SourceError, match=r"evil\.zip: member .* would leave its folder or is no plain relative path"):
        unpack([make_member("first"), make_member(name)], tmp_path / "out", BOUNDS)
    assert list(tmp_path.iterdir()) == []


def test_a_long_name_is_clipped(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        unpack([make_member("/" * 1_000_000)], tmp_path / "out", BOUNDS)
    assert len(str(caught.value)) < 300


def test_a_name_twice_is_refused_also_where_only_the_case_differs(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="member 'A' is there twice"):
        unpack([make_member("a"), make_member("A")], tmp_path / "out", BOUNDS)
    assert list(tmp_path.iterdir()) == []


def test_more_bytes_than_announced_are_counted_and_writing_stops(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="holds more than 1000 bytes"):
        unpack([make_member("a", bytes(2000), announced=1)], tmp_path / "out", BOUNDS)
    assert (tmp_path / "out" / "a").stat().st_size <= 1000


def test_bytes_are_counted_over_all_members(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="holds more than 1000 bytes"):
        unpack([make_member("a", bytes(600)), make_member("b", bytes(600))], tmp_path / "out", BOUNDS)
    assert list(tmp_path.iterdir()) == []


def test_a_link_is_refused(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("link")
    info.create_system = 3
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    with ExitStack() as stack, pytest.raises(SourceError, match="member 'link' is a link or another special file"):
        open_zip(tmp_path / "evil.zip", stack, archive="evil.zip")


def test_a_bomb_takes_neither_memory_nor_disk(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(50_000_000))
    bounds = Bounds(files=10, size=10**9, sizes={"zeros": 1_000_000})
    tracemalloc.start()
    try:
        with ExitStack() as stack, pytest.raises(SourceError, match="50000000 bytes or more, the lock says 1000000"):
            unpack(open_zip(tmp_path / "bomb.zip", stack, archive="bomb.zip"), tmp_path / "out", bounds)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()
    assert not (tmp_path / "out").exists()


def test_what_is_whole_is_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "good.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/", "")
        archive.writestr("a/b.txt", "text")
    with ExitStack() as stack:
        unpack(open_zip(tmp_path / "good.zip", stack, archive="good.zip"), tmp_path / "out", BOUNDS)
    assert (tmp_path / "out" / "a" / "b.txt").read_text(encoding="utf-8") == "text"
