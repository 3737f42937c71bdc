"""BM25's ranking is that of its formula, ties by id, whatever words queries have."""

from __future__ import annotations

import math
import random
import re
from collections import Counter

import numpy as np
import pytest

from harness.errors import DataError
from harness.models.bm25 import Bm25, rank_bm25

WORDS = ["gene", "protein", "cell", "receptor", "cancer", "treatment", "drug", "heart", "kinase", "the", "of", "and"]


def draw_texts(prefix: str, count: int, seed: int) -> dict[str, str]:
    draw = random.Random(seed)
    names = draw.sample(range(1000), count)
    return {f"{prefix}{name}": " ".join(draw.choices(WORDS, k=draw.randint(1, 9))).title() for name in names}


def score(query: str, passages: dict[str, str], settings: Bm25) -> dict[str, float]:
    """The formula, word by word, as the class states it."""
    dropped = {"the", "of", "and"} if settings.stopwords == "english" else set()
    split = {
        name: [word for word in re.findall(r"\w\w+", text.lower()) if word not in dropped]
        for name, text in passages.items()
    }
    mean = sum(map(len, split.values())) / len(split)
    scores = dict.fromkeys(passages, 0.0)
    for word in re.findall(r"\w\w+", query.lower()):
        having = sum(word in words for words in split.values())
        for name, words in split.items():
            count = Counter(words)[word]
            if count and word not in dropped:
                weight = math.log(1 + (len(split) - having + 0.5) / (having + 0.5))
                norm = settings.k1 * (1 - settings.b + settings.b * len(words) / mean)
                scores[name] += weight * count / (count + norm)
    return scores


@pytest.mark.parametrize("settings", [Bm25(), Bm25(k1=0.9, b=0.4, stopwords="none")], ids=["own", "other"])
@pytest.mark.parametrize("top_k", [1, 10, 1000])
def test_ranking_is_that_of_the_formula(settings: Bm25, top_k: int) -> None:
    passages, queries = draw_texts("p", 200, 1), draw_texts("q", 30, 2)
    run = rank_bm25(queries, passages, top_k=top_k, settings=settings)
    assert run.query_ids == tuple(queries)
    for query, ranked, scores in zip(queries, run.passage_ids, run.scores, strict=True):
        expected = score(queries[query], passages, settings)
        assert len(ranked) == min(top_k, 200)
        np.testing.assert_allclose(scores, [expected[name] for name in ranked], atol=1e-5)
        best = sorted(expected.values(), reverse=True)[: len(ranked)]
        np.testing.assert_allclose(scores, best, atol=1e-5)


def test_equal_scores_are_ranked_by_id() -> None:
    passages = dict.fromkeys(["b", "c", "a", "aa"], "gene protein")
    run = rank_bm25({"q": "gene"}, {**passages, "z": "gene gene protein"}, top_k=4)
    assert run.passage_ids == (("z", "a", "aa", "b"),)


@pytest.mark.parametrize("query", ["", "unheard", "the of", "?"])
def test_a_query_without_a_word_of_the_corpus_ranks_all_at_zero(query: str) -> None:
    run = rank_bm25({"q": query}, {"b": "gene", "a": "protein cell", "c": ""}, top_k=2)
    assert run.passage_ids == (("a", "b"),)
    assert run.scores == ((0.0, 0.0),)


def test_passages_without_a_word_are_refused() -> None:
    with pytest.raises(DataError, match="none of the 2 passages has a word"):
        rank_bm25({"q": "gene"}, {"b": "", "a": "the of"}, top_k=2)


def test_nothing_to_rank_is_refused() -> None:
    with pytest.raises(DataError, match="nothing to rank"):
        rank_bm25({}, {"a": "gene"}, top_k=1)
    with pytest.raises(DataError, match="nothing to rank"):
        rank_bm25({"q": "gene"}, {}, top_k=1)
    with pytest.raises(DataError, match="top_k is 0"):
        rank_bm25({"q": "gene"}, {"a": "gene"}, top_k=0)
