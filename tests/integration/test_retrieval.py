"""Retrieval finds exactly the best passages in the order of the tie rule, however it cuts its work."""

from __future__ import annotations

import random
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from harness.errors import DataError
from harness.experiment.measure import FAMILIES, parse_measure
from harness.experiment.model import Similarity
from harness.models import search as retrieval
from harness.models.search import Embeddings, retrieve
from harness.models.shortlist import Shortlists, reached_by
from harness.records.measures import MEASURES, average, evaluate_run
from harness.records.run import Run, read_run, write_run
from harness.records.trec import write_qrels

DENSE = 2_000_000_000
SIMILARITIES: tuple[Similarity, ...] = get_args(Similarity)
TINY = 1  # bytes: chunks of a single passage
SMALL = 40 * 16 * 100  # bytes: chunks of 100 passages of 16 dimensions


@pytest.fixture
def draw() -> np.random.Generator:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    return np.random.default_rng(seed)


def ids(prefix: str, count: int, draw: np.random.Generator) -> list[str]:
    """Ids whose order is neither that of the rows nor that of their numbers."""
    return [f"{prefix}{number}" for number in draw.permutation(count)]


def oracle(
    queries: Embeddings, passages: Embeddings, passage_ids: list[str], top_k: int, similarity: Similarity = "cosine"
) -> list[list[str]]:
    """The definition, slowly: float64 similarities rounded to float32, sorted by score and id."""
    first, second = queries.astype(np.float64), passages.astype(np.float64)
    if similarity == "cosine":
        first, second = (
            rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12) for rows in (first, second)
        )
    if similarity in {"cosine", "dot"}:
        exact = np.einsum("qd,pd->qp", first, second)
    else:
        power = 2 if similarity == "euclidean" else 1
        exact = np.stack([-np.linalg.norm(second - row, ord=power, axis=1) for row in first])
    scores = exact.astype(np.float32) + np.float32(0)
    return [
        [passage for _, passage in sorted(zip((-row).tolist(), passage_ids, strict=True))[:top_k]] for row in scores
    ]


def ranked(run: Run) -> list[list[str]]:
    return [list(passages) for passages in run.passage_ids]


def tied(draw: np.random.Generator, count: int, dimensions: int = 16, distinct: int = 40) -> Embeddings:
    """Vectors of which many are the same."""
    few = draw.standard_normal((distinct, dimensions)).astype(np.float32)
    return few[draw.integers(0, distinct, count)]


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("memory_bytes", [DENSE, SMALL, TINY])
@pytest.mark.parametrize("top_k", [1, 7, 100, 5000])
def test_tied_passages_stand_in_the_order_of_their_ids_across_all_cuts(
    memory_bytes: int, top_k: int, similarity: Similarity, draw: np.random.Generator
) -> None:
    passages = tied(draw, 300 if memory_bytes == TINY else 1100)
    queries = tied(draw, 20, distinct=20)
    passage_ids = ids("p", len(passages), draw)
    run = retrieve(
        queries,
        ids("q", 20, draw),
        passages,
        passage_ids,
        top_k=top_k,
        device="cpu",
        similarity=similarity,
        memory_bytes=memory_bytes,
    )
    assert ranked(run) == oracle(queries, passages, passage_ids, top_k, similarity)


