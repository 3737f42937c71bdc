"""Qrels are the judgements that ranked lists are held against, in TREC's files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

from harness.errors import DataError
from harness.records.trec import MAX_FILE_BYTES, check_ids, read_fields, write_lines

Qrels: TypeAlias = Mapping[str, Mapping[str, int]]
"""Query id -> passage id -> relevance; 0 and less is not relevant."""

_RELEVANCE = re.compile(r"-?[0-9]{1,9}")
_FIELDS = 4


def write_qrels(qrels: Qrels, path: Path) -> None:
    """Write judgements as TREC qrels: `query 0 passage relevance` per line, gzipped for .gz, byte-stable.

    Args:
        qrels: what to write, in its own order.
        path: the file, replaced if it exists.

    Raises:
        DataError: when an id cannot stand in a TREC file, or a query has no judgement.
        StoreError: when the file cannot be written.
    """
    check_ids(tuple(qrels), place=f"{path}: query id")
    lines = []
    for query_id, judgements in qrels.items():
        if not judgements:
            raise DataError(f"{path}: query {query_id!r} has no judgement, so qrels cannot hold it")
        check_ids(tuple(judgements), place=f"{path}: passage id of query {query_id!r}")
        for passage_id, relevance in judgements.items():
            if not _RELEVANCE.fullmatch(str(relevance)):
                raise DataError(f"{path}: relevance {relevance!r} of {passage_id!r} is no whole number")
            lines.append(f"{query_id} 0 {passage_id} {relevance}\n")
    write_lines(lines, path)


def read_qrels(path: Path, *, max_bytes: int = MAX_FILE_BYTES) -> dict[str, dict[str, int]]:
    """Read TREC qrels, in the file's order.

    Args:
        path: the file, gzipped when its name ends in .gz.
        max_bytes: the most to read, after decompression.

    Returns:
        Query id -> passage id -> relevance.

    Raises:
        DataError: naming file and line, when the file cannot be read, is too big, or a line has not four
            fields, a relevance that is no whole number of at most nine digits, or a judgement made before.
    """
    qrels: dict[str, dict[str, int]] = {}
    for number, (query_id, _, passage_id, relevance) in read_fields(path, _FIELDS, max_bytes):
        judgements = qrels.setdefault(query_id, {})
        if passage_id in judgements:
            raise DataError(f"{path}, line {number}: {passage_id!r} is judged twice for query {query_id!r}")
        if not _RELEVANCE.fullmatch(relevance):
            raise DataError(f"{path}, line {number}: relevance {relevance!r}, expected a whole number")
        judgements[passage_id] = int(relevance)
    if not qrels:
        raise DataError(f"{path}: no line, expected a judgement in each")
    return qrels
