"""How many trials shared a machine, which decides what their seconds can be compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass
class Span:
    """When an attempt ran on a machine, by that machine's clock; None while it runs."""

    machine: str
    begun: float
    ended: float | None = None


def count_together(mine: Span, all_spans: Sequence[Span]) -> int:
    """Return how many attempts were on one machine at once, at most, while one of them ran; itself included."""
    end = mine.ended if mine.ended is not None else float("inf")
    others = [one for one in all_spans if one is not mine and one.machine == mine.machine]
    ends = [(one, one.ended if one.ended is not None else float("inf")) for one in others]
    # The most are there when one begins.
    moments = [mine.begun, *(one.begun for one in others if mine.begun <= one.begun < end)]
    return 1 + max(sum(one.begun <= moment < until for one, until in ends) for moment in moments)
