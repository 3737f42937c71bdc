"""BEIR's layout: corpus.jsonl, queries.jsonl and graded judgements in qrels/PART.tsv, each also compressed by gzip."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.core.text import quote
from harness.errors import DataError
from harness.experiment.data import PART_NAMES, PartName
from harness.pipeline.dataset import PreparedData, TestData, check_relevance, count_parts
from harness.pipeline.rows import Row, check_texts
from harness.pipeline.tables import read_delimited, read_json_lines
from harness.records.trec import GRADE, GRADE_RULE

COLUMNS = 3


def load_beir(folder: Path, files: Collection[str]) -> PreparedData:
    """Load a folder in BEIR's layout.

    A passage's title stands before its text, with a blank between, as BEIR's own encoders put it. Queries that no file
    of judgements names are in no part. The rows of a part are its pairs of a grade above 0, in the file's order.

    Args:
        folder: the source's folder.
        files: the paths in it that were hashed; nothing else is read.

    Returns:
        The data, whose training rows are the pairs of qrels/train.tsv.

    Raises:
        DataError: a file is missing or broken, an id is listed twice, or a judgement names what is not there.
    """
    corpus = _read_texts(folder / _find(folder, files, "corpus.jsonl"), _join)
    queries = _read_texts(folder / _find(folder, files, "queries.jsonl"), lambda line: line.get("text"))
    qrels: dict[PartName, dict[str, dict[str, int]]] = {}
    for part in PART_NAMES:
        found = [name for name in (f"qrels/{part}.tsv", f"qrels/{part}.tsv.gz") if name in files]
        if found:
            qrels[part] = _read_judgements(folder / found[0], queries, corpus)
    if not qrels:
        raise DataError(f"{folder}: has neither of qrels/train.tsv, qrels/dev.tsv and qrels/test.tsv")
    rows = {
        part: tuple(
            Row(query, passage, queries[query], corpus[passage])
            for query, grades in judged.items()
            for passage, grade in grades.items()
            if grade > 0
        )
        for part, judged in qrels.items()
    }
    tests: dict[PartName, TestData] = {}
    for part, judged in qrels.items():
        if part != "train":
            tests[part] = TestData({query: queries[query] for query in judged}, corpus, judged)
            check_relevance(part, tests[part])
    return PreparedData(rows.get("train", ()), corpus, tests, count_parts(rows))


def _find(folder: Path, files: Collection[str], name: str) -> str:
    found = next((one for one in (name, f"{name}.gz") if one in files), None)
    if found is None:
        raise DataError(f"{folder}: has no {name}, which BEIR's layout has")
    return found


def _read_texts(path: Path, read: Any) -> dict[str, str]:
    lines = ((f"line {number}", line.get("_id"), read(line)) for number, line in read_json_lines(path))
    return check_texts(lines, id_column="_id", text_column="text", place=str(path))


def _join(line: Mapping[str, Any]) -> Any:
    title, text = line.get("title"), line.get("text")
    return f"{title} {text}".rstrip() if title and isinstance(title, str) and isinstance(text, str) else text


def _read_judgements(path: Path, queries: Mapping[str, str], corpus: Mapping[str, str]) -> dict[str, dict[str, int]]:
    """Return query id -> passage id -> grade; the first line is a header where it has no grade."""
    judged: dict[str, dict[str, int]] = {}
    for number, query, passage, grade in _read_lines(path):
        if query not in queries:
            raise DataError(f"{path}:{number}: judges the query {quote(query)}, which queries.jsonl does not have")
        if passage not in corpus:
            raise DataError(f"{path}:{number}: judges the passage {quote(passage)}, which corpus.jsonl does not have")
        if passage in judged.setdefault(query, {}):
            raise DataError(f"{path}:{number}: judges {quote(passage)} for the query {quote(query)} a second time")
        judged[query][passage] = grade
    if not judged:
        raise DataError(f"{path}: has no judgements")
    return judged


def _read_lines(path: Path) -> Iterator[tuple[int, str, str, int]]:
    for place, (number, cells) in enumerate(read_delimited(path, "\t")):
        if len(cells) != COLUMNS:
            raise DataError(f"{path}:{number}: has {len(cells)} cells, expected query-id, corpus-id and score")
        query, passage, grade = cells
        if GRADE.fullmatch(grade):
            yield number, query, passage, int(grade)
        elif place or grade[:1].isdigit() or grade.startswith("-"):  # a number heads no column
            raise DataError(f"{path}:{number}: the grade is {quote(grade)}, {GRADE_RULE}")
