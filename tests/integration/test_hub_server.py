"""The test Hub as the real clients see it: downloads, data sets, models and pushes."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hub_child import CANARY, read_files, run_child, write_files
from tests.support.hub_server import Fault, Faults, HubRepository, HubServer, hub_environment

FIRST, SECOND = "a" * 40, "b" * 40


def paths(server: HubServer, method: str, *, since: int = 0) -> list[str]:
    """List the last parts of the paths that were asked for, without the client's own question about agents."""
    asked = [request.path for request in server.requests[since:] if request.method == method]
    return sorted(path.rsplit("/", 1)[-1] for path in asked if path != "/api/agent-harnesses")


SNAPSHOT = """
from huggingface_hub import snapshot_download
for revision in sys.argv[2:]:
    folder = snapshot_download(sys.argv[1], revision=revision)
print(json.dumps(folder))
"""


def test_a_commit_is_fetched_once_then_read_offline_and_only_changed_files_are_fetched_again(tmp_path: Path) -> None:
    old = {"config.json": b"{}", "model.safetensors": b"\0" * 1000, "1_Pooling/config.json": b'{"mean": true}'}
    new = old | {"config.json": b'{"new": 1}'}
    repository = HubRepository("model", "user/model", FIRST, write_files(tmp_path / "old", old))
    with HubServer([repository], token=CANARY) as server:
        environment = hub_environment(server, tmp_path / "cache", token=CANARY)

        folder = run_child(environment, SNAPSHOT, "user/model", FIRST, FIRST)
        assert read_files(Path(folder)) == old
        everything = [FIRST, "config.json", "config.json", "model.safetensors"]
        assert paths(server, "GET") == everything, "one listing and one transfer a file, in spite of two calls"

        seen = len(server.requests)
        assert run_child(environment, SNAPSHOT, "user/model", FIRST, HF_HUB_OFFLINE="1") == folder
        assert server.requests[seen:] == ()

        server.move("user/model", SECOND, write_files(tmp_path / "new", new))
        assert read_files(Path(run_child(environment, SNAPSHOT, "user/model", "main"))) == new
        assert paths(server, "GET", since=seen) == [SECOND, "config.json", "main"]
        assert paths(server, "HEAD", since=seen) == ["config.json", "config.json", "model.safetensors"]

        assert {request.sent_token for request in server.requests if request.host == "cdn"} == {False}
        assert any(request.sent_token for request in server.requests)


DATASETS = """
from datasets import load_dataset
lines = load_dataset("user/lines", "question-answer-passages", split="test", revision=sys.argv[1])
table = load_dataset("user/table", "text-corpus", split="passages", revision=sys.argv[1])
unknown = outcome(lambda: load_dataset("user/lines", "absent", revision=sys.argv[1]))
print(json.dumps([lines.to_list(), table.to_list(), unknown]))
"""


