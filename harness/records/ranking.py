"""Ranked lists as integers, which take a hundredth of the memory of a run: many can be kept beside one another."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from harness.records.run import Run

ABSENT = -1
"""Stands behind a list's end."""

Codes = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Ranking:
    """The ranked lists of a run.

    Attributes:
        query_ids: Q ids, each once.
        codes: shape (Q, longest list), the numbers of the passages, `ABSENT` behind a list's end.
    """

    query_ids: tuple[str, ...]
    codes: Codes


@dataclass(frozen=True, slots=True)
class Passages:
    """Numbers passages in the order in which they are met, the same for all runs that are numbered here."""

    numbers: dict[str, int] = field(default_factory=dict)

    def number(self, run: Run) -> Ranking:
        """Return a run's ranked lists as numbers."""
        known = self.numbers
        codes = np.full((len(run.query_ids), max(map(len, run.passage_ids), default=0)), ABSENT, dtype=np.int32)
        for row, ranked in enumerate(run.passage_ids):
            codes[row, : len(ranked)] = [known.setdefault(passage, len(known)) for passage in ranked]
        return Ranking(run.query_ids, codes)
