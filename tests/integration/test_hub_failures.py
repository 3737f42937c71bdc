"""What users meet when the Hub fails: each fault is healed, or ends soon in one clear line."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support.hub_child import CANARY, run_child, write_files
from tests.support.hub_server import Fault, Faults, HubRepository, HubServer, hub_environment

COMMIT = "a" * 40
CONFIG, WEIGHTS = b"{}", random.Random(0).randbytes(300_000)
HASHES = [hashlib.sha256(content).hexdigest() for content in (CONFIG, WEIGHTS)]
FOREVER = None
TREE = "/api/models/user/{0}/tree/*"

# Each case is a fork of its own, as the client's settings are the process's; those with variables of their own fork
# before the client is imported. Sleeping is shortened and added up, so that it is judged and not waited for.
SCRIPT = """
import os, traceback
from harness.experiment.data import HubSource
from harness.experiment.lock import LockedSource, SourceName
from harness.sources.fetch import Fetcher
root, cases, hashes = Path(sys.argv[1]), json.loads(sys.argv[2]), json.loads(sys.argv[3])
sleep = time.sleep
def act(name, case):
    os.environ.update(case["environment"])
    from huggingface_hub import constants
    if case["answer_seconds"]:
        constants.HF_HUB_DOWNLOAD_TIMEOUT = case["answer_seconds"]
    slept = []
    time.sleep = lambda seconds: slept.append(seconds) or sleep(seconds / 20)
    name = case["repository"] or name
    source = HubSource(kind="hub", repository=f"user/{name}", revision=case["commit"])
    lock = LockedSource(files=dict(zip(["config.json", f"{name}.safetensors"], hashes)), complete=True)
    def fetch():
        try:
            fetched = Fetcher(root, root / "unpacked").fetch(SourceName.of("model", name), source, lock)
        except Exception:
            traceback.print_exc()  # for `run_child`, which looks for the token in all that is said
            raise
        return sorted(fetched.resolved.files)
    return json.dumps({**outcome(fetch), "slept": sum(slept)})
def start_case(name, case):
    pid = os.fork()
    if not pid:
        code = 1
        try:
            (root / f"{name}.json").write_text(act(name, case))
            code = 0
        finally:
            os._exit(code)
    return pid
def finish(pids):
    for name, pid in pids.items():
        assert os.waitpid(pid, 0)[1] == 0, name
later = {name: case for name, case in cases.items() if case["repository"]}
early = {name: case for name, case in cases.items() if case["environment"] and name not in later}
pids = {name: start_case(name, case) for name, case in early.items()}
first = os.fork()
if not first:
    import huggingface_hub.hf_api, huggingface_hub._snapshot_download
    finish({name: start_case(name, case) for name, case in cases.items() if name not in early and name not in later})
    os._exit(0)
