"""An output that another store made is taken whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from harness.errors import StoreError
from harness.pipeline.store import SCRATCH, Cost, Output, Store, make_key


def make(store: Store) -> Output:
    """Make an output with a folder in it."""

    def fill(target: Path, _: Path) -> Cost:
        (target / "below").mkdir()
        (target / "below" / "a").write_bytes(b"content")
        return Cost(1.0, 2, None)

    return store.get_or_make("stage", {"x": 1}, fill)


def read(output: Output) -> dict[str, bytes]:
    """Read all of its files."""
    folder = output.folder
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_adopted_output_is_the_one_that_was_made(tmp_path: Path) -> None:
    made = make(Store(tmp_path / "one"))
    other = Store(tmp_path / "other")
    assert other.find("stage", made.entry.key) is None
    other.adopt("stage", made.entry.key, lambda: read(made))
    found = other.find("stage", made.entry.key)
    assert found is not None
    assert (found.entry, read(found), found.cached) == (made.entry, read(made), True)
    assert list((other.root / SCRATCH).iterdir()) == []


def test_what_is_there_is_not_asked_for(tmp_path: Path) -> None:
    store = Store(tmp_path)
    made = make(store)

    def ask() -> Mapping[str, bytes]:
        raise AssertionError("asked for what is there")

    store.adopt("stage", made.entry.key, ask)


@pytest.mark.parametrize(
    "change", [{"below/a": b"contenT"}, {"below/b": b"more"}, {"entry.json": b"{}"}, {"below/a": None}]
)
def test_what_is_damaged_on_the_way_is_refused(tmp_path: Path, change: dict[str, bytes | None]) -> None:
    made = make(Store(tmp_path / "one"))
    files = {name: content for name, content in {**read(made), **change}.items() if content is not None}
    other = Store(tmp_path / "other")
    with pytest.raises(StoreError, match="did not arrive as it was sent"):
        other.adopt("stage", made.entry.key, lambda: files)
    assert other.find("stage", made.entry.key) is None
    assert list((other.root / SCRATCH).iterdir()) == []


def test_what_belongs_elsewhere_is_refused(tmp_path: Path) -> None:
    made = make(Store(tmp_path / "one"))
    with pytest.raises(StoreError, match="belongs to"):
        Store(tmp_path / "other").adopt("stage", make_key("stage", {"x": 2}), lambda: read(made))
