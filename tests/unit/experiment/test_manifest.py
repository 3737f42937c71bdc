"""A manifest says what is run; every line of it that cannot be meant is refused with file, key and expectation."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from harness.errors import ManifestError
from harness.experiment.manifest import Experiment, read_experiment
from tests.support.manifests import REMOVED, TINY, change, parse

MANIFESTS = Path(__file__).parents[3] / "benchmarks" / "experiments"
NAMES = sorted(path.stem for path in MANIFESTS.glob("*.toml"))
HUB = {"kind": "hub", "repository": "a/b", "revision": "0" * 40}
FOLDER = {"kind": "folder", "path": "runs"}
DEV, TEST = ({"on": f"tiny/{part}", "measure": "mrr@10"} for part in ("dev", "test"))
SELECTING = tomllib.loads(TINY)["recipes"]["finetuned"]
SELECTING = {**SELECTING, "arguments": {**SELECTING["arguments"], "eval_steps": 2}}
SELECTION = {"salt": "s", "train_rows": 20, "test_rows": 8}
HARD = {"model": "other", "num_negatives": 1, "range_min": 0, "range_max": 5}
MINED = {
    **tomllib.loads(TINY)["recipes"]["finetuned"], "inputs": ["query", "passage", "negative"], "negatives": HARD,
}  # fmt: skip
GUIDED = {
    "negatives": None,
    "inputs": ["query", "passage"],
    "loss": {"name": "GISTEmbedLoss", "guide": "none", "temperature": 1.0},
}
MARGIN = {"loss": {"name": "MarginMSELoss"}, "inputs": ["query", "passage", "negative", "score"]}
WHEELS = {"kind": "wheels", "packages": ["a==1"], "path": "a"}


@pytest.mark.parametrize("name", NAMES)
def test_a_committed_manifest_is_valid_and_named_like_its_file(name: str) -> None:
    assert read_experiment(MANIFESTS / f"{name}.toml").name == name


def test_the_published_experiment_declares_what_was_published() -> None:
    experiment = read_experiment(MANIFESTS / "bioasq.toml")
    assert experiment.seeds == (0, 1, 2, 3, 4)
    assert [(model.name, model.recipes) for model in experiment.models] == [
        ("all-mpnet-base-v2", ("finetuned",)),
        ("bge-base-en-v1.5", ()),
    ]
    recipe = experiment.recipes["finetuned"]
    chosen = recipe.arguments
    assert (recipe.inputs, chosen.per_device_train_batch_size, chosen.learning_rate) == (("passage", "query"), 32, 2e-5)
    assert (chosen.num_train_epochs, chosen.warmup_ratio, recipe.precision.cuda) == (1, 0.1, "fp16")
    assert len(experiment.evaluation.measures) == 15
    assert [(item.measure, item.above) for item in experiment.thresholds] == [("mrr@10", 0.88)]
    assert experiment.prices_usd_per_hour["NVIDIA A10G"] == 1.1


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        # Unknown and misspelt keys, and types.
        ("learning_rte", 1, "unknown key 'learning_rte'; did you mean 'learning_rate'"),
        (
            "recipes.finetuned.arguments.num_train_epoch",
            1,
            "unknown key 'recipes.finetuned.arguments.num_train_epoch'; did you mean 'num_train_epochs'",
        ),
        ("data.tiny.columns.ids", "x", "unknown key 'data.tiny.columns.ids'; did you mean 'id'"),
        ("data.tiny.source.revision", "main", "unknown key 'data.tiny.source.folder.revision'"),
        ("seeds", REMOVED, "key 'seeds' is missing"),
        (
            "recipes.finetuned.arguments.per_device_train_batch_size",
            "32",
            "recipes.finetuned.arguments.per_device_train_batch_size: found '32'",
        ),
        (
            "recipes.finetuned.arguments.per_device_train_batch_size",
            32.5,
            "recipes.finetuned.arguments.per_device_train_batch_size: found 32.5",
        ),
        (
            "recipes.finetuned.arguments.per_device_train_batch_size",
            True,
            "recipes.finetuned.arguments.per_device_train_batch_size: found True",
        ),
        ("recipes.finetuned.arguments.num_train_epochs", 0, "recipes.finetuned.arguments.num_train_epochs: found 0"),
        ("recipes.finetuned.arguments.learning_rate", 0, "recipes.finetuned.arguments.learning_rate: found 0"),
        (
            "recipes.finetuned.arguments.learning_rate",
            float("inf"),
            "recipes.finetuned.arguments.learning_rate: found inf",
        ),
        ("recipes.finetuned.arguments.warmup_ratio", 1.5, "recipes.finetuned.arguments.warmup_ratio: found 1.5"),
        ("models.0.similarity_override", "yes", "models[0].similarity_override: found 'yes'"),
        ("schema_version", 3, "schema_version: found 3"),
        # What is known of losses, measures, GPUs and precisions.
        ("recipes.finetuned.loss.name", "CosineLoss", "loss.name: found 'CosineLoss': expected 'MultipleNegatives"),
        ("data.tiny.source.kind", "s3", "expected the kind 'hub', 'wheels', 'folder'"),
        ("evaluation.measures", ["mrr@10", "mmr@10"], "unknown measure 'mmr@10', expected one of accuracy@K"),
        ("evaluation.measures", ["mrr@10", "mrr"], "unknown measure 'mrr'"),
        ("evaluation.measures", ["mrr@10", "mrr@0"], "unknown measure 'mrr@0'"),
        ("evaluation.measures", ["mrr@10", "mrr@10"], "measure 'mrr@10' is listed twice"),
        ("evaluation.measures", [], "evaluation.measures: found []"),
        ("evaluation.primary", "ndcg@10", "the primary measure 'ndcg@10' must be one of the measures"),
        ("evaluation.top_k", 50, "'map@100' needs more passages than top_k = 50"),
        ("prices_usd_per_hour|NVIDIA A10G", -1, "found -1"),
        (
            "recipes.finetuned.precision",
            {"cuda": "fp8", "cpu": "fp32"},
            "recipes.finetuned.precision.cuda: found 'fp8'",
        ),
        (
            "recipes.finetuned.precision",
            {"cuda": "fp16", "cpu": "fp16"},
            "recipes.finetuned.precision.cpu: found 'fp16'",
        ),
        ("recipes.finetuned.inputs", ["query", "query"], "inputs must name 'query' and 'passage', each once"),
        # Names, which become file names.
        ("name", "../up", "a name has letters, digits"),
        ("name", "", "a name has letters, digits"),
        ("models.0.name", "a b", "a name has letters, digits"),
        ("models.1.name", "small", "model 'small' is listed twice"),
        ("seeds", [], "seeds: found []"),
        ("seeds", [1, 1], "seed 1 is listed twice"),
        ("seeds", [-1], "seeds[0]: found -1"),
        ("seeds", [2**32], "seeds[0]: found 4294967296"),
        # Sources.
        ("data.tiny.source", {**HUB, "revision": "main"}, "a revision must be a full commit hash (40 hex digits)"),
        ("data.tiny.source", {**HUB, "repository": "none"}, "found 'none'"),
        ("data.tiny.source", {"kind": "ftp"}, "data.tiny.source"),
        ("data.tiny.source", {**WHEELS, "packages": ["a>=1"]}, "'a>=1' must read NAME==VERSION"),
        ("data.tiny.source", {**WHEELS, "packages": ["--index-url==x"]}, "'--index-url==x' must read NAME==VERSION"),
        ("data.tiny.source", {**WHEELS, "packages": ["a==1", "a==1"]}, "package 'a==1' is listed twice"),
        ("data.tiny.source", {"kind": "folder", "path": ""}, "found ''"),
        # Contradictions.
        ("data.tiny.columns", REMOVED, "format 'table' needs columns"),
        ("data.tiny.splits", REMOVED, "a table needs either splits"),
        ("data.tiny.parts", {"train": 0.5, "test": 0.5, "salt": "1"}, "a table needs either splits"),
        ("data.tiny.splits", {}, "there is no part: name train, dev or test"),
        ("data.tiny.splits", {"test": "test"}, "expect says train_rows, but there is no part 'train'"),
        ("data.tiny.columns.passage", "question", "query and passage are one column, 'question'"),
        ("data.tiny.columns.query_id", "id", "id names a row's query and passage already"),
        ("data.tiny.selection", SELECTION, "format 'table' has no use for selection"),
        ("data.tiny.format", "obo", "format 'obo' needs selection"),
        ("data.tiny.format", "beir", "format 'beir' has no use for splits, columns"),
        ("data", {}, "data: found {}"),
        # Recipes and models.
        ("recipes.finetuned.data", "huge", "recipes.finetuned.data: data set 'huge' is not among ['tiny']"),
        ("recipes.finetuned.lora", {"r": 16}, "key 'recipes.finetuned.lora.lora_alpha' is missing"),
        ("recipes.finetuned.negatives", HARD, "negatives: num_negatives is 1, the inputs have 0"),
        ("recipes.finetuned", {**MINED, "inputs": ["query", "passage"]}, "num_negatives is 1, the inputs have 0"),
        (
            "recipes.finetuned",
            {**MINED, "negatives": {**HARD, "model": "none"}},
            "'none' is no embedding model of this",
        ),
        (
            "recipes.finetuned",
            {**MINED, "negatives": {**HARD, "range_min": 5}},
            "leave 0 candidates, expected at least",
        ),
        ("recipes.finetuned", {**MINED, **GUIDED}, "loss.guide: 'none' is no embedding model of"),
        ("recipes.finetuned.matryoshka", {"dims": [8, 8]}, "dimension 8 is listed twice"),
        ("recipes.finetuned.matryoshka", {"dims": [8], "weights": [1.0, 2.0]}, "weights are 2, dims 1"),
        ("recipes.finetuned", {**MINED, **MARGIN}, "mined rows have no score, which MarginMSELoss compares with"),
        ("recipes.finetuned.select", DEV, "select needs arguments.eval_steps"),
        (
            "recipes.finetuned",
            {**SELECTING, "select": TEST},
            "'tiny/test'; expected a part dev that is not the primary",
        ),
        (
            "recipes.finetuned",
            {**SELECTING, "select": DEV},
            "recipes.finetuned.select.on: data set 'tiny' has no part 'dev'",
        ),
        ("recipes.finetuned.arguments.warmup_steps", 3, "warmup_ratio and warmup_steps are both given"),
        ("recipes.b", {"base": "finetund"}, "recipes.b.base: found 'finetund', expected another recipe: 'finetuned'"),
        ("recipes|a.b", {"base": "finetuned"}, "'a.b' cannot be a recipe's name"),
        ("recipes.baseline", {"base": "finetuned"}, "'baseline' cannot be a recipe's name"),
        ("models.0.recipes", ["plain"], "model 'small': recipe 'plain' is not among ['finetuned']"),
        ("models.0.recipes", ["finetuned", "finetuned"], "recipe 'finetuned' is listed twice"),
        ("models.1.source", REMOVED, "a model of kind 'dense' needs a source"),
        ("models.1.kind", "bm25", "a model of kind 'bm25' has no use for source"),
        ("models", [{"name": "b", "kind": "run", "source": FOLDER, "max_seq_length": 9}], "no use for max_seq_length"),
        ("models.1.similarity_override", True, "similarity_override needs the similarity"),
        ("models.1.truncate_dims", [64, 64], "dimension 64 is listed twice"),
        # Test sets.
        ("evaluation.on", ["tiny"], "a test set is DATA/PART with a part of train, dev, test; found 'tiny'"),
        ("evaluation.on", ["tiny/dev"], "evaluation.on: data set 'tiny' has no part 'dev'"),
        ("evaluation.on", ["huge/test"], "evaluation.on: data set 'huge' is not among ['tiny']"),
        ("evaluation.on", ["tiny/test", "tiny/test"], "test set 'tiny/test' is listed twice"),
        ("thresholds.0.on", "tiny/train", "test set 'tiny/train' is not among those of evaluation.on"),
        ("thresholds.0.dim", 64, "model 'small': dim 64 is not among its truncate_dims"),
        ("comparisons", [{"a": "small/finetuned", "b": "small/finetuned"}], "there is nothing to compare"),
        ("comparisons", [{"a": "small", "b": "small/baseline"}], "there is nothing to compare"),
        (
            "comparisons",
            [{"a": "small", "b": "other"}, {"a": "other", "b": "small"}],
            "comparison 'other/baseline and small/baseline' is listed twice",
        ),
        ("comparisons", [{"a": "small", "b": "other", "above": 1.5}], "comparisons[0].above: found 1.5"),
        (
            "forgetting",
            [{"on": "tiny/test", "max_drop": 0.1}] * 2,
            "test set of forgetting 'tiny/test' is listed twice",
        ),
        ("comparisons", [{"a": "small/finetuned", "b": "small/plain"}], "model 'small' is not trained by 'plain' here"),
        (
            "forgetting",
            [{"on": "tiny/dev", "max_drop": 0.01}],
            "test set 'tiny/dev' is not among those of evaluation.on",
        ),
        ("thresholds.0.model", "unknown", "model 'unknown' is not among the models ['small', 'other']"),
        ("thresholds.0.model", "other", "model 'other' is not trained by 'finetuned' here; its recipes are: none"),
        (
            "thresholds.0.above",
            88.5,
            "thresholds[0].above: found 88.5: expected 0 to 1, as measures are; did you mean 0.885",
        ),
        ("thresholds.0.above", -0.1, "thresholds[0].above: found -0.1: expected 0 to 1"),
        ("verdicts.margin", 1.5, "verdicts.margin: found 1.5: expected 0 to 1, as measures are; did you mean 0.015?"),
        ("verdicts.margin", 0.0, "verdicts.margin: found 0.0: expected greater than 0"),
        ("forgetting", [{"on": "tiny/test", "max_drop": 2}], "forgetting[0].max_drop: found 2: expected 0 to 1"),
        ("claims.0.values", {"mrr@10": "89.19"}, "mrr@10: 89.19 lies outside 0..1; did you mean 0.8919?"),
        ("thresholds.0.measure", "ndcg@10", "measure 'ndcg@10' is not among the evaluation's measures"),
        ("claims.0.values", {"mrr@10": "0,89"}, "mrr@10: '0,89' is not a printed number"),
        ("claims.0.values", {"mrr@10": "NaN"}, "mrr@10: 'NaN' is not finite"),
        ("claims.0.values", {"mrr@10": 0.89}, "claims[0].values.mrr@10: found 0.89"),
        ("published", REMOVED, "claims need a [published] table"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_meant_is_refused(path: str, value: Any, said: str) -> None:
    with pytest.raises(ManifestError) as caught:
        parse(change(path, value))
    assert str(caught.value).startswith("tiny.toml: ")
    assert said in str(caught.value)


def test_a_misspelt_key_is_told_before_the_one_that_is_missing_for_it(tmp_path: Path) -> None:
    path = tmp_path / "tiny.toml"
    path.write_text(TINY.replace("learning_rate = 1e-3", "learning_raet = 1e-3"), encoding="utf-8")
    with pytest.raises(ManifestError) as caught:
        read_experiment(path)
    assert str(caught.value).splitlines() == [
        f"{path}: unknown key 'recipes.finetuned.arguments.learning_raet'; did you mean 'learning_rate'?",
        f"{path}: key 'recipes.finetuned.arguments.learning_rate' is missing",
    ]


def test_a_selection_and_the_numbers_of_rows_must_agree() -> None:
    data = change("data.tiny", {"format": "obo", "source": WHEELS, "expect": {"train_rows": 20}})
    data["data"]["tiny"]["selection"] = {**SELECTION, "train_rows": 21}
    with pytest.raises(ManifestError, match="the selection takes 21 rows for train, while expect says 20"):
        parse(data)
    data["data"]["tiny"]["selection"]["train_rows"] = 20
    assert parse(data).data["tiny"].expected_rows("test") == 8


@pytest.mark.parametrize(
    ("key", "value"), [("columns", {"query": "q", "passage": "p"}), ("config", "c"), ("splits", {"test": "test"})]
)
def test_an_ontology_has_no_use_for_what_a_table_needs(key: str, value: Any) -> None:
    data = change("data.tiny", {"format": "obo", "source": WHEELS, "selection": SELECTION, key: value})
    with pytest.raises(ManifestError, match=f"format 'obo' has no use for {key}"):
        parse(data)


def test_a_recipe_says_what_differs_from_its_base() -> None:
    """Arguments merge key by key, every other key is replaced."""
    data = change("recipes.longer", {"base": "finetuned", "inputs": ["query", "passage"]})
    data["recipes"]["longer"]["arguments"] = {"num_train_epochs": 3}
    plain, longer = parse(data).recipes.values()
    assert longer == plain.replace(
        base="finetuned", inputs=("query", "passage"), arguments=plain.arguments.replace(num_train_epochs=3)
    )


def test_a_base_that_has_a_base_is_refused() -> None:
    data = change("recipes.second", {"base": "finetuned"})
    data["recipes"]["third"] = {"base": "second"}
    with pytest.raises(ManifestError, match=r"recipes\.third\.base: 'second' has a base itself"):
        parse(data)


def test_a_file_that_is_no_toml_is_named_with_the_line(tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_text('name = "a"\nseeds = [0,\n', encoding="utf-8")
    with pytest.raises(
        ManifestError, match=r"broken\.toml: not valid TOML: .*line 2|broken\.toml: not valid TOML: .*end"
    ):
        read_experiment(path)


def test_a_key_given_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "twice.toml"
    path.write_text(TINY.replace("seeds = [0, 1]", "seeds = [0]\nseeds = [1]"), encoding="utf-8")
    with pytest.raises(ManifestError, match=r"twice\.toml: not valid TOML: Cannot overwrite a value \(at line 7"):
        read_experiment(path)


def test_a_price_of_a_gpu_that_was_never_seen_is_taken_with_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "tiny.toml"
    path.write_text(TINY.replace("NVIDIA A10G", "NVIDIA GeForce RTX 4090 Ti"), encoding="utf-8")
    with pytest.warns(
        UserWarning,
        match=r"no GPU called 'NVIDIA GeForce RTX 4090 Ti' was seen yet, the nearest is 'NVIDIA GeForce RTX 4090'",
    ):
        experiment = read_experiment(path)
    assert experiment.prices_usd_per_hour == {"NVIDIA GeForce RTX 4090 Ti": 1.1}


def test_an_absent_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"absent\.toml: cannot be read: No such file"):
        read_experiment(tmp_path / "absent.toml")


def test_a_name_that_is_not_the_files_is_refused_naming_both(tmp_path: Path) -> None:
    path = tmp_path / "copy.toml"
    path.write_text(TINY, encoding="utf-8")
    with pytest.raises(ManifestError, match=r"copy\.toml: name is 'tiny', expected that of the file, 'copy'"):
        read_experiment(path)


def test_the_digest_tells_experiments_apart_by_what_they_say_only(tmp_path: Path) -> None:
    path = tmp_path / "tiny.toml"
    path.write_text(f"# a comment\n{TINY}", encoding="utf-8")
    assert read_experiment(path).digest == parse().digest
    assert parse(change("recipes.finetuned.loss.scale", 20.5)).digest != parse().digest


def test_a_model_is_found_by_its_name_and_an_unknown_one_answered_with_the_known() -> None:
    experiment: Experiment = parse()
    assert experiment.model("other").recipes == ()
    with pytest.raises(ManifestError, match="tiny: no model 'othr'; its models are: small, other"):
        experiment.model("othr")


@pytest.mark.parametrize("path", ["title", "published.title", "published.not_comparable", "claims.0.source"])
@pytest.mark.parametrize("end", ["\n::add-mask::x", "\r", "\x1b[2J", "\u2028", "\x85"], ids=ascii)
def test_what_is_shown_on_one_line_holds_no_line_end_and_no_control_character(path: str, end: str) -> None:
    """On GitHub a line that begins with two colons is carried out."""
    with pytest.raises(ManifestError, match=rf"U\+{ord(end[0]):04X} at character 1, expected one line") as refused:
        parse(change(path, f"a{end}"))
    assert end not in str(refused.value)


@pytest.mark.parametrize("path", ["summary", "attribution"])
def test_prose_has_lines_and_no_other_control_character(path: str) -> None:
    said = "Zwei Zeilen,\n\u00e4 und 漢字."
    assert getattr(parse(change(path, said)), path) == said
    with pytest.raises(ManifestError, match=r"U\+001B at character 1, expected text without control characters"):
        parse(change(path, "a\x1b[2J"))


LONG = "x" * 1_000_000


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("name", LONG),
        ("title", [LONG]),
        ("seeds", LONG),
        ("data.tiny.source.kind", LONG),
        ("data.tiny.config", ["a"] * 1_300_000),
        ("evaluation.on", [LONG]),
        ("evaluation.primary", LONG),
        ("models.0.recipes", [LONG]),
        ("thresholds.0.model", LONG),
        ("claims.0.values", {LONG: "1"}),
        ("claims.0.values", {"mrr@10": LONG}),
        (LONG, 1),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_value_of_a_million_characters_is_named_in_a_few_hundred(path: str, value: object) -> None:
    with pytest.raises(ManifestError) as caught:
        parse(change(path, value))
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "name",
    [
        *("README", "readme", "README.md", "speed", "Calibration", "faults", "SHA256SUMS", "pictures", "on-ray"),
        *("tiny-stack", "tiny-Stack-published"),
    ],
)
def test_a_name_that_another_page_of_the_results_has_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"{name}.toml"
    path.write_text(TINY.replace('name = "tiny"', f'name = "{name}"', 1), encoding="utf-8")
    with pytest.raises(ManifestError, match=f"name is '{name}', which another page or folder in results has"):
        read_experiment(path)


def test_a_name_that_only_begins_like_a_page_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "readme-stacked.toml"
    path.write_text(TINY.replace('name = "tiny"', 'name = "readme-stacked"', 1), encoding="utf-8")
    assert read_experiment(path).name == "readme-stacked"
