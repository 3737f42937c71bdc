"""A small manifest with its data, written on the spot and changed by the tests that want it broken."""

from __future__ import annotations

import copy
import json
import tomllib
from collections.abc import Mapping, Sequence
from enum import Enum, auto
from pathlib import Path
from typing import Any

from harness.experiment.manifest import Experiment, parse_experiment


class _Removed(Enum):
    """Has a name of its own, and so the same test id in every process."""

    REMOVED = auto()


REMOVED = _Removed.REMOVED
"""Stands in for a value that a manifest shall not have."""

TINY = """
schema_version = 2
name = "tiny"
title = "A tiny experiment"
summary = "Twenty pairs and a model of two layers."
seeds = [0, 1]

[data.tiny]
format = "table"
splits = { train = "train", test = "test" }
columns = { query = "question", passage = "answer", id = "id" }
expect = { train_rows = 20, test_rows = 8 }

[data.tiny.source]
kind = "folder"
path = "data"

[[models]]
name = "small"
recipes = ["finetuned"]

[models.source]
kind = "folder"
path = "model"

[[models]]
name = "other"

[models.source]
kind = "folder"
path = "model"

[recipes.finetuned]
data = "tiny"
inputs = ["passage", "query"]
loss = { name = "MultipleNegativesRankingLoss", scale = 20.0 }
precision = { cuda = "fp16", cpu = "fp32" }
embedding = { cuda = "grouped", cpu = "packed" }

[recipes.finetuned.arguments]
num_train_epochs = 1
per_device_train_batch_size = 4
learning_rate = 1e-3
warmup_ratio = 0.1
batch_sampler = "no_duplicates"
save_steps = 100
save_total_limit = 2

[evaluation]
on = ["tiny/test"]
measures = ["accuracy@1", "mrr@10", "map@100"]
primary = "mrr@10"
top_k = 100
batch_tokens = 512

[verdicts]
margin = 0.01

[published]
title = "A publication"
date = "2024-08"

[[thresholds]]
model = "small"
recipe = "finetuned"
measure = "mrr@10"
above = 0.0

[[claims]]
model = "small"
recipe = "finetuned"
source = "table"
values = { "mrr@10" = "0.8919" }

[prices_usd_per_hour]
"NVIDIA A10G" = 1.1
"""

WORDS = ["gene", "protein", "cell", "drug", "risk", "heart", "kinase", "vaccine", "syndrome", "ligand", "mouse", "lung"]


def change(path: str, value: Any) -> dict[str, Any]:
    """Return the tiny manifest as plain data with one place changed, such as ``models.0.name``."""
    data: Any = copy.deepcopy(tomllib.loads(TINY))
    *parents, last = path.split("|") if "|" in path else path.split(".")
    place = data
    for part in parents:
        place = place[int(part)] if isinstance(place, list) else place.setdefault(part, {})
    if value is REMOVED:
        del place[last]
    else:
        place[last] = value
    return dict(data)


def parse(data: Mapping[str, Any] | None = None) -> Experiment:
    """Parse plain data, or the tiny manifest, as `read_experiment` does."""
    return parse_experiment(tomllib.loads(TINY) if data is None else data, place="tiny.toml")


def write_manifest(folder: Path, *, name: str = "tiny", **lines: str) -> Path:
    """Write the tiny manifest; ``lines`` replace the values of single-line keys, each of which stands there once."""
    text = TINY.replace('name = "tiny"', f'name = "{name}"')
    for key, value in lines.items():
        before = [line for line in text.splitlines() if line.startswith(f"{key} = ")]
        if len(before) != 1:
            raise ValueError(f"{key!r} stands {len(before)} times in the manifest")
        text = text.replace(before[0], f"{key} = {value}")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.toml"
    path.write_text(text, encoding="utf-8")
    return path


def make_rows(start: int, count: int) -> list[dict[str, str]]:
    """Return rows with texts that differ."""
    return [
        {
            "id": f"r{number}",
            "question": f"what is the role of {WORDS[number % 12]} {number}",
            "answer": f"{WORDS[number % 12]} {number} acts on the {WORDS[(number * 7 + 3) % 12]} pathway",
        }
        for number in range(start, start + count)
    ]


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write rows as JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_data(folder: Path) -> Path:
    """Write the tiny manifest's data folder."""
    write_rows(folder / "train.jsonl", make_rows(0, 20))
    write_rows(folder / "test.jsonl", make_rows(20, 8))
    return folder
