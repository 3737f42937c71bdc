"""Queries that are also in train are counted as they stand and normalised."""

from __future__ import annotations

import pytest

from harness.pipeline.train_overlap import Overlap, count_overlap, normalise


@pytest.mark.parametrize(
    ("query", "exact", "normalised"),
    [
        ("What is a gene?", 1, 1),
        ("what  is a GENE", 0, 1),
        ("What is a gene\u00a0?", 0, 1),
        ("\uff37hat is a gene", 0, 1),
        ("What is a protein?", 0, 0),
        ("What isa gene?", 0, 0),
        ("?!", 0, 0),
    ],
)
def test_a_query_of_train_is_found(query: str, exact: int, normalised: int) -> None:
    assert count_overlap([query], ["What is a gene?", "..."]) == Overlap(exact, normalised)


def test_every_query_of_the_test_set_counts() -> None:
    assert count_overlap(["a", "A", "b"], ["a"]) == Overlap(1, 2)


def test_a_text_without_words_stays() -> None:
    assert normalise("?!") == "?!"
