"""With flash attention a batch is trained on without padding, by the library's own way, and evaluated as ever.

Where there is none, a function of torch's stands in for its kernel; all else is the libraries' own.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import TrainingError
from harness.experiment.loss import Loss
from harness.experiment.recipe import Embedding
from tests.support.tiny_model import build_tiny_model
from tests.support.tiny_training import make_recipe, make_rows, train_tiny

if TYPE_CHECKING:
    from torch import Tensor

PADDED = Embedding(cuda="padded", cpu="padded")


def attend(  # noqa: PLR0917 - flash attention's own signature
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    max_seqlen_q: int,
    max_seqlen_k: int,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,  # noqa: FBT001, FBT002 - flash attention's own signature
    deterministic: bool = False,  # noqa: FBT001, FBT002 - likewise
) -> Tensor:
    """Attend within each text, as flash_attn_varlen_func does: all are (tokens, heads, size)."""
    import torch

    del cu_seqlens_k, max_seqlen_q, max_seqlen_k, dropout_p
    assert q.dtype is torch.bfloat16
    assert deterministic
    ends = cu_seqlens_q.tolist()
    parts = []
    for start, end in itertools.pairwise(ends):
        query, key, value = (one[start:end].transpose(0, 1)[None] for one in (q, k, v))
        parts.append(
            torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=causal, scale=softmax_scale)
        )
    return torch.cat([part[0].transpose(0, 1) for part in parts])


@pytest.fixture
def flash(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have flash attention, or what stands in for it."""
    from transformers import BertModel
    from transformers import modeling_flash_attention_utils as kernels

    from harness.models.device import find_flash

    if device.startswith("cuda"):
        if find_flash(device) is None:
            pytest.skip("flash attention is not installed, or not for this GPU")
        return
    for place in ("device", "unpadded"):
        monkeypatch.setattr(f"harness.models.{place}.find_flash", lambda _: "0 (a stand-in)")
    monkeypatch.setattr(BertModel, "_flash_attn_can_dispatch", lambda *_, **__: True)
    monkeypatch.setattr(kernels, "_loaded_implementation", "flash_attention_2")
    monkeypatch.setattr(kernels, "_flash_fn", attend)
    monkeypatch.setattr(kernels, "_flash_varlen_fn", attend)
    untyped: Any = kernels
    monkeypatch.setattr(kernels, "_process_flash_kwargs_fn", untyped._lazy_define_process_function(attend))


def test_training_without_padding_is_training_with_it(
    still: Path, tmp_path: Path, device: str, request: pytest.FixtureRequest
) -> None:
    recipe = make_recipe(embedding=PADDED)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("harness.models.unpadded.find_flash", lambda _: None)
        padded = train_tiny(still, tmp_path / "p", tmp_path / "ps", recipe, device=device, precision="bf16")
    request.getfixturevalue("flash")
    unpadded = train_tiny(still, tmp_path / "u", tmp_path / "us", recipe, device=device, precision="bf16")
    assert unpadded.log.attention is not None
    assert unpadded.log.attention.startswith("flash_attention_2 ")
    assert padded.log.attention is None
    # The hash is of the token ids as they come, whose padding is gone.
    assert set(unpadded.log.batches).isdisjoint(padded.log.batches)
    assert unpadded.log.nondeterministic == ()
    assert [point.loss for point in unpadded.log.loss] == pytest.approx(
        [point.loss for point in padded.log.loss], rel=0.05
    )
    assert "flash" not in (unpadded.folder / "config.json").read_text(encoding="utf-8")


@pytest.mark.usefixtures("flash")
def test_evaluations_on_the_way_are_in_fp32_by_the_models_own_attention(
    still: Path, tmp_path: Path, device: str
) -> None:
    from harness.models.encoder import encode_texts, make_encoder
    from harness.models.encoding import OWN_ENCODING
    from harness.models.training import train_model

    seen = []

    def evaluate(model: Any) -> dict[str, float]:
        seen.append((model[0].model.config._attn_implementation, model[0].can_flatten_inputs))
        encoder = make_encoder(model, OWN_ENCODING, place="here")
        encode_texts(encoder, ["gene", "the protein"], role="query", batch_tokens=64)
        return {"mrr@10": 0.5}

    recipe = make_recipe(embedding=PADDED, eval_steps=5)
    texts = {"query": [row.query for row in make_rows(44)], "passage": [row.passage for row in make_rows(44)]}
    for part in ("target", "scratch"):
        (tmp_path / part).mkdir()
    done = train_model(
        still,
        {name: texts[name] for name in recipe.inputs},
        recipe,
        seed=3,
        device=device,
        precision="bf16",
        target=tmp_path / "target",
        scratch=tmp_path / "scratch",
        evaluate=evaluate,
    )
    assert done.log.attention is not None
    assert len(seen) >= 2
    assert set(seen) == {("sdpa", False)}


@pytest.mark.usefixtures("flash")
def test_without_memory_the_texts_are_counted_though_they_are_one_row(
    still: Path, tmp_path: Path, device: str, no_memory: pytest.MonkeyPatch
) -> None:
    del no_memory
    with pytest.raises(TrainingError, match=r"^step 1, 8 texts of up to \d+ tokens and 8 texts of up to \d+ tokens: "):
        train_tiny(
            still, tmp_path / "t", tmp_path / "s", make_recipe(embedding=PADDED), device=device, precision="bf16"
        )


@pytest.mark.usefixtures("flash")
@pytest.mark.parametrize(
    ("changes", "precision"),
    [
        ({}, "fp32"),
        ({"embedding": Embedding(cuda="grouped", cpu="packed")}, "bf16"),
        (
            {"loss": Loss(name="CachedMultipleNegativesRankingLoss", scale=20.0, mini_batch_size=4)},
            "bf16",
        ),
    ],
    ids=["fp32", "grouped", "a loss that runs the model"],
)
def test_what_flash_attention_is_not_for_goes_without(
    still: Path, device: str, changes: dict[str, Any], precision: Any
) -> None:
    from harness.models.loading import load_model
    from harness.models.unpadded import can_unpad

    model = load_model(still, device=device)
    assert can_unpad(model, make_recipe(embedding=PADDED), device=device, precision="bf16")
    recipe = make_recipe(**({"embedding": PADDED} | changes))
    assert not can_unpad(model, recipe, device=device, precision=precision)


@pytest.mark.usefixtures("flash")
def test_an_architecture_that_flash_attention_does_not_know_goes_without(tmp_path: Path, device: str) -> None:
    from harness.models.loading import load_model
    from harness.models.unpadded import can_unpad

    model = load_model(build_tiny_model(tmp_path / "mpnet", architecture="mpnet"), device=device)
    assert not can_unpad(model, make_recipe(embedding=PADDED), device=device, precision="bf16")
