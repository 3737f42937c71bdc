"""The reproducibility measures of the field: small cases by hand, properties, and repro_eval where it is installed."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.analysis.run_agreement import (
    PERSISTENCE,
    compare_runs,
    encode_runs,
    kendall_tau_union,
    rank_biased_overlap,
    root_mean_square_error,
)
from harness.errors import StatisticsError
from harness.records.ranking import Passages
from harness.records.run import Run


def make_run(*lists: str) -> Run:
    """Return a run whose passages are the letters of each word, by falling scores."""
    return Run(
        tuple(f"q{number}" for number in range(len(lists))),
        tuple(map(tuple, lists)),
        tuple(tuple(float(-rank) for rank in range(len(ranked))) for ranked in lists),
    )


def encode(*runs: Run, query_ids: Sequence[str] | None = None) -> tuple[np.ndarray, ...]:
    passages = Passages()
    # Others were met before, as in a folder of several experiments.
    passages.number(make_run("zyx"))
    return encode_runs([passages.number(run) for run in runs], passages, query_ids or runs[0].query_ids)


def test_codes_order_as_ids_do_and_absent_ends_a_list() -> None:
    one, other = encode(make_run("da", "b"), make_run("cab"), query_ids=("q1", "q0"))
    assert one.tolist() == [[1, -1, -1], [3, 0, -1]]
    assert other.tolist() == [[-1, -1, -1], [2, 0, 1]]


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ("abc", "abc", 1.0),
        ("abc", "cba", -1.0),
        # One of three pairs turned.
        ("abc", "acb", 1 / 3),
        # d in place of c: 0 1 2 against 0 1 3, as in the paper's example.
        ("abc", "abd", 1.0),
        # 1 2 3 against 1 2 0: (a, b) alike, both others not.
        ("bcd", "bca", -1 / 3),
        # Only two ranks are in both.
        ("abc", "ab", 1.0),
    ],
)
def test_tau_by_hand(ours: str, theirs: str, expected: float) -> None:
    assert kendall_tau_union(*encode(make_run(ours), make_run(theirs))).tolist() == pytest.approx([expected])


def test_overlap_by_hand() -> None:
    # Overlaps at depths 1, 2, 3: 0, 2/2, 2/3, with weights 1, 1/2, 1/4.
    found = rank_biased_overlap(*encode(make_run("abc"), make_run("bad")), persistence=0.5)
    assert found.tolist() == pytest.approx([(0 + 0.5 + 0.25 * 2 / 3) / 1.75])


def test_error_by_hand() -> None:
    assert root_mean_square_error([1.0, 0.5, 0.0, 1.0], [1.0, 0.0, 0.0, 0.0]) == pytest.approx(math.sqrt(1.25 / 4))


def test_what_a_run_lacks_counts_in_nothing_but_values() -> None:
    ours, theirs = encode(make_run("ab", "cd"), make_run("ab"), query_ids=("q0", "q1"))
    found = compare_runs((ours, [1.0, 1.0]), (theirs, [1.0, 0.0]))
    assert (found.rmse, found.tau, found.rbo) == pytest.approx((math.sqrt(0.5), 1.0, 1.0))
    lone, other = encode(make_run("a"), make_run("a"))
    assert math.isnan(compare_runs((lone, [1.0]), (other, [1.0])).tau)


def test_other_queries_are_refused() -> None:
    ours, theirs = encode(make_run("ab"), make_run("ab"))
    with pytest.raises(StatisticsError, match="found 1 and 2 values"):
        root_mean_square_error([1.0], [1.0, 0.0])
    with pytest.raises(StatisticsError, match="found 0 and 0 values"):
        root_mean_square_error([], [])
    with pytest.raises(StatisticsError, match="one shape"):
        kendall_tau_union(ours, theirs[:, :1])


@given(st.lists(st.tuples(st.permutations("abcdef"), st.permutations("defghi")), min_size=1, max_size=4))
def test_agreement_is_symmetric_bounded_and_one_for_equal_lists(lists: list[tuple[list[str], list[str]]]) -> None:
    ours, theirs = encode(make_run(*("".join(one) for one, _ in lists)), make_run(*("".join(two) for _, two in lists)))
    for measure, low in ((kendall_tau_union, -1.0), (rank_biased_overlap, 0.0)):
        there, back = measure(ours, theirs), measure(theirs, ours)
        assert there.tolist() == pytest.approx(back.tolist())
        assert ((there >= low) & (there <= 1)).all()
        assert measure(ours, ours).tolist() == pytest.approx([1.0] * len(lists))


def draw_runs(queries: int, depth: int, passages: int) -> tuple[Run, Run]:
    """Return two runs whose lists share most of their passages."""
    rng = random.Random(7)
    lists: tuple[list[tuple[str, ...]], list[tuple[str, ...]]] = ([], [])
    for _ in range(queries):
        ranked = [f"p{number}" for number in rng.sample(range(passages), depth + 3)]
        moved = sorted(range(depth + 3), key=lambda place: place + rng.gauss(0, 4))
        lists[0].append(tuple(ranked[:depth]))
        lists[1].append(tuple(ranked[place] for place in moved[:depth]))
    ids = tuple(f"q{number:03}" for number in range(queries))
    scores = (tuple(float(-rank) for rank in range(depth)),) * queries
    first, second = (Run(ids, tuple(one), scores) for one in lists)
    return first, second


# It imports a name of scipy that is out of date.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_as_repro_eval_computes_them() -> None:
    reason = "repro_eval 0.5.0 brings packages that nothing else here needs"
    order = pytest.importorskip("repro_eval.measure.document_order", reason=reason)
    effect = pytest.importorskip("repro_eval.measure.effectiveness", reason=reason)
    ours, theirs = draw_runs(60, 40, 500)
    nested = [
        {
            query: dict(zip(ranked, scores, strict=True))
            for query, ranked, scores in zip(run.query_ids, run.passage_ids, run.scores, strict=True)
        }
        for run in (ours, theirs)
    ]
    codes = encode(ours, theirs)
    tau = order.KTU(*nested, per_topic=True)
    assert kendall_tau_union(*codes).tolist() == pytest.approx(list(tau.values()), abs=1e-12)
    overlap = order.RBO(*nested, p=PERSISTENCE, depth=40, pbar=False, per_topic=True)
    assert rank_biased_overlap(*codes).tolist() == pytest.approx(list(overlap.values()), abs=1e-12)
    values = np.random.default_rng(7).random((2, 60))
    scores = [dict(zip(ours.query_ids, ({"mrr": value} for value in side), strict=True)) for side in values.tolist()]
    assert root_mean_square_error(*values) == pytest.approx(effect.RMSE(*scores)["mrr"], abs=1e-12)


def test_a_pair_of_runs_takes_a_fraction_of_a_second() -> None:
    codes = encode(*draw_runs(707, 100, 4000))
    start = time.process_time()
    kendall_tau_union(*codes)
    rank_biased_overlap(*codes)
    assert time.process_time() - start < 0.5
