"""Evaluation on the device is in fp32 and gives what the CPU gives: embeddings, ranked lists, and no TF32."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.errors import DataError
from harness.experiment.model import Similarity
from tests.support.tiny_training import make_rows

CLOSE = 1e-5
QUERIES, PASSAGES, DIMENSIONS, TOP_K = 70, 5000, 48, 20


def test_embeddings_are_the_cpus(wide: Path, device: str) -> None:
    from harness.models.encoder import encode_texts, open_encoder

    texts = [row.passage for row in make_rows(44)]
    here, there = (
        encode_texts(open_encoder(wide, device=name), texts, role="passage", batch_tokens=512)
        for name in ("cpu", device)
    )
    assert here.dtype == there.dtype == np.float32
    assert np.abs(here - there).max() < CLOSE


def switch_on_newer() -> None:
    import torch

    torch.backends.cuda.matmul.fp32_precision = "tf32"


def switch_on_older() -> None:
    import torch

    torch.backends.cuda.matmul.allow_tf32 = True


def switch_on_for_all() -> None:
    import torch

    torch.set_float32_matmul_precision("high")


@pytest.mark.parametrize("switch_on", [switch_on_newer, switch_on_older, switch_on_for_all])
def test_tf32_is_off_in_evaluation_and_as_it_was_afterwards(
    wide: Path, device: str, switch_on: Callable[[], None]
) -> None:
    import torch

    from harness.models.encoder import encode_texts, open_encoder

    texts = [row.passage for row in make_rows(44)]
    encoder = open_encoder(wide, device=device)
    expected = encode_texts(encoder, texts, role="passage", batch_tokens=512)
    seen = []
    products: Any = torch.backends.cuda.matmul
    # Pooling, which every way of embedding goes through.
    encoder.model[1].register_forward_hook(lambda *_: seen.append(products.fp32_precision))
    switch_on()
    try:
        assert products.fp32_precision == "tf32"
        found = encode_texts(encoder, texts, role="passage", batch_tokens=512)
        assert set(seen) == {"ieee"}
        assert products.fp32_precision == "tf32"
        np.testing.assert_array_equal(found, expected)
    finally:
        torch.set_float32_matmul_precision("highest")


def test_tf32_is_on_again_after_an_error(device: str) -> None:
    import torch

    from harness.models.search import retrieve

    switch_on_newer()
    bad = np.full((1, 4), np.nan, dtype=np.float32)
    with pytest.raises(DataError, match="not finite"):
        retrieve(bad, ["q"], bad, ["p"], top_k=1, device=device)
    assert torch.backends.cuda.matmul.fp32_precision == "tf32"


def draw(rows: int, seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((rows, DIMENSIONS), dtype=np.float32)


def score(queries: NDArray[np.float32], passages: NDArray[np.float32], similarity: Similarity) -> NDArray[np.float64]:
    """Score every pair in float64, by the definition."""
    one, other = queries.astype(np.float64), passages.astype(np.float64)
    if similarity == "cosine":
        one, other = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (one, other))
    if similarity in {"cosine", "dot"}:
        return np.asarray(one @ other.T)
    order = 2 if similarity == "euclidean" else 1
    return np.asarray(-np.linalg.norm(one[:, None] - other[None], ord=order, axis=2))


@pytest.mark.parametrize("memory_bytes", [2**30, 200_000], ids=["one product", "blocks"])
@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_ranked_lists_are_the_truth_whole_and_in_blocks(device: str, similarity: Similarity, memory_bytes: int) -> None:
    from harness.models.search import retrieve

    queries, passages = draw(QUERIES, 0), draw(PASSAGES, 1)
    passages[100:120] = passages[99]  # as many that tie as are wanted
    queries[0] = passages[99]
    names = [f"p{number:05}" for number in range(PASSAGES)]
    run = retrieve(
        queries,
        [f"q{number}" for number in range(QUERIES)],
        passages,
        names,
        top_k=TOP_K,
        device=device,
        similarity=similarity,
        memory_bytes=memory_bytes,
    )
    truth = score(queries, passages, similarity)
    for row, (ranked, found) in enumerate(zip(run.passage_ids, run.scores, strict=True)):
        best = np.sort(truth[row])[::-1][:TOP_K]
        np.testing.assert_allclose(found, best, rtol=CLOSE, atol=CLOSE)
        np.testing.assert_allclose(truth[row][[names.index(name) for name in ranked]], best, rtol=CLOSE, atol=CLOSE)
    # Of equal scores the lower id is first, wherever the blocks are cut.
    assert list(run.passage_ids[0]) == names[99 : 99 + TOP_K]


@pytest.mark.parametrize("similarity", ["euclidean", "manhattan"])
def test_distances_are_ranked_alike(device: str, similarity: Similarity) -> None:
    from harness.models.search import retrieve

    queries, passages = draw(5, 0), draw(300, 1)
    run = retrieve(
        queries,
        list("abcde"),
        passages,
        [f"p{number:05}" for number in range(300)],
        top_k=TOP_K,
        device=device,
        similarity=similarity,
    )
    best = np.sort(score(queries, passages, similarity), axis=1)[:, ::-1][:, :TOP_K]
    np.testing.assert_allclose(np.array(run.scores), best, rtol=CLOSE)


def test_blocks_give_the_cpus_very_scores(device: str) -> None:
    """Scores of a shortlist are computed on the CPU, whatever made the list."""
    from harness.models.search import retrieve

    queries, passages = draw(QUERIES, 2), draw(PASSAGES, 3)
    names = [f"p{number:05}" for number in range(PASSAGES)]
    here, there = (
        retrieve(
            queries, list(map(str, range(QUERIES))), passages, names, top_k=TOP_K, device=name, memory_bytes=200_000
        )
        for name in ("cpu", device)
    )
    assert here == there
