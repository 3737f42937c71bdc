"""Counts the queries of a test set that a model may have been trained on, as they stand and normalised."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass

WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Overlap:
    """How many queries are also in train: letter for letter, and but for case, punctuation and white space."""

    exact: int
    normalised: int


def count_overlap(queries: Collection[str], train: Collection[str]) -> Overlap:
    """Count queries whose text is one of ``train``; a query counts once for every time that it is in the test set."""
    known, alike = set(train), {normalise(text) for text in train}
    return Overlap(
        exact=sum(text in known for text in queries), normalised=sum(normalise(text) in alike for text in queries)
    )


def normalise(text: str) -> str:
    """Return a text's words in Unicode's NFKC form and without case, one blank between two.

    A text without words is returned as it is, so that two of them are not alike.
    """
    return " ".join(WORD.findall(unicodedata.normalize("NFKC", text).casefold())) or text
