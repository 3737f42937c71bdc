"""An experiment is what a manifest declares; here it is parsed strictly."""

from __future__ import annotations

import difflib
import re
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from harness.core.schema import Frozen, Line, Positive, Prose, decode, digest_json, read_text
from harness.core.toml import parse_toml
from harness.errors import ManifestError
from harness.experiment.claims import BASELINE, Claims, Published, Threshold, Verdicts
from harness.experiment.comparisons import Comparison, Forgetting
from harness.experiment.data import Data, PartName, check_name, refuse_repeats
from harness.experiment.evaluation import Evaluation, TestSet, parse_test_set
from harness.experiment.model import Model
from harness.experiment.recipe import Recipe, merge_bases
from harness.experiment.stack import Stack
from harness.experiment.upgrade import upgrade_experiment

MANIFEST_LIMIT_BYTES = 1_000_000
# A manifest without any of them is none; a project's other TOML files have none of them.
OWN_TABLES = frozenset({"data", "evaluation", "models", "recipes"})
SEED_LIMIT = 2**32  # NumPy takes no larger one
Seed = Annotated[int, Field(ge=0, lt=SEED_LIMIT)]

# No dot, so that MODEL.VARIANT is the stem of one trial's files only.
VARIANT = r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}"
Variant = Annotated[str, Field(pattern=f"^{VARIANT}$")]
"""A recipe's name, or ``baseline`` for the untrained model."""

# As torch.cuda.get_device_name() prints them: a price under another name may never be found.
KNOWN_GPUS = (
    "NVIDIA A10", "NVIDIA A10G", "NVIDIA A100-PCIE-40GB", "NVIDIA A100-SXM4-40GB", "NVIDIA A100-SXM4-80GB",
    "NVIDIA A100 80GB PCIe", "NVIDIA B200", "NVIDIA GH200 480GB", "NVIDIA H100 80GB HBM3", "NVIDIA H100 PCIe",
    "NVIDIA H200", "NVIDIA L4", "NVIDIA L40S", "NVIDIA GeForce RTX 3090", "NVIDIA GeForce RTX 4090",
    "NVIDIA GeForce RTX 5090", "NVIDIA RTX A6000", "Tesla T4", "Tesla V100-SXM2-16GB", "Tesla V100-SXM2-32GB",
)  # fmt: skip

# Of what lies beside the experiments' pages in a results folder: other pages and folders, and the pages of stacks.
TAKEN_NAMES = frozenset(
    {
        "readme", "speed", "calibration", "faults", "sha256sums",
        "pictures", "records", "reference", "runs", "stacks", "on-ray",
    }
)  # fmt: skip
STACK_PAGE = re.compile(r".*-stack(?:-.*)?", re.IGNORECASE)