def test_datasets_reads_a_named_config_of_json_lines_and_one_of_parquet(tmp_path: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = [{"id": i, "question": f"q{i}?", "answer": f"a{i}", "relevant_passage_ids": [i, 7]} for i in range(5)]
    written = {
        split: "".join(json.dumps(row) + "\n" for row in some).encode()
        for split, some in {"train": rows[:3], "test": rows[3:]}.items()
    }
    card = "---\nconfigs:\n- config_name: question-answer-passages\n  data_files:\n"
    card += "".join(f"  - split: {split}\n    path: qa/{split}.jsonl\n" for split in written) + "---\n"
    lines = {f"qa/{split}.jsonl": content for split, content in written.items()} | {"README.md": card.encode()}
    card = (
        "---\nconfigs:\n- config_name: text-corpus\n  data_files:\n  - split: passages\n    path: data/*.parquet\n---\n"
    )
    write_files(tmp_path / "table", {"README.md": card.encode(), "data/empty.txt": b""})
    passages = [{"id": 1, "passage": "one"}, {"id": 2, "passage": "two"}]
    parquet.write_table(pyarrow.Table.from_pylist(passages), tmp_path / "table/data/part-0.parquet")
    served = [
        HubRepository("dataset", "user/lines", FIRST, write_files(tmp_path / "lines", lines)),
        HubRepository("dataset", "user/table", FIRST, tmp_path / "table"),
    ]
    with HubServer(served) as server:
        got = run_child(hub_environment(server, tmp_path / "cache"), DATASETS, FIRST)
    assert got[:2] == [rows[3:], passages]
    assert "Available: ['question-answer-passages']" in got[2]["text"]


SENTENCE_TRANSFORMER = """
import os
from tests.support.hub_child import CANARY, read_files, run_child, write_files
from tests.support.hub_server import HubServer, hub_environment
from tests.support.tiny_model import build_tiny_model
folder, cache, commit = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
with HubServer() as server:
    os.environ.update(hub_environment(server, cache))
    server.move("user/tiny", commit, build_tiny_model(folder, seed=3))
    from huggingface_hub import constants
    from sentence_transformers import SentenceTransformer
    def embed(name, **options):
        return SentenceTransformer(name, device="cpu", **options).encode(["gene protein"]).tolist()
    here, there = embed(str(folder)), embed("user/tiny", revision=commit)
    constants.HF_HUB_OFFLINE, seen = True, len(server.requests)
    offline = embed("user/tiny", revision=commit)
    print(json.dumps([here, there, offline, len(server.requests) - seen, seen]))
"""


def test_sentence_transformers_loads_a_model_that_embeds_as_the_folder_does(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}  # one child, so one import of torch
    here, there, offline, asked_offline, asked = run_child(
        environment, SENTENCE_TRANSFORMER, tmp_path / "tiny", tmp_path / "cache", FIRST
    )
    assert here == there == offline
    assert (asked_offline, asked > 0) == (0, True)


PUBLISH = """
from huggingface_hub import HfApi
api, folder = HfApi(), sys.argv[1]
def push():
    api.create_repo("tester/tuned", private=True, exist_ok=True)
    return api.upload_folder(repo_id="tester/tuned", folder_path=folder, commit_message="push").oid
def push_bad_card():
    card = b"---\\nmodel-index:\\n- name: x\\n  results:\\n  - metrics: []\\n---\\n"
    api.upload_file(repo_id="tester/tuned", path_or_fileobj=card, path_in_repo="README.md")
def push_on_old():
    api.upload_file(repo_id="tester/tuned", path_or_fileobj=b"x", path_in_repo="x", parent_commit="9" * 40)
print(json.dumps([outcome(act) for act in (push, push, push_bad_card, push_on_old)]))
"""


def test_a_folder_is_pushed_once_however_often_it_is_pushed(tmp_path: Path) -> None:
    files = {"README.md": b"---\nlicense: mit\n---\n# Tuned", "model.safetensors": b"\1" * 5000}
    files |= {"log/big.txt": b"2" * 200_000, "log/empty.txt": b"", "runs/events.out.tfevents.1": b"3"}
    write_files(tmp_path / "tuned", files)
    with HubServer(token=CANARY, lfs_bytes=100_000, faults=Faults([Fault("/upload/*", status=503)])) as server:
        environment = hub_environment(server, tmp_path / "cache", token=CANARY)
        once, again, bad_card, on_old = run_child(environment, PUBLISH, tmp_path / "tuned")
        assert "value" in once, once
        assert once["value"] == again["value"]
        assert [commit.message for commit in server.commits("tester/tuned")] == ["initial commit", "push"]
        assert server.commits("tester/tuned")[-1].changed == tuple(sorted(files))
        got = server.files("tester/tuned")
        assert got.pop(".gitattributes")
        assert got == files
        assert server.is_private("tester/tuned")
        uploads = [request.status for request in server.requests if request.method == "PUT"]
        assert sorted(uploads) == [200, 200, 200, 503], "three LFS objects, one of them at the second try"
        assert bad_card["error"] == "ValueError"
        assert '"model-index[0].results[0].dataset.name" is required' in bad_card["text"]
        assert (on_old["error"], on_old["status"]) == ("HfHubHTTPError", 412)

        anonymous, *_ = run_child(hub_environment(server, tmp_path / "other"), PUBLISH, tmp_path / "tuned")
        assert (anonymous["error"], anonymous["status"]) == ("HfHubHTTPError", 401)
        wrong = hub_environment(server, tmp_path / "third", token="hf_wrong")  # noqa: S106 - made up
        assert run_child(wrong, PUBLISH, tmp_path / "tuned")[0]["status"] == 401
        assert len(server.commits("tester/tuned")) == 2


def test_a_proxy_variable_is_honoured(tmp_path: Path) -> None:
    folder = write_files(tmp_path / "model", {"config.json": b"{}", "model.safetensors": b"\0"})
    with HubServer([HubRepository("model", "user/model", FIRST, folder)]) as server:
        environment = hub_environment(server, tmp_path / "cache") | {"NO_PROXY": "", "no_proxy": ""}
        got = run_child(environment, SNAPSHOT, "user/model", FIRST, HTTP_PROXY=server.url)
        assert read_files(Path(got)) == read_files(folder)
        assert {request.host for request in server.requests if request.proxied} == {"hub", "cdn"}


def ask(url: str, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, bytes]:
    """Send one request as it stands, which a careful client would not."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=10)
    try:
        connection.request(method, path, body=body, headers=headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[HubServer]:
    """A server of one small file."""
    folder = write_files(tmp_path / "model", {"config.json": b"0123456789"})
    with HubServer([HubRepository("model", "user/model", FIRST, folder)]) as server:
        yield server


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("bytes=4-", (206, b"456789")),
        ("bytes=4-5", (206, b"45")),
        ("bytes=-3", (206, b"789")),
        ("bytes=8-99", (206, b"89")),
        ("bytes=10-", (416, b"")),
    ],
)
def test_a_range_is_sent_as_asked(plain: HubServer, wanted: str, expected: tuple[int, bytes]) -> None:
    assert ask(plain.url, "GET", f"/user/model/resolve/{FIRST}/config.json", Range=wanted) == expected


@pytest.mark.parametrize("path", ["../model/config.json", "%2e%2e/model/config.json", "/etc/passwd", "..%2Fmodel"])
def test_nothing_outside_a_repository_is_served(plain: HubServer, path: str) -> None:
    assert ask(plain.url, "GET", f"/user/model/resolve/main/{path}")[0] == 404
    assert ask(plain.cdn_url, "GET", f"/cdn/{'0' * 64}/{path}")[0] == 404


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    folder = write_files(tmp_path / "model", {"config.json": b"{}"})
    (folder / "secret").symlink_to("/etc/hostname")
    with pytest.raises(ValueError, match="leads out of the served folder"):
        HubServer([HubRepository("model", "user/model", FIRST, folder)])


@pytest.mark.parametrize("path", ["../x", "/x", "a/../x", ".git/config", "a//x", "a\\x", ""])
def test_a_commit_cannot_write_outside_its_repository(plain: HubServer, path: str) -> None:
    header = {"key": "header", "value": {"summary": "escape"}}
    operation = {"key": "file", "value": {"path": path, "content": "eA==", "encoding": "base64"}}
    body = "\n".join(map(json.dumps, (header, operation))).encode()
    assert ask(plain.url, "POST", "/api/models/user/model/commit/main", body)[0] == 400
    assert len(plain.commits("user/model")) == 1


def test_an_upload_must_be_announced_and_be_what_was_announced(plain: HubServer) -> None:
    oid = hashlib.sha256(b"right").hexdigest()
    assert ask(plain.cdn_url, "PUT", f"/upload/{oid}", b"right")[0] == 403
    batch = json.dumps({"operation": "upload", "objects": [{"oid": oid, "size": 5}]}).encode()
    assert ask(plain.url, "POST", "/user/model.git/info/lfs/objects/batch", batch)[0] == 200
    assert ask(plain.cdn_url, "PUT", f"/upload/{oid}", b"wrong")[0] == 400
    assert ask(plain.cdn_url, "PUT", f"/upload/{oid}", b"right")[0] == 200


def test_a_fault_strikes_as_often_as_ordered(plain: HubServer) -> None:
    path = "/user/model/resolve/main/config.json"
    plain.faults.add(Fault("*/config.json", status=500, times=2), Fault("*/config.json", bytes_per_second=50))
    assert [ask(plain.url, "GET", path)[0] for _ in range(3)] == [500, 500, 200]
    assert plain.faults.take("GET", path) is None
    assert [request.status for request in plain.requests] == [500, 500, 200]


def test_a_commit_that_is_no_hash_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected 40 hexadecimal digits"):
        HubRepository("model", "user/model", "main", tmp_path)
