"""What was computed by the same code from the same bytes is known; anything else is computed again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import harness.core.memo
from harness.core.memo import KEPT_SECONDS, NOTHING, Memo, open_memo


def test_what_was_kept_is_found_for_the_same_inputs_alone(tmp_path: Path) -> None:
    memo = Memo(tmp_path)
    memo.keep("kind", {"a": 1}, {"found": ["x"]})
    assert Memo(tmp_path).find("kind", {"a": 1}) == {"found": ["x"]}
    assert memo.find("kind", {"a": 2}) is None
    assert memo.find("other", {"a": 1}) is None
    assert memo.found.total() == 0


@pytest.mark.parametrize("what", ["code", "version"])
def test_other_code_or_another_version_knows_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    Memo(tmp_path / "memo").keep("kind", {}, "value")
    if what == "version":
        monkeypatch.setattr(harness.core.memo, "version", lambda _: "9.9")
    else:
        code = tmp_path / "harness" / "core" / "memo.py"
        code.parent.mkdir(parents=True)
        code.write_text("changed", encoding="utf-8")
        monkeypatch.setattr(harness.core.memo, "__file__", str(code))
    assert Memo(tmp_path / "memo").find("kind", {}) is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"value": 1}', b'{"sha256": "0", "value": "value"}', None])
def test_a_broken_note_is_no_note(tmp_path: Path, content: bytes | None) -> None:
    memo = Memo(tmp_path)
    memo.keep("kind", {}, "value")
    (note,) = tmp_path.rglob("*.json")
    if content is None:
        content = note.read_bytes().replace(b"value", b"valuE")
    note.write_bytes(content)
    assert memo.find("kind", {}) is None
    memo.keep("kind", {}, "value")
    assert memo.find("kind", {}) == "value"


def test_a_folder_that_cannot_be_written_costs_time_only(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    memo = Memo(tmp_path / "file")
    memo.keep("kind", {}, "value")
    assert memo.find("kind", {}) is None


def test_what_nobody_asks_for_is_removed_after_a_month(tmp_path: Path) -> None:
    memo = Memo(tmp_path)
    for name in ("old", "asked"):
        memo.keep("kind", {"name": name}, name)
    for note in tmp_path.rglob("*.json"):
        long_ago = note.stat().st_mtime - KEPT_SECONDS - 1
        os.utime(note, (long_ago, long_ago))
    assert memo.find("kind", {"name": "asked"}) == "asked"
    memo.prune()
    assert memo.find("kind", {"name": "asked"}) == "asked"
    assert memo.find("kind", {"name": "old"}) is None


def test_the_environment_names_the_folder_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", "")
    assert open_memo() is NOTHING
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "named"))
    open_memo().keep("kind", {}, 1)
    assert list((tmp_path / "named").rglob("*.json"))
    monkeypatch.delenv("HARNESS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    open_memo().keep("kind", {}, 1)
    assert list((tmp_path / "cache" / "retrieval-harness").rglob("*.json"))