@pytest.mark.parametrize("kind", ["bfloat16", "float32"])
@pytest.mark.parametrize("spread", [1.0, 1e-2, 1e-3, 1e-5])
def test_passages_nearer_to_each_other_than_coarse_scores_can_tell_are_ranked_exactly(
    kind: str, spread: float, draw: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(retrieval, "_coarse_dtype", lambda _: getattr(torch, kind))
    base = draw.standard_normal(16)
    passages = (base + spread * draw.standard_normal((3000, 16))).astype(np.float32)
    queries = (base + draw.standard_normal((30, 16))).astype(np.float32)
    passage_ids = ids("p", 3000, draw)
    run = retrieve(queries, ids("q", 30, draw), passages, passage_ids, top_k=10, device="cpu", memory_bytes=SMALL * 10)
    assert ranked(run) == oracle(queries, passages, passage_ids, 10)


@pytest.mark.parametrize("kind", ["bfloat16", "float32"])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_dot_products_of_vectors_of_any_length_are_ranked_exactly(
    kind: str, scale: float, draw: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(retrieval, "_coarse_dtype", lambda _: getattr(torch, kind))
    base = draw.standard_normal(16)
    lengths = np.exp(draw.uniform(-3, 3, (3000, 1)))
    passages = (scale * lengths * (base + 0.1 * draw.standard_normal((3000, 16)))).astype(np.float32)
    # A few of nearly the best length, so that coarse scores cannot tell them apart.
    passages[::10] = (passages[0] * (1 + 1e-4 * draw.standard_normal((300, 16)))).astype(np.float32)
    queries = (np.exp(draw.uniform(-9, 9, (30, 1))) * (base + draw.standard_normal((30, 16)))).astype(np.float32)
    queries[0] = 0
    passage_ids = ids("p", 3000, draw)
    run = retrieve(
        queries,
        ids("q", 30, draw),
        passages,
        passage_ids,
        top_k=10,
        device="cpu",
        similarity="dot",
        memory_bytes=SMALL * 10,
    )
    assert ranked(run) == oracle(queries, passages, passage_ids, 10, "dot")


@pytest.mark.parametrize("memory_bytes", [DENSE, SMALL])
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_vectors_of_any_length_have_finite_scores_or_are_refused(similarity: Similarity, memory_bytes: int) -> None:
    names = ["a", "b", "c"]
    options: dict[str, Any] = {"top_k": 3, "device": "cpu", "similarity": similarity, "memory_bytes": memory_bytes}
    opposite = np.array([[1], [-1], [1]], dtype=np.float32)
    for size in (1e18, 4.5e18, 9e18):
        large = np.full((3, 4), size, dtype=np.float32) * opposite
        assert np.isfinite(retrieve(large, names, large, names, **options).scores).all()
    large = np.full((3, 4), 2e19, dtype=np.float32) * opposite
    with pytest.raises(DataError, match="too long for float32"):
        retrieve(large, names, large, names, **options)


@pytest.mark.parametrize("order", ["worst first", "best first"])
def test_the_order_in_which_passages_come_does_not_matter(order: str, draw: np.random.Generator) -> None:
    passages = draw.standard_normal((4000, 16)).astype(np.float32)
    query = draw.standard_normal((1, 16)).astype(np.float32)
    cosines = (passages @ query[0]) / np.linalg.norm(passages, axis=1)
    passages = passages[np.argsort(cosines if order == "worst first" else -cosines)]
    passage_ids = ids("p", 4000, draw)
    run = retrieve(query, ["q"], passages, passage_ids, top_k=20, device="cpu", memory_bytes=SMALL)
    assert ranked(run) == oracle(query, passages, passage_ids, 20)


@pytest.mark.parametrize("memory_bytes", [DENSE, SMALL])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_passages_that_are_all_the_same_are_ranked_by_id(
    value: float, memory_bytes: int, draw: np.random.Generator
) -> None:
    passages = np.full((2000, 16), value, dtype=np.float32)
    passage_ids = ids("p", 2000, draw)
    queries = draw.standard_normal((3, 16)).astype(np.float32)
    run = retrieve(queries, ["a", "b", "c"], passages, passage_ids, top_k=5, device="cpu", memory_bytes=memory_bytes)
    assert ranked(run) == [sorted(passage_ids)[:5]] * 3
    if value == 0:
        assert run.scores == ((0.0,) * 5,) * 3


def test_a_negative_zero_score_ties_with_zero() -> None:
    query = np.array([[1e-30, 1, 0]], dtype=np.float32)
    passages = np.array([[0, 0, 1], [-1e-30, 0, 1]], dtype=np.float32)  # cosines 0 and -1e-60, float32's -0.0
    run = retrieve(query, ["q"], passages, ["b", "a"], top_k=2, device="cpu", memory_bytes=TINY)
    assert run.passage_ids == (("a", "b"),)


def test_both_ways_of_scoring_agree_and_chunks_change_nothing(draw: np.random.Generator) -> None:
    queries = draw.standard_normal((50, 48)).astype(np.float32)
    passages = draw.standard_normal((5000, 48)).astype(np.float32)
    passage_ids, query_ids = ids("p", 5000, draw), ids("q", 50, draw)
    dense, *chunked = (
        retrieve(queries, query_ids, passages, passage_ids, top_k=100, device="cpu", memory_bytes=memory_bytes)
        for memory_bytes in (DENSE, 10_000, 333_333, 1_900_000)
    )
    assert chunked[0] == chunked[1] == chunked[2]
    assert np.abs(np.array(dense.scores) - np.array(chunked[0].scores)).max() < 1e-6
    assert np.mean([a == b for a, b in zip(ranked(dense), ranked(chunked[0]), strict=True)]) > 0.9


@pytest.mark.parametrize("kind", ["bfloat16", "float32"])
def test_the_margin_bounds_the_error_of_coarse_scores(kind: str, draw: np.random.Generator) -> None:
    import torch

    dtype = getattr(torch, kind)
    for dimensions, longest in ((3, 1.0), (384, 1.0), (384, 7.0)):
        queries, passages = (
            retrieval._copy(
                draw.standard_normal((300, dimensions)).astype(np.float32), ["x"] * 300, 0, "x", device="cpu", unit=True
            )
            for _ in range(2)
        )
        passages *= longest
        coarse = (queries.to(dtype), passages.to(dtype))
        errors = [float((c.float() - x).norm(dim=1).max()) for c, x in zip(coarse, (queries, passages), strict=True)]
        margin = retrieval._margin(errors[0], errors[1], dimensions, "cpu", longest=longest)
        exact = queries.double() @ passages.double().T
        product = coarse[0] @ coarse[1].T
        error = (product.double() - exact).abs() - product.double().abs() * (0.51 * torch.finfo(dtype).eps)
        assert float(error.max()) <= margin
        if dtype == torch.bfloat16:  # a bound so wide that all is scored in full would be no use
            assert float((coarse[0].double() @ coarse[1].double().T - exact).abs().max()) >= 0.1 * margin


@pytest.mark.parametrize("kind", ["bfloat16", "float32"])
def test_a_shortlist_holds_the_best_whatever_errors_within_the_margin_coarse_scores_have(
    kind: str, draw: np.random.Generator
) -> None:
    import torch

    dtype, keep, trials, margin = getattr(torch, kind), 1, 4000, 0.003
    full = torch.from_numpy(draw.uniform(0.0, 1.0, (trials, 128)).astype(np.float32))
    errors = torch.from_numpy(draw.choice(np.array([-margin, margin], dtype=np.float32), full.shape))
    shortlists = Shortlists(trials, keep, torch.zeros(0, dtype=dtype))
    shortlists.widen(margin)
    for start in range(0, 128, 64):
        part = slice(start, start + 64)
        shortlists.add(slice(0, trials), (full[:, part] + errors[:, part]).to(dtype), start, 64)
    query, passage = shortlists.pairs(trials)
    listed = torch.zeros(full.shape, dtype=torch.bool)
    listed[query, passage] = True
    best = full.topk(keep, dim=1).indices
    roomy = ~shortlists.crowded
    assert int(roomy.sum()) > trials // 2
    assert listed.gather(1, best)[roomy].all()


@pytest.mark.parametrize("kind", ["bfloat16", "float32"])
def test_a_floor_lets_a_passage_stay_that_equals_the_kth_and_errs_the_other_way(
    kind: str, draw: np.random.Generator
) -> None:
    import torch

    dtype = getattr(torch, kind)
    for margin in (0.0, 1e-7, 0.003):
        shortlists = Shortlists(1, 1, torch.zeros(0, dtype=dtype))
        shortlists.widen(margin)
        full = torch.from_numpy(draw.uniform(-1, 1, 20_000))
        floors = shortlists._floor((full + margin).to(dtype))
        assert (floors <= (full - margin).to(dtype).float()).all()
        assert (floors >= full - 3.1 * margin - 2.1 * torch.finfo(dtype).eps).all()


def test_products_of_pairs_are_sums_of_products_whatever_else_is_asked_for(draw: np.random.Generator) -> None:
    import torch

    queries, passages = (torch.from_numpy(draw.standard_normal((rows, 50))) for rows in (7, 90))
    # Queries of no pair are among them, at both ends too.
    query = torch.tensor([1, 1, 1, 3, 4, 4, 5])
    passage = torch.tensor([5, 0, 89, 2, 2, 88, 5])
    found = retrieval._multiply_pairs(queries, passages, query, passage)
    expected = np.einsum("pd,pd->p", queries.numpy()[query], passages.numpy()[passage])
    np.testing.assert_allclose(found, expected, rtol=1e-13)
    for number in range(len(query)):
        pair = slice(number, number + 1)
        assert torch.equal(retrieval._multiply_pairs(queries, passages, query[pair], passage[pair]), found[pair])


@pytest.mark.parametrize(("columns", "keep"), [(5, 6), (40, 6), (1003, 1), (1003, 6), (1003, 60)])
def test_a_bound_of_the_best_is_reached_by_as_many_and_not_far_below(
    columns: int, keep: int, draw: np.random.Generator
) -> None:
    import torch

    scores = torch.from_numpy(draw.standard_normal((300, columns)).astype(np.float32))
    bound = reached_by(scores, keep)
    reached = (scores >= bound[:, None]).sum(1)
    assert (reached >= min(keep, columns)).all()
    assert float(reached.double().mean()) <= max(1.2 * keep, columns if keep > columns else 0)


def test_a_read_only_memory_map_is_ranked_without_being_copied_whole(draw: np.random.Generator, tmp_path: Path) -> None:
    passages = draw.standard_normal((500, 16)).astype(np.float32)
    np.save(tmp_path / "p.npy", passages)
    mapped = np.load(tmp_path / "p.npy", mmap_mode="r")
    queries = passages[:9] + np.float32(0.01)
    passage_ids, query_ids = ids("p", 500, draw), ids("q", 9, draw)
    for memory_bytes in (DENSE, SMALL):
        found, expected = (
            retrieve(queries, query_ids, data, passage_ids, top_k=10, device="cpu", memory_bytes=memory_bytes)
            for data in (mapped, passages)
        )
        assert found == expected
    assert np.array_equal(np.load(tmp_path / "p.npy"), passages)


@pytest.mark.parametrize("memory_bytes", [DENSE, SMALL])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e38])
def test_an_embedding_that_is_not_finite_is_named(bad: float, memory_bytes: int, draw: np.random.Generator) -> None:
    good = draw.standard_normal((250, 16)).astype(np.float32)
    spoilt = good.copy()
    spoilt[207, 3:5] = bad
    names = [f"n{number}" for number in range(250)]
    with pytest.raises(DataError, match=r"passage 'n207' \(row 207\) is not finite"):
        retrieve(good, names, spoilt, names, top_k=3, device="cpu", memory_bytes=memory_bytes)
    with pytest.raises(DataError, match=r"query 'n207' \(row 207\) is not finite"):
        retrieve(spoilt, names, good, names, top_k=3, device="cpu", memory_bytes=memory_bytes)


