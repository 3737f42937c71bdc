"""The trainer's arguments that a recipe may set, under the trainer's own names; all others are refused by name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PlainSerializer, ValidatorFunctionWrapHandler, WrapValidator, model_validator

from harness.core.schema import MOST, Count, Frozen, Natural, Number, Positive, Unit

_OUTPUT = "every training has a folder of its own in the store"
_SEEDS = "the experiment's seeds say it, one training each"
_LOGS = "every step is logged and reported"
_PRECISION = "the recipe's precision says it"
_SAVING = "save_steps and save_total_limit say it, and a killed training goes on by itself"
_EVALUATION = "eval_steps says it"
_SELECT = "the recipe's select says it"
_MODEL = "the model's own keys say it"
_PUBLISHING = "harness publish does it"
# What the harness sets itself, and where to say it instead.
OWNED: Mapping[str, str] = {
    **dict.fromkeys(("output_dir", "overwrite_output_dir"), _OUTPUT),
    **dict.fromkeys(("seed", "data_seed", "full_determinism"), _SEEDS),
    **dict.fromkeys(("report_to", "run_name", "project", "disable_tqdm"), _LOGS),
    **dict.fromkeys(("logging_strategy", "logging_steps", "logging_first_step", "logging_nan_inf_filter"), _LOGS),
    **dict.fromkeys(("fp16", "bf16", "tf32", "fp16_full_eval", "bf16_full_eval"), _PRECISION),
    **dict.fromkeys(("save_strategy", "save_only_model", "resume_from_checkpoint", "ignore_data_skip"), _SAVING),
    **dict.fromkeys(("eval_strategy", "eval_delay", "eval_on_start", "per_device_eval_batch_size"), _EVALUATION),
    **dict.fromkeys(("load_best_model_at_end", "metric_for_best_model", "greater_is_better"), _SELECT),
    **dict.fromkeys(("prompts", "router_mapping"), _MODEL),
    **dict.fromkeys(("push_to_hub", "hub_model_id", "hub_token", "hub_strategy"), _PUBLISHING),
    "use_cpu": "the option --device says it",
}
# The trainer takes one of each pair and passes over the other.
EXCLUSIVE = (("num_train_epochs", "max_steps"), ("warmup_ratio", "warmup_steps"))
# Without those that need another clock than steps, or a measure.
Scheduler = Literal[
    "linear",
    "cosine",
    "cosine_with_restarts",
    "cosine_with_min_lr",
    "polynomial",
    "constant",
    "constant_with_warmup",
    "inverse_sqrt",
    "warmup_stable_decay",
]
Below1 = Annotated[float, Field(ge=0, lt=1)]


def _keep_whole(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
    """Check a number, and leave a whole one as it was written: 1 and 1.0 would be two digests."""
    checked = check(value)
    return value if type(value) is int else checked


def _as_it_is(value: float) -> float:
    return value


Epochs = Annotated[
    float, Field(gt=0, le=MOST), WrapValidator(_keep_whole), PlainSerializer(_as_it_is, return_type=int | float)
]
NotNegative = Annotated[float, Field(ge=0, le=MOST)]


class Arguments(Frozen):
    """Fields of SentenceTransformerTrainingArguments; what is not named is the trainer's default.

    ``eval_steps`` asks for values on the way: of the dev part that the recipe selects by, or of the primary test set,
    where they choose nothing.
    """

    num_train_epochs: Epochs | None = None
    max_steps: Count | None = None
    per_device_train_batch_size: Annotated[Count, Field(ge=2)]
    gradient_accumulation_steps: Count | None = None
    learning_rate: Positive
    lr_scheduler_type: Scheduler | None = None
    lr_scheduler_kwargs: dict[str, Number] | None = None
    # From 1 on the trainer would take a ratio for a number of steps.
    warmup_ratio: Below1 | None = None
    warmup_steps: Count | None = None
    optim: Literal["adamw_torch", "adamw_torch_fused", "adafactor", "sgd", "rmsprop"] | None = None
    weight_decay: Unit | None = None
    adam_beta1: Below1 | None = None
    adam_beta2: Below1 | None = None
    adam_epsilon: Positive | None = None
    max_grad_norm: NotNegative | None = None
    gradient_checkpointing: bool | None = None
    batch_sampler: Literal["batch_sampler", "no_duplicates"]
    dataloader_drop_last: bool | None = None
    dataloader_num_workers: Natural | None = None
    save_steps: Count
    save_total_limit: Count
    eval_steps: Count | None = None

    @model_validator(mode="before")
    @classmethod
    def _not_the_harnesss_own(cls, said: Any) -> Any:
        owned = [name for name in said if name in OWNED] if isinstance(said, Mapping) else []
        if owned:
            raise ValueError(f"{owned[0]} is set by the harness: {OWNED[owned[0]]}; leave it out")
        return said

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        for one, other in EXCLUSIVE:
            if getattr(self, one) is not None and getattr(self, other) is not None:
                raise ValueError(f"{one} and {other} are both given; the trainer would take one of them only")
        if self.num_train_epochs is None and self.max_steps is None:
            raise ValueError("expected num_train_epochs or max_steps")
        if self.lr_scheduler_kwargs and self.lr_scheduler_type is None:
            raise ValueError("lr_scheduler_kwargs without lr_scheduler_type")
        return self

    def count_steps(self, rows: int) -> int:
        """Return the optimizer's steps over so many rows, as the trainer plans them."""
        if self.max_steps is not None:
            return self.max_steps
        return math.ceil((self.num_train_epochs or 0) * self._plan_epoch(rows)[1])

    def count_batches(self, rows: int) -> int:
        """Return how many batches those steps take: several a step where gradients are accumulated."""
        batches, steps = self._plan_epoch(rows)
        epochs, further = divmod(self.count_steps(rows), steps)
        return epochs * batches + further * (self.gradient_accumulation_steps or 1)

    def _plan_epoch(self, rows: int) -> tuple[int, int]:
        size = self.per_device_train_batch_size
        batches = rows // size if self.dataloader_drop_last else -(-rows // size)
        return batches, max(1, -(-batches // (self.gradient_accumulation_steps or 1)))


def join_arguments(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return a base's arguments with a recipe's own in their place; one of an exclusive pair replaces the other."""
    replaced = {name for pair in EXCLUSIVE if set(pair) & set(own) for name in pair}
    return {**{key: value for key, value in base.items() if key not in replaced}, **own}
