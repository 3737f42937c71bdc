"""A loss is known by the library's name, takes its own arguments alone, and names the columns that it needs."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from harness.errors import ManifestError
from harness.experiment.loss import LOSSES, Loss, LossName
from tests.support.manifests import change, parse

TRIPLET = {"name": "TripletLoss", "distance_metric": "COSINE", "triplet_margin": 0.2}
CONTRASTIVE = {"name": "ContrastiveLoss", "distance_metric": "COSINE_DISTANCE", "margin": 0.5}
RANKING = {"name": "MultipleNegativesRankingLoss", "scale": 20.0}
COLUMNS = {"query": "question", "passage": "answer", "id": "id", "negative": "n", "score": "s", "label": "l"}


def parse_loss(loss: dict[str, Any], inputs: list[str], columns: dict[str, str] | None = None) -> None:
    data = change("recipes.finetuned.loss", loss)
    data["recipes"]["finetuned"]["inputs"] = inputs
    data["data"]["tiny"]["columns"] = COLUMNS if columns is None else columns
    parse(data)


def test_every_name_has_its_facts_and_every_argument_is_somebodys() -> None:
    assert set(LOSSES) == set(get_args(LossName))
    named = {name for kind in LOSSES.values() for name in (*kind.required, *kind.optional)}
    assert named == set(Loss.model_fields) - {"name"}


@pytest.mark.parametrize(
    ("loss", "inputs"),
    [
        (RANKING, ["query", "passage"]),
        (RANKING, ["passage", "query", "negative", "negative_2"]),
        (
            {**RANKING, "directions": ["query_to_doc", "doc_to_query"], "partition_mode": "per_direction"},
            ["query", "passage"],
        ),
        (TRIPLET, ["query", "passage", "negative"]),
        ({"name": "CoSENTLoss", "scale": 20.0}, ["query", "passage", "score"]),
        ({"name": "MarginMSELoss"}, ["query", "passage", "negative", "score"]),
        (CONTRASTIVE, ["query", "passage", "label"]),
    ],
)
def test_a_loss_is_taken_with_its_arguments_and_columns(loss: dict[str, Any], inputs: list[str]) -> None:
    parse_loss(loss, inputs)


@pytest.mark.parametrize(
    ("loss", "inputs", "said"),
    [
        ({"name": "MegaBatchMarginLoss"}, ["query", "passage"], "loss.name: found 'MegaBatchMarginLoss'"),
        (
            {"name": "TripletLoss"},
            ["query", "passage", "negative"],
            "TripletLoss needs distance_metric, triplet_margin",
        ),
        ({**TRIPLET, "scale": 20.0}, ["query", "passage", "negative"], "TripletLoss has no argument 'scale'"),
        ({"name": "CosineSimilarityLoss", "scale": 1.0}, ["query", "passage"], "its arguments are: none"),
        (
            {**TRIPLET, "distance_metric": "COSINE_DISTANCE"},
            ["query", "passage", "negative"],
            "one of COSINE, EUCLIDEAN",
        ),
        (
            {**CONTRASTIVE, "distance_metric": "COSINE"},
            ["query", "passage", "label"],
            "one of COSINE_DISTANCE, EUCLIDEAN",
        ),
        ({**RANKING, "directions": ["doc_to_query"]}, ["query", "passage"], "directions must name query_to_doc"),
        (
            {**RANKING, "directions": ["query_to_doc", "doc_to_doc"], "partition_mode": "per_direction"},
            ["query", "passage"],
            "'per_direction' cannot have doc_to_doc",
        ),
        ({**RANKING, "hardness_mode": "all_negatives"}, ["query", "passage"], "hardness_mode and a hardness_strength"),
        (
            TRIPLET,
            ["query", "passage"],
            "TripletLoss takes the texts query, passage, negative; inputs are query, passage",
        ),
        (RANKING, ["query", "negative", "passage"], "inputs must name 'query' and 'passage'"),
        (RANKING, ["query", "passage", "negative_2"], "inputs must name negatives from the first on: negative"),
        (RANKING, ["query", "passage", "score"], "MultipleNegativesRankingLoss takes no score or label"),
        (CONTRASTIVE, ["query", "passage"], "ContrastiveLoss takes one input 'label' beside its texts"),
        (CONTRASTIVE, ["query", "passage", "score"], "ContrastiveLoss takes one input 'label' beside its texts"),
        (RANKING, ["query", "answer"], "recipes.finetuned.inputs[1]: found 'answer'"),
    ],
)
def test_what_a_loss_does_not_take_is_refused(loss: dict[str, Any], inputs: list[str], said: str) -> None:
    with pytest.raises(ManifestError) as caught:
        parse_loss(loss, inputs)
    assert said in str(caught.value)


def test_an_input_that_the_data_do_not_have_is_refused() -> None:
    plain = {key: COLUMNS[key] for key in ("query", "passage", "id")}
    with pytest.raises(ManifestError, match="'negative' is not in data set 'tiny'; it has query, passage"):
        parse_loss(TRIPLET, ["query", "passage", "negative"], plain)