def test_embeddings_and_ids_that_do_not_fit_are_refused() -> None:
    two = np.ones((2, 4), dtype=np.float32)
    cases: list[tuple[Any, list[str], Any, list[str], int, str]] = [
        (two, ["a"], two, ["a", "b"], 1, "2 query embeddings but 1 query ids"),
        (two, ["a", "b"], two, ["a", "a"], 1, "1 passage ids repeat"),
        (two, ["a", "b"], two[:, :3], ["a", "b"], 1, "4 dimensions but passages 3"),
        (two.astype(np.float64), ["a", "b"], two, ["a", "b"], 1, "float64"),
        (two[0], ["a"], two, ["a", "b"], 1, r"shape \(4,\)"),
        (two, ["a", "b"], two[:0], [], 1, "nothing to rank"),
        (two, ["a", "b"], two, ["a", "b"], 0, "top_k is 0"),
    ]
    for queries, query_ids, passages, passage_ids, top_k, message in cases:
        with pytest.raises(DataError, match=message):
            retrieve(queries, query_ids, passages, passage_ids, top_k=top_k, device="cpu")


def sentence_transformers_values(
    queries: Embeddings, passages: Embeddings, passage_ids: list[str], relevant: dict[str, set[str]]
) -> dict[str, float]:
    """What InformationRetrievalEvaluator makes of the same embeddings."""
    import torch
    from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator
    from sentence_transformers.util import cos_sim

    class Embedded:
        """A model that has its answers ready."""

        similarity_fn_name = "cosine"
        similarity = staticmethod(cos_sim)

        def encode_query(self, *_: object, **__: object) -> torch.Tensor:
            return torch.from_numpy(queries)

        def encode_document(self, *_: object, **__: object) -> torch.Tensor:
            return torch.from_numpy(passages)

    evaluator: Any = InformationRetrievalEvaluator(
        {query: query for query in relevant}, {passage: passage for passage in passage_ids}, relevant
    )
    evaluator.score_functions = {"cosine": cos_sim}
    found = evaluator.compute_all_metrics(Embedded())["cosine"]
    return {name: float(found[name.split("@")[0] + "@k"][int(name.split("@")[1])]) for name in MEASURES}


