"""Runs BERT-like encoders over texts laid end to end, so that no arithmetic is spent on padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Transformer
from torch import Tensor, nn
from torch.nn import functional
from transformers import BertModel, MPNetModel


# What one more group costs, counted in cells of attention blocks that could be computed meanwhile; measured on a CPU.
GROUP_OVERHEAD_CELLS = 10_000


@dataclass(frozen=True)
class Group:
    """Neighbouring texts of like length that attend to themselves in one padded block.

    `gather` (texts * length) names for each cell of the block the token, counted from `start`, that fills it; `scatter`
    (stop - start) names for each token its cell; `key_mask` (texts, 1, 1, length) is 0 for tokens and -inf for padding.
    All three are None where every text has the same length.
    """

    start: int
    stop: int
    texts: int
    length: int
    gather: Tensor | None
    scatter: Tensor | None
    key_mask: Tensor | None


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


def can_pack(model: SentenceTransformer) -> bool:
    """Say whether `model` is of an architecture whose layers `embed_packed` knows.

    Args:
        model: any Sentence Transformers model.

    Returns:
        True for plain BERT and MPNet encoders with exact GELU and padding on the right.
    """
    transformer = model[0]
    if not isinstance(transformer, Transformer):
        return False
    network = transformer.model
    config = network.config
    return (
        type(network) in (BertModel, MPNetModel)
        and config.hidden_act == "gelu"
        and not getattr(config, "is_decoder", False)
        and not getattr(config, "add_cross_attention", False)
        and getattr(config, "position_embedding_type", "absolute") == "absolute"
        and transformer.tokenizer.padding_side == "right"
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
    positions = torch.cat([torch.arange(length) for length in lengths]).to(device)
    groups = plan_groups(lengths, overhead=GROUP_OVERHEAD_CELLS, device=device)
    ids = torch.cat([texts[index] for index in order])
    features: dict[str, Any] = {
        "token_embeddings": run_packed(cast("Any", model[0]).model, ids, positions, groups, dtype=dtype)[None],
        # This is how the library's own modules know packed texts apart.
        "cu_seq_lens_q": torch.tensor([0, *lengths], device=device).cumsum(0),
    }
    for module in list(model)[1:]:
        features = module(features)
    places = torch.empty(len(order), dtype=torch.long)
    places[torch.tensor(order)] = torch.arange(len(order))
    embeddings: Tensor = features["sentence_embedding"].index_select(0, places.to(device))
    return embeddings


def cut_by_length(lengths: Sequence[int], *, overhead: int, power: int) -> list[tuple[int, int]]:
    """Cut texts in order of length into the groups that cost least when each is padded to its longest.

    A group of n texts, the longest of L tokens, costs n * L**power + overhead; the cheapest cut is found exactly, by
    dynamic programming over the positions of the cuts.

    Args:
        lengths: tokens of each text, ascending.
        overhead: cost of one group more, in cells.
        power: 2 where attention's square blocks count, 1 where all layers work on padding.

    Returns:
        Half-open ranges (first, last + 1) of texts, which cover all of `lengths` in order.
    """
    best = [0] + [0] * len(lengths)
    first_of = [0] * (len(lengths) + 1)
    for stop in range(1, len(lengths) + 1):
        cells = lengths[stop - 1] ** power
        best[stop], first_of[stop] = min(
            (best[first] + (stop - first) * cells + overhead, first) for first in range(stop)
        )
    cuts = []
    stop = len(lengths)
    while stop > 0:
        cuts.append((first_of[stop], stop))
        stop = first_of[stop]
    return cuts[::-1]


def plan_groups(lengths: Sequence[int], *, overhead: int, device: torch.device) -> list[Group]:
    """Plan the attention blocks of a packed batch.

    Args:
        lengths: tokens of each text, ascending, in the order in which they are packed.
        overhead: cost of one group more, in cells of an attention block.
        device: where the index tensors go.

    Returns:
        The groups in order; together they cover all tokens.
    """
    groups = []
    start = 0
    for first, last in cut_by_length(lengths, overhead=overhead, power=2):
        own = torch.tensor(lengths[first:last])
        length, total = int(own[-1]), int(own.sum())
        if int(own[0]) == length:
            groups.append(Group(start, start + total, last - first, length, None, None, None))
        else:
            is_token = torch.arange(length) < own[:, None]
            scatter = is_token.flatten().nonzero().squeeze(1)
            gather = torch.zeros(is_token.numel(), dtype=torch.long)
            gather[scatter] = torch.arange(total)
            key_mask = torch.zeros(is_token.shape).masked_fill_(~is_token, -torch.inf)[:, None, None, :]
            groups.append(
                Group(
                    start,
                    start + total,
                    last - first,
                    length,
                    gather.to(device),
                    scatter.to(device),
                    key_mask.to(device),
                )
            )
        start += total
    return groups


def draw_mask(shape: Sequence[int], keep: float, device: torch.device) -> tuple[Tensor, float]:
    """Draw dropout's mask from torch's generator of `device`.

    On a CPU one 16-bit number is drawn per element, seven times as fast as `bernoulli_`, which draws one at a time from
    its full width; the probability is therefore rounded to a multiple of 2**-16 and the exact one is returned.

    Args:
        shape: of the mask.
        keep: the probability that an element is kept.
        device: where the mask goes.

    Returns:
        The boolean mask, True where an element is kept, and the exact probability of that.
    """
    if device.type != "cpu":
        return torch.rand(tuple(shape), device=device) < keep, keep
    count = 1
    for size in shape:
        count *= size
    kept = round(keep * 2**16)
    words = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None)
    return (words.view(torch.int16)[:count] < kept - 2**15).view(tuple(shape)), kept / 2**16


def _linear(inner: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """functional.linear, but in fp32 on a CPU without gradients through oneDNN.

    torch hands fp32 products to MKL, which on processors other than Intel's does not use AVX-512: oneDNN was measured
    to be 2.2 times as fast (403 against 180 GFLOP/s) at the same precision.
    """
    if inner.device.type == "cpu" and inner.dtype == torch.float32 and not torch.is_grad_enabled():
        product: Tensor = torch.ops.mkldnn._linear_pointwise(inner, weight, bias, "none", [], "")
        return product
    return functional.linear(inner, weight, bias)


class _GroupAttention(torch.autograd.Function):
    """Self-attention within each text of a packed batch, group by group.

    Softmax runs in fp32 whatever the type of the products. Kept for the backward pass: queries, keys and values, the
    probabilities and dropout's masks, each once, in the type of the products.
    """

    @staticmethod
    def forward(
        ctx: Any, qkv: Tensor, position_bias: Tensor | None, groups: Sequence[Group], heads: int, dropout: float
    ) -> Tensor:
        width = qkv.shape[1] // 3
        size = width // heads
        context = qkv.new_empty(qkv.shape[0], width)
        saved: list[Tensor | None] = []
        keep = 1.0
        for group in groups:
            block = qkv[group.start : group.stop]
            if group.gather is not None:
                block = block.index_select(0, group.gather)
            shape = (group.texts, heads, group.length)
            block = block.view(group.texts, group.length, 3, heads, size).permute(2, 0, 3, 1, 4)
            query, key, value = block.reshape(3, group.texts * heads, group.length, size)
            scores = torch.bmm(query, key.transpose(1, 2)).view(*shape, group.length)
            bias = None if position_bias is None else position_bias[:, : group.length, : group.length]
            if group.key_mask is not None:
                bias = group.key_mask if bias is None else bias + group.key_mask
            if bias is None:
                scores = scores.float() * size**-0.5
            else:
                scores = torch.add(bias, scores, alpha=size**-0.5)
            probabilities = scores.softmax(-1).to(qkv.dtype)
            kept, mask = probabilities, None
            if dropout > 0:
                mask, keep = draw_mask(probabilities.shape, 1 - dropout, qkv.device)
                kept = probabilities * mask
            mixed = torch.bmm(kept.view(-1, group.length, group.length), value)
            if dropout > 0:
                mixed *= 1 / keep
            mixed = mixed.view(*shape, size).transpose(1, 2).reshape(-1, width)
            context[group.start : group.stop] = mixed if group.scatter is None else mixed.index_select(0, group.scatter)
            saved += [query, key, value, probabilities, mask]
        ctx.save_for_backward(*saved)
        ctx.groups, ctx.heads, ctx.keep = groups, heads, keep
        ctx.bias_shape = None if position_bias is None else position_bias.shape
        return context

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        width, heads = gradient.shape[1], ctx.heads
        size = width // heads
        qkv_gradient = gradient.new_empty(gradient.shape[0], 3 * width)
        bias_gradient = None
        if ctx.bias_shape is not None and ctx.needs_input_grad[1]:
            bias_gradient = torch.zeros(ctx.bias_shape, device=gradient.device)
        saved = ctx.saved_tensors
        for index, group in enumerate(ctx.groups):
            query, key, value, probabilities, mask = saved[5 * index : 5 * index + 5]
            own = gradient[group.start : group.stop]
            if group.scatter is not None:
                own = own.new_zeros(group.texts * group.length, width).index_copy_(0, group.scatter, own)
            own = own.view(group.texts, group.length, heads, size).transpose(1, 2)
            own = own.reshape(-1, group.length, size)
            if mask is not None:
                own = own * (1 / ctx.keep)
            kept = probabilities if mask is None else probabilities * mask
            block = own.new_empty(3, group.texts * heads, group.length, size)
            torch.bmm(kept.view(-1, group.length, group.length).transpose(1, 2), own, out=block[2])
            grad_kept = torch.bmm(own, value.transpose(1, 2)).view_as(probabilities)
            if mask is not None:
                grad_kept *= mask
            grad_scores = torch.ops.aten._softmax_backward_data(grad_kept, probabilities, -1, probabilities.dtype)
            if bias_gradient is not None:
                bias_gradient[:, : group.length, : group.length] += grad_scores.sum(0, dtype=torch.float32)
            grad_scores = grad_scores.mul_(size**-0.5).view(-1, group.length, group.length)
            torch.bmm(grad_scores, key, out=block[0])
            torch.bmm(grad_scores.transpose(1, 2), query, out=block[1])
            block = block.view(3, group.texts, heads, group.length, size).permute(1, 3, 0, 2, 4)
            block = block.reshape(-1, 3 * width)
            qkv_gradient[group.start : group.stop] = (
                block if group.scatter is None else block.index_select(0, group.scatter)
            )
        return qkv_gradient, bias_gradient, None, None, None


class _DropoutAdd(torch.autograd.Function):
    """residual + dropout(update), where the update may be of a narrower type; only the mask is kept."""

    @staticmethod
    def forward(ctx: Any, residual: Tensor, update: Tensor, dropout: float) -> Tensor:
        mask, keep = draw_mask(update.shape, 1 - dropout, update.device)
        ctx.save_for_backward(mask)
        ctx.keep, ctx.type = keep, update.dtype
        return torch.add(residual, update * mask, alpha=1 / keep)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        (mask,) = ctx.saved_tensors
        return gradient, (gradient * (1 / ctx.keep)).to(ctx.type).mul_(mask), None


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
    groups: Sequence[Group],
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
        groups: the attention blocks, from `plan_groups`.
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
    if isinstance(network, MPNetModel):
        bias = _position_bias(network, max(group.length for group in groups))
    for layer in _layers(network):
        narrow = state.to(dtype)
        qkv = _linear(
            narrow,
            torch.cat([part.weight.to(dtype) for part in (layer.query, layer.key, layer.value)]),
            torch.cat([part.bias.to(dtype) for part in (layer.query, layer.key, layer.value)]),
        )
        context = _GroupAttention.apply(qkv, bias, groups, heads, attention_dropout)
        update = _linear(context, layer.output.weight.to(dtype), layer.output.bias.to(dtype))
        state = _add_and_norm(state, update, layer.attention_norm, hidden_dropout)
        inner = _linear(state.to(dtype), layer.up.weight.to(dtype), layer.up.bias.to(dtype))
        update = _GeluLinear.apply(inner, layer.down.weight.to(dtype), layer.down.bias.to(dtype))
        state = _add_and_norm(state, update, layer.output_norm, hidden_dropout)
    return state


def _add_and_norm(residual: Tensor, update: Tensor, norm: nn.LayerNorm, dropout: float) -> Tensor:
    total: Tensor = _DropoutAdd.apply(residual, update, dropout) if dropout > 0 else residual + update
    return functional.layer_norm(total, norm.normalized_shape, norm.weight, norm.bias, norm.eps)


def _embed_tokens(network: Any, ids: Tensor, positions: Tensor) -> Tensor:
    """Embed tokens and positions as the network does, up to its dropout."""
    parts = network.embeddings
    if isinstance(network, MPNetModel):
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
    if isinstance(network, MPNetModel):
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
