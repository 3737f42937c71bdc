"""A publication without commits on a Hub of ours: commits are proposed, written in, locked, and described."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest

from tests.support.hub_child import CANARY, run_child, write_files
from tests.support.hub_server import HubRepository, HubServer, hub_environment

PUBLISHED = Path(__file__).parents[2] / "benchmarks" / "experiments" / "sec-rag.toml"
COMMITS = {"data": "a" * 40, "model": "b" * 40}
MAIN = """
import contextlib, io
from harness.cli.main import main
shown = io.StringIO()
with contextlib.redirect_stdout(shown):
    code = main(sys.argv[1:])
print(json.dumps([code, shown.getvalue()]))
"""


def test_commits_are_proposed_written_in_and_locked(tmp_path: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = [{"question": f"What is item {number}?", "context": f"Item {number} is a cost."} for number in range(60)]
    table = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(rows), table)
    files = {
        "data": {"data/train-00000-of-00001.parquet": table.getvalue()},
        "model": {"config.json": b"{}", "modules.json": b"[]", "model.safetensors": bytes(2000)},
    }
    data = write_files(tmp_path / "data", files["data"])
    model = write_files(tmp_path / "model", files["model"])
    repositories = [
        HubRepository("dataset", "philschmid/finanical-rag-embedding-dataset", COMMITS["data"], data),
        HubRepository("model", "BAAI/bge-base-en-v1.5", COMMITS["model"], model),
    ]
    manifest = tmp_path / "sec-rag.toml"
    manifest.write_bytes(PUBLISHED.read_bytes())
    store = ["--store", tmp_path / "store"]
    with HubServer(repositories, token=CANARY) as server:
        environment = hub_environment(server, tmp_path / "cache", token=CANARY)
        code, said = run_child(environment, MAIN, "lock", manifest, *store)
        assert code == 1
        assert re.findall(r'revision = "(.*)"', said) == list(COMMITS.values())
        assert not manifest.with_suffix(".lock").exists()

        text = manifest.read_text(encoding="utf-8")
        for commit in COMMITS.values():
            text = text.replace('revision = "unpinned"', f'revision = "{commit}"', 1)
        manifest.write_text(text, encoding="utf-8")
        code, said = run_child(environment, MAIN, "lock", manifest, *store)
        assert (code, said) == (0, f"{manifest}: written\n".replace(".toml", ".lock"))

        seen = len(server.requests)
        code, said = run_child(environment, MAIN, "run", manifest, "--dry-run", *store)
        assert code == 0
        assert f"lock: {manifest.with_suffix('.lock')} belongs to it" in said
        assert "model:bge-base-en-v1.5: hub BAAI/bge-base-en-v1.5: 3 files locked" in said
        assert "memory: " in said
        assert server.requests[seen:] == (), "a dry run asks for nothing"
