"""A manifest says what is run; every line of it that cannot be meant is refused with file, key and expectation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.errors import ManifestError
from harness.experiment.manifest import Experiment, read_experiment
from tests.support.manifests import REMOVED, TINY, change, parse

MANIFESTS = Path(__file__).parents[3] / "benchmarks" / "experiments"
NAMES = sorted(path.stem for path in MANIFESTS.glob("*.toml"))
HUB = {"kind": "hub", "repository": "a/b", "revision": "0" * 40}
WHEELS = {"kind": "wheels", "packages": ["a==1"], "path": "a"}


@pytest.mark.parametrize("name", NAMES)
def test_a_committed_manifest_is_valid_and_named_like_its_file(name: str) -> None:
    assert read_experiment(MANIFESTS / f"{name}.toml").name == name


def test_the_published_experiment_declares_what_was_published() -> None:
    experiment = read_experiment(MANIFESTS / "bioasq.toml")
    assert experiment.seeds == (0, 1, 2, 3, 4)
    assert [(model.name, model.finetuned) for model in experiment.models] == [
        ("all-mpnet-base-v2", True),
        ("bge-base-en-v1.5", False),
    ]
    recipe = experiment.training
    assert (recipe.columns, recipe.batch_size, recipe.learning_rate) == (("positive", "anchor"), 32, 2e-5)
    assert (recipe.epochs, recipe.warmup_ratio, recipe.precision.cuda) == (1, 0.1, "fp16")
    assert len(experiment.evaluation.measures) == 15
    assert [(item.measure, item.above) for item in experiment.thresholds] == [("mrr@10", 0.88)]
    assert experiment.prices_usd_per_hour["NVIDIA A10G"] == 1.1


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        # Unknown and misspelt keys, and types.
        ("learning_rte", 1, "unknown key 'learning_rte'; did you mean 'learning_rate'"),
        ("training.epoch", 1, "unknown key 'training.epoch'; did you mean 'epochs'"),
        ("data.columns.ids", "x", "unknown key 'data.columns.ids'; did you mean 'id'"),
        ("data.source.revision", "main", "unknown key 'data.source.folder.revision'"),
        ("seeds", REMOVED, "key 'seeds' is missing"),
        ("training.batch_size", "32", "training.batch_size: found '32'"),
        ("training.batch_size", 32.5, "training.batch_size: found 32.5"),
        ("training.batch_size", True, "training.batch_size: found True"),
        ("training.epochs", 0, "training.epochs: found 0"),
        ("training.learning_rate", 0, "training.learning_rate: found 0"),
        ("training.learning_rate", float("inf"), "training.learning_rate: found inf"),
        ("training.warmup_ratio", 1.5, "training.warmup_ratio: found 1.5"),
        ("models.0.finetuned", "yes", "models[0].finetuned: found 'yes'"),
        ("schema_version", 2, "schema_version: found 2"),
        # What is known of losses, measures, GPUs and precisions.
        ("training.loss", "CosineLoss", "training.loss: found 'CosineLoss': expected 'MultipleNegatives"),
        ("data.source.kind", "s3", "expected the kind 'hub', 'wheels', 'folder'"),
        ("evaluation.measures", ["mrr@10", "mmr@10"], "unknown measure 'mmr@10', expected one of accuracy@K"),
        ("evaluation.measures", ["mrr@10", "mrr"], "unknown measure 'mrr'"),
        ("evaluation.measures", ["mrr@10", "mrr@0"], "unknown measure 'mrr@0'"),
        ("evaluation.measures", ["mrr@10", "mrr@10"], "measure 'mrr@10' stands twice"),
        ("evaluation.measures", [], "evaluation.measures: found []"),
        ("evaluation.primary", "ndcg@10", "the primary measure 'ndcg@10' must be one of the measures"),
        ("evaluation.top_k", 50, "'map@100' needs more passages than top_k = 50"),
        ("prices_usd_per_hour", {"A10G": 1.1}, "unknown GPU 'A10G': known are NVIDIA A10, NVIDIA A10G"),
        ("prices_usd_per_hour|NVIDIA A10G", -1, "found -1"),
        ("training.precision", {"cuda": "fp8", "cpu": "fp32"}, "training.precision.cuda: found 'fp8'"),
        ("training.precision", {"cuda": "fp16", "cpu": "fp16"}, "training.precision.cpu: found 'fp16'"),
        ("training.columns", ["anchor", "anchor"], "columns must name 'anchor' and 'positive', each once"),
        # Names, which become file names.
        ("name", "../up", "a name has letters, digits"),
        ("name", "", "a name has letters, digits"),
        ("models.0.name", "a b", "a name has letters, digits"),
        ("models.1.name", "small", "model 'small' stands twice"),
        ("seeds", [], "seeds: found []"),
        ("seeds", [1, 1], "seed 1 stands twice"),
        ("seeds", [-1], "seeds[0]: found -1"),
        ("seeds", [2**32], "seeds[0]: found 4294967296"),
        # Sources.
        ("data.source", {**HUB, "revision": "main"}, "a revision must be a full commit hash (40 hex digits)"),
        ("data.source", {**HUB, "repository": "none"}, "found 'none'"),
        ("data.source", {"kind": "ftp"}, "data.source"),
        ("data.source", {**WHEELS, "packages": ["a>=1"]}, "'a>=1' must read NAME==VERSION"),
        ("data.source", {**WHEELS, "packages": ["--index-url==x"]}, "'--index-url==x' must read NAME==VERSION"),
        ("data.source", {**WHEELS, "packages": ["a==1", "a==1"]}, "package 'a==1' stands twice"),
        ("data.source", {"kind": "folder", "path": ""}, "found ''"),
        # Contradictions.
        ("data.columns", REMOVED, "format 'datasets' needs columns"),
        ("data.test_split", REMOVED, "format 'datasets' needs test_split"),
        ("data.columns.positive", "question", "anchor and positive are one column, 'question'"),
        ("data.selection", {"salt": "", "train_rows": 1, "test_rows": 1}, "format 'datasets' has no use for selection"),
        ("data.format", "obo", "format 'obo' needs selection"),
        ("thresholds.0.model", "unknown", "model 'unknown' is not among the models ['small', 'other']"),
        ("thresholds.0.model", "other", "model 'other' is not fine-tuned here"),
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
    path.write_text(TINY.replace("epochs = 1", "epohcs = 1"), encoding="utf-8")
    with pytest.raises(ManifestError) as caught:
        read_experiment(path)
    assert str(caught.value).splitlines() == [
        f"{path}: unknown key 'training.epohcs'; did you mean 'epochs'?",
        f"{path}: key 'training.epochs' is missing",
    ]


def test_a_selection_and_the_numbers_of_rows_must_agree() -> None:
    data = change("data", {"format": "obo", "source": WHEELS, "train_rows": 20, "test_rows": 8})
    data["data"]["selection"] = {"salt": "s", "train_rows": 21, "test_rows": 8}
    with pytest.raises(
        ManifestError, match=r"the selection takes 21 and 8 rows .* train_rows and test_rows are 20 and 8"
    ):
        parse(data)
    data["data"]["selection"]["train_rows"] = 20
    assert parse(data).data.format == "obo"


@pytest.mark.parametrize("key", ["columns", "config", "train_split"])
def test_an_ontology_has_no_use_for_what_a_table_needs(key: str) -> None:
    data = change("data.format", "obo")
    unused = {"columns", "train_split", "test_split"} - {key}
    kept = {name: value for name, value in data["data"].items() if name not in unused}
    selection = {"salt": "s", "train_rows": 20, "test_rows": 8}
    data["data"] = (
        {"config": "c", **kept, "selection": selection} if key == "config" else {**kept, "selection": selection}
    )
    with pytest.raises(ManifestError, match=f"format 'obo' has no use for .*{key}"):
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
    assert parse(change("training.scale", 20.5)).digest != parse().digest


def test_a_model_is_found_by_its_name_and_an_unknown_one_answered_with_the_known() -> None:
    experiment: Experiment = parse()
    assert experiment.model("other").finetuned is False
    with pytest.raises(ManifestError, match="tiny: no model 'othr'; its models are: small, other"):
        experiment.model("othr")
