"""Lets each text of a packed batch attend to itself, in padded blocks of texts of like length."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# What one more block costs, counted in cells that could be computed meanwhile; measured on a CPU.
BLOCK_OVERHEAD_CELLS = 10_000

# Blocks are as long as the next multiple, so that batches share the shapes for which kernels are made.
BLOCK_LENGTH_MULTIPLE = 8


# How finely a probability is represented on a CPU: in steps of one in as many.
STEPS = 2**16

DRAWS_PER_WORD = 4


@dataclass(frozen=True)
class Block:
    """Neighbouring texts of a packed batch, padded to one length.

    `gather` (texts * length) names for each cell of the block the token, counted from `start`, that fills it; `scatter`
    (stop - start) names for each token its cell; `key_mask` (texts, 1, 1, length) is 0 for tokens and -inf for padding.
    All three are None where no text needs padding.
    """

    start: int
    stop: int
    texts: int
    length: int
    gather: Tensor | None
    scatter: Tensor | None
    key_mask: Tensor | None


def cut_by_length(lengths: Sequence[int], *, overhead: int, power: int) -> list[tuple[int, int]]:
    """Cut texts in order of length into the groups that cost least when each is padded to its longest.

    A group of n texts, the longest of L tokens, costs n * L**power + overhead. The cheapest cut is found exactly, by
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


