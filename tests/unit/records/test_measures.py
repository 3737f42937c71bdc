"""Measures have the published names, count every query and refuse to average nothing."""

from __future__ import annotations

import random
from itertools import permutations

import numpy as np
import pytest

from harness.errors import DataError, ManifestError, StatisticsError
from harness.experiment.measure import parse_measure
from harness.records.measures import MEASURES, average, best_reachable, best_reachable_mrr, evaluate_run, list_relevant
from harness.records.run import Run


def ranked(**lists: str) -> Run:
    """A run whose passages are single letters, all of one score where that is in the order of ids."""
    return Run(
        tuple(lists),
        tuple(tuple(letters) for letters in lists.values()),
        tuple(tuple(float(-place) for place in range(len(letters))) for letters in lists.values()),
    )


def test_the_fifteen_published_measures_parse_to_themselves() -> None:
    assert len(MEASURES) == len(set(MEASURES)) == 15
    assert [parse_measure(name).name for name in MEASURES] == list(MEASURES)


@pytest.mark.parametrize(
    "name",
    ["mrr", "mrr@0", "mrr@-1", "mrr@01", "mrr@1e2", "mrr@10 ", "MRR@10", "mpr@10", "mrr@99999", "mrr@\u0661", ""],
)
def test_an_unknown_measure_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(ManifestError, match=r"accuracy@K.*map@K"):
        parse_measure(name)


def test_values_worked_out_by_hand() -> None:
    run = ranked(q1="abc", q2="cab", q3="xyz")
    qrels = {"q1": {"a": 1, "c": 1}, "q2": {"b": 1}, "q3": {"a": 1, "x": 0}}
    names = ["accuracy@1", "precision@3", "recall@3", "ndcg@3", "mrr@2", "mrr@3", "map@3"]
    values = evaluate_run(run, qrels, names)
    ideal = 1 + 1 / np.log2(3)
    expected = {
        "accuracy@1": [1, 0, 0],
        "precision@3": [2 / 3, 1 / 3, 0],
        "recall@3": [1, 1, 0],
        "ndcg@3": [(1 + 1 / 2) / ideal, 1 / 2, 0],
        "mrr@2": [1, 0, 0],
        "mrr@3": [1, 1 / 3, 0],
        "map@3": [(1 + 2 / 3) / 2, 1 / 3, 0],
    }
    assert list(values) == names
    for name in names:
        assert values[name] == pytest.approx(np.array(expected[name]), abs=1e-12), name


def test_values_stand_in_the_order_of_the_qrels_whatever_the_order_of_the_run() -> None:
    run = ranked(q2="ba", q1="ab")
    values = evaluate_run(run, {"q1": {"a": 1}, "q2": {"a": 1}}, ["mrr@10"])
    assert values["mrr@10"].tolist() == [1.0, 0.5]


def test_the_order_of_the_run_counts_even_where_all_scores_tie() -> None:
    run = Run(("q",), (tuple("abcd"),), ((0.5,) * 4,))
    values = evaluate_run(run, {"q": {"a": 1}}, MEASURES)
    assert values["mrr@10"].tolist() == [1.0]
    assert values["accuracy@1"].tolist() == values["ndcg@10"].tolist() == values["map@100"].tolist() == [1.0]


def test_a_query_missing_in_the_run_is_named_or_counts_as_zero_never_dropped() -> None:
    qrels = {name: {"a": 1} for name in ("q1", "q2", "q3")}
    with pytest.raises(DataError, match="2 queries of the qrels are missing in the run: 'q1', 'q3'"):
        evaluate_run(ranked(q2="a"), qrels, ["mrr@10"])
    values = evaluate_run(ranked(q2="a"), qrels, MEASURES, allow_missing=True)
    assert all(len(numbers) == 3 and numbers[[0, 2]].tolist() == [0, 0] for numbers in values.values())
    assert average(values)["mrr@10"] == pytest.approx(1 / 3)


def test_an_empty_list_counts_as_zero() -> None:
    run = Run(("q1", "q2"), ((), ("a",)), ((), (1.0,)))
    assert evaluate_run(run, {"q1": {"a": 1}, "q2": {"a": 1}}, ["mrr@10"])["mrr@10"].tolist() == [0.0, 1.0]


def test_queries_that_cannot_be_evaluated_are_named() -> None:
    with pytest.raises(DataError, match="1 queries of the run are not in the qrels: 'q2'"):
        evaluate_run(ranked(q1="a", q2="a"), {"q1": {"a": 1}}, ["mrr@10"])
    with pytest.raises(DataError, match="1 queries in the qrels have no relevant passage: 'q1'"):
        evaluate_run(ranked(q1="a"), {"q1": {"a": 0}}, ["mrr@10"])
    with pytest.raises(DataError, match="no query"):
        evaluate_run(Run((), (), ()), {}, ["mrr@10"])
    with pytest.raises(DataError, match=r"9 queries of the run.*'q4', \.\.\."):
        evaluate_run(ranked(**{f"q{n}": "a" for n in range(10)}), {"q9": {"a": 1}}, ["mrr@10"])


