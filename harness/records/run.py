"""The ranked lists of a retrieval system, in TREC's files.

The tie rule, stated once: passages are ordered by score, highest first, and passages of equal score by id,
lowest first (code points, as Python compares strings). Sentence Transformers' InformationRetrievalEvaluator
orders the same way. Scores are float32 everywhere.

trec_eval and its kin ignore the rank column, sort again by the float32 score and break ties in an order of
their own. So in a run *file* no two scores of a query are equal: a score that is not below its predecessor
is lowered to the next float32 below it, and every reader sees the order that the tie rule gave.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from operator import gt
from pathlib import Path

import numpy as np

from harness.errors import DataError
from harness.records.trec import (
    USUAL_LIMITS,
    Limits,
    check_ids,
    read_fields,
    write_lines,
)

_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?")
_RUN_FIELDS = 6


@dataclass(frozen=True)
class Run:
    """One ranked list per query, best passage first, in the order of the tie rule.

    Attributes:
        query_ids: n ids, each once.
        passage_ids: n tuples; within one, each id once.
        scores: n tuples of float32 values, as long as their passage ids and never increasing.

    Raises:
        DataError: when a part is not as said here; the message names the query.
    """

    query_ids: tuple[str, ...]
    passage_ids: tuple[tuple[str, ...], ...]
    scores: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        lengths = len(self.query_ids), len(self.passage_ids), len(self.scores)
        if len(set(lengths)) != 1:
            raise DataError(f"a run needs as many passage lists and score lists as queries, got {lengths}")
        if len(set(self.query_ids)) != len(self.query_ids):
            raise DataError("a query id appears twice in the run")
        for query_id, passages, scores in zip(self.query_ids, self.passage_ids, self.scores, strict=True):
            problem = _ranking_problem(passages, scores)
            if problem:
                raise DataError(f"run, query {query_id!r}: {problem}")


def _ranking_problem(passages: tuple[str, ...], scores: tuple[float, ...]) -> str | None:
    """What breaks the rules of a ranking, or None."""
    if len(passages) != len(scores):
        return f"{len(passages)} passages but {len(scores)} scores"
    if len(set(passages)) != len(passages):
        twice = next(passage for passage in passages if passages.count(passage) > 1)
        return f"passage {twice!r} is ranked twice"
    return None if _is_falling(scores) else _order_problem(passages, scores)


def _order_problem(passages: tuple[str, ...], scores: tuple[float, ...]) -> str | None:
    """What breaks the tie rule, or None."""
    values = np.asarray(scores, dtype=np.float64)
    if not np.isfinite(values).all():
        return f"score {scores[int(np.argmin(np.isfinite(values)))]} is not finite"
    gaps = values[1:] - values[:-1]
    if (gaps > 0).any():
        place = int(np.argmax(gaps > 0))
        return f"score {scores[place + 1]} at rank {place + 2} is above {scores[place]} at rank {place + 1}"
    for place in np.flatnonzero(gaps == 0).tolist():
        if passages[place] > passages[place + 1]:
            return (
                f"passages {passages[place]!r} and {passages[place + 1]!r} share the score {scores[place]} "
                "but are not in the order of their ids"
            )
    return None


def _is_falling(scores: tuple[float, ...]) -> bool:
    """Say whether scores are finite and each is below its predecessor, as in nearly all runs: no tie to look into."""
    ends = (*scores[:1], *scores[-1:])
    return all(map(math.isfinite, ends)) and all(map(gt, scores, scores[1:]))


def write_run(run: Run, path: Path, *, tag: str = "harness") -> None:
    """Write a TREC run: `query Q0 passage rank score tag` per line, gzipped when the name ends in .gz.

    The same run gives the same bytes: the gzip header holds neither a time nor a name. Scores are the shortest
    decimals that give the float32 back, ties lowered as this module's head says.

    Args:
        run: what to write.
        path: the file, replaced if it exists.
        tag: the last column, the system's name.

    Raises:
        DataError: when an id cannot stand in a TREC file, a query has no passage (it would vanish), or the
            run is empty.
        StoreError: when the file cannot be written.
    """
    check_ids([tag], place=f"{path}: tag")
    check_ids(run.query_ids, place=f"{path}: query id")
    lines = []
    for query_id, passages, scores in zip(run.query_ids, run.passage_ids, run.scores, strict=True):
        if not passages:
            raise DataError(f"{path}: query {query_id!r} has no passage, so a TREC run cannot hold it")
        check_ids(passages, place=f"{path}: passage id of query {query_id!r}")
        for rank, (passage_id, score) in enumerate(
            zip(passages, separate_ties(scores), strict=True),
            start=1,
        ):
            lines.append(f"{query_id} Q0 {passage_id} {rank} {score} {tag}\n")
    write_lines(lines, path)


def separate_ties(scores: tuple[float, ...]) -> list[np.float32]:
    """Return the scores as float32, each lowered just enough to lie below its predecessor.

    Args:
        scores: finite values, never increasing.

    Returns:
        Strictly decreasing float32 values; those without a tie are unchanged.

    Raises:
        DataError: when a score, or one lowered, is outside the finite float32 range.
    """
    with np.errstate(over="ignore"):  # an overflow is reported below, with the value
        values = np.asarray(scores, dtype=np.float64).astype(np.float32)
    lowest = np.float32(-np.inf)
    if (values[1:] >= values[:-1]).any():
        with np.errstate(over="ignore", under="ignore"):
            for place in range(1, len(values)):
                values[place] = min(values[place], np.nextafter(values[place - 1], lowest))
    if not np.isfinite(values).all():
        raise DataError(f"score {scores[int(np.argmin(np.isfinite(values)))]} does not fit a finite float32")
    return list(values)


def read_run(path: Path, *, limits: Limits = USUAL_LIMITS) -> Run:
    """Read a TREC run, strictly: a file that two readers could rank differently is refused.

    Args:
        path: the file, gzipped when its name ends in .gz.
        limits: the most to read.

    Returns:
        The run, scores rounded to float32. Of a file by `write_run`: the same ranking.

    Raises:
        DataError: naming file and line, when the file cannot be read, is too big, or a line has not six
            fields, a score that is no finite float32 or lies above its predecessor, a rank that does not count
            1, 2, 3, ..., a passage twice, lines of one query in two places, or tied scores whose ids do not
            ascend.
    """
    lists: dict[str, tuple[list[str], list[str]]] = {}
    starts: dict[str, int] = {}
    current, passages, scores, seen = None, list[str](), list[str](), set[str]()
    for number, (query_id, _, passage_id, rank, text, _) in read_fields(path, _RUN_FIELDS, limits):
        if query_id != current:
            if query_id in lists:
                raise DataError(f"{path}, line {number}: query {query_id!r} comes again after another query")
            current, passages, scores, seen = query_id, [], [], set()
            lists[query_id], starts[query_id] = (passages, scores), number
        if rank != str(len(passages) + 1):
            raise DataError(f"{path}, line {number}: rank {rank!r}, expected {len(passages) + 1}")
        if passage_id in seen:
            raise DataError(f"{path}, line {number}: passage {passage_id!r} is ranked twice for query {query_id!r}")
        if not _NUMBER.fullmatch(text):
            raise DataError(f"{path}, line {number}: score {text!r}, expected a finite number")
        seen.add(passage_id)
        passages.append(passage_id)
        scores.append(text)
    if not lists:
        raise DataError(f"{path}: no line, expected a ranked passage in each")
    return Run(
        query_ids=tuple(lists),
        passage_ids=tuple(tuple(passages) for passages, _ in lists.values()),
        scores=tuple(
            _round_scores(passages, scores, path, starts[query_id]) for query_id, (passages, scores) in lists.items()
        ),
    )


def _round_scores(passages: list[str], texts: list[str], path: Path, start: int) -> tuple[float, ...]:
    """Round one query's scores, which begin at line `start`, to float32, and check that they are in order."""
    with np.errstate(over="ignore", under="ignore"):
        rounded = np.asarray([float(text) for text in texts]).astype(np.float32).astype(np.float64)
    if not np.isfinite(rounded).all():
        place = int(np.argmin(np.isfinite(rounded)))
        raise DataError(f"{path}, line {start + place}: score {texts[place]!r} does not fit a finite float32")
    values: list[float] = rounded.tolist()
    for place in (np.flatnonzero(rounded[1:] >= rounded[:-1]) + 1).tolist():
        line, before = f"{path}, line {start + place}", values[place - 1]
        if values[place] > before:
            raise DataError(f"{line}: score {texts[place]} is above its predecessor's {before!r}")
        if passages[place] < passages[place - 1]:
            raise DataError(
                f"{line}: passage {passages[place]!r} ties with {passages[place - 1]!r} in float32, and tied passages "
                "must be in the order of their ids",
            )
    return tuple(values)
