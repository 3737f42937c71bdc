"""A model under evaluation: an encoder with how it is asked, BM25, or the ranked lists of anything else."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import field_validator, model_validator

from harness.core.schema import Count, Frozen
from harness.experiment.data import Source, check_name, refuse_repeats

Similarity = Literal["cosine", "dot", "euclidean", "manhattan"]


class Prompts(Frozen):
    """What is put before texts, by their role, in evaluation and in training."""

    query: str
    passage: str


class Model(Frozen):
    """A model; ``recipes`` names those it is trained with, each beside its untrained baseline.

    Prompts, similarity, ``max_seq_length`` and ``truncate_dims`` (each of which is evaluated) are the model's own where
    the manifest says nothing. A similarity that is not the model's own needs ``similarity_override``.
    """

    name: str
    kind: Literal["dense", "bm25", "run"] = "dense"
    source: Source | None = None
    recipes: tuple[str, ...] = ()
    prompts: Prompts | None = None
    similarity: Similarity | None = None
    similarity_override: bool = False
    max_seq_length: Count | None = None
    truncate_dims: tuple[Count, ...] = ()

    @field_validator("name")
    @classmethod
    def _plain(cls, name: str) -> str:
        return check_name(name)

    @field_validator("recipes")
    @classmethod
    def _distinct_recipes(cls, recipes: tuple[str, ...]) -> tuple[str, ...]:
        refuse_repeats(recipes, "recipe")
        return recipes

    @field_validator("truncate_dims")
    @classmethod
    def _distinct_dims(cls, dims: tuple[int, ...]) -> tuple[int, ...]:
        refuse_repeats(dims, "dimension")
        return dims

    @model_validator(mode="after")
    def _of_its_kind(self) -> Self:
        if self.kind != "bm25" and self.source is None:
            raise ValueError(f"a model of kind {self.kind!r} needs a source")
        if self.kind != "dense":
            # What would be passed over in silence was meant to have an effect.
            encoding = ("recipes", "prompts", "similarity", "similarity_override", "max_seq_length", "truncate_dims")
            unused = [key for key in (*encoding, *(("source",) if self.kind == "bm25" else ())) if getattr(self, key)]
            if unused:
                raise ValueError(f"a model of kind {self.kind!r} has no use for {', '.join(unused)}")
        if self.similarity_override and self.similarity is None:
            raise ValueError("similarity_override needs the similarity to take instead of the model's own")
        return self
