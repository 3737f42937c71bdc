"""Losses of Sentence Transformers by their own names: which arguments each takes, and what it is computed from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from harness.core.schema import MOST, Count, Frozen, Positive

LossName = Literal[
    "MultipleNegativesRankingLoss",
    "CachedMultipleNegativesRankingLoss",
    "TripletLoss",
    "CoSENTLoss",
    "AnglELoss",
    "CosineSimilarityLoss",
    "ContrastiveLoss",
    "OnlineContrastiveLoss",
    "MarginMSELoss",
    "GISTEmbedLoss",
    "CachedGISTEmbedLoss",
]
Direction = Literal["query_to_doc", "query_to_query", "doc_to_query", "doc_to_doc"]
# Names of the library's TripletDistanceMetric and SiameseDistanceMetric.
TripletMetric = Literal["COSINE", "EUCLIDEAN", "MANHATTAN"]
SiameseMetric = Literal["COSINE_DISTANCE", "EUCLIDEAN", "MANHATTAN"]
Strength = Annotated[float, Field(ge=0, le=MOST)]


@dataclass(frozen=True)
class LossKind:
    """What a loss needs.

    Attributes:
        required: arguments without which its values mean little; the library's defaults are not taken in silence.
        optional: arguments that are the library's default where they are left out.
        most_texts: how many columns of texts it takes; None for any number from ``least_texts`` on.
        least_texts: query, passage, and for some a negative.
        label: the column that it compares with, ``score`` (a number) or ``label`` (0 or 1).
        in_batch: whether the passages of a batch's other rows are its negatives.
        own_pass: whether it runs the model itself, so that its texts cannot be embedded in another way.
    """

    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    least_texts: int = 2
    most_texts: int | None = 2
    label: Literal["score", "label"] | None = None
    own_pass: bool = False
    in_batch: bool = False


_GUIDED = ("margin_strategy", "margin", "contrast_anchors", "contrast_positives")
_RANKING = ("directions", "partition_mode", "hardness_mode", "hardness_strength")

LOSSES: Mapping[LossName, LossKind] = {
    "MultipleNegativesRankingLoss": LossKind(("scale",), _RANKING, most_texts=None, in_batch=True),
    "CachedMultipleNegativesRankingLoss": LossKind(
        ("scale", "mini_batch_size"), _RANKING, most_texts=None, own_pass=True, in_batch=True
    ),
    "TripletLoss": LossKind(("distance_metric", "triplet_margin"), least_texts=3, most_texts=3),
    "CoSENTLoss": LossKind(("scale",), label="score"),
    "AnglELoss": LossKind(("scale",), label="score"),
    "CosineSimilarityLoss": LossKind(label="score"),
    "ContrastiveLoss": LossKind(("distance_metric", "margin"), ("size_average",), label="label"),
    "OnlineContrastiveLoss": LossKind(("distance_metric", "margin"), label="label"),
    "MarginMSELoss": LossKind(least_texts=3, most_texts=3, label="score"),
    "GISTEmbedLoss": LossKind(("guide", "temperature"), _GUIDED, most_texts=3, own_pass=True, in_batch=True),
    "CachedGISTEmbedLoss": LossKind(
        ("guide", "temperature", "mini_batch_size"), _GUIDED, most_texts=None, own_pass=True, in_batch=True
    ),
}


class Loss(Frozen):
    """A loss of Sentence Transformers by its own name, with its own arguments."""

    name: LossName
    scale: Positive | None = None
    directions: tuple[Direction, ...] | None = None
    partition_mode: Literal["joint", "per_direction"] | None = None
    hardness_mode: Literal["in_batch_negatives", "hard_negatives", "all_negatives"] | None = None
    hardness_strength: Strength | None = None
    mini_batch_size: Count | None = None
    distance_metric: TripletMetric | SiameseMetric | None = None
    triplet_margin: Strength | None = None
    margin: Strength | None = None
    size_average: bool | None = None
    guide: str | None = None
    temperature: Positive | None = None
    margin_strategy: Literal["absolute", "relative"] | None = None
    contrast_anchors: bool | None = None
    contrast_positives: bool | None = None

    @property
    def kind(self) -> LossKind:
        """What the loss needs."""
        return LOSSES[self.name]

    @property
    def arguments(self) -> dict[str, object]:
        """What the manifest says beside the name."""
        return self.model_dump(exclude={"name"}, exclude_none=True)

    @model_validator(mode="after")
    def _own_arguments(self) -> Self:
        kind, given = self.kind, self.arguments
        missing = [name for name in kind.required if name not in given]
        if missing:
            raise ValueError(f"{self.name} needs {', '.join(missing)}")
        foreign = [name for name in given if name not in (*kind.required, *kind.optional)]
        if foreign:
            known = ", ".join((*kind.required, *kind.optional)) or "none"
            raise ValueError(f"{self.name} has no argument {foreign[0]!r}; its arguments are: {known}")
        return self

    @model_validator(mode="after")
    def _values_that_the_library_takes(self) -> Self:
        directions = self.directions or ("query_to_doc",)
        if "query_to_doc" not in directions or len(set(directions)) != len(directions):
            raise ValueError("directions must name query_to_doc, which has the positive pair, and none twice")
        alike = sorted({"query_to_query", "doc_to_doc"} & set(directions))
        if self.partition_mode == "per_direction" and alike:
            raise ValueError(f"partition_mode 'per_direction' cannot have {alike[0]}, which holds no positive pair")
        if (self.hardness_mode is None) != (not self.hardness_strength):
            raise ValueError("hardness_mode and a hardness_strength above 0 go together")
        metrics = (
            ("COSINE", "EUCLIDEAN", "MANHATTAN")
            if self.name == "TripletLoss"
            else ("COSINE_DISTANCE", "EUCLIDEAN", "MANHATTAN")
        )
        if self.distance_metric is not None and self.distance_metric not in metrics:
            raise ValueError(f"distance_metric of {self.name} is one of {', '.join(metrics)}")
        return self