@pytest.mark.parametrize("distinct", [5, 60, 900])
def test_values_agree_with_the_evaluator_and_with_ir_measures_on_the_written_run_ties_included(
    distinct: int, draw: np.random.Generator, tmp_path: Path
) -> None:
    ir_measures = import_module("ir_measures")  # its readers have no types

    passages = tied(draw, 900, distinct=distinct)
    queries = tied(draw, 70, distinct=70)
    passage_ids, query_ids = ids("p", 900, draw), ids("q", 70, draw)
    nearest = np.argsort(-(queries @ passages.T), axis=1)[:, :40]
    relevant = {
        query: {passage_ids[place] for place in draw.choice(near, draw.integers(1, 4), replace=False)}
        for query, near in zip(query_ids, nearest, strict=True)
    }
    qrels = {query: dict.fromkeys(sorted(found), 1) for query, found in relevant.items()}
    run = retrieve(queries, query_ids, passages, passage_ids, top_k=100, device="cpu")
    values = average(evaluate_run(run, qrels, MEASURES))
    assert values == pytest.approx(
        sentence_transformers_values(queries, passages, passage_ids, relevant), abs=1e-9, rel=0
    )
    assert 0 < values["mrr@10"] < 1
    write_run(run, tmp_path / "run.trec.gz")
    write_qrels(qrels, tmp_path / "qrels")
    back = read_run(tmp_path / "run.trec.gz")
    assert average(evaluate_run(back, qrels, MEASURES)) == values
    theirs = {
        name: getattr(ir_measures, FAMILIES[parse_measure(name).family]) @ parse_measure(name).cutoff
        for name in MEASURES
    }
    plain = ir_measures.calc_aggregate(
        list(theirs.values()),
        ir_measures.read_trec_qrels(str(tmp_path / "qrels")),
        ir_measures.read_trec_run(str(tmp_path / "run.trec.gz")),
    )
    assert {name: plain[measure] for name, measure in theirs.items()} == pytest.approx(values, abs=1e-9, rel=0)
