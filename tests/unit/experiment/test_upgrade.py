"""Manifests, locks and records of the first version are read as the second says the same, and nothing else passes."""

from __future__ import annotations

import copy
import hashlib
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from harness.core.schema import canonical_json
from harness.errors import ManifestError, RecordError
from harness.experiment.lock import Lock, LockedSource, digest_sources, format_lock, list_sources, read_lock
from harness.experiment.manifest import parse_experiment, read_experiment
from harness.records.record import parse_record, read_records
from tests.support.manifests import TINY, parse

REPOSITORY = Path(__file__).parents[3]
FIRST = """
schema_version = 1
name = "tiny"
title = "A tiny experiment"
summary = "Twenty pairs and a model of two layers."
seeds = [0, 1]

[data]
format = "datasets"
train_split = "train"
test_split = "test"
columns = { anchor = "question", positive = "answer", id = "id" }
train_rows = 20
test_rows = 8
source = { kind = "folder", path = "data" }

[[models]]
name = "small"
finetuned = true
source = { kind = "folder", path = "model" }

[[models]]
name = "other"
finetuned = false
source = { kind = "folder", path = "model" }

[training]
loss = "MultipleNegativesRankingLoss"
scale = 20.0
columns = ["positive", "anchor"]
epochs = 1
batch_size = 4
learning_rate = 1e-3
warmup_ratio = 0.1
batch_sampler = "no_duplicates"
precision = { cuda = "fp16", cpu = "fp32" }
checkpoint_steps = 100
checkpoints_kept = 2
evaluation_steps = 0
embedding = "grouped"

[evaluation]
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
variant = "finetuned"
measure = "mrr@10"
above = 0.0

[[claims]]
model = "small"
variant = "finetuned"
source = "table"
values = { "mrr@10" = "0.8919" }

[prices_usd_per_hour]
"NVIDIA A10G" = 1.1
"""


def upgrade(**changes: Any) -> Any:
    """Parse the first version's manifest, with a key of [training] or [data] changed."""
    data = tomllib.loads(FIRST)
    for key, value in changes.items():
        table, _, name = key.partition("__")
        data[table][name] = value
    return parse_experiment(data, place="tiny.toml")


def test_a_manifest_of_the_first_version_says_what_the_second_says() -> None:
    second = tomllib.loads(TINY)
    for model in second["models"]:
        model["similarity"] = "cosine"  # the first version knew no other
    assert upgrade() == parse(second)


def test_evaluation_on_the_way_and_padding_have_their_new_places() -> None:
    recipe = upgrade(training__evaluation_steps=50, training__embedding="padded").recipes["finetuned"]
    assert (recipe.arguments.eval_steps, recipe.embedding.cuda, recipe.embedding.cpu) == (50, "padded", "padded")


def test_a_warm_up_ratio_of_one_becomes_the_one_step_that_it_was() -> None:
    arguments = upgrade(training__warmup_ratio=1.0).recipes["finetuned"].arguments
    assert (arguments.warmup_ratio, arguments.warmup_steps) == (None, 1)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"training__epoch": 1}, "unknown key 'recipes.finetuned.epoch'"),
        ({"training__epochs": "1"}, "recipes.finetuned.arguments.num_train_epochs: found '1'"),
        ({"training__columns": ["anchor", 3]}, "recipes.finetuned.inputs[1]: found 3"),
        ({"training__embedding": "dense"}, "recipes.finetuned.embedding: found 'dense'"),
        ({"data__rows": 1}, "unknown key 'data.tiny.rows'"),
        ({"data__selection": {"salt": "s", "train_rows": 3, "test_rows": 8}}, "has no use for selection"),
    ],
)
def test_what_the_first_version_did_not_know_is_refused_where_it_would_be(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ManifestError) as caught:
        upgrade(**changes)
    assert said in str(caught.value)


@pytest.mark.parametrize("key", ["data", "models", "training", "evaluation", "claims", "thresholds", "name"])
@pytest.mark.parametrize("value", [None, 1, "text", [], [1], {}, {"a": 1}])
def test_nothing_a_stranger_writes_raises_anything_but_our_own_error(key: str, value: Any) -> None:
    data = tomllib.loads(FIRST)
    if value is None:
        del data[key]
    else:
        data[key] = copy.deepcopy(value)
    try:
        parse_experiment(data, place="tiny.toml")
    except ManifestError:
        return
    assert (key, value) == ("name", "text") or key in {"claims", "thresholds"}  # both may be empty


def test_a_lock_of_the_first_version_belongs_to_the_same_sources(tmp_path: Path) -> None:
    experiment = upgrade()
    sources = {str(name): LockedSource(files={"a.json": "0" * 64}, complete=True) for name in list_sources(experiment)}
    lock = Lock(
        schema_version=2, experiment="tiny", sources_digest=digest_sources(experiment), sources=sources
    ).model_dump(mode="json", exclude_none=True)
    model = {"kind": "folder", "path": "model"}
    first = {"data": {"kind": "folder", "path": "data"}, "model:small": model, "model:other": model}
    old = {
        **lock,
        "schema_version": 1,
        "sources_digest": hashlib.sha256(canonical_json(first).encode()).hexdigest(),
        "sources": {name.replace("data:tiny", "data"): files for name, files in lock["sources"].items()},
    }
    path = tmp_path / "tiny.lock"
    path.write_text(json.dumps(old), encoding="utf-8")
    assert format_lock(read_lock(path, experiment)) == format_lock(Lock.model_validate_json(json.dumps(lock)))


@pytest.mark.parametrize("name", ["hpo", "bioasq-rebuilt"])
def test_a_record_of_the_first_version_has_the_experiment_that_the_manifest_declares(name: str) -> None:
    manifest = read_experiment(REPOSITORY / "benchmarks" / "experiments" / f"{name}.toml")
    for record in read_records(REPOSITORY / "results" / "records" / name):
        rest = {"summary": manifest.summary, "title": manifest.title, "recipes": manifest.recipes}
        assert record.experiment.replace(**rest) == manifest.replace(stacks={})
        own, declared = (
            {key: recipe.as_run_on(record.device) for key, recipe in one.recipes.items()}
            for one in (record.experiment, manifest)
        )
        assert own == declared
        assert record.experiment_digest == record.experiment.digest


def test_a_record_whose_experiment_was_changed_after_it_was_written_is_refused() -> None:
    path = REPOSITORY / "results" / "records" / "hpo" / "all-MiniLM-L6-v2.baseline.json"
    text = path.read_text(encoding="utf-8")
    assert '"schema_version": 1' in text[:64]
    with pytest.raises(RecordError, match=r"r\.json: experiment_digest is not the one of the experiment beside it"):
        parse_record(text.replace('"batch_size": 32', '"batch_size": 64'), place="r.json")
