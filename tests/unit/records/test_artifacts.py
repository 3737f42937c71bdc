"""Published texts come back as they were, and nothing else is read in their place."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import pytest

from harness.errors import DataError, RecordError
from harness.records import artifacts
from harness.records.artifacts import Evidence, format_texts, read_texts
from harness.records.record import Artifact


def write(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def test_texts_come_back_and_the_same_texts_give_the_same_bytes(tmp_path: Path) -> None:
    content = format_texts({"q": "wörds?"}, {"p": "wörds."})
    assert content is not None
    assert content == format_texts({"q": "wörds?"}, {"p": "wörds."})
    found = read_texts(tmp_path / "t.gz", sha256=write(tmp_path / "t.gz", content))
    assert (found.queries, found.passages) == ({"q": "wörds?"}, {"p": "wörds."})


def test_another_file_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "t.gz", format_texts({}, {}) or b"")
    with pytest.raises(RecordError, match="SHA-256"):
        read_texts(tmp_path / "t.gz", sha256="0" * 64)


@pytest.mark.parametrize(
    "content",
    [b"", b"no gzip", gzip.compress(b"{}"), gzip.compress(b"[")[:-4]],
    ids=["empty", "no gzip", "no texts", "cut off"],  # the bytes hold the time, and every worker must know the same ids
)
def test_a_broken_file_is_named(tmp_path: Path, content: bytes) -> None:
    digest = write(tmp_path / "t.gz", content)
    with pytest.raises(RecordError, match=r"t\.gz"):
        read_texts(tmp_path / "t.gz", sha256=digest)


def test_a_small_file_cannot_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "MAX_TEXTS_BYTES", 1000)
    digest = write(tmp_path / "t.gz", gzip.compress(b" " * 100_000))
    with pytest.raises(RecordError, match="more than 1000 bytes"):
        read_texts(tmp_path / "t.gz", sha256=digest)


def test_more_texts_than_a_repository_wants_are_not_published(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "MAX_TEXTS_BYTES", 100)
    assert format_texts({"q": "a" * 100}, {}) is None


def test_judgements_of_a_stranger_are_bounded_by_what_they_become(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifacts, "LIMITS", artifacts.LIMITS.__class__(queries=100))
    lines = "".join(f"q{number} 0 p 1\n" for number in range(101))
    named = Artifact(path="qrels.gz", sha256=write(tmp_path / "qrels.gz", gzip.compress(lines.encode())))
    with pytest.raises(DataError, match="more than 100 queries"):
        Evidence(tmp_path).read_qrels(named)