finish({**pids, "the others": first})
finish({name: start_case(name, case) for name, case in later.items()})
print(json.dumps({name: json.loads((root / f"{name}.json").read_text()) for name in cases}))
"""


@dataclass(frozen=True)
class Case:
    """Faults of one repository, with {0} for its name, and how it is asked for."""

    faults: tuple[Fault, ...] = ()
    commit: str = COMMIT
    environment: dict[str, str] = field(default_factory=dict)
    answer_seconds: float | None = None
    repository: str | None = None


def on_file(**changes: Any) -> Fault:
    """Make a fault of the transfer of the weights, which are named after the case: a CDN knows no repositories."""
    return Fault("/cdn/*/{0}.safetensors", **changes)


LARGE = b'["' + b"x" * (40 * 2**20) + b'"]'
PACKED = {"Content-Encoding": "gzip"}
PROXY = {"HF_DEBUG": "1", "NO_PROXY": "", "no_proxy": "", "HTTP_PROXY": "http://somebody:sesame@127.0.0.1:9"}
HEALED = {
    "plain": Case(),
    "cut": Case((on_file(cut_after=100_000),)),
    "reset": Case((on_file(cut_after=100_000, reset=True),)),
    "unavailable-once": Case((on_file(status=503),)),
    "busy": Case((on_file(status=429, retry_after=1),)),
    "busy-listing": Case((Fault(TREE, status=429, retry_after=1),)),
    "flipped": Case((on_file(flip_at=70_000),)),
    "page": Case((on_file(body=b"<html>please log in</html>"),)),
    "stalled": Case((on_file(delay_seconds=3),), answer_seconds=1),
    "stalled-listing": Case((Fault(TREE, delay_seconds=4),), answer_seconds=1),
    "trickling": Case((on_file(bytes_per_second=300_000),)),
}
FAILED = {
    "unknown": Case((Fault("/api/models/user/{0}/*", status=401, times=FOREVER),)),
    "refused": Case((Fault("*/user/{0}/*", status=403, times=FOREVER),)),
    "gated": Case((Fault(TREE, status=403, headers={"X-Error-Code": "GatedRepo"}, times=FOREVER),)),
    "forbidden-file": Case((on_file(status=403, times=FOREVER),)),
    "no-listing": Case((Fault(TREE, status=404, times=FOREVER),)),
    "no-commit": Case(commit="9" * 40),
    "absent": Case(),
    "unavailable": Case((Fault(TREE, status=503, times=FOREVER),)),
    "unavailable-file": Case((on_file(status=502, times=FOREVER),)),
    "patience": Case((Fault(TREE, status=429, retry_after=3600, times=FOREVER),)),
    "patience-file": Case((on_file(status=503, retry_after=3600, times=FOREVER),)),
    "cut-always": Case((on_file(cut_after=0, times=FOREVER),)),
    "reset-always": Case((on_file(cut_after=9, reset=True, times=FOREVER),)),
    "flipped-always": Case((on_file(flip_at=70_000, times=FOREVER),)),
    "page-always": Case((on_file(body=b"<html>please log in</html>", times=FOREVER),)),
    "portal": Case((Fault(TREE, body=b"<html>please log in</html>", times=FOREVER),)),
    "list": Case((Fault(TREE, body=b"[]", times=FOREVER),)),
    "list-of-numbers": Case((Fault(TREE, body=b"[1, null]", times=FOREVER),)),
    "object": Case((Fault(TREE, body=b'{"a": 1}', times=FOREVER),)),
    "null": Case((Fault(TREE, body=b"null", times=FOREVER),)),
    "number": Case((Fault(TREE, body=b"7", times=FOREVER),)),
    "objects-of-nothing": Case((Fault(TREE, body=b"[{}]", times=FOREVER),)),
    "numbers-for-text": Case(
        (Fault(TREE, body=b'[{"type": "file", "path": 1, "oid": 2, "size": "x"}]', times=FOREVER),)
    ),
    "deep": Case((Fault(TREE, body=b"[" * 100_000, times=FOREVER),)),
    "large": Case((Fault(TREE, body=LARGE, times=FOREVER),)),
    "large-packed": Case((Fault(TREE, body=gzip.compress(LARGE), headers=PACKED, times=FOREVER),)),
    "large-refusal": Case((Fault(TREE, status=403, body=LARGE, times=FOREVER),)),
    "large-refusal-of-file": Case((on_file(status=403, body=LARGE, times=FOREVER),)),
    "large-redirection": Case((Fault(TREE, status=307, headers={"Location": "/"}, body=LARGE, times=FOREVER),)),
    "pages": Case(),
    "never": Case((Fault(TREE, delay_seconds=2, times=FOREVER),), answer_seconds=0.2),
    "proxy": Case(environment=PROXY),
    "nonsense": Case(environment=PROXY | {"HTTP_PROXY": "what://somebody:sesame@nowhere"}),
    "no-cache": Case(environment={"HF_HUB_OFFLINE": "true"}),
    "full": Case(environment={"HF_HUB_CACHE": "/dev/null/hub"}),
}
LATER = {"offline": Case(environment={"HF_HUB_OFFLINE": "on"}, repository="plain")}
CASES = {**HEALED, **FAILED, **LATER}

Outcomes = tuple[HubServer, dict[str, dict[str, Any]]]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcomes]:
    """All cases at once, each with a repository, and so with faults, of its own."""
    folder = tmp_path_factory.mktemp("failures")
    served, faults = [], []
    for name, case in CASES.items():
        if name != "absent" and not case.repository:
            files = {"config.json": CONFIG, f"{name}.safetensors": WEIGHTS}
            served.append(HubRepository("model", f"user/{name}", COMMIT, write_files(folder / name, files)))
        faults += [replace_path(fault, name) for fault in case.faults]
    with HubServer(served, token=CANARY, faults=Faults(faults)) as server:
        again = f'<{server.url}/api/models/user/pages/tree/{COMMIT}?recursive=True>; rel="next"'
        server.faults.add(Fault(TREE.format("pages"), body=b"[]", headers={"Link": again}, times=FOREVER))
        environment = hub_environment(server, folder / "cache", token=CANARY)
        plain = {name: {**vars(case), "faults": None} for name, case in CASES.items()}
        yield server, run_child(environment, SCRIPT, folder, json.dumps(plain), json.dumps(HASHES))


def replace_path(fault: Fault, name: str) -> Fault:
    return Fault(**{**vars(fault), "path": fault.path.format(name)})


@pytest.mark.parametrize("name", HEALED)
def test_a_passing_fault_is_healed(outcomes: Outcomes, name: str) -> None:
    assert outcomes[1][name].get("value") == sorted(["config.json", f"{name}.safetensors"]), outcomes[1][name]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("unknown", "HTTP 401: the hub does not know who asks"),
        ("refused", "HTTP 403: the hub refuses"),
        ("gated", "HTTP 403: the hub refuses: the repository is gated"),
        ("forbidden-file", "HTTP 403: the hub refuses"),
        ("no-listing", "HTTP 404: the hub has no such repository"),
        ("no-commit", "hub user/no-commit @ 999999999999: HTTP 404: the hub has no such repository, commit or file"),
        ("absent", "HTTP 404: the hub has no such repository"),
        ("unavailable", "HTTP 503: the hub failed"),
        ("unavailable-file", "HTTP 502: the hub failed (3 tries)"),
        ("patience", "HTTP 429: the hub asks to wait 3600 s, and we wait no longer than 120 s here"),
        ("patience-file", "HTTP 503: the hub asks to wait 3600 s"),
        ("cut-always", "the hub cannot be reached (3 tries; RemoteProtocolError: "),
        ("reset-always", "the hub cannot be reached (3 tries; ReadError: "),
        ("flipped-always", f"flipped-always.safetensors: SHA-256 is {'{0}'}, the lock says {HASHES[1]}"),
        ("page-always", "a file came with another length than announced (3 tries)"),
        ("portal", "the answer is not the hub's"),
        ("list-of-numbers", "the answer is JSON of another shape than the hub's"),
        ("object", "the answer is JSON of another shape than the hub's"),
        ("null", "the answer is JSON of another shape than the hub's"),
        ("number", "the answer is JSON of another shape than the hub's"),
        ("objects-of-nothing", "the answer is JSON of another shape than the hub's"),
        ("large", f"the answer to /api/models/user/large/tree/{COMMIT} exceeds 32.0 MiB, the limit"),
        ("large-packed", f"the answer to /api/models/user/large-packed/tree/{COMMIT} exceeds 32.0 MiB, the limit"),
        ("large-refusal", f"the answer to /api/models/user/large-refusal/tree/{COMMIT} exceeds 32.0 MiB, the limit"),
        ("large-refusal-of-file", "/large-refusal-of-file.safetensors exceeds 32.0 MiB, the limit"),
        ("large-redirection", f"/large-redirection/tree/{COMMIT} exceeds 32.0 MiB, the limit"),
        ("pages", f"/api/models/user/pages/tree/{COMMIT} is one more page of a list, expected at most 1000"),
        ("never", "the hub cannot be reached (1 try; ReadTimeout: "),
        ("proxy", "ConnectError: "),
        ("nonsense", "a proxy is set by HTTP_PROXY"),
        ("no-cache", "HF_HUB_OFFLINE is set and the hub's cache does not hold this"),
        ("full", "/dev/null/hub"),
    ],
)
def test_a_lasting_fault_ends_in_one_clear_line(outcomes: Outcomes, name: str, expected: str) -> None:
    found = outcomes[1][name]
    flipped = bytearray(WEIGHTS)
    flipped[70_000] ^= 1
    assert found.get("error") == "SourceError", found
    assert expected.replace("{0}", hashlib.sha256(flipped).hexdigest()) in found["text"]


@pytest.mark.parametrize("name", ["list", "numbers-for-text", "deep"])
def test_any_other_answer_of_a_wrong_shape_is_an_error_of_ours_too(outcomes: Outcomes, name: str) -> None:
    assert outcomes[1][name].get("error") == "SourceError", outcomes[1][name]
    assert len(outcomes[1][name]["text"]) < 1000


FAILING_TEST = """
from harness.sources.hub import find_head, list_hashes

