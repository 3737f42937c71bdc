"""A download from the hub that is cut off goes on, and ends in the bytes that were locked or in a clear error."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

from tests.fault.conftest import Faults
from tests.support.hub_child import run_child, write_files
from tests.support.hub_server import Fault, HubRepository, HubServer, hub_environment

COMMIT = "a" * 40
SIZE = 300_000
SCRIPT = """
import hashlib
from harness.sources.hub import download_snapshot
sleep = time.sleep
time.sleep = lambda seconds: sleep(seconds / 20)  # how long it waits is judged elsewhere
def act():
    folder = download_snapshot("user/model", sys.argv[1], "model", wanted=("*.safetensors", "*.json"), unwanted=())
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}
print(json.dumps(outcome(act)))
"""


def test_download_that_is_cut_off_ends_in_the_right_bytes(tmp_path: Path, faults: Faults) -> None:
    files = {"model.safetensors": random.Random(1).randbytes(SIZE), "config.json": b"{}"}
    write_files(tmp_path / "files", files)
    expected = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    cuts = [Fault("/cdn/*/model.safetensors", cut_after=100_000), Fault("/cdn/*/model.safetensors", reset=True)]
    with HubServer([HubRepository("model", "user/model", COMMIT, tmp_path / "files")], lfs_bytes=1000) as server:
        server.faults.add(*cuts)
        with faults.commit("download from the hub cut off", len(cuts)):
            said = run_child(hub_environment(server, tmp_path / "cache"), SCRIPT, COMMIT)
            assert said.get("value") == expected, said
        server.faults.add(Fault("/cdn/*/model.safetensors", cut_after=100_000, times=None))
        with faults.commit("download from the hub cut off every time"):
            said = run_child(hub_environment(server, tmp_path / "other"), SCRIPT, COMMIT)
            assert said["error"] == "SourceError", said
            assert "user/model" in said["text"]
            server.faults.clear()
            said = run_child(hub_environment(server, tmp_path / "other"), SCRIPT, COMMIT)
            assert said.get("value") == expected, said
