"""Nothing waits for the writer of a pipe or reads a device that never ends: both are refused by name."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.core.files import hash_file
from harness.errors import HarnessError
from harness.experiment.lock import read_lock
from harness.experiment.manifest import read_experiment
from harness.gate.policy import read_policy
from harness.pipeline.doctor import check_packages
from harness.pipeline.obo import read_terms
from harness.pipeline.store import ENTRY_FILE, read_entry
from harness.pipeline.tables import read_table
from harness.records.artifacts import read_texts
from harness.records.history import HISTORY_FILE, read_history
from harness.records.plan import read_plan
from harness.records.record import read_record, read_records
from harness.records.run import read_run
from harness.records.trec import read_qrels
from harness.sources.locking import hash_git_blob
from tests.support.records import read_manifest

SECONDS = 10
# Name of the file, and who reads it.
READERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "manifest": ("my.toml", read_experiment),
    "lock": ("my.lock", lambda path: read_lock(path, read_manifest("hpo"))),
    "policy": ("policy.toml", read_policy),
    "record": ("one.json", read_record),
    "a record in a folder": ("one.json", lambda path: read_records(path.parent)),
    "history": (HISTORY_FILE, lambda path: read_history(path.parent)),
    "plan": ("planned.jsonl", read_plan),
    "run": ("x.run", read_run),
    "packed run": ("x.run.gz", read_run),
    "qrels": ("qrels.gz", read_qrels),
    "texts": ("texts.json.gz", lambda path: read_texts(path, sha256="0" * 64)),
    "table": ("train.csv", read_table),
    "packed table": ("train.jsonl.gz", read_table),
    "parquet": ("train.parquet", read_table),
    "ontology": ("hp.obo", read_terms),
    "entry of the store": (ENTRY_FILE, lambda path: read_entry(path.parent)),
    "a file to hash": ("model.safetensors", hash_file),
    "a file to hash as git does": ("config.json", hash_git_blob),
}


@pytest.fixture(autouse=True)
def _impatience() -> Iterator[None]:
    """Whoever waits fails, and does not hold up the other tests."""

    def give_up(*_: object) -> None:
        raise TimeoutError("waits for a writer")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("special", ["pipe", "device"])
@pytest.mark.parametrize("reader", READERS)
def test_a_file_that_is_none_is_refused_by_name(reader: str, special: str, tmp_path: Path) -> None:
    name, read = READERS[reader]
    path = tmp_path / name
    if special == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(HarnessError, match=r"not a (regular|plain) file|a symbolic link") as caught:
        read(path)
    assert name in str(caught.value)


def test_constraints_that_are_a_pipe_are_a_note_of_the_doctor(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "constraints.txt")
    assert "not a regular file" in check_packages(tmp_path / "constraints.txt").text
