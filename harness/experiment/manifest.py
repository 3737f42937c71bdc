"""An experiment is what a manifest declares; here it is parsed strictly."""

from __future__ import annotations

import hashlib
import tomllib
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from harness.core.schema import Frozen, canonical_json, decode, read_text
from harness.errors import ManifestError
from harness.experiment.data import Count, Data, Source, check_name, refuse_repeats
from harness.experiment.measure import parse_measure

MANIFEST_LIMIT_BYTES = 1_000_000
SEED_LIMIT = 2**32  # NumPy takes no larger one

Variant = Literal["baseline", "finetuned"]
Column = Literal["anchor", "positive"]
Positive = Annotated[float, Field(gt=0)]
Unit = Annotated[float, Field(ge=0, le=1)]

# As torch.cuda.get_device_name() prints them: a price under any other name would never be found.
KNOWN_GPUS = (
    "NVIDIA A10", "NVIDIA A10G", "NVIDIA A100-PCIE-40GB", "NVIDIA A100-SXM4-40GB", "NVIDIA A100-SXM4-80GB",
    "NVIDIA A100 80GB PCIe", "NVIDIA B200", "NVIDIA GH200 480GB", "NVIDIA H100 80GB HBM3", "NVIDIA H100 PCIe",
    "NVIDIA H200", "NVIDIA L4", "NVIDIA L40S", "NVIDIA GeForce RTX 3090", "NVIDIA GeForce RTX 4090",
    "NVIDIA GeForce RTX 5090", "NVIDIA RTX A6000", "Tesla T4", "Tesla V100-SXM2-16GB", "Tesla V100-SXM2-32GB",
)  # fmt: skip


class Model(Frozen):
    """A model under evaluation; ``finetuned`` says whether it is also trained."""

    name: str
    source: Source
    finetuned: bool

    @field_validator("name")
    @classmethod
    def _plain(cls, name: str) -> str:
        return check_name(name)


class Precisions(Frozen):
    """Training precision by device kind; on a CPU without bf16 matrix instructions bf16 falls back to fp32."""

    cuda: Literal["fp16", "bf16", "fp32"]
    cpu: Literal["bf16", "fp32"]


class Training(Frozen):
    """The recipe. What is not named here is the trainer's default at the pinned versions."""

    loss: Literal["MultipleNegativesRankingLoss"]
    scale: Positive
    columns: tuple[Column, Column]
    epochs: Count
    batch_size: Annotated[int, Field(ge=2)]
    learning_rate: Positive
    warmup_ratio: Unit
    batch_sampler: Literal["batch_sampler", "no_duplicates"]
    precision: Precisions
    checkpoint_steps: Count
    checkpoints_kept: Count
    evaluation_steps: Annotated[int, Field(ge=0)]
    embedding: Literal["grouped", "padded"]

    @field_validator("columns")
    @classmethod
    def _both(cls, columns: tuple[Column, Column]) -> tuple[Column, Column]:
        if set(columns) != {"anchor", "positive"}:
            raise ValueError("columns must name 'anchor' and 'positive', each once, in the order the loss gets them")
        return columns


class Evaluation(Frozen):
    """What is measured: cosine similarity, fp32, the best ``top_k`` passages per query."""

    measures: Annotated[tuple[str, ...], Field(min_length=1)]
    primary: str
    top_k: Count
    batch_tokens: Count

    @field_validator("measures")
    @classmethod
    def _known(cls, measures: tuple[str, ...]) -> tuple[str, ...]:
        for measure in measures:
            try:
                parse_measure(measure)
            except ManifestError as cause:
                raise ValueError(str(cause)) from cause
        refuse_repeats(measures, "measure")
        return measures

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.primary not in self.measures:
            raise ValueError(f"the primary measure {self.primary!r} must be one of the measures")
        for measure in self.measures:
            if parse_measure(measure).cutoff > self.top_k:
                raise ValueError(f"{measure!r} needs more passages than top_k = {self.top_k}")
        return self


class Threshold(Frozen):
    """A bound that the values must exceed for the experiment to pass."""

    model: str
    variant: Variant
    measure: str
    above: float


