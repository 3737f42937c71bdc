"""A publication without commits on a Hub of ours: commits are proposed, written in, locked, and described."""

from __future__ import annotations

import io
import json
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.hub_child import CANARY, run_child, write_files
from tests.support.hub_server import HubRepository, HubServer, hub_environment

EXPERIMENTS = Path(__file__).parents[2] / "benchmarks" / "experiments"
COMMITS = {"data": "a" * 40, "model": "b" * 40}
MAIN = """
import contextlib, io
from harness.cli.main import main
shown = io.StringIO()
with contextlib.redirect_stdout(shown):
    code = main(sys.argv[1:])
print(json.dumps([code, shown.getvalue()]))
"""


@dataclass(frozen=True)
class Publication:
    """What a publication takes from the Hub: data in its own columns and splits, which become parts, and a model."""

    name: str
    data: str
    columns: tuple[str, str]
    splits: tuple[str, ...]
    model: str
    parts: tuple[str, ...]

    def make_data(self) -> dict[str, bytes]:
        """Make 60 rows for each split, no passage twice, and the card that names the splits."""
        pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        card = "---\nconfigs:\n- config_name: default\n  data_files:\n"
        files = {}
        for split in self.splits:
            texts = [(f"What is {split} {number}?", f"It is cost {number} of {split}.") for number in range(60)]
            rows = [dict(zip(self.columns, row, strict=True)) for row in texts]
            table = io.BytesIO()
            parquet.write_table(pyarrow.Table.from_pylist(rows), table)
            files[f"data/{split}-00000-of-00001.parquet"] = table.getvalue()
            card += f"  - split: {split}\n    path: data/{split}-*\n"
        return files | {"README.md": f"{card}---\n".encode()}


PUBLICATIONS = [
    Publication(
        name="sec-rag",
        data="philschmid/finanical-rag-embedding-dataset",
        columns=("question", "context"),
        splits=("train",),
        model="BAAI/bge-base-en-v1.5",
        parts=("train", "test"),
    ),
    Publication(
        name="miriad",
        data="tomaarsen/miriad-4.4M-split",
        columns=("question", "passage_text"),
        splits=("train", "eval", "test"),
        model="google/embeddinggemma-300m",
        parts=("train", "dev", "test"),
    ),
]


@pytest.mark.parametrize("publication", PUBLICATIONS, ids=lambda one: one.name)
def test_commits_are_proposed_written_in_and_locked(publication: Publication, tmp_path: Path) -> None:
    weights = {"config.json": b"{}", "modules.json": b"[]", "model.safetensors": bytes(2000)}
    data = write_files(tmp_path / "data", publication.make_data())
    model = write_files(tmp_path / "model", weights)
    repositories = [
        HubRepository("dataset", publication.data, COMMITS["data"], data),
        HubRepository("model", publication.model, COMMITS["model"], model),
    ]
    manifest = tmp_path / f"{publication.name}.toml"
    manifest.write_bytes((EXPERIMENTS / manifest.name).read_bytes())
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
        (facts,) = json.loads(manifest.with_suffix(".lock").read_text(encoding="utf-8"))["data"].values()
        assert tuple(facts["parts"]) == publication.parts
        rows = sum(part["rows"] for part in facts["parts"].values())
        assert rows == facts["passages"] == 60 * len(publication.splits)

        seen = len(server.requests)
        code, said = run_child(environment, MAIN, "run", manifest, "--dry-run", *store)
        assert code == 0
        assert f"lock: {manifest.with_suffix('.lock')} belongs to it" in said
        assert f"model:{Path(publication.model).name}: hub {publication.model}: 3 files locked" in said
        assert "memory: " in said
        assert server.requests[seen:] == (), "a dry run asks for nothing"
