"""The first version of manifests, rewritten as the second: one function for old manifests and for old records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RECIPE = "finetuned"
_COLUMNS = {"anchor": "query", "positive": "passage"}
_EXPECT = ("train_rows", "test_rows", "first_train_id", "first_test_id")
_ARGUMENTS = {
    "epochs": "num_train_epochs",
    "batch_size": "per_device_train_batch_size",
    "learning_rate": "learning_rate",
    "warmup_ratio": "warmup_ratio",
    "batch_sampler": "batch_sampler",
    "checkpoint_steps": "save_steps",
    "checkpoints_kept": "save_total_limit",
    "evaluation_steps": "eval_steps",
}
_EMBEDDING = {
    "grouped": {"cuda": "grouped", "cpu": "packed"},
    "padded": {"cuda": "padded", "cpu": "padded"},
}


def upgrade_experiment(old: Mapping[str, Any]) -> dict[str, Any]:
    """Rewrite an experiment of schema_version 1 as one of schema_version 2.

    The data set takes the experiment's name, the one recipe is called ``finetuned``. Keys and types that the first
    version did not have are carried over where they stand, so that whoever parses the result refuses them by name.
    Absent and None are the same. Every model was compared by cosine.

    Args:
        old: the manifest or a record's experiment, as plain data.
    """
    new: dict[str, Any] = _drop_none(old)
    name = new.get("name")
    data, training, evaluation = (new.pop(key, None) for key in ("data", "training", "evaluation"))
    new["schema_version"] = 2
    if data is not None:
        new["data"] = {name: _upgrade_data(data)} if isinstance(name, str) else data
    if isinstance(new.get("models"), list):
        new["models"] = [_upgrade_model(model) for model in new["models"]]
    if training is not None:
        new["recipes"] = {RECIPE: _upgrade_training(training, name)}
    if evaluation is not None:
        new["evaluation"] = {"on": [f"{name}/test"], **evaluation} if isinstance(evaluation, dict) else evaluation
    for key in ("thresholds", "claims"):
        if isinstance(new.get(key), list):
            new[key] = [_upgrade_cell(cell) for cell in new[key]]
    return new


def _upgrade_data(data: Any) -> Any:
    if not isinstance(data, dict):
        return data
    new = dict(data)
    if new.get("format") == "datasets":
        new["format"] = "table"
    splits = {part: new.pop(f"{part}_split") for part in ("train", "test") if f"{part}_split" in new}
    if splits:
        new["splits"] = splits
    if isinstance(new.get("columns"), dict):
        new["columns"] = {_COLUMNS.get(key, key): value for key, value in new["columns"].items()}
    expect = {key: new.pop(key) for key in _EXPECT if key in new}
    chosen = new.get("selection")
    if isinstance(chosen, dict):
        # Said twice in the first version; a contradiction is kept, to be refused.
        expect = {key: value for key, value in expect.items() if chosen.get(key) != value}
    if expect:
        new["expect"] = expect
    return new


def _upgrade_model(model: Any) -> Any:
    if not isinstance(model, dict):
        return model
    new = {**model, "similarity": "cosine"}
    tuned = new.pop("finetuned", False)
    if not isinstance(tuned, bool):
        new["finetuned"] = tuned
    elif tuned:
        new["recipes"] = [RECIPE]
    return new


def _upgrade_training(training: Any, name: Any) -> Any:
    if not isinstance(training, dict):
        return training
    new = {"data": name, **training}
    if "columns" in new:
        columns = new.pop("columns")
        new["inputs"] = [_COLUMNS.get(str(one), one) for one in columns] if isinstance(columns, list) else columns
    if "loss" in new or "scale" in new:
        new["loss"] = {key: new.pop(old) for key, old in (("name", "loss"), ("scale", "scale")) if old in new}
    if "embedding" in new:
        new["embedding"] = _EMBEDDING.get(str(new["embedding"]), new["embedding"])
    new["arguments"] = {key: new.pop(old) for old, key in _ARGUMENTS.items() if old in new}
    if new["arguments"].get("eval_steps") == 0:
        del new["arguments"]["eval_steps"]
    # What the trainer made of it: from 1 on a number of steps.
    if new["arguments"].get("warmup_ratio") == 1:
        del new["arguments"]["warmup_ratio"]
        new["arguments"]["warmup_steps"] = 1
    return new


def _upgrade_cell(cell: Any) -> Any:
    if not isinstance(cell, dict):
        return cell
    new = dict(cell)
    variant = new.pop("variant", "baseline")
    return new if variant == "baseline" else {**new, "recipe": variant}


def _drop_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _drop_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_drop_none(item) for item in value]
    return value
