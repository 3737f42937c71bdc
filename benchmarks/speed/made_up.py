"""Models of real shapes and texts of real lengths, made on the spot: speed minds neither weights nor meaning."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tests.support.tiny_model import Architecture, build_tiny_model

# Of lengths in tokens, drawn as those of questions and of abstracts are: around a median, some of them very long.
QUERY_TOKENS, PASSAGE_TOKENS, SPREAD = 14, 180, 0.6
# Of the vocabulary: special tokens and characters, which no text has.
OTHER_PIECES = 200


@dataclass(frozen=True)
class Shape:
    """What decides the arithmetic of a model."""

    architecture: Architecture
    layers: int
    hidden: int
    inner: int
    heads: int
    vocabulary: int
    length: int

    @property
    def tiny(self) -> Shape:
        """The same architecture at a size to try a measurement with."""
        return replace(self, layers=2, hidden=32, inner=64, heads=4, vocabulary=500, length=64)

    def count_operations(self, tokens: int, squares: int) -> float:
        """Count multiplications and additions of a forward pass over so many tokens without padding.

        ``squares`` is the sum of the texts' squared lengths, which attention grows with.
        """
        linear = 2 * (4 * self.hidden**2 + 2 * self.hidden * self.inner) * tokens
        return float(self.layers * (linear + 4 * self.hidden * squares))


SHAPES = {
    "all-mpnet-base-v2": Shape("mpnet", 12, 768, 3072, 12, 30527, 384),
    "all-MiniLM-L6-v2": Shape("bert", 6, 384, 1536, 12, 30522, 256),
}


def build_model(folder: Path, shape: Shape) -> Path:
    """Write a model of a shape with random weights, of which the same shape always has the same."""
    return build_tiny_model(
        folder,
        architecture=shape.architecture,
        hidden_size=shape.hidden,
        layers=shape.layers,
        max_length=shape.length,
        heads=shape.heads,
        inner_size=shape.inner,
        vocabulary_size=shape.vocabulary,
    )


def write_rows(folder: Path, shape: Shape, *, pairs: int, passages: int) -> None:
    """Write rows of made-up words to train on and to evaluate with, as `plain_recipe` reads them."""
    generator = np.random.default_rng(0)
    words = shape.vocabulary - OTHER_PIECES
    folder.mkdir(parents=True, exist_ok=True)
    for part, count in (("train", pairs), ("test", passages)):
        rows = []
        for number in range(count):
            query, passage = (
                " ".join(f"w{word}" for word in generator.integers(0, words, draw_length(generator, median, shape)))
                for median in (QUERY_TOKENS, PASSAGE_TOKENS)
            )
            # A word of its own keeps every text another one, however few words there are.
            rows.append({"id": f"{part}{number}", "anchor": f"w{number} {query}", "positive": f"{passage} w{number}"})
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{part}.jsonl").write_text(lines, encoding="utf-8")


def draw_length(generator: np.random.Generator, median: int, shape: Shape) -> int:
    """Draw a number of words; a model cuts what is longer than it reads."""
    return max(3, min(shape.length, round(median * math.exp(SPREAD * generator.standard_normal()))))
