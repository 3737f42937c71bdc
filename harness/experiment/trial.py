"""A trial is one case of an experiment; this module names trials and chooses among them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Self

from pydantic import Field, model_validator

from harness.core.schema import Frozen
from harness.errors import ManifestError
from harness.experiment.claims import BASELINE
from harness.experiment.data import NAME
from harness.experiment.manifest import SEED_LIMIT, Experiment, Seed, Variant

# Both names become parts of paths, also where a record is a stranger's.
PlainName = Annotated[str, Field(pattern=f"^{NAME.pattern}$")]


class Trial(Frozen):
    """One case: experiment, model, variant (a recipe or the baseline) and, where something was trained, the seed."""

    experiment: PlainName
    model: PlainName
    variant: Variant
    seed: Seed | None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.seed is None) != (self.variant == BASELINE):
            raise ValueError(f"seed is {self.seed} of {self.variant!r}: what is trained has one, a baseline none")
        return self

    @property
    def id(self) -> str:
        """The readable name, as in ``bioasq/all-mpnet-base-v2/finetuned/seed0``; pytest's ``-k`` takes no ``=``."""
        parts = [self.experiment, self.model, self.variant]
        return "/".join(parts if self.seed is None else [*parts, f"seed{self.seed}"])

    @property
    def stem(self) -> str:
        """The name of the trial's files, without folder or ending."""
        stem = f"{self.model}.{self.variant}"
        return stem if self.seed is None else f"{stem}.seed={self.seed}"


@dataclass(frozen=True)
class Pair:
    """A model with one of its recipes, or with none: what is set before beside what came after.

    ``label`` is the model's name, with the recipe's behind it where it has several.
    """

    model: str
    recipe: str | None
    label: str

    @property
    def variants(self) -> tuple[Variant, ...]:
        """The untrained model, and the trained one where there is a recipe."""
        return (BASELINE,) if self.recipe is None else (BASELINE, self.recipe)

    @property
    def slug(self) -> str:
        """The label as part of a file's name."""
        return self.label.replace("/", ".")


def list_pairs(experiment: Experiment) -> tuple[Pair, ...]:
    """List every model with each of its recipes, or alone where it has none."""
    return tuple(
        Pair(model.name, recipe, label_variant(experiment, model.name, recipe or BASELINE))
        for model in experiment.models
        for recipe in model.recipes or (None,)
    )


def label_variant(experiment: Experiment, model: str, variant: Variant) -> str:
    """Name a model, with the recipe behind it where it has several."""
    recipes = experiment.model(model).recipes
    return f"{model}/{variant}" if variant != BASELINE and len(recipes) > 1 else model


def narrow(
    experiment: Experiment, *, models: Sequence[str] | None = None, seeds: Sequence[int] | None = None
) -> Experiment:
    """Keep only some models (by name) and take other seeds.

    Thresholds, claims and comparisons of models left out go with them.

    Raises:
        ManifestError: no models or one twice, a model that the manifest does not have, or seeds that are not one or
            more different numbers from 0 to 2**32 - 1.
    """
    kept = experiment.models if models is None else tuple(experiment.model(name) for name in models)
    names = {model.name for model in kept}
    if not kept or len(names) != len(kept):
        known = ", ".join(model.name for model in experiment.models)
        asked = [model.name for model in kept]
        raise ManifestError(f"{experiment.name}: models must be one or more different ones of {known}; found {asked}")
    if seeds is not None and (
        not seeds or len(set(seeds)) != len(seeds) or not all(0 <= seed < SEED_LIMIT for seed in seeds)
    ):
        raise ManifestError(
            f"{experiment.name}: seeds must be one or more different numbers from 0 to {SEED_LIMIT - 1}, "
            f"found {list(seeds)}"
        )
    return experiment.replace(
        models=kept,
        seeds=experiment.seeds if seeds is None else tuple(seeds),
        thresholds=tuple(item for item in experiment.thresholds if item.model in names),
        claims=tuple(item for item in experiment.claims if item.model in names),
        comparisons=tuple(item for item in experiment.comparisons if {model for model, _ in item.cells} <= names),
        # No trial runs in one, and no record says that it did.
        stacks={},
    )


def list_trials(experiment: Experiment) -> Iterator[Trial]:
    """Spell out the trials: per model its baseline, then one per recipe and seed."""
    for model in experiment.models:
        yield Trial(experiment=experiment.name, model=model.name, variant=BASELINE, seed=None)
        for recipe in model.recipes:
            for seed in experiment.seeds:
                yield Trial(experiment=experiment.name, model=model.name, variant=recipe, seed=seed)
