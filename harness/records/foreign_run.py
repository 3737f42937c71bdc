"""A TREC run that another system wrote, ranked anew by the tie rule, as trec_eval would read it."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np

from harness.errors import DataError
from harness.records.run import Run
from harness.records.trec import USUAL_LIMITS, Limits, read_fields

_RUN_FIELDS = 6
_SHOWN = 3


def read_foreign_run(
    path: Path, *, queries: Collection[str], passages: Collection[str], top_k: int, limits: Limits = USUAL_LIMITS
) -> Run:
    """Read the ranked lists of any system: ranks and the order of lines are not minded, as trec_eval does not.

    Passages are ordered by float32 score, highest first, and those of equal score by id, lowest first. Only the first
    ``top_k`` of a list are kept.

    Args:
        path: the file, gzipped when its name ends in .gz: ``query Q0 passage rank score tag`` per line.
        queries: the ids that may be asked.
        passages: the ids that may be ranked.
        top_k: ranks to keep.
        limits: the most to read.

    Returns:
        The run, of the queries in the order of ``queries``; those without a line are not in it.

    Raises:
        DataError: naming file and line, a line that is none of a run, a query or passage that is unknown or a passage
            ranked twice; or no line at all.
    """
    known_passages = frozenset(passages)
    lists: dict[str, dict[str, float]] = {query: {} for query in queries}
    for number, (query, _, passage, _, text, _) in read_fields(path, _RUN_FIELDS, limits):
        place = f"{path}, line {number}"
        if query not in lists:
            raise DataError(f"{place}: query {query!r} is not one of the test set's {len(lists)}")
        if passage not in known_passages:
            raise DataError(f"{place}: passage {passage!r} is not one of the corpus's {len(known_passages)}")
        if passage in lists[query]:
            raise DataError(f"{place}: passage {passage!r} is ranked twice for query {query!r}")
        lists[query][passage] = _read_score(text, place)
    asked = {query: ranked for query, ranked in lists.items() if ranked}
    if not asked:
        raise DataError(f"{path}: no line, expected a ranked passage in each")
    ordered = {query: sorted(ranked, key=lambda one: (-ranked[one], one))[:top_k] for query, ranked in asked.items()}
    return Run(
        query_ids=tuple(ordered),
        passage_ids=tuple(map(tuple, ordered.values())),
        scores=tuple(tuple(asked[query][passage] for passage in ranked) for query, ranked in ordered.items()),
    )


def note_missing(run: Run, queries: Collection[str]) -> tuple[str, ...]:
    """Say which queries have no ranked list, and so count as found nothing."""
    ranked = frozenset(run.query_ids)
    missing = [query for query in queries if query not in ranked]
    if not missing:
        return ()
    shown = ", ".join(missing[:_SHOWN]) + (", ..." if len(missing) > _SHOWN else "")
    return (f"{len(missing)} of {len(queries)} queries have no ranked list, and count as found nothing: {shown}",)


def _read_score(text: str, place: str) -> float:
    try:
        with np.errstate(over="ignore", under="ignore"):
            score = float(np.float32(float(text)))
    except ValueError as cause:
        raise DataError(f"{place}: score {text!r}, expected a finite number") from cause
    if not np.isfinite(score):
        raise DataError(f"{place}: score {text!r} does not fit a finite float32")
    return score
