"""Every kind of model is trained on what it is evaluated on: its prompts, its routes, its own forward pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.models.encoder import encode_texts, open_encoder
from harness.models.encoding import OWN_ENCODING, Encoding, Role
from harness.models.training import train_model
from harness.pipeline.rows import Row, list_columns
from tests.support.model_kinds import build
from tests.support.tiny_training import make_recipe, make_rows

pytestmark = pytest.mark.filterwarnings("default")

# One query and one passage are longer than some of the models read.
ROWS = [
    *make_rows(11),
    Row.pair("long", "list signaling molecules that interact with the kinase", "gene protein " * 30),
]
ROLES: tuple[Role, Role] = ("query", "passage")
SET = Encoding(query_prompt="what is the role of ", passage_prompt="gene ", max_seq_length=12)


@pytest.mark.parametrize("embedding", ["packed", "padded"])
@pytest.mark.parametrize(
    ("kind", "encoding"),
    [
        ("prompts", OWN_ENCODING),
        ("prompts left out of pooling", OWN_ENCODING),
        ("lengths by role", OWN_ENCODING),
        ("MPNet", SET),
        ("T5", SET),
        ("Dense on tokens", OWN_ENCODING),
        ("WordWeights on tokens", OWN_ENCODING),
        ("decoder", OWN_ENCODING),
        ("Router", OWN_ENCODING),
        ("Router of transformers", OWN_ENCODING),
        ("StaticEmbedding", OWN_ENCODING),
    ],
)
def test_the_first_loss_is_that_of_the_embeddings_that_are_evaluated(
    kind: str, encoding: Encoding, embedding: str, tmp_path: Path
) -> None:
    """MultipleNegativesRankingLoss (Henderson et al. 2017, section 4.4) of one batch of everything."""
    base = build(tmp_path / "base", kind)
    changes: dict[str, Any] = {
        "inputs": ("query", "passage"),
        "per_device_train_batch_size": len(ROWS),
        "num_train_epochs": 2,
        "batch_sampler": "batch_sampler",
        "embedding": {"cuda": "padded", "cpu": embedding},
    }
    recipe = make_recipe(**changes)
    columns = list_columns(ROWS, recipe.inputs)
    for name in ("target", "scratch"):
        (tmp_path / name).mkdir()
    trained = train_model(
        base,
        columns,
        recipe,
        seed=0,
        device="cpu",
        precision="fp32",
        encoding=encoding,
        target=tmp_path / "target",
        scratch=tmp_path / "scratch",
    )
    encoder = open_encoder(base, device="cpu", encoding=encoding)
    first, second = (
        encode_texts(encoder, columns[role], role=role, batch_tokens=500).astype(np.float64) for role in ROLES
    )
    units = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (first, second)]
    scores = 20.0 * units[0] @ units[1].T
    expected = float(np.mean(np.log(np.exp(scores).sum(axis=1)) - np.diag(scores)))
    assert trained.log.loss[0].loss == pytest.approx(expected, rel=1e-4)
    tuned = open_encoder(trained.folder, device="cpu", encoding=encoding)
    assert tuned.prompts == encoder.prompts
    moved = encode_texts(tuned, columns["query"], role="query", batch_tokens=500) - first
    assert np.abs(moved).max() > 1e-6