class Claims(Frozen):
    """Published values of one model and variant, as printed, and where they were printed."""

    model: str
    variant: Variant
    source: str
    values: dict[str, str]

    @field_validator("values")
    @classmethod
    def _decimal(cls, values: dict[str, str]) -> dict[str, str]:
        for measure, printed in values.items():
            try:
                number = Decimal(printed)
            except InvalidOperation as cause:
                raise ValueError(f"{measure}: {printed!r} is not a printed number") from cause
            if not number.is_finite():
                raise ValueError(f"{measure}: {printed!r} is not finite")
        return values


class Verdicts(Frozen):
    """What counts as reproduced: the mean's 90 % interval within ``margin`` of the published value."""

    margin: Positive


class Published(Frozen):
    """The publication that is checked, and why its values cannot be compared cell by cell, if so."""

    title: str
    date: str
    not_comparable: str | None = None
    hardware: str | None = None
    training_seconds: float | None = None


class Experiment(Frozen):
    """A whole manifest; ``attribution`` says whose texts reports may quote, and under which licence."""

    schema_version: Literal[1]
    name: str
    title: str
    summary: str
    attribution: str | None = None
    seeds: Annotated[tuple[Annotated[int, Field(ge=0, lt=SEED_LIMIT)], ...], Field(min_length=1)]
    data: Data
    models: Annotated[tuple[Model, ...], Field(min_length=1)]
    training: Training
    evaluation: Evaluation
    verdicts: Verdicts
    published: Published | None = None
    thresholds: tuple[Threshold, ...] = ()
    claims: tuple[Claims, ...] = ()
    prices_usd_per_hour: dict[str, Positive] = Field(default_factory=dict)

    @field_validator("name")
    @classmethod
    def _plain(cls, name: str) -> str:
        return check_name(name)

    @field_validator("seeds")
    @classmethod
    def _distinct_seeds(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        refuse_repeats(seeds, "seed")
        return seeds

    @field_validator("prices_usd_per_hour")
    @classmethod
    def _known_gpus(cls, prices: dict[str, float]) -> dict[str, float]:
        for gpu in prices:
            if gpu not in KNOWN_GPUS:
                raise ValueError(f"unknown GPU {gpu!r}: known are {', '.join(KNOWN_GPUS)}")
        return prices

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        refuse_repeats([model.name for model in self.models], "model")
        for threshold in self.thresholds:
            self._check_cell(threshold.model, threshold.variant)
            self._check_measure(threshold.measure)
        for claims in self.claims:
            self._check_cell(claims.model, claims.variant)
            for measure in claims.values:
                self._check_measure(measure)
        if self.claims and self.published is None:
            raise ValueError("claims need a [published] table that says where they come from")
        return self

    def _check_cell(self, name: str, variant: Variant) -> None:
        model = next((model for model in self.models if model.name == name), None)
        if model is None:
            raise ValueError(f"model {name!r} is not among the models {[model.name for model in self.models]}")
        if variant == "finetuned" and not model.finetuned:
            raise ValueError(f"model {name!r} is not fine-tuned here, so nothing can be said of its tuned values")

    def _check_measure(self, measure: str) -> None:
        if measure not in self.evaluation.measures:
            raise ValueError(f"measure {measure!r} is not among the evaluation's measures")

    @property
    def digest(self) -> str:
        """SHA-256 of everything the manifest says."""
        return hashlib.sha256(canonical_json(self.model_dump(mode="json")).encode()).hexdigest()

    def model(self, name: str) -> Model:
        """Return the model of that name.

        Raises:
            ManifestError: there is none.
        """
        for model in self.models:
            if model.name == name:
                return model
        known = ", ".join(model.name for model in self.models)
        raise ManifestError(f"{self.name}: no model {name!r}; its models are: {known}")


def read_experiment(path: Path) -> Experiment:
    """Parse a manifest.

    Raises:
        ManifestError: naming the file, the key and what was expected.
    """
    text = read_text(path, limit_bytes=MANIFEST_LIMIT_BYTES, error=ManifestError)
    try:
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as cause:  # a number of too many digits is a plain ValueError
        raise ManifestError(f"{path}: not valid TOML: {cause}") from cause
    experiment = decode(Experiment, data, place=str(path), error=ManifestError)
    # A copy that kept its name would write over the other's records.
    if experiment.name != path.stem:
        raise ManifestError(f"{path}: name is {experiment.name!r}, expected that of the file, {path.stem!r}")
    return experiment
