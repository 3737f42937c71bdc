"""How a model is trained: data, inputs, loss and the trainer's arguments, under the training library's own names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, model_validator

from harness.core.schema import Count, Frozen, Line, Positive
from harness.errors import ManifestError
from harness.experiment.arguments import Arguments, join_arguments
from harness.experiment.data import refuse_repeats
from harness.experiment.loss import Loss
from harness.experiment.negatives import Negatives

# A column that the loss gets: texts of a query, a passage, the first, second, ... negative, or what it compares with.
Input = Annotated[str, Field(pattern=r"^(query|passage|negative|negative_([2-9]|[1-9][0-9])|score|label)$")]
LABELS = ("score", "label")

WayOnGpu = Literal["padded", "grouped"]
WAYS_ON_GPU: tuple[WayOnGpu, ...] = get_args(WayOnGpu)


class Precisions(Frozen):
    """Training precision by device kind; on a CPU without bf16 matrix instructions bf16 falls back to fp32."""

    cuda: Literal["fp16", "bf16", "fp32"]
    cpu: Literal["bf16", "fp32"]


class Embedding(Frozen):
    """How the texts of a batch are embedded: padded as the library does, in groups of like length, or laid end to end.

    Batch, negatives and loss are the same in each; a model that cannot be packed on a CPU is grouped.
    """

    cuda: WayOnGpu
    cpu: Literal["padded", "packed"]


class Matryoshka(Frozen):
    """The loss is also computed of the embeddings' first so many numbers, and summed by weight: MatryoshkaLoss."""

    dims: Annotated[tuple[Count, ...], Field(min_length=1)]
    weights: tuple[Positive, ...] | None = None

    @model_validator(mode="after")
    def _each_once_with_its_weight(self) -> Self:
        refuse_repeats(self.dims, "dimension")
        if self.weights is not None and len(self.weights) != len(self.dims):
            raise ValueError(f"weights are {len(self.weights)}, dims {len(self.dims)}")
        return self


class Select(Frozen):
    """Of the steps at which the model is evaluated, the one with the highest measure on a dev part is kept."""

    on: str
    measure: str


class Lora(Frozen):
    """Arguments of peft's LoraConfig under their own names: which layers get an adapter beside them, and how wide."""

    r: Count
    lora_alpha: Positive
    target_modules: Annotated[tuple[Line, ...], Field(min_length=1)]
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    use_rslora: bool | None = None

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        refuse_repeats(self.target_modules, "module")
        return self


class Recipe(Frozen):
    """How a model is trained on a data set's part ``train``; ``base`` is the recipe that it differs from as written."""

    base: str | None = None
    data: str
    inputs: tuple[Input, ...]
    loss: Loss
    precision: Precisions
    embedding: Embedding
    arguments: Arguments
    select: Select | None = None
    matryoshka: Matryoshka | None = None
    negatives: Negatives | None = None
    lora: Lora | None = None

    @property
    def texts(self) -> tuple[Input, ...]:
        """The inputs that are texts."""
        return tuple(name for name in self.inputs if name not in LABELS)

    @property
    def helpers(self) -> dict[str, str]:
        """Key -> the model of the manifest that it names: who mines negatives, who guides the loss."""
        miner = None if self.negatives is None else self.negatives.model
        named = {"negatives.model": miner, "loss.guide": self.loss.guide}
        return {key: name for key, name in named.items() if name is not None}

    def as_run_on(self, device: str) -> dict[str, Any]:
        """Return all that decides a training on a device, as plain data: what is said of other kinds is left out.

        A trial answers for no other device than its own, so that what is declared for GPUs may change, as when they are
        measured, without a trial on a CPU being one of another recipe.
        """
        precision = self.precision.cuda if device.startswith("cuda") else self.precision.cpu
        embedding = self.embedding.cpu if device == "cpu" else self.embedding.cuda
        return {**self.model_dump(mode="json"), "precision": precision, "embedding": embedding}

    @property
    def label(self) -> Input | None:
        """The input that the loss compares with."""
        return next((name for name in self.inputs if name in LABELS), None)

    @property
    def negatives_per_row(self) -> int:
        """How many negatives of each row the loss gets."""
        return len(self.texts) - 2

    @model_validator(mode="after")
    def _steps_to_select_from(self) -> Self:
        if self.select is not None and self.arguments.eval_steps is None:
            raise ValueError("select needs arguments.eval_steps: after how many steps the model is evaluated each time")
        return self

    @model_validator(mode="after")
    def _mined_negatives_that_the_loss_gets(self) -> Self:
        if self.negatives is None:
            return self
        if self.negatives.num_negatives != self.negatives_per_row:
            raise ValueError(
                f"negatives: num_negatives is {self.negatives.num_negatives}, the inputs have {self.negatives_per_row}"
            )
        if self.label is not None:
            raise ValueError(f"negatives: mined rows have no {self.label}, which {self.loss.name} compares with")
        return self

    @model_validator(mode="after")
    def _inputs_that_the_loss_takes(self) -> Self:
        kind, texts = self.loss.kind, self.texts
        if len(texts) < 2 or set(texts[:2]) != {"query", "passage"}:  # noqa: PLR2004 - the two
            raise ValueError("inputs must name 'query' and 'passage', each once, in the order the loss gets them")
        numbered = [*(["negative"] if texts[2:] else []), *(f"negative_{n}" for n in range(2, len(texts) - 1))]
        if list(texts[2:]) != numbered:
            raise ValueError(f"inputs must name negatives from the first on: {', '.join(numbered)}")
        if kind.most_texts is not None and not kind.least_texts <= len(texts) <= kind.most_texts:
            wanted = ["query", "passage", "negative"][: kind.least_texts]
            raise ValueError(
                f"{self.loss.name} takes the texts {', '.join(wanted)}; inputs are {', '.join(self.inputs)}"
            )
        given = [name for name in self.inputs if name in LABELS]
        if given != ([] if kind.label is None else [kind.label]):
            wants = "no score or label" if kind.label is None else f"one input {kind.label!r} beside its texts"
            raise ValueError(f"{self.loss.name} takes {wants}; inputs are {', '.join(self.inputs)}")
        return self


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
        tables = [one if isinstance(one, Mapping) else {} for one in (under.get("arguments"), own.get("arguments"))]
        joined = join_arguments(*tables)
        merged[name] = {**under, **own, **({"arguments": joined} if joined else {})}
    return merged
