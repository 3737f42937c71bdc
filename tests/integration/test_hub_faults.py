"""What the real `huggingface_hub` does on each fault of a Hub; `harness.sources.hub_client` is written for this."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.hub_child import CANARY, run_child, write_files
from tests.support.hub_server import Fault, Faults, HubRepository, HubServer, hub_environment

COMMIT, UNKNOWN = "a" * 40, "9" * 40
MEBIBYTE = 2**20

FAULTY = """
from huggingface_hub import hf_hub_download, snapshot_download
cases = json.loads(sys.argv[1])
def fetch(name):
    id_, file, revision = cases[name]
    def act():
        if file is None:
            return snapshot_download(id_, revision=revision)
        return hf_hub_download(id_, file, revision=revision)
    return name, outcome(act)
with ThreadPoolExecutor(len(cases)) as pool:
    print(json.dumps(dict(pool.map(fetch, cases))))
"""


def random_bytes(name: str, size: int) -> bytes:
    """Make the content of a file, the same whenever it is asked for."""
    return random.Random(name).randbytes(size)


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[HubServer, dict[str, dict[str, Any]]]]:
    """One client that meets all faults at once, each at a file or repository of its own."""
    folder = tmp_path_factory.mktemp("faulty")
    # Contents differ, since the client keeps equal ones once and asks for them once.
    names = "reset.bin flip.bin short.bin busy.bin cdn503.bin slow.bin r401.txt r403.txt gated.txt busy.txt late.txt"
    files = {name: random_bytes(name, 100_000) for name in names.split()}
    files["cut.bin"] = random_bytes("cut.bin", 25 * MEBIBYTE)
    write_files(folder / "files", files)
    faults = Faults(
        [
            Fault("/cdn/*/cut.bin", cut_after=15 * MEBIBYTE),
            Fault("/cdn/*/reset.bin", cut_after=50_000, reset=True),
            Fault("/cdn/*/flip.bin", flip_at=50_000),
            Fault("/cdn/*/short.bin", body=b"<html>please log in</html>"),
            Fault("/cdn/*/busy.bin", status=429, retry_after=1),
            Fault("/cdn/*/cdn503.bin", status=503),
            Fault("/cdn/*/slow.bin", delay_seconds=2),
            Fault("*/r401.txt", status=401),
            Fault("*/r403.txt", status=403),
            Fault("*/gated.txt", status=403, headers={"X-Error-Code": "GatedRepo"}),
            Fault("*/busy.txt", method="HEAD", status=429, retry_after=1, times=2),
            Fault("*/late.txt", status=503),
            Fault("/api/models/user/files/revision/main", status=429, retry_after=1),
        ]
    )
    cases: dict[str, tuple[str, str | None, str]]
    cases = {name: ("user/files", name, COMMIT) for name in [*files, "absent.txt"]}
    cases["no commit"] = ("user/files", "flip.bin", UNKNOWN)
    cases["no repository"] = ("user/none", None, COMMIT)
    cases["private"] = ("user/private", None, COMMIT)
    cases["busy branch"] = ("user/files", None, "main")
    served = [
        HubRepository("model", "user/files", COMMIT, folder / "files"),
        HubRepository("model", "user/private", COMMIT, write_files(folder / "own", {"x": b""}), private=True),
    ]
    with HubServer(served, token=CANARY, faults=faults) as server:
        environment = hub_environment(server, folder / "cache") | {"HF_HUB_DOWNLOAD_TIMEOUT": "1"}
        yield server, run_child(environment, FAULTY, json.dumps(cases))


Faulty = tuple[HubServer, dict[str, dict[str, Any]]]


def test_a_cut_transfer_goes_on_from_the_last_whole_chunk(faulty: Faulty) -> None:
    server, outcomes = faulty
    asked = [
        request.range for request in server.requests if request.path.endswith("/cut.bin") and request.host == "cdn"
    ]
    assert asked == [None, f"bytes={10 * MEBIBYTE}-"]
    assert Path(outcomes["cut.bin"]["value"]).read_bytes() == random_bytes("cut.bin", 25 * MEBIBYTE)


def test_the_client_takes_a_flipped_bit_for_the_file(faulty: Faulty) -> None:
    right = random_bytes("flip.bin", 100_000)
    got = Path(faulty[1]["flip.bin"]["value"]).read_bytes()
    assert [i for i in range(len(right)) if right[i] != got[i]] == [50_000]


def test_the_client_notices_a_wrong_length(faulty: Faulty) -> None:
    assert faulty[1]["short.bin"]["error"] == "OSError"
    assert "Consistency check failed" in faulty[1]["short.bin"]["text"]


@pytest.mark.parametrize("name", ["busy.bin", "busy.txt"])
def test_the_client_waits_as_long_as_retry_after_says(faulty: Faulty, name: str) -> None:
    assert "value" in faulty[1][name]
    assert faulty[1][name]["seconds"] >= 2.0  # what it says and one more; without it, one


def test_the_client_asks_again_after_503_of_a_head_but_not_of_a_transfer(faulty: Faulty) -> None:
    assert "value" in faulty[1]["late.txt"]
    assert (faulty[1]["cdn503.bin"]["error"], faulty[1]["cdn503.bin"]["status"]) == ("HfHubHTTPError", 503)


def test_the_client_asks_again_when_a_transfer_stalls(faulty: Faulty) -> None:
    assert "value" in faulty[1]["slow.bin"]
    assert faulty[1]["slow.bin"]["seconds"] >= 2.0  # one second until it gives up, one until it asks again


@pytest.mark.parametrize(
    ("name", "error", "status"),
    [
        ("reset.bin", "ReadError", None),
        ("r401.txt", "HfHubHTTPError", 401),
        ("r403.txt", "LocalEntryNotFoundError", 403),
        ("gated.txt", "GatedRepoError", 403),
        ("absent.txt", "RemoteEntryNotFoundError", 404),
        ("no commit", "RevisionNotFoundError", 404),
        ("no repository", "RepositoryNotFoundError", 404),
        ("private", "RepositoryNotFoundError", 401),
        ("busy branch", "LocalEntryNotFoundError", 429),
    ],
)
def test_the_client_gives_up_with(faulty: Faulty, name: str, error: str, status: int | None) -> None:
    assert (faulty[1][name].get("error"), faulty[1][name].get("status")) == (error, status)
