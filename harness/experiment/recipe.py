"""How a model is trained: data, inputs, loss and the trainer's arguments, under the training library's own names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from harness.core.schema import Count, Frozen, Positive
from harness.errors import ManifestError

Input = Literal["query", "passage"]


def _refuse(value: Any) -> Any:
    if value is not None:
        raise ValueError("not yet: nothing here acts on it so far; leave the key out")
    return value


# Keys that the manifest's second version knows and that nobody honours yet: refused, never passed over.
NotYet = Annotated[None, BeforeValidator(_refuse)]


class Loss(Frozen):
    """A loss of Sentence Transformers by its own name, with its own arguments."""

    name: Literal["MultipleNegativesRankingLoss"]
    scale: Positive


class Precisions(Frozen):
    """Training precision by device kind; on a CPU without bf16 matrix instructions bf16 falls back to fp32."""

    cuda: Literal["fp16", "bf16", "fp32"]
    cpu: Literal["bf16", "fp32"]


class Embedding(Frozen):
    """How the texts of a batch are embedded: padded as the library does, in groups of like length, or laid end to end.

    Batch, negatives and loss are the same in each; a model that cannot be packed on a CPU is grouped.
    """

    cuda: Literal["padded", "grouped"]
    cpu: Literal["padded", "packed"]


class Arguments(Frozen):
    """Fields of SentenceTransformerTrainingArguments; what is not named is the trainer's default.

    ``eval_steps`` asks for the values of the primary test set on the way; they choose nothing.
    """

    num_train_epochs: Count
    per_device_train_batch_size: Annotated[Count, Field(ge=2)]
    learning_rate: Positive
    # From 1 on the trainer would take a ratio for a number of steps.
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] | None = None
    warmup_steps: Count | None = None
    batch_sampler: Literal["batch_sampler", "no_duplicates"]
    save_steps: Count
    save_total_limit: Count
    eval_steps: Count | None = None

    @model_validator(mode="after")
    def _one_warmup(self) -> Self:
        if self.warmup_ratio is not None and self.warmup_steps is not None:
            raise ValueError("warmup_ratio and warmup_steps are both given; the trainer would take one of them only")
        return self


class Recipe(Frozen):
    """How a model is trained on a data set's part ``train``; ``base`` is the recipe that it differs from as written."""

    base: str | None = None
    data: str
    inputs: tuple[Input, Input]
    loss: Loss
    precision: Precisions
    embedding: Embedding
    arguments: Arguments
    select: NotYet = None
    matryoshka: NotYet = None
    negatives: NotYet = None
    lora: NotYet = None

    @field_validator("inputs")
    @classmethod
    def _both(cls, inputs: tuple[Input, Input]) -> tuple[Input, Input]:
        if set(inputs) != {"query", "passage"}:
            raise ValueError("inputs must name 'query' and 'passage', each once, in the order the loss gets them")
        return inputs


def merge_bases(recipes: Mapping[str, Any], *, place: str) -> dict[str, Any]:
    """Complete the recipes that say what differs from a ``base``: arguments key by key, every other key replaced.

    Args:
        recipes: name -> recipe as plain data; what is not a recipe at all is left for the schema to refuse.
        place: the file that messages name.

    Raises:
        ManifestError: a base that is not there, or has a base itself.
    """
    merged = {}
    for name, own in recipes.items():
        base = own.get("base") if isinstance(own, Mapping) else None
        if not isinstance(base, str):
            merged[name] = own
            continue
        under = recipes.get(base)
        if not isinstance(under, Mapping) or base == name:
            others = ", ".join(repr(other) for other in recipes if other != name) or "none"
            raise ManifestError(f"{place}: recipes.{name}.base: found {base!r}, expected another recipe: {others}")
        if "base" in under:
            raise ManifestError(f"{place}: recipes.{name}.base: {base!r} has a base itself; one level is all there is")
        arguments = [table for table in (under.get("arguments"), own.get("arguments")) if isinstance(table, Mapping)]
        joined = {key: value for table in arguments for key, value in table.items()}
        merged[name] = {**under, **own, **({"arguments": joined} if joined else {})}
    return merged
