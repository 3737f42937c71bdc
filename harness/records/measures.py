"""What a run is worth: values per query, computed by ir_measures and named as Sentence Transformers prints them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from harness.errors import DataError, StatisticsError
from harness.experiment.measure import FAMILIES, parse_measure
from harness.records.run import Run
from harness.records.trec import Qrels

MEASURES = (
    "accuracy@1",
    "accuracy@3",
    "accuracy@5",
    "accuracy@10",
    "precision@1",
    "precision@3",
    "precision@5",
    "precision@10",
    "recall@1",
    "recall@3",
    "recall@5",
    "recall@10",
    "ndcg@10",
    "mrr@10",
    "map@100",
)
"""The fifteen measures of the published table, in its order."""

_NAMED_QUERIES = 5


def evaluate_run(
    run: Run,
    qrels: Qrels,
    measures: Sequence[str],
    *,
    allow_missing: bool = False,
) -> dict[str, NDArray[np.float64]]:
    """Compute each measure for each query, through ir_measures.

    ir_measures is given scores made from the ranks, so that the order judged is the run's own and no reader's
    tie breaking can change it. A grade above 0 is relevant. `ndcg@K` is trec_eval's: the sum of grade / log2(rank + 1)
    over the first K ranks, by that of the best order of all judged passages (Jarvelin and Kekalainen 2002, with the
    grade itself as gain). The values are those of InformationRetrievalEvaluator, save two: it knows no grades, so its
    `ndcg` takes each relevant passage for a 1; and where a query has more than K relevant passages, its `map@K` divides
    by K, trec_eval's (and this) by the number of relevant passages.

    Args:
        run: the ranked lists.
        qrels: the judgements; every query needs a relevant passage.
        measures: names, such as those of MEASURES.
        allow_missing: whether a query without a ranked list gets the value 0 instead of an error.

    Returns:
        Measure -> float64 array of shape (queries,) in the order of `qrels`, each value in [0, 1].

    Raises:
        DataError: when there are no queries, a query has no relevant passage, the run has a query that the
            qrels lack, or (unless allowed) lacks one that they have. The message counts and names them.
        ManifestError: when a measure is unknown.
    """
    import ir_measures  # noqa: PLC0415 - 0.1 s that only evaluation should pay

    parsed = {name: parse_measure(name) for name in measures}
    _check_queries(run, qrels, allow_missing=allow_missing)
    places = {query_id: place for place, query_id in enumerate(qrels)}
    values = {name: np.zeros(len(qrels), dtype=np.float64) for name in measures}
    judgements = {query_id: dict(judged) for query_id, judged in qrels.items()}
    # Reciprocal ranks come from another evaluator than the rest. Asked for together, each value would be looked up in
    # both, by a hash that costs more than the value.
    for alone in (False, True):
        asked = [measure for measure in parsed.values() if (measure.family == "mrr") == alone]
        if not asked:
            continue
        theirs = [getattr(ir_measures, FAMILIES[measure.family]) @ measure.cutoff for measure in asked]
        # By identity for the same reason; a measure comes back as the object that was passed.
        arrays = {id(their): values[measure.name] for their, measure in zip(theirs, asked, strict=True)}
        rankings = _rank_passages(run, max(measure.cutoff for measure in asked))
        evaluator = ir_measures.evaluator(theirs, judgements)
        # Its public twin also lists the queries without a ranking, by hashes that take longer than the values; here
        # they have their 0 already.
        for value in evaluator._iter_calc(rankings):  # noqa: SLF001 - see above
            arrays[id(value.measure)][places[value.query_id]] = value.value
    return values


def _rank_passages(run: Run, depth: int) -> dict[str, dict[str, float]]:
    """Score the first passages of each query by their ranks; no measure looks behind its cutoff."""
    scores = [float(-rank) for rank in range(depth)]
    return {
        query_id: dict(zip(passages, scores, strict=False))
        for query_id, passages in zip(run.query_ids, run.passage_ids, strict=True)
        if passages
    }


def _check_queries(run: Run, qrels: Qrels, *, allow_missing: bool) -> None:
    if not qrels:
        raise DataError("the qrels hold no query, so there is nothing to evaluate")
    ranked = set(run.query_ids)
    problems = {
        "in the qrels have no relevant passage": [
            query_id for query_id, judged in qrels.items() if not any(value > 0 for value in judged.values())
        ],
        "of the run are not in the qrels": [query_id for query_id in run.query_ids if query_id not in qrels],
        "of the qrels are missing in the run": []
        if allow_missing
        else [query_id for query_id in qrels if query_id not in ranked],
    }
    for problem, query_ids in problems.items():
        if query_ids:
            named = ", ".join(repr(query_id) for query_id in query_ids[:_NAMED_QUERIES])
            more = ", ..." if len(query_ids) > _NAMED_QUERIES else ""
            raise DataError(f"{len(query_ids)} queries {problem}: {named}{more}")


def average(values: Mapping[str, NDArray[np.float64]]) -> dict[str, float]:
    """Average each measure over its queries, every query counting the same.

    Args:
        values: measure -> array of shape (queries,).

    Returns:
        Measure -> mean.

    Raises:
        StatisticsError: when there is nothing to average, or a value is not finite.
    """
    if not values:
        raise StatisticsError("no measure to average")
    for name, numbers in values.items():
        if not len(numbers):
            raise StatisticsError(f"{name}: no query to average over")
        if not np.isfinite(numbers).all():
            raise StatisticsError(f"{name}: the value of query {int(np.argmin(np.isfinite(numbers)))} is not finite")
    return {name: float(np.mean(numbers)) for name, numbers in values.items()}


def list_relevant(qrels: Qrels) -> dict[str, list[str]]:
    """Return the passages of each query that are judged above 0."""
    return {query: [passage for passage, grade in judged.items() if grade > 0] for query, judged in qrels.items()}


def best_reachable(qrels: Qrels, texts: Mapping[str, str], measures: Sequence[str]) -> dict[str, float]:
    """Compute the values of a model that ranks each query's relevant passages first, by their grades.

    Passages of one text have one score, and the tie rule puts the lower id first, so a relevant passage brings its
    twins along. Where several relevant texts of a query have twins, another order of them could reach a little more.

    Args:
        qrels: the judgements; every query needs a relevant passage.
        texts: passage id -> text.
        measures: names, such as those of MEASURES.

    Returns:
        Measure -> mean over queries; below 1 also where a query has more relevant passages than the cutoff.

    Raises:
        DataError: a query has no relevant passage, or one that has no text.
    """
    twins: dict[str, list[str]] = {}
    for passage_id in sorted(texts):
        twins.setdefault(texts[passage_id], []).append(passage_id)
    ranked = []
    for query_id, judged in qrels.items():
        lost = [passage_id for passage_id in judged if passage_id not in texts]
        if lost:
            raise DataError(f"query {query_id!r}: judged passages without a text: {len(lost)}, of {len(judged)}")
        best: dict[str, int] = {}
        for passage_id, grade in judged.items():
            if grade > 0:
                best[texts[passage_id]] = max(grade, best.get(texts[passage_id], 0))
        order = sorted(best, key=lambda text: (-best[text], len(twins[text]), twins[text][0]))
        ranked.append(tuple(passage_id for text in order for passage_id in twins[text]))
    scores = tuple(tuple(float(-rank) for rank in range(len(passages))) for passages in ranked)
    run = Run(tuple(qrels), tuple(ranked), scores)
    return average(evaluate_run(run, qrels, measures, allow_missing=True))


def best_reachable_mrr(relevant: Mapping[str, Collection[str]], texts: Mapping[str, str], k: int = 10) -> float:
    """Compute the mean reciprocal rank at `k` that even a perfect model cannot exceed, given duplicate passages.

    Passages of one text get one embedding, so one score, and the tie rule puts the lower id first. A relevant
    passage therefore stands behind its twins of lower id: its best rank is 1 + their number.

    Args:
        relevant: query id -> ids of its relevant passages.
        texts: passage id -> text.
        k: the cutoff in ranks.

    Returns:
        The bound, in [0, 1]; 1 when no relevant passage has a twin of lower id.

    Raises:
        StatisticsError: when there is no query.
        DataError: when a query has no relevant passage, or one that has no text.
    """
    if not relevant:
        raise StatisticsError("no query to average over")
    twins: dict[str, list[str]] = {}
    for passage_id in sorted(texts):
        twins.setdefault(texts[passage_id], []).append(passage_id)
    places = {passage_id: place for group in twins.values() for place, passage_id in enumerate(group, start=1)}
    total = 0.0
    for query_id, passage_ids in relevant.items():
        lost = [passage_id for passage_id in passage_ids if passage_id not in places]
        if lost or not passage_ids:
            raise DataError(f"query {query_id!r}: relevant passages without a text {lost}, of {len(passage_ids)}")
        rank = min(places[passage_id] for passage_id in passage_ids)
        total += 1 / rank if rank <= k else 0.0
    return total / len(relevant)
