"""Several relevant passages and grades: the values are trec_eval's, and for binary judgements the library's."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from harness.records.measures import average, evaluate_run
from harness.records.run import Run

QUERIES, PASSAGES, DEPTH = 40, 60, 30
TREC = {
    "accuracy@5": "success_5",
    "precision@5": "P_5",
    "recall@10": "recall_10",
    "ndcg@10": "ndcg_cut_10",
    "map@30": "map_cut_30",
}


def make_run(seed: int) -> Run:
    generator = np.random.default_rng(seed)
    lists = tuple(
        tuple(f"p{number}" for number in generator.permutation(PASSAGES)[:DEPTH].tolist()) for _ in range(QUERIES)
    )
    scores = tuple(float(np.float32(1 - rank / 100)) for rank in range(DEPTH))
    return Run(tuple(f"q{number}" for number in range(QUERIES)), lists, (scores,) * QUERIES)


def make_qrels(seed: int, grades: tuple[int, ...], most: int = 12) -> dict[str, dict[str, int]]:
    """Judge up to ``most`` passages of each query, the first of them as relevant."""
    generator = np.random.default_rng(seed)
    qrels = {}
    for number in range(QUERIES):
        judged = generator.permutation(PASSAGES)[: generator.integers(1, most + 1)].tolist()
        qrels[f"q{number}"] = {f"p{one}": int(generator.choice(grades)) for one in judged} | {f"p{judged[0]}": 1}
    return qrels


@pytest.mark.parametrize("seed", range(3))
def test_graded_values_are_those_of_trec_eval(seed: int) -> None:
    import ir_measures
    import pytrec_eval

    run, qrels = make_run(seed), make_qrels(seed + 10, (0, 0, 1, 2, 3))
    ours = evaluate_run(run, qrels, [*TREC, "ndcg@3", "mrr@10"])
    scores = {
        query: dict(zip(passages, numbers, strict=True))
        for query, passages, numbers in zip(run.query_ids, run.passage_ids, run.scores, strict=True)
    }
    theirs = pytrec_eval.RelevanceEvaluator(qrels, {"success", "P", "recall", "ndcg_cut", "map_cut"}).evaluate(scores)
    for name, trec in TREC.items():
        assert ours[name].tolist() == pytest.approx([theirs[query][trec] for query in qrels], abs=1e-12), name
    for name, measure in {"mrr@10": ir_measures.RR @ 10, "ndcg@3": ir_measures.nDCG @ 3}.items():
        found = {value.query_id: value.value for value in ir_measures.iter_calc([measure], qrels, scores)}
        assert ours[name].tolist() == pytest.approx([found[query] for query in qrels], abs=1e-12)


def test_graded_gain_is_the_grade_itself() -> None:
    """As trec_eval has it (Jarvelin and Kekalainen 2002): grade by log2(rank + 1), over that of the best order."""
    run = Run(("q",), (("a", "b", "c"),), ((3.0, 2.0, 1.0),))
    (value,) = evaluate_run(run, {"q": {"a": 1, "b": 3, "d": 2, "c": 0}}, ["ndcg@3"])["ndcg@3"]
    gained = 1 / np.log2(2) + 3 / np.log2(3)
    best = 3 / np.log2(2) + 2 / np.log2(3) + 1 / np.log2(4)
    assert value == pytest.approx(gained / best)


def ask_library(run: Run, relevant: Mapping[str, set[str]]) -> dict[str, float]:
    from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator

    evaluator = InformationRetrievalEvaluator(
        dict.fromkeys(run.query_ids, "text"),
        {f"p{number}": "text" for number in range(PASSAGES)},
        dict(relevant),
        accuracy_at_k=[3],
        precision_recall_at_k=[5, 10],
        ndcg_at_k=[3, 10],
        mrr_at_k=[10],
        map_at_k=[5, 30],
    )
    hits: list[object] = [
        [{"corpus_id": passage, "score": score} for passage, score in zip(passages, scores, strict=True)]
        for passages, scores in zip(run.passage_ids, run.scores, strict=True)
    ]
    found = evaluator.compute_metrics(hits)
    return {f"{name.removesuffix('@k')}@{k}": float(value) for name, by_k in found.items() for k, value in by_k.items()}


@pytest.mark.parametrize("seed", range(3))
def test_binary_values_are_those_of_the_librarys_evaluator(seed: int) -> None:
    run, qrels = make_run(seed), make_qrels(seed + 20, (0, 1))
    relevant = {query: {one for one, grade in judged.items() if grade} for query, judged in qrels.items()}
    theirs = ask_library(run, relevant)
    names = ("accuracy@3", "precision@5", "recall@10", "ndcg@3", "ndcg@10", "mrr@10", "map@30")
    assert average(evaluate_run(run, qrels, names)) == pytest.approx({name: theirs[name] for name in names}, abs=1e-12)


def test_where_more_are_relevant_than_the_cut_off_map_differs_from_the_library_as_documented() -> None:
    run, qrels = make_run(0), make_qrels(30, (1,))
    relevant = {query: set(judged) for query, judged in qrels.items()}
    theirs, ours = ask_library(run, relevant)["map@5"], average(evaluate_run(run, qrels, ["map@5"]))["map@5"]
    assert ours < theirs - 1e-4


def test_the_library_knows_no_grades_and_gives_another_ndcg() -> None:
    run, qrels = make_run(0), make_qrels(31, (1, 3))
    relevant = {query: set(judged) for query, judged in qrels.items()}
    ours = average(evaluate_run(run, qrels, ["ndcg@10"]))["ndcg@10"]
    assert ours != pytest.approx(ask_library(run, relevant)["ndcg@10"], abs=1e-4)
