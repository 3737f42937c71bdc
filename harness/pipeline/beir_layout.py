"""Test sets in BEIR's layout, so that any other system can rank them: corpus.jsonl, queries.jsonl, qrels/PART.tsv."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from harness.core.files import write_atomically
from harness.errors import DataError, StoreError
from harness.experiment.data import PartName
from harness.pipeline.dataset import TestData

CORPUS_FILE, QUERIES_FILE, QRELS_FOLDER = "corpus.jsonl", "queries.jsonl", "qrels"
HEADER = "query-id\tcorpus-id\tscore\n"


def write_beir(folder: Path, parts: Mapping[PartName, TestData]) -> list[Path]:
    """Write the evaluated parts of one data set; the same data give the same bytes.

    Args:
        folder: made if absent; its files of these names are replaced.
        parts: by name; they share their corpus.

    Returns:
        The files' paths.

    Raises:
        DataError: there is no part, or a query has another text in another part.
        StoreError: the disk refuses.
    """
    if not parts:
        raise DataError(f"{folder}: no part to write")
    corpus = next(iter(parts.values())).corpus
    queries: dict[str, str] = {}
    for part, data in parts.items():
        for name, text in data.queries.items():
            if queries.setdefault(name, text) != text:
                raise DataError(f"{folder}: query {name!r} has another text in part {part!r} than before")
    contents = {
        CORPUS_FILE: "".join(_format({"_id": name, "title": "", "text": text}) for name, text in corpus.items()),
        QUERIES_FILE: "".join(_format({"_id": name, "text": text}) for name, text in queries.items()),
        **{f"{QRELS_FOLDER}/{part}.tsv": HEADER + "".join(_list_qrels(data)) for part, data in parts.items()},
    }
    return list(_write(folder, contents.items()))


def _format(row: Mapping[str, str]) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"


def _list_qrels(data: TestData) -> Iterator[str]:
    for query, judged in data.qrels.items():
        yield from (f"{query}\t{passage}\t{grade}\n" for passage, grade in judged.items())


def _write(folder: Path, contents: Iterable[tuple[str, str]]) -> Iterator[Path]:
    for name, text in contents:
        path = folder / name
        try:
            write_atomically(path, text.encode())
        except OSError as cause:
            raise StoreError(f"{path}: cannot be written: {cause.strerror or cause}") from cause
        yield path
