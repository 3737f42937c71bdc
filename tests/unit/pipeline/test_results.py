"""A record takes the place of an older one, whose files go where no other record names them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.pipeline.results import replace_record
from harness.records.record import Artifact, Record, read_records
from tests.support.manifests import parse
from tests.support.records import DIGEST, make_record


def make(seed: int, results: Path, *, run: str, qrels: str, **changes: Any) -> Record:
    """Return a record whose files lie below the results folder."""
    for name in (run, qrels):
        (results / name).parent.mkdir(parents=True, exist_ok=True)
        (results / name).write_bytes(b"")
    files: dict[str, Any] = {
        kind: Artifact(path=name, sha256=DIGEST) for kind, name in (("run", run), ("qrels", qrels))
    }
    return make_record({"mrr@10": (1.0,)}, experiment=parse(), model="small", seed=seed, **files, **changes)


def list_files(results: Path) -> list[str]:
    return sorted(path.relative_to(results).as_posix() for path in (results / "runs").rglob("*.gz"))


def test_files_of_an_older_record_stay_as_long_as_another_record_names_them(tmp_path: Path) -> None:
    old = [make(seed, tmp_path, run=f"runs/old.{seed}.gz", qrels="runs/qrels.gz") for seed in (0, 1)]
    for record in old:
        replace_record(record, tmp_path)
    new = [make(seed, tmp_path, run=f"runs/new/{seed}.gz", qrels="runs/new/qrels.gz") for seed in (0, 1)]
    replace_record(new[0], tmp_path)
    assert list_files(tmp_path) == [
        "runs/new/0.gz", "runs/new/1.gz", "runs/new/qrels.gz", "runs/old.1.gz", "runs/qrels.gz"
    ]  # fmt: skip
    replace_record(new[1], tmp_path)
    assert list_files(tmp_path) == ["runs/new/0.gz", "runs/new/1.gz", "runs/new/qrels.gz"]
    assert read_records(tmp_path / "records" / "tiny") == tuple(new)


def test_the_same_places_written_again_lose_nothing(tmp_path: Path) -> None:
    record = make(0, tmp_path, run="runs/a.gz", qrels="runs/qrels.gz")
    replace_record(record, tmp_path)
    replace_record(record, tmp_path)
    assert list_files(tmp_path) == ["runs/a.gz", "runs/qrels.gz"]


def test_a_broken_record_is_replaced_and_another_broken_one_keeps_all_files(tmp_path: Path) -> None:
    old = make(0, tmp_path, run="runs/old.gz", qrels="runs/qrels.gz")
    path = tmp_path / old.place
    path.parent.mkdir(parents=True)
    path.write_text("{", encoding="utf-8")
    replace_record(old, tmp_path)
    path.with_name("other.json").write_text("{", encoding="utf-8")
    replace_record(make(0, tmp_path, run="runs/new.gz", qrels="runs/qrels.gz"), tmp_path)
    assert list_files(tmp_path) == ["runs/new.gz", "runs/old.gz", "runs/qrels.gz"]
