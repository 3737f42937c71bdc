"""What was computed by the same code from the same bytes is known; anything else is computed again."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import harness.core.memo
from harness.core.memo import KEPT_SECONDS, NOTHING, Memo, open_memo


@contextmanager
def limit_memory() -> Iterator[None]:
    """Let reading without end fail here instead of taking the machine's memory, or its time."""
    old = resource.getrlimit(resource.RLIMIT_AS)
    handler = signal.signal(signal.SIGALRM, signal.default_int_handler)
    resource.setrlimit(resource.RLIMIT_AS, (4 * 2**30, old[1]))
    signal.alarm(10)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)
        resource.setrlimit(resource.RLIMIT_AS, old)


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


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"value": 1}', b'{"sha256": "0", "value": "value"}', b"[" * 200_000, None]
)
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


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_never_ends_is_no_note(tmp_path: Path, kind: str) -> None:
    memo = Memo(tmp_path)
    memo.keep("kind", {}, "value")
    (note,) = tmp_path.rglob("*.json")
    note.unlink()
    if kind == "pipe":
        os.mkfifo(note)
    else:
        note.symlink_to("/dev/full")  # reads as zeros without end
    with limit_memory():
        assert memo.find("kind", {}) is None
        memo.keep("kind", {}, "value")


def test_a_note_too_large_to_be_ours_is_not_read(tmp_path: Path) -> None:
    memo = Memo(tmp_path)
    memo.keep("kind", {}, "value")
    (note,) = tmp_path.rglob("*.json")
    os.truncate(note, 2**40)
    with limit_memory():
        assert memo.find("kind", {}) is None


@pytest.mark.parametrize("name", ["a" * 5000, "a\0b", "file/below"])
def test_a_folder_of_no_usable_name_is_not_used(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    memo = Memo(tmp_path / name)
    memo.prune()
    memo.keep("kind", {}, "value")
    assert memo.find("kind", {}) is None
    memo.prune()


def test_what_is_not_ours_is_never_removed(tmp_path: Path) -> None:
    (tmp_path / "kind").mkdir()
    foreign = tmp_path / "kind" / "package.json"
    foreign.write_bytes(b"{}")
    os.utime(foreign, (0, 0))
    Memo(tmp_path).prune()
    assert foreign.exists()


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
