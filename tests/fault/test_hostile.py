"""What a stranger may hand in, to read or write what is not theirs, to fill the memory, or to be waited for."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from harness.core.archives import Bounds, open_zip, unpack
from harness.errors import HarnessError
from harness.pipeline.load_data import load_data
from harness.records.record import read_record
from harness.records.untrusted import take_in
from harness.sources.fetch import hash_files
from tests.fault.conftest import Faults
from tests.integration.test_model_folders import BROKEN
from tests.support.manifests import make_rows, parse, write_data, write_rows
from tests.support.tiny_model import build_tiny_model
from tests.unit.core.test_special_files import READERS

SECONDS = 60
NAMES = ("../x.txt", "a/../../x.txt", "{0}/x.txt", "//{0}/x.txt", "a\\..\\x.txt", "c:x.txt", "./x.txt", "a\nx.txt")
LEADS = ("../secret.jsonl", "{0}/secret.jsonl", "hf://datasets/somebody/private/a.jsonl", "https://example.com/a.jsonl")
EXCESS = {
    "keys": "{" + ",".join(f'"k{number:06}":0' for number in range(500_000)) + "}",
    "lists": '{"schema_version": 2, "x": [' + "[]," * 250_000 + "[]]}",
    "depth": "[" * 2_000_000,
}


@pytest.fixture(autouse=True)
def _impatience() -> Iterator[None]:
    """Whoever waits for ever has not survived."""

    def give_up(*_: object) -> None:
        raise TimeoutError("waits")

    before = signal.signal(signal.SIGALRM, give_up)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def refuse(act: Callable[[], object], *said: str) -> None:
    """Expect an error of ours, in time, that says all this."""
    signal.alarm(SECONDS)
    with pytest.raises(HarnessError) as caught:
        act()
    signal.alarm(0)
    assert [words for words in said if words not in str(caught.value)] == []


def list_tree(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


@pytest.mark.parametrize("name", NAMES)
def test_an_archive_writes_nothing_outside_of_its_folder(tmp_path: Path, faults: Faults, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("model/config.json", "{}")
        archive.writestr(zipfile.ZipInfo(name.format(tmp_path)), "evil")
    before = list_tree(tmp_path)
    with faults.commit("archive with a member that would leave its folder"), ExitStack() as stack:
        members = open_zip(tmp_path / "a.zip", stack, archive="a.zip")
        refuse(lambda: unpack(members, tmp_path / "to", Bounds(files=10, size=1000)), "a.zip")
        assert list_tree(tmp_path) == before


def test_an_archive_that_unpacks_to_gigabytes_fills_neither_memory_nor_disk(tmp_path: Path, faults: Faults) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("weights.safetensors", bytes(2**28))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with faults.commit("archive that unpacks to more than its lock says"), ExitStack() as stack:
        members = open_zip(tmp_path / "a.zip", stack, archive="a.zip")
        bounds = Bounds(files=10, size=2**32, sizes={"weights.safetensors": 1000})
        refuse(lambda: unpack(members, tmp_path / "to", bounds), "a.zip", "weights.safetensors")
        assert not (tmp_path / "to" / "weights.safetensors").exists()
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**16  # KiB


@pytest.mark.parametrize("path", LEADS)
def test_a_readme_leads_to_no_file_that_was_not_hashed(tmp_path: Path, faults: Faults, path: str) -> None:
    folder = write_data(tmp_path / "data")
    write_rows(tmp_path / "secret.jsonl", make_rows(0, 20))
    said = f"- config_name: a\n  data_files:\n  - {{split: train, path: '{path.format(tmp_path)}'}}\n"
    said += "  - {split: test, path: test.jsonl}\n"
    (folder / "README.md").write_text(f"---\nconfigs:\n{said}---\n", encoding="utf-8")
    with faults.commit("data whose README names files elsewhere"):
        refuse(lambda: load_data(folder, parse().data["tiny"], hash_files(folder, "data")), "leads out of the source")


@pytest.mark.parametrize("role", ["data", "model"])
def test_a_folder_with_a_link_or_a_pipe_in_it_is_refused(tmp_path: Path, faults: Faults, role: str) -> None:
    for number, spoil in enumerate((link, os.mkfifo)):
        folder = write_data(tmp_path / f"data{number}")
        (folder / "config.json").write_text("{}", encoding="utf-8")
        spoil(folder / "more")
        with faults.commit("link to a folder, or a pipe, among hashed files"):
            refuse(lambda: hash_files(folder, "data" if role == "data" else "model"), "more")  # noqa: B023 - called at once


def link(path: Path) -> None:
    path.symlink_to(path.parent.parent, target_is_directory=True)


@pytest.mark.parametrize("special", ["pipe", "device"])
@pytest.mark.parametrize("reader", READERS)
def test_a_pipe_or_device_is_not_read(tmp_path: Path, faults: Faults, reader: str, special: str) -> None:
    name, read = READERS[reader]
    if special == "pipe":
        os.mkfifo(tmp_path / name)
    else:
        (tmp_path / name).symlink_to("/dev/zero")
    with faults.commit("pipe or device in place of a file"):
        refuse(lambda: read(tmp_path / name), name)


@pytest.mark.parametrize("kind", EXCESS)
def test_a_record_of_too_much_is_not_parsed(tmp_path: Path, faults: Faults, kind: str) -> None:
    (tmp_path / "a.json").write_text(EXCESS[kind], encoding="utf-8")
    with faults.commit("record of too many keys, lists or levels", 2):
        refuse(lambda: read_record(tmp_path / "a.json"), "a.json", "are read")
        (problem,) = take_in(tmp_path, side="candidate").problems
        assert "are read" in problem


def test_every_broken_model_folder_is_refused_in_one_line_and_runs_nothing(tmp_path: Path, faults: Faults) -> None:
    from harness.models.loading import load_model

    whole = build_tiny_model(tmp_path / "whole")
    for number, (change, file, words) in enumerate(BROKEN.values()):
        folder = tmp_path / f"{number}"
        shutil.copytree(whole, folder)
        (folder / "evil.py").write_text(f"open({json.dumps(str(tmp_path / 'ran'))}, 'w')\nclass Evil: pass\n")
        change(folder)
        with faults.commit("broken or hostile model folder"):
            refuse(lambda: load_model(folder, device="cpu"), file, words)  # noqa: B023 - called at once
            assert not (tmp_path / "ran").exists()
