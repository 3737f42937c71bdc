"""Runs BERT-like encoders over texts laid end to end, so that no arithmetic is spent on padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import (
    Dense,
    Dropout,
    LayerNorm,
    Normalize,
    Pooling,
    Transformer,
)
from torch import Tensor, nn
from torch.nn import functional
from transformers import BertModel, MPNetModel

from harness.models.packed_attention import Block, BlockAttention, draw_dropped, draw_mask, plan_blocks

# The tokens of a batch are filled up to a multiple, so that batches share the shapes for which kernels are made: a new
# shape costs a CPU about a millisecond and a megabyte.
TOKEN_MULTIPLE = 64

MPNET = "mpnet"

# Masks of numbers of two bytes.
BITS = torch.int16

# Each works on texts laid end to end as on padded ones; of poolings, every mode.
MODULES_BY_TEXT = (Dense, Dropout, LayerNorm, Normalize, Pooling)


@dataclass(frozen=True)
class LayerWeights:
    """The modules of one transformer layer, under the same names for every architecture."""

    query: nn.Linear
    key: nn.Linear
    value: nn.Linear
    output: nn.Linear
    attention_norm: nn.LayerNorm
    up: nn.Linear
    down: nn.Linear
    output_norm: nn.LayerNorm


def can_group(model: SentenceTransformer) -> bool:
    """Say whether batches of `model` can be cut anew: a text's embedding must depend on its tokens alone.

    Args:
        model: any Sentence Transformers model.

    Returns:
        True for a text transformer with padding on the right, followed by nothing but modules that are known to work
        on each text by itself, or on each of its tokens, and whose pooling takes all tokens of a text.
    """
    modules: list[Any] = list(model)
    transformer, rest = modules[0], modules[1:]
    return (
        type(transformer) is Transformer
        and set(transformer.modality_config) == {"text"}
        and transformer.query_expansion is None
        and transformer.module_output_name == "token_embeddings"
        and getattr(transformer.tokenizer, "padding_side", None) == "right"
        and all(type(module) in MODULES_BY_TEXT for module in rest)
        and all(module.include_prompt for module in rest if isinstance(module, Pooling))
    )


def can_pack(model: SentenceTransformer) -> bool:
    """Say whether `embed_packed` knows the layers of `model`'s transformer, and all its other modules.

    Args:
        model: any Sentence Transformers model.

    Returns:
        True for plain BERT and MPNet encoders with exact GELU, of which `can_group` is true.
    """
    if not can_group(model):
        return False
    network = cast("Any", model[0]).model
    config = network.config
    return (
        type(network) in (BertModel, MPNetModel)
        # An adapter beside a layer would be passed over.
        and all(type(part) in (nn.Linear, nn.LayerNorm) for layer in _layers(network) for part in vars(layer).values())
        and config.hidden_act == "gelu"
        and not getattr(config, "is_decoder", False)
        and not getattr(config, "add_cross_attention", False)
        and getattr(config, "position_embedding_type", "absolute") == "absolute"
    )


def embed_packed(model: SentenceTransformer, texts: Sequence[Tensor], *, dtype: torch.dtype) -> Tensor:
    """Embed texts as `model` does, without padding.

    Args:
        model: one for which `can_pack` is true. It may be in training mode, and gradients flow.
        texts: token ids of each text, special tokens included, on the model's device.
        dtype: of the matrix products: float32, bfloat16 or float16.

    Returns:
        What the model's last module makes of each text, in the order of `texts`, shape (texts, dimensions).
    """
    device = texts[0].device
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    lengths = [len(texts[index]) for index in order]
    count = sum(lengths)
    filling = -count % TOKEN_MULTIPLE
    ids = torch.cat([*(texts[index] for index in order), texts[0].new_zeros(filling)])
    positions = torch.cat([*(torch.arange(length) for length in lengths), torch.zeros(filling, dtype=torch.long)])
    states = run_packed(
        cast("Any", model[0]).model, ids, positions.to(device), plan_blocks(lengths, device), dtype=dtype
    )
    features: dict[str, Any] = {
        "token_embeddings": states[None, :count],
        # This is how the library's own modules know packed texts apart.
        "cu_seq_lens_q": torch.tensor([0, *lengths], device=device).cumsum(0),
    }
    for module in list(model)[1:]:
        features = module(features)
    places = torch.empty(len(order), dtype=torch.long)
    places[torch.tensor(order)] = torch.arange(len(order))
    embeddings: Tensor = features["sentence_embedding"].index_select(0, places.to(device))
    return embeddings


def _linear(inner: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """functional.linear, but in fp32 on a CPU with AVX-512 and without gradients through oneDNN.

    torch hands fp32 products to MKL, which on processors other than Intel's does not use AVX-512: oneDNN was measured
    to be 2.2 times as fast (403 against 180 GFLOP/s) at the same precision. With AVX2 alone MKL is ahead by a tenth.
    """
    if (
        inner.device.type == "cpu"
        and inner.dtype == torch.float32
        and not torch.is_grad_enabled()
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
    ):
        product: Tensor = torch.ops.mkldnn._linear_pointwise(  # noqa: SLF001 - it has no public name
            inner, weight, bias, "none", [], ""
        )
        return product
    return functional.linear(inner, weight, bias)


class _DropoutAdd(torch.autograd.Function):
    """residual + dropout(update), where the update may be of a narrower type; only the mask is kept."""

    @staticmethod
    def forward(ctx: Any, residual: Tensor, update: Tensor, dropout: float) -> Tensor:
        # Of numbers of two bytes the mask has all bits or none; of wider ones it would take too much memory.
        draw = _draw_bits if update.dtype.itemsize == BITS.itemsize else draw_mask
        mask, keep = draw(update.shape, 1 - dropout, update.device)
        ctx.save_for_backward(mask)
        ctx.keep, ctx.type = keep, update.dtype
        return torch.add(residual, _hide(update, mask), alpha=1 / keep)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        (mask,) = ctx.saved_tensors
        return gradient, _hide((gradient * (1 / ctx.keep)).to(ctx.type), mask), None


def _draw_bits(shape: Sequence[int], keep: float, device: torch.device) -> tuple[Tensor, float]:
    """Draw the mask of `draw_mask` as bits: all of those that are kept, none of others."""
    dropped, exact = draw_dropped(shape, keep, device)
    return dropped.bitwise_not_(), exact


def _hide(values: Tensor, mask: Tensor) -> Tensor:
    """Put 0 where the mask says so; by bits it takes a quarter of the time that a bool takes."""
    return (values.view(BITS) & mask).view(values.dtype) if mask.dtype == BITS else values * mask


class _GeluLinear(torch.autograd.Function):
    """linear(gelu(x)) that computes the GELU again in the backward pass instead of keeping its wide output."""

    @staticmethod
    def forward(ctx: Any, inner: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(inner, weight)
        return _linear(functional.gelu(inner), weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        inner, weight = ctx.saved_tensors
        weight_gradient = gradient.t() @ functional.gelu(inner)
        inner_gradient = torch.ops.aten.gelu_backward(gradient @ weight, inner)
        return inner_gradient, weight_gradient, gradient.sum(0)


def run_packed(
    network: Any,
    ids: Tensor,
    positions: Tensor,
    blocks: Sequence[Block],
    *,
    dtype: torch.dtype,
) -> Tensor:
    """Run a BERT or MPNet encoder over packed texts.

    Matrix products are in `dtype`; the sums along the layers, the norms and the softmax are in fp32, as under autocast.
    Dropout follows `network.training` and the probabilities in its configuration.

    Args:
        network: the encoder; its own modules give the weights.
        ids: tokens of all texts, one text after another, shape (tokens,).
        positions: index of each token in its text from 0, shape (tokens,).
        blocks: the attention blocks, from `plan_blocks`; tokens after the last are filling.
        dtype: of the matrix products: float32, bfloat16 or float16.

    Returns:
        The last hidden states in fp32, shape (tokens, hidden size).
    """
    config = network.config
    hidden_dropout = config.hidden_dropout_prob if network.training else 0.0
    attention_dropout = config.attention_probs_dropout_prob if network.training else 0.0
    heads = config.num_attention_heads
    state = _embed_tokens(network, ids, positions)
    if hidden_dropout > 0:
        mask, keep = draw_mask(state.shape, 1 - hidden_dropout, state.device)
        state = state * mask * (1 / keep)
    bias = None
    if network.config.model_type == MPNET:
        bias = _position_bias(network, max(block.length for block in blocks))
    for layer in _layers(network):
        narrow = state.to(dtype)
        qkv = _linear(
            narrow,
            torch.cat([part.weight.to(dtype) for part in (layer.query, layer.key, layer.value)]),
            torch.cat([part.bias.to(dtype) for part in (layer.query, layer.key, layer.value)]),
        )
        context = _apply(BlockAttention, qkv, bias, blocks, heads, attention_dropout)
        update = _linear(context, layer.output.weight.to(dtype), layer.output.bias.to(dtype))
        state = _add_and_norm(state, update, layer.attention_norm, hidden_dropout)
        inner = _linear(state.to(dtype), layer.up.weight.to(dtype), layer.up.bias.to(dtype))
        update = _apply(_GeluLinear, inner, layer.down.weight.to(dtype), layer.down.bias.to(dtype))
        state = _add_and_norm(state, update, layer.output_norm, hidden_dropout)
    return state


def _apply(function: type[torch.autograd.Function], *inputs: Any) -> Tensor:
    """Call a differentiable function; torch leaves the call without types."""
    output: Tensor = cast("Any", function).apply(*inputs)
    return output


def _add_and_norm(residual: Tensor, update: Tensor, norm: nn.LayerNorm, dropout: float) -> Tensor:
    total = _apply(_DropoutAdd, residual, update, dropout) if dropout > 0 else residual + update
    return functional.layer_norm(total, norm.normalized_shape, norm.weight, norm.bias, norm.eps)


def _embed_tokens(network: Any, ids: Tensor, positions: Tensor) -> Tensor:
    """Embed tokens and positions as the network does, up to its dropout."""
    parts = network.embeddings
    if network.config.model_type == MPNET:
        state = parts.word_embeddings(ids) + parts.position_embeddings(positions + parts.padding_idx + 1)
    else:
        # All texts are single segments, so the type embedding is the first row for every token.
        state = parts.word_embeddings(ids) + parts.token_type_embeddings.weight[0]
        state = state + parts.position_embeddings(positions)
    normed: Tensor = parts.LayerNorm(state)
    return normed


def _position_bias(network: Any, length: int) -> Tensor:
    """MPNet's relative position bias, shape (heads, length, length); a shorter text's is its upper left corner."""
    encoder = network.encoder
    steps = torch.arange(length, device=encoder.relative_attention_bias.weight.device)
    buckets = encoder.relative_position_bucket(
        steps[None, :] - steps[:, None], num_buckets=network.config.relative_attention_num_buckets
    )
    bias: Tensor = encoder.relative_attention_bias(buckets).permute(2, 0, 1).contiguous()
    return bias


def _layers(network: Any) -> list[LayerWeights]:
    """Name the parts of each layer alike."""
    if network.config.model_type == MPNET:
        return [
            LayerWeights(
                query=layer.attention.attn.q,
                key=layer.attention.attn.k,
                value=layer.attention.attn.v,
                output=layer.attention.attn.o,
                attention_norm=layer.attention.LayerNorm,
                up=layer.intermediate.dense,
                down=layer.output.dense,
                output_norm=layer.output.LayerNorm,
            )
            for layer in network.encoder.layer
        ]
    return [
        LayerWeights(
            query=layer.attention.self.query,
            key=layer.attention.self.key,
            value=layer.attention.self.value,
            output=layer.attention.output.dense,
            attention_norm=layer.attention.output.LayerNorm,
            up=layer.intermediate.dense,
            down=layer.output.dense,
            output_norm=layer.output.LayerNorm,
        )
        for layer in network.encoder.layer
    ]