def test_nothing_is_not_averaged_to_zero() -> None:
    for nothing in ({}, {"mrr@10": np.array([])}, {"mrr@10": np.array([0.5, np.nan])}):
        with pytest.raises(StatisticsError):
            average(nothing)
    assert average({"mrr@10": np.array([0.0, 0.5])}) == {"mrr@10": 0.25}


def test_duplicates_of_lower_id_bound_the_reachable_mrr() -> None:
    texts = {"p1": "same", "p2": "same", "p10": "same", "p3": "other"}
    assert best_reachable_mrr({"q": ["p1"]}, texts) == 1.0
    assert best_reachable_mrr({"q": ["p10"]}, texts) == 0.5  # ids order as text: p1, p10, p2
    assert best_reachable_mrr({"q": ["p2"]}, texts) == pytest.approx(1 / 3)
    assert best_reachable_mrr({"q": ["p2"]}, texts, k=2) == 0.0
    assert best_reachable_mrr({"q": {"p2", "p3"}}, texts) == 1.0
    assert best_reachable_mrr({"q": ["p2"], "r": ["p3"]}, texts) == pytest.approx(2 / 3)


def test_the_reachable_mrr_is_what_a_perfect_model_reaches() -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    draw = random.Random(seed)
    texts = {f"p{n}": draw.choice("vwxyz") for n in range(30)}
    relevant = {f"q{n}": [draw.choice(list(texts))] for n in range(20)}
    lists = {
        query: sorted(texts, key=lambda passage: (texts[passage] != texts[passages[0]], passage))
        for query, passages in relevant.items()
    }
    scores = tuple(
        tuple(float(texts[passage] == texts[relevant[query][0]]) for passage in found) for query, found in lists.items()
    )
    run = Run(tuple(lists), tuple(map(tuple, lists.values())), scores)
    values = evaluate_run(run, {query: {passages[0]: 1} for query, passages in relevant.items()}, ["mrr@10"])
    assert best_reachable_mrr(relevant, texts) == pytest.approx(average(values)["mrr@10"], abs=1e-12)


def test_a_bound_needs_queries_and_texts() -> None:
    with pytest.raises(StatisticsError):
        best_reachable_mrr({}, {"p": "text"})
    with pytest.raises(DataError, match="'lost'"):
        best_reachable_mrr({"q": ["lost"]}, {"p": "text"})
    with pytest.raises(DataError, match="'q'"):
        best_reachable_mrr({"q": []}, {"p": "text"})


def test_the_best_reachable_values_know_of_twins_and_of_several_relevant_passages() -> None:
    texts = {"p1": "same", "p2": "same", "p3": "other", "p4": "third", "p5": "fourth"}
    asked = ("accuracy@1", "recall@1", "mrr@10", "ndcg@10", "precision@5")
    behind = best_reachable({"q": {"p2": 1}}, texts, asked)
    assert behind == pytest.approx(
        {"accuracy@1": 0, "recall@1": 0, "mrr@10": 0.5, "ndcg@10": 1 / np.log2(3), "precision@5": 0.2}
    )
    several = best_reachable({"q": {"p3": 1, "p4": 2, "p5": 0}}, texts, asked)
    assert several == {"accuracy@1": 1, "recall@1": 0.5, "mrr@10": 1, "ndcg@10": 1, "precision@5": 0.4}


def test_no_model_reaches_more_than_the_best_reachable_value() -> None:
    texts = {f"p{number}": f"text {number // 2}" for number in range(6)}
    qrels = {"q": {"p1": 1, "p4": 2, "p5": 0}}
    best = best_reachable(qrels, texts, ("mrr@10", "ndcg@10"))
    orders = [[text for text in order for text in (2 * text, 2 * text + 1)] for order in permutations(range(3))]
    for order in orders:
        names = tuple(f"p{number}" for number in order)
        run = Run(("q",), (names,), (tuple(float(-rank) for rank in range(6)),))
        values = average(evaluate_run(run, qrels, ("mrr@10", "ndcg@10")))
        assert all(values[measure] <= best[measure] + 1e-12 for measure in best)


def test_a_passage_that_was_judged_as_none_is_not_reachable() -> None:
    assert list_relevant({"q": {"p1": 0, "p2": 2, "p3": -1}}) == {"q": ["p2"]}
    with pytest.raises(DataError, match="judged passages without a text: 1, of 1"):
        best_reachable({"q": {"lost": 1}}, {"p": "text"}, ("mrr@10",))