class Experiment(Frozen):
    """A whole manifest; ``attribution`` says whose texts reports may quote, and under which licence."""

    schema_version: Literal[2]
    name: str
    title: Line
    summary: Prose
    attribution: Prose | None = None
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)]
    data: Annotated[dict[str, Data], Field(min_length=1)]
    models: Annotated[tuple[Model, ...], Field(min_length=1)]
    recipes: dict[str, Recipe] = Field(default_factory=dict)
    evaluation: Evaluation
    verdicts: Verdicts
    published: Published | None = None
    thresholds: tuple[Threshold, ...] = ()
    claims: tuple[Claims, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    forgetting: tuple[Forgetting, ...] = ()
    prices_usd_per_hour: dict[Line, Positive] = Field(default_factory=dict)
    # Where else a recipe can be run says nothing of what is declared here: neither records nor digests hold it.
    stacks: dict[str, Stack] = Field(default_factory=dict, exclude=True)

    @field_validator("name")
    @classmethod
    def _plain(cls, name: str) -> str:
        return check_name(name)

    @field_validator("seeds")
    @classmethod
    def _distinct_seeds(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        refuse_repeats(seeds, "seed")
        return seeds

    @field_validator("data", "stacks")
    @classmethod
    def _plain_names(cls, named: dict[str, Any]) -> dict[str, Any]:
        for name in named:
            check_name(name)
        return named

    @field_validator("recipes")
    @classmethod
    def _plain_recipes(cls, recipes: dict[str, Recipe]) -> dict[str, Recipe]:
        for name in recipes:
            if not re.fullmatch(VARIANT, name) or name == BASELINE:
                raise ValueError(
                    f"{name!r} cannot be a recipe's name: letters, digits, '_' and '-' only, and not {BASELINE!r}"
                )
        return recipes

    @model_validator(mode="after")
    def _parts_that_are_there(self) -> Self:
        refuse_repeats([model.name for model in self.models], "model")
        for test_set in self.evaluation.test_sets:
            self._check_part(test_set.data, test_set.part, "evaluation.on")
        for name, recipe in self.recipes.items():
            self._check_part(recipe.data, "train", f"recipes.{name}.data")
            self._check_inputs(name, recipe)
            self._check_select(name, recipe)
        for model in self.models:
            unknown = [name for name in model.recipes if name not in self.recipes]
            if unknown:
                raise ValueError(f"model {model.name!r}: recipe {unknown[0]!r} is not among {list(self.recipes)}")
            for recipe_name in model.recipes:
                self._check_helpers(recipe_name)
        return self

    @model_validator(mode="after")
    def _cells_that_are_measured(self) -> Self:
        for threshold in self.thresholds:
            self._check_cell(threshold, [threshold.measure])
        for claims in self.claims:
            self._check_cell(claims, claims.values)
        for comparison in self.comparisons:
            for name, variant in comparison.cells:
                self._check_variant(name, variant)
        refuse_repeats([" and ".join(sorted(map("/".join, item.cells))) for item in self.comparisons], "comparison")
        for forgetting in self.forgetting:
            self._check_on(forgetting.on)
        refuse_repeats([forgetting.on for forgetting in self.forgetting], "test set of forgetting")
        if self.claims and self.published is None:
            raise ValueError("claims need a [published] table that says where they come from")
        return self

    def _check_part(self, data: str, part: PartName, place: str) -> None:
        if data not in self.data:
            raise ValueError(f"{place}: data set {data!r} is not among {list(self.data)}")
        if part not in self.data[data].part_names:
            raise ValueError(f"{place}: data set {data!r} has no part {part!r}")

    def _check_inputs(self, name: str, recipe: Recipe) -> None:
        there = self.data[recipe.data].list_inputs()
        if recipe.negatives is not None:
            if "negative" in there:
                raise ValueError(f"recipes.{name}.negatives: data set {recipe.data!r} has negatives of its own")
            there = (*there, "negative")
        lacking = [one for one in recipe.inputs if one.partition("_")[0] not in there]
        if lacking:
            raise ValueError(
                f"recipes.{name}.inputs: {lacking[0]!r} is not in data set {recipe.data!r}; it has {', '.join(there)}"
            )

    def _check_select(self, name: str, recipe: Recipe) -> None:
        if recipe.select is None:
            return
        place, on = f"recipes.{name}.select", recipe.select.on
        chosen = parse_test_set(on)
        self._check_part(chosen.data, chosen.part, f"{place}.on")
        if chosen.part != "dev" or on == self.evaluation.on[0]:
            raise ValueError(f"{place}.on: {on!r}; expected a part dev that is not the primary test set")
        if recipe.select.measure not in self.evaluation.measures:
            raise ValueError(f"{place}.measure: {recipe.select.measure!r} is not among the evaluation's measures")

    def _check_helpers(self, name: str) -> None:
        dense = {model.name for model in self.models if model.kind == "dense"}
        for key, helper in self.recipes[name].helpers.items():
            if helper not in dense:
                raise ValueError(f"recipes.{name}.{key}: {helper!r} is no embedding model of this manifest")

    def _check_cell(self, cell: Threshold | Claims, measures: Iterable[str]) -> None:
        model = self._check_variant(cell.model, cell.variant)
        if cell.on is not None:
            self._check_on(cell.on)
        if cell.dim is not None and cell.dim not in model.truncate_dims:
            raise ValueError(f"model {cell.model!r}: dim {cell.dim} is not among its truncate_dims")
        for measure in measures:
            if measure not in self.evaluation.measures:
                raise ValueError(f"measure {measure!r} is not among the evaluation's measures")

    def _check_variant(self, name: str, variant: str) -> Model:
        model = next((model for model in self.models if model.name == name), None)
        if model is None:
            raise ValueError(f"model {name!r} is not among the models {[model.name for model in self.models]}")
        if variant not in (BASELINE, *model.recipes):
            trained = ", ".join(model.recipes) or "none"
            raise ValueError(f"model {name!r} is not trained by {variant!r} here; its recipes are: {trained}")
        return model

    def _check_on(self, on: str) -> None:
        if on not in self.evaluation.on:
            raise ValueError(f"test set {on!r} is not among those of evaluation.on, {list(self.evaluation.on)}")

    @property
    def digest(self) -> str:
        """SHA-256 of everything the manifest says; a key that a later harness knows and nobody sets changes nothing."""
        said = self.model_dump(mode="json", exclude_defaults=True)
        return digest_json(said)

    @property
    def primary_set(self) -> TestSet:
        """The test set that the primary measure decides on."""
        return self.evaluation.test_sets[0]

    @property
    def data_read(self) -> tuple[str, ...]:
        """The data sets that are evaluated on, trained on or selected by, the primary test set's first."""
        evaluated = [test_set.data for test_set in self.evaluation.test_sets]
        recipes = self.recipes.values()
        selected = [parse_test_set(recipe.select.on).data for recipe in recipes if recipe.select is not None]
        return tuple(dict.fromkeys((*evaluated, *(recipe.data for recipe in recipes), *selected)))

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


def parse_experiment(data: Mapping[str, Any], *, place: str) -> Experiment:
    """Build an experiment from a manifest's plain data: of either version, with the recipes' bases worked in.

    Raises:
        ManifestError: naming the place, the key and what was expected.
    """
    if type(data.get("schema_version")) is int and data["schema_version"] == 1:
        data = upgrade_experiment(data)
    if isinstance(data.get("recipes"), Mapping):
        data = {**data, "recipes": merge_bases(data["recipes"], place=place)}
    return decode(Experiment, data, place=place, error=ManifestError)


def list_manifests(folder: Path) -> list[Path]:
    """List the manifests in a folder by name: of its TOML files those with a table of ours, and those that are broken.

    Raises:
        ManifestError: there is no such folder.
    """
    if not folder.is_dir():
        raise ManifestError(f"{folder}: no such folder of manifests")
    return [path for path in sorted(folder.glob("*.toml")) if _may_be_manifest(path)]


def _may_be_manifest(path: Path) -> bool:
    try:
        text = read_text(path, limit_bytes=MANIFEST_LIMIT_BYTES, error=ManifestError)
        return not OWN_TABLES.isdisjoint(parse_toml(text, place=str(path), error=ManifestError))
    except ManifestError:
        return True


def read_experiment(path: Path) -> Experiment:
    """Parse a manifest.

    Raises:
        ManifestError: naming the file, the key and what was expected.
    """
    text = read_text(path, limit_bytes=MANIFEST_LIMIT_BYTES, error=ManifestError)
    data = parse_toml(text, place=str(path), error=ManifestError)
    experiment = parse_experiment(data, place=str(path))
    if Path(experiment.name).stem.lower() in TAKEN_NAMES or STACK_PAGE.fullmatch(experiment.name):
        raise ManifestError(
            f"{path}: name is {experiment.name!r}, which another page or folder in results has or could have; "
            "choose another"
        )
    # A copy that kept its name would write over the other's records.
    if experiment.name != path.stem:
        raise ManifestError(f"{path}: name is {experiment.name!r}, expected that of the file, {path.stem!r}")
    for gpu in experiment.prices_usd_per_hour:
        if gpu not in KNOWN_GPUS:
            near = difflib.get_close_matches(gpu, KNOWN_GPUS, n=1, cutoff=0)[0]
            warnings.warn(
                f"{path}: prices_usd_per_hour: no GPU called {gpu!r} was seen yet, the nearest is {near!r}; a price is "
                "found by the exact name that torch.cuda.get_device_name() gives",
                stacklevel=2,
            )
    return experiment