def test_head():
    find_head("user/plain", "model")

def test_listing():
    list_hashes("user/plain", "a" * 40, "model")
"""


@pytest.mark.parametrize("body", [b"[]", b"7", b"null", b'{"sha": 7}', b"<html>"])
def test_no_option_of_pytest_shows_the_token(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "test_hub.py").write_text(FAILING_TEST, encoding="utf-8")
    files = write_files(tmp_path / "files", {"config.json": CONFIG})
    faults = Faults([Fault("/api/models/*", body=body, times=FOREVER)])
    with HubServer([HubRepository("model", "user/plain", COMMIT, files)], token=CANARY, faults=faults) as server:
        options = ["-vv", "--showlocals", "--full-trace", "--tb=long", "-p", "no:cacheprovider", "--junitxml=all.xml"]
        options += ["-o", "junit_logging=all", "-o", "log_level=DEBUG"]
        command = [sys.executable, "-m", "pytest", *options, "test_hub.py"]
        environment = hub_environment(server, tmp_path / "cache", token=CANARY) | {"COLUMNS": "200"}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr + (tmp_path / "all.xml").read_text(encoding="utf-8")
    assert done.returncode == 1, said
    assert "SourceError: hub user/plain @" in done.stdout
    assert CANARY not in said


def test_no_fault_is_waited_for_longer_than_half_a_minute(outcomes: Outcomes) -> None:
    # What the client sleeps between its own six tries is 23 s; those were once multiplied by ours.
    slept = {name: found["slept"] for name, found in outcomes[1].items()}
    assert max(slept.values()) <= 25, slept
    assert slept["patience"] == slept["patience-file"] == slept["no-cache"] == slept["no-commit"] == 0
    assert slept["busy"] >= 2, "one second as asked, and the client's own"


def test_a_proxy_is_named_and_its_password_is_not(outcomes: Outcomes) -> None:
    for name in ("proxy", "nonsense"):
        text = outcomes[1][name]["text"]
        assert "a proxy is set by HTTP_PROXY" in text
        assert not {word for word in ("sesame", "somebody", "127.0.0.1", "nowhere") if word in text}, text


def test_a_healed_cache_is_read_offline_without_a_request(outcomes: Outcomes) -> None:
    server, found = outcomes
    assert found["offline"].get("value") == ["config.json", "plain.safetensors"], found["offline"]
    asked = [request.path for request in server.requests if "/user/plain/" in request.path]
    assert len(asked) == 4, "a listing, what each of two files is, and the one that comes from no CDN"


def test_offline_nobody_is_told_to_set_what_is_set(outcomes: Outcomes) -> None:
    assert "run it once without" in outcomes[1]["no-cache"]["text"]
    assert "HF_HUB_OFFLINE=1" not in outcomes[1]["no-cache"]["text"]
    server = outcomes[0]
    assert not [request for request in server.requests if "/user/no-cache/" in request.path]
