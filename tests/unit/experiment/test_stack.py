"""A stack pins what a result was published with; it is no part of what the experiment declares about it."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import ManifestError
from harness.experiment.manifest import read_experiment
from harness.experiment.trial import narrow
from tests.support.manifests import change, parse

MANIFESTS = Path(__file__).parents[3] / "benchmarks" / "experiments"
PINS = ["torch==2.1.2", "sentence-transformers==3.0.1", "transformers==4.41.2"]


def test_a_stack_changes_neither_the_digest_nor_what_records_hold() -> None:
    experiment = parse(change("stacks.published", {"python": "3.11", "packages": PINS}))
    assert experiment.stacks["published"].packages == tuple(PINS)
    assert experiment.digest == parse().digest
    assert "stacks" not in experiment.model_dump()
    assert narrow(experiment) == narrow(parse())


@pytest.mark.parametrize("name", ["bioasq", "bioasq-rebuilt", "hpo"])
def test_the_published_experiments_pin_the_versions_that_the_article_names(name: str) -> None:
    stack = read_experiment(MANIFESTS / f"{name}.toml").stacks["published"]
    article = {"torch==2.1.2", "sentence-transformers==3.0.1", "transformers==4.41.2", "datasets==2.19.1"}
    assert stack.python == "3.11"
    assert article | {"accelerate==0.31.0"} <= set(stack.packages)


@pytest.mark.parametrize(
    ("packages", "said"),
    [
        (["torch>=2.1", *PINS], "'torch>=2.1': expected one version of one package, as 'torch==2.1.2'"),
        (["-r evil.txt", *PINS], "'-r evil.txt': expected one version"),
        (["Torch==2.2", *PINS], "'torch' is listed twice"),
        (["sentence_transformers==2", *PINS], "'sentence-transformers' is listed twice"),
        (PINS[1:], "torch must be pinned"),
    ],
)
def test_packages_that_are_not_pinned_once_each_are_refused(packages: list[str], said: str) -> None:
    with pytest.raises(ManifestError, match=rf"tiny.toml: stacks.published.packages: .*{said}"):
        parse(change("stacks.published", {"python": "3.11", "packages": packages}))


def test_a_python_that_is_no_version_is_refused() -> None:
    with pytest.raises(ManifestError, match=r"stacks.published.python"):
        parse(change("stacks.published", {"python": "/usr/bin/python3", "packages": PINS}))