def plan_blocks(lengths: Sequence[int], device: torch.device) -> list[Block]:
    """Plan the attention blocks of a packed batch.

    Args:
        lengths: tokens of each text, ascending, in the order in which they are packed.
        device: where the index tensors go.

    Returns:
        The blocks in order; together they cover all tokens.
    """
    rounded = [-(-length // BLOCK_LENGTH_MULTIPLE) * BLOCK_LENGTH_MULTIPLE for length in lengths]
    blocks = []
    start = 0
    for first, last in cut_by_length(rounded, overhead=BLOCK_OVERHEAD_CELLS, power=2):
        own = torch.tensor(lengths[first:last])
        length, tokens = rounded[last - 1], int(own.sum())
        is_token = torch.arange(length) < own[:, None]
        gather = scatter = key_mask = None
        if not bool(is_token.all()):
            scatter = is_token.flatten().nonzero().squeeze(1)
            gather = torch.zeros(is_token.numel(), dtype=torch.long)
            gather[scatter] = torch.arange(tokens)
            key_mask = torch.zeros(is_token.shape).masked_fill_(~is_token, -torch.inf)[:, None, None, :]
            gather, scatter, key_mask = gather.to(device), scatter.to(device), key_mask.to(device)
        blocks.append(Block(start, start + tokens, last - first, length, gather, scatter, key_mask))
        start += tokens
    return blocks


class BlockAttention(torch.autograd.Function):
    """Multi-head self-attention, block by block, with dropout on the probabilities.

    Softmax runs in fp32 whatever the type of the products. Kept for the backward pass are queries, keys, values and
    probabilities in the type of the products, those that dropout hides with a minus.

    Source: Vaswani et al. 2017, section 3.2; the position bias as in MPNet (Song et al. 2020, section 3).
    """

    @staticmethod
    def forward(
        ctx: Any,
        qkv: Tensor,
        position_bias: Tensor | None,
        *options: Any,
    ) -> Tensor:
        """Mix the values of each text.

        Args:
            ctx: of this call.
            qkv: queries, keys and values side by side, shape (tokens, 3 * width). Tokens after the last block's get 0.
            position_bias: added to the scores, shape (heads, longest, longest) or larger, or None.
            options: the blocks, the number of heads and the probability of dropout.

        Returns:
            The mixed values, shape (tokens, width).
        """
        blocks, heads, dropout = options
        width = qkv.shape[1] // 3
        size = width // heads
        context = qkv.new_empty(qkv.shape[0], width)
        context[blocks[-1].stop :] = 0
        saved: list[Tensor] = []
        keep = 1.0
        for block in blocks:
            query, key, value = _split_heads(_pad(qkv, block), block, heads, 3)
            scores = torch.bmm(query, key.transpose(1, 2)).view(block.texts, heads, block.length, block.length)
            bias = None if position_bias is None else position_bias[:, : block.length, : block.length]
            if block.key_mask is not None:
                bias = block.key_mask if bias is None else bias + block.key_mask
            scale = size**-0.5
            scores = scores.float() * scale if bias is None else torch.add(bias, scores, alpha=scale)
            probabilities = scores.softmax(-1).to(qkv.dtype)
            kept = probabilities
            if dropout > 0:
                dropped, keep = draw_dropped(probabilities.shape, 1 - dropout, qkv.device)
                # No probability is below 0, so that the sign has room for the mask.
                probabilities = torch.copysign(probabilities, dropped)
                kept = probabilities.relu()
            mixed = torch.bmm(kept.view(-1, block.length, block.length), value)
            if dropout > 0:
                mixed *= 1 / keep
            mixed = mixed.view(block.texts, heads, block.length, size).transpose(1, 2).reshape(-1, width)
            context[block.start : block.stop] = _strip(mixed, block)
            saved += [query, key, value, probabilities]
        ctx.save_for_backward(*saved)
        ctx.blocks, ctx.heads, ctx.keep, ctx.drops = blocks, heads, keep, dropout > 0
        ctx.bias_shape = None if position_bias is None else position_bias.shape
        return context

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of `qkv` and of the position bias."""
        (gradient,) = gradients
        width, heads = gradient.shape[1], ctx.heads
        size = width // heads
        qkv_gradient = gradient.new_empty(gradient.shape[0], 3 * width)
        qkv_gradient[ctx.blocks[-1].stop :] = 0
        bias_gradient = None
        if ctx.bias_shape is not None and ctx.needs_input_grad[1]:
            bias_gradient = torch.zeros(ctx.bias_shape, device=gradient.device)
        for index, block in enumerate(ctx.blocks):
            query, key, value, probabilities = ctx.saved_tensors[4 * index : 4 * index + 4]
            own = gradient[block.start : block.stop]
            if block.scatter is not None:
                own = own.new_zeros(block.texts * block.length, width).index_copy_(0, block.scatter, own)
            (own,) = _split_heads(own, block, heads, 1)
            kept = probabilities
            if ctx.drops:
                own = own * (1 / ctx.keep)
                kept = probabilities.relu()
            parts = own.new_empty(3, *own.shape)
            torch.bmm(kept.view(-1, block.length, block.length).transpose(1, 2), own, out=parts[2])
            kept_gradient = torch.bmm(own, value.transpose(1, 2)).view_as(probabilities)
            if ctx.drops:
                # The operator that autograd itself runs for relu: 0 where the sign says dropped, which is what a bool
                # mask would give at several times the cost, since torch makes floats of it first.
                kept_gradient = torch.ops.aten.threshold_backward(kept_gradient, probabilities, 0)
                probabilities = probabilities.abs()
            # The operator that autograd itself runs for softmax; it has no public name.
            score_gradient = torch.ops.aten._softmax_backward_data(  # noqa: SLF001 - see above
                kept_gradient, probabilities, -1, probabilities.dtype
            )
            if bias_gradient is not None:
                bias_gradient[:, : block.length, : block.length] += score_gradient.sum(0, dtype=torch.float32)
            score_gradient = score_gradient.mul_(size**-0.5).view(-1, block.length, block.length)
            torch.bmm(score_gradient, key, out=parts[0])
            torch.bmm(score_gradient.transpose(1, 2), query, out=parts[1])
            parts = parts.view(3, block.texts, heads, block.length, size).permute(1, 3, 0, 2, 4)
            qkv_gradient[block.start : block.stop] = _strip(parts.reshape(-1, 3 * width), block)
        return qkv_gradient, bias_gradient, None, None, None


def _pad(packed: Tensor, block: Block) -> Tensor:
    """Take the block's tokens, those of padding being copies that the mask hides."""
    own = packed[block.start : block.stop]
    return own if block.gather is None else own.index_select(0, block.gather)


def _strip(padded: Tensor, block: Block) -> Tensor:
    """Undo `_pad`."""
    return padded if block.scatter is None else padded.index_select(0, block.scatter)


def _split_heads(padded: Tensor, block: Block, heads: int, parts: int) -> Tensor:
    """Bring (texts * length, parts * width) into (parts, texts * heads, length, size), as batched products want it."""
    split = padded.view(block.texts, block.length, parts, heads, -1).permute(2, 0, 3, 1, 4)
    return split.reshape(parts, block.texts * heads, block.length, -1)


def draw_mask(shape: Sequence[int], keep: float, device: torch.device) -> tuple[Tensor, float]:
    """Draw a mask that keeps each element independently, from torch's generator of `device`.

    On a CPU, `bernoulli_` draws a full random number for every element; here four elements share one of 64 bits. The
    probability is therefore rounded to a multiple of 2**-16, and the exact one is returned, so that dividing by it
    leaves expectations as they are.

    Args:
        shape: of the mask.
        keep: the probability that an element is kept, from 0 to 1.
        device: where the mask goes.

    Returns:
        The boolean mask, True where an element is kept, and the exact probability of that.
    """
    if device.type != "cpu":
        return torch.rand(tuple(shape), device=device) < keep, keep
    draws, limit, exact = _draw(shape, keep)
    return torch.ones(tuple(shape), dtype=torch.bool) if limit is None else draws < limit, exact


def draw_dropped(shape: Sequence[int], keep: float, device: torch.device) -> tuple[Tensor, float]:
    """Draw the mask of `draw_mask`, from the same random numbers, as int16: 0 where that is True, -1 where it is False.

    Arithmetic on integers of the size of a half-precision number is several times as fast as on bools.
    """
    if device.type != "cpu":
        mask, exact = draw_mask(shape, keep, device)
        return mask.to(torch.int16).sub_(1), exact
    draws, limit, exact = _draw(shape, keep)
    if limit is None:
        return torch.zeros(tuple(shape), dtype=torch.int16), exact
    return torch.lt(draws, limit, out=torch.empty_like(draws)).sub_(1), exact


def _draw(shape: Sequence[int], keep: float) -> tuple[Tensor, int | None, float]:
    """Return random int16, below what number one stands for True (None: any does), and the probability of that."""
    count = math.prod(shape)
    threshold = round(keep * STEPS)
    words = torch.empty(-(-count // DRAWS_PER_WORD), dtype=torch.int64).random_(-(2**63), None)
    draws = words.view(torch.int16)[:count].view(tuple(shape))
    # The draws are signed, from -STEPS / 2 on; int16 cannot hold the threshold that keeps everything.
    return draws, threshold - STEPS // 2 if threshold < STEPS else None, threshold / STEPS
