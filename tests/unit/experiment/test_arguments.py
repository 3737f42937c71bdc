"""The trainer's arguments are an allow-list by name and type; steps are counted as the trainer plans them."""

from __future__ import annotations

from typing import Any

import pytest

from harness.errors import ManifestError
from harness.experiment.arguments import OWNED, Arguments
from tests.support.manifests import REMOVED, change, parse

PLACE = "recipes.finetuned.arguments"


def make(**changes: Any) -> Arguments:
    return parse().recipes["finetuned"].arguments.replace(**changes)


@pytest.mark.parametrize("name", OWNED)
def test_what_the_harness_sets_itself_is_refused_saying_where_it_is_said(name: str) -> None:
    assert name not in Arguments.model_fields
    with pytest.raises(ManifestError) as caught:
        parse(change(f"{PLACE}.{name}", 1))
    assert f"{name} is set by the harness: {OWNED[name]}; leave it out" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("fsdp", "full_shard", "unknown key 'recipes.finetuned.arguments.fsdp'"),
        ("lr_schedular_type", "cosine", "did you mean 'lr_scheduler_type'"),
        ("lr_scheduler_type", "reduce_lr_on_plateau", "lr_scheduler_type: found 'reduce_lr_on_plateau'"),
        ("lr_scheduler_kwargs", {"num_cycles": 2}, "lr_scheduler_kwargs without lr_scheduler_type"),
        ("weight_decay", "0.01", "weight_decay: found '0.01'"),
        ("adam_beta2", 1.0, "adam_beta2: found 1.0"),
        ("warmup_ratio", 1.0, "warmup_ratio: found 1.0"),
        ("gradient_accumulation_steps", 0, "gradient_accumulation_steps: found 0"),
        ("max_steps", 10, "num_train_epochs and max_steps are both given"),
        ("num_train_epochs", REMOVED, "expected num_train_epochs or max_steps"),
        ("num_train_epochs", 0.0, "num_train_epochs: found 0.0"),
        ("batch_sampler", "group_by_label", "batch_sampler: found 'group_by_label'"),
    ],
)
def test_a_wrong_argument_is_refused_by_name(name: str, value: Any, said: str) -> None:
    with pytest.raises(ManifestError) as caught:
        parse(change(f"{PLACE}.{name}", value))
    assert said in str(caught.value)


def test_a_whole_number_of_epochs_is_kept_as_it_was_written() -> None:
    assert '"num_train_epochs":1,' in make().model_dump_json()
    assert '"num_train_epochs":1.5,' in make(num_train_epochs=1.5).model_dump_json()


@pytest.mark.parametrize(
    ("rows", "changes", "steps", "batches"),
    [
        (20, {}, 5, 5),
        (21, {}, 6, 6),
        (21, {"num_train_epochs": 2}, 12, 12),
        (21, {"dataloader_drop_last": True}, 5, 5),
        (21, {"num_train_epochs": 0.5}, 3, 3),
        (20, {"num_train_epochs": 0.5}, 3, 3),
        (21, {"num_train_epochs": None, "max_steps": 7}, 7, 7),
        # Six batches are three steps of two, five are two of two and one of one.
        (21, {"gradient_accumulation_steps": 2}, 3, 6),
        (20, {"gradient_accumulation_steps": 2, "num_train_epochs": 2}, 6, 10),
        (20, {"gradient_accumulation_steps": 2, "num_train_epochs": None, "max_steps": 4}, 4, 7),
        (20, {"gradient_accumulation_steps": 8}, 1, 5),
    ],
)
def test_steps_and_batches_are_counted_as_the_trainer_plans_them(
    rows: int, changes: dict[str, Any], steps: int, batches: int
) -> None:
    """Batches hold four rows; the last of an epoch is smaller, and so is the last step's pile of them."""
    arguments = make(**changes)
    assert (arguments.count_steps(rows), arguments.count_batches(rows)) == (steps, batches)


@pytest.mark.parametrize(
    ("own", "left_out"),
    [({"max_steps": 3}, "num_train_epochs"), ({"warmup_steps": 2}, "warmup_ratio")],
)
def test_one_of_two_that_exclude_each_other_takes_the_place_of_the_bases(own: dict[str, int], left_out: str) -> None:
    experiment = parse(change("recipes.b", {"base": "finetuned", "arguments": own}))
    merged = experiment.recipes["b"].arguments.model_dump(exclude_none=True)
    assert own.items() <= merged.items()
    assert left_out not in merged
    assert merged["learning_rate"] == 1e-3
