"""Draws dropout's masks several times as fast as torch does on a CPU, from the same generator."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

# How finely a probability is represented on a CPU: in steps of one in as many.
STEPS = 2**16

DRAWS_PER_WORD = 4


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
    count = math.prod(shape)
    threshold = round(keep * STEPS)
    words = torch.empty(-(-count // DRAWS_PER_WORD), dtype=torch.int64).random_(-(2**63), None)
    draws = words.view(torch.int16)[:count]
    # The draws are signed, from -STEPS / 2 on; int16 cannot hold the threshold that keeps everything.
    mask = draws < threshold - STEPS // 2 if threshold < STEPS else torch.ones(count, dtype=torch.bool)
    return mask.view(tuple(shape)), threshold / STEPS
