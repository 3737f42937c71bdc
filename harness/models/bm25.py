"""BM25 ranks passages by the words that they share with a query: the baseline that needs no model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from harness.errors import DataError
from harness.records.run import Run


@dataclass(frozen=True)
class Bm25:
    """BM25's parameters, which decide the values: they belong into the record.

    The formula is Lucene's (Kamphuis et al. 2020, "Which BM25 do you mean?", table 1): a word in a passage counts
    log(1 + (N - n + 0.5) / (n + 0.5)) * f / (f + k1 * (1 - b + b * length / mean length)), where N passages are ranked,
    n of them have the word, this one f times.

    Attributes:
        k1: how late further occurrences of a word stop counting.
        b: how much a passage's length takes away, from 0 to 1.
        stopwords: words that do not count: bm25s' list of 33 English ones, or none.
        word_pattern: what a word is; texts are lowercased before, and words are not stemmed.
    """

    k1: float = 1.5
    b: float = 0.75
    stopwords: Literal["english", "none"] = "english"
    word_pattern: str = r"(?u)\b\w\w+\b"


# bm25s' own parameters.
BM25 = Bm25()


def rank_bm25(queries: Mapping[str, str], passages: Mapping[str, str], *, top_k: int, settings: Bm25 = BM25) -> Run:
    """Rank for each query the `top_k` passages of highest score, by the tie rule; those of score 0 among them.

    Args:
        queries: id -> text.
        passages: id -> text, one or more.
        top_k: ranks to keep; with fewer passages, all are ranked.
        settings: of the formula and of what a word is.

    Returns:
        The run, queries in the order given.

    Raises:
        DataError: there is nothing to rank, no passage has a word, or ``top_k`` is below 1.
    """
    if not queries or not passages:
        raise DataError(f"{len(queries)} queries and {len(passages)} passages: nothing to rank")
    if top_k < 1:
        raise DataError(f"top_k is {top_k}, expected at least 1")
    import bm25s  # noqa: PLC0415 - half a second

    def split(texts: Mapping[str, str]) -> list[list[str]]:
        words: list[list[str]] = bm25s.tokenize(
            list(texts.values()),
            token_pattern=settings.word_pattern,
            stopwords=[] if settings.stopwords == "none" else settings.stopwords,
            return_ids=False,
            show_progress=False,
        )
        return words

    index = bm25s.BM25(k1=settings.k1, b=settings.b, method="lucene", backend="numpy", auto_compile=False)
    corpus = split(passages)
    if not any(corpus):
        raise DataError(f"none of the {len(passages)} passages has a word that counts")
    index.index(corpus, show_progress=False)
    ids = list(passages)
    # The place of each id in the order of ids: of equal scores the lower id comes first.
    places = np.empty(len(ids), dtype=np.int64)
    places[sorted(range(len(ids)), key=ids.__getitem__)] = np.arange(len(ids))
    keep = min(top_k, len(ids))
    ranked, scored = [], []
    for words in split(queries):
        known = [word for word in words if word in index.vocab_dict]
        scores = index.get_scores(known) if known else np.zeros(len(ids), dtype=np.float32)
        best = _take_best(scores, places, keep)
        ranked.append(tuple(ids[row] for row in best))
        scored.append(tuple(scores[best].tolist()))
    return Run(tuple(queries), tuple(ranked), tuple(scored))


def _take_best(scores: NDArray[np.float32], places: NDArray[np.int64], keep: int) -> NDArray[np.int64]:
    """Return the rows of the `keep` highest scores, those of equal score by their places."""
    least = np.partition(scores, len(scores) - keep)[len(scores) - keep]
    candidates = np.flatnonzero(scores >= least)
    return candidates[np.lexsort((places[candidates], -scores[candidates]))][:keep]
