"""A data set is training rows, one corpus, and for every part that is evaluated its queries and judgements."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.core.text import clip, quote
from harness.errors import DataError
from harness.experiment.data import PART_NAMES, PartName
from harness.experiment.data_facts import DataFacts, PartFacts
from harness.pipeline.rows import Row
from harness.records.trec import Qrels, read_qrels, write_qrels

TRAIN_FILE, CORPUS_FILE, PARTS_FILE = "train.jsonl", "corpus.jsonl", "parts.jsonl"
# Where every row is a query and its one passage under the row's id, rows say it all; the parts are train and test then.
TEST_FILE, QRELS_FILE = "test.jsonl", "qrels.gz"
SHOWN_IDS = 5
SHOWN_CHARACTERS = 60


@dataclass(frozen=True)
class TestData:
    """What is ranked and judged: the queries of one part, all passages of the data set, and the judgements."""

    queries: Mapping[str, str]
    corpus: Mapping[str, str]
    qrels: Qrels

    __test__ = False  # pytest takes any class of such a name for tests

    @property
    def duplicate_passages(self) -> int:
        """How many passages repeat the text of an earlier one."""
        return len(self.corpus) - len(set(self.corpus.values()))


@dataclass(frozen=True)
class PreparedData:
    """What the later stages read.

    Attributes:
        train: rows to train on.
        corpus: passage id -> text, of all parts.
        tests: what is judged, by part; they share the corpus.
        parts: how many rows each part was made from.
    """

    train: tuple[Row, ...]
    corpus: Mapping[str, str]
    tests: Mapping[PartName, TestData]
    parts: Mapping[PartName, PartFacts]

    @property
    def facts(self) -> DataFacts:
        """What the lock keeps of it."""
        duplicates = len(self.corpus) - len(set(self.corpus.values()))
        return DataFacts(parts=dict(self.parts), passages=len(self.corpus), duplicate_passages=duplicates)

    def select(self, part: PartName) -> TestData:
        """Return what is ranked and judged of a part.

        Raises:
            DataError: the part has no judgements.
        """
        if part == "train" and "train" not in self.tests and self.train:
            return self._judge_train()
        if part not in self.tests:
            raise DataError(f"part {part!r} has no judgements; there are those of {', '.join(self.tests) or 'none'}")
        return self.tests[part]

    def _judge_train(self) -> TestData:
        queries = {row.query_id: row.query for row in self.train}
        known = {query: judged for test in self.tests.values() for query, judged in test.qrels.items()}
        qrels = {query: dict(known.get(query, {})) for query in queries}
        for row in self.train:
            qrels[row.query_id].setdefault(row.passage_id, _grade(row))
        return TestData(queries, self.corpus, qrels)


def prepare_rows(parts: Mapping[PartName, Sequence[Row]], *, merge: bool) -> PreparedData:
    """Join the rows of all parts into what retrieval needs.

    Args:
        parts: rows by part.
        merge: whether rows share queries and passages by their ids, so that a query has every passage that any row, of
            any part, names for it; else a row's id is its own, and its query has its passage alone.

    Raises:
        DataError: an id in two parts, or with two texts; a query without a relevant passage; scores without labels
            where pairs would have to be judged.
    """
    rows = {part: tuple(parts[part]) for part in PART_NAMES if part in parts}
    if not merge:
        _refuse_shared(rows)
    every = [row for some in rows.values() for row in some]
    corpus = _collect(((row.passage_id, row.passage) for row in every), "passage")
    _collect(((row.query_id, row.query) for row in every), "query")
    judged: dict[str, dict[str, int]] = {}
    for row in every:
        grades = judged.setdefault(row.query_id, {})
        grades[row.passage_id] = max(_grade(row), grades.get(row.passage_id, 0))
    tests: dict[PartName, TestData] = {}
    for part, some in rows.items():
        if part == "train":
            continue
        unjudged = next((row for row in some if row.score is not None and row.label is None), None)
        if unjudged is not None:
            raise DataError(
                f"{part}: query {quote(unjudged.query_id)}: a score is no judgement; name a column of labels, 0 for a "
                "passage that is none for the query"
            )
        queries = {row.query_id: row.query for row in some}
        tests[part] = TestData(queries, corpus, {query: judged[query] for query in queries})
        check_relevance(part, tests[part])
    return PreparedData(rows.get("train", ()), corpus, tests, count_parts(rows))


def count_parts(rows: Mapping[PartName, Sequence[Row]]) -> dict[PartName, PartFacts]:
    """Return how many rows each part has, and its first row's id."""
    return {part: PartFacts(rows=len(some), first_id=some[0].query_id if some else None) for part, some in rows.items()}


def check_relevance(place: str, test: TestData) -> None:
    """Check that every query has a relevant passage, and that every judged passage is in the corpus.

    Raises:
        DataError: naming the queries.
    """
    judged = test.qrels
    without = sorted(
        set(test.queries) - {query for query, grades in judged.items() if max(grades.values(), default=0) > 0}
    )
    if without:
        raise DataError(f"{place}: {len(without)} queries have no relevant passage: {_name(without)}")
    unknown = sorted(set(judged) - set(test.queries))
    if unknown:
        raise DataError(f"{place}: {len(unknown)} judged queries are not among the queries: {_name(unknown)}")
    lost = [
        f"{query} -> {passage}" for query, grades in judged.items() for passage in grades if passage not in test.corpus
    ]
    if lost:
        raise DataError(f"{place}: {len(lost)} judged passages are not in the corpus: {_name(lost)}")


def write_prepared(folder: Path, data: PreparedData) -> None:
    """Write prepared data into a folder, the same bytes for the same data.

    Raises:
        OSError: the disk refuses.
    """
    paired = _find_pairs(data)
    if paired is not None:
        for name, rows in ((TRAIN_FILE, data.train), (TEST_FILE, paired)):
            _write_lines(
                folder / name, ({"id": row.query_id, "anchor": row.query, "positive": row.passage} for row in rows)
            )
        write_qrels(data.tests["test"].qrels, folder / QRELS_FILE)
        return
    write_train(folder, data.train)
    _write_lines(folder / PARTS_FILE, ({"part": part, **facts.model_dump()} for part, facts in data.parts.items()))
    _write_lines(folder / CORPUS_FILE, ({"id": name, "text": text} for name, text in data.corpus.items()))
    for part, test in data.tests.items():
        _write_lines(
            folder / f"{part}.queries.jsonl", ({"id": name, "text": text} for name, text in test.queries.items())
        )
        write_qrels(test.qrels, folder / f"{part}.qrels.gz")


def write_train(folder: Path, rows: Iterable[Row]) -> None:
    """Write rows to train on alone, with all that a row has.

    Raises:
        OSError: the disk refuses.
    """
    _write_lines(folder / TRAIN_FILE, map(_describe_row, rows))


def read_train(folder: Path) -> tuple[Row, ...]:
    """Read back what `write_train` wrote.

    Raises:
        DataError: the file is broken.
    """
    return tuple(map(_read_row, _read_lines(folder / TRAIN_FILE)))


def read_prepared(folder: Path) -> PreparedData:
    """Read back what `write_prepared` wrote.

    Raises:
        DataError: a file is broken, or the qrels are not those of the rows.
    """
    if (folder / TEST_FILE).is_file():
        train, test = (tuple(map(_read_pair, _read_lines(folder / name))) for name in (TRAIN_FILE, TEST_FILE))
        # A part without rows was never there.
        data = prepare_rows({"train": train, "test": test} if train else {"test": test}, merge=False)
        if read_qrels(folder / QRELS_FILE) != data.tests["test"].qrels:
            raise DataError(f"{folder / QRELS_FILE}: not the qrels of the rows beside it")
        return data
    train = read_train(folder)
    corpus = {line["id"]: line["text"] for line in _read_lines(folder / CORPUS_FILE)}
    tests: dict[PartName, TestData] = {}
    for part in PART_NAMES:
        path = folder / f"{part}.queries.jsonl"
        if path.is_file():
            queries = {line["id"]: line["text"] for line in _read_lines(path)}
            tests[part] = TestData(queries, corpus, read_qrels(folder / f"{part}.qrels.gz"))
            check_relevance(str(path), tests[part])
    parts = {line.pop("part"): PartFacts.model_validate(line) for line in _read_lines(folder / PARTS_FILE)}
    return PreparedData(train, corpus, tests, parts)


def _find_pairs(data: PreparedData) -> list[Row] | None:
    """Return the rows of test where the parts are train and test, and all rows are pairs of one id each."""
    if list(data.parts) != ["train", "test"] or any(
        row != Row.pair(row.query_id, row.query, row.passage) for row in data.train
    ):
        return None
    test = data.tests["test"]
    names = [row.query_id for row in data.train] + list(test.queries)
    if list(data.corpus) != names or any(test.qrels.get(name) != {name: 1} for name in test.queries):
        return None
    return [Row.pair(name, query, data.corpus[name]) for name, query in test.queries.items()]


def _refuse_shared(rows: Mapping[PartName, Sequence[Row]]) -> None:
    seen: dict[str, PartName] = {}
    for part, some in rows.items():
        shared = sorted(row.query_id for row in some if seen.setdefault(row.query_id, part) != part)
        if shared:
            other = seen[shared[0]]
            raise DataError(
                f"{len(shared)} ids appear in both {other} and {part}: {_name(shared)}; an id names one row of the "
                "whole data set (leave out columns.id where they only number the rows of a split)"
            )


def _collect(named: Iterable[tuple[str, str]], what: str) -> dict[str, str]:
    """Return id -> text.

    Raises:
        DataError: an id has two texts.
    """
    texts: dict[str, str] = {}
    for name, text in named:
        before = texts.setdefault(name, text)
        if before != text:
            raise DataError(f"{what} {quote(name)} has two texts: {quote(before)} and {quote(text)}")
    return texts


def _grade(row: Row) -> int:
    return 0 if row.label == 0 else 1


def _describe_row(row: Row) -> dict[str, Any]:
    return {name: value for name, value in vars(row).items() if value not in (None, ())}


def _read_row(line: Mapping[str, Any]) -> Row:
    return Row(**{**line, "negatives": tuple(line.get("negatives", ()))})


def _read_pair(line: Mapping[str, Any]) -> Row:
    return Row.pair(line["id"], line["anchor"], line["positive"])


def _write_lines(path: Path, values: Iterable[Mapping[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        stream.writelines(json.dumps(value, ensure_ascii=False) + "\n" for value in values)


def _read_lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with path.open(encoding="utf-8", newline="\n") as stream:
            for number, line in enumerate(stream, start=1):
                value = json.loads(line)
                if not isinstance(value, dict):
                    raise DataError(f"{path}:{number}: expected an object, found {type(value).__name__}")
                yield value
    except (OSError, ValueError, RecursionError) as cause:
        raise DataError(f"{path}: cannot be read: {cause}") from cause


def _name(items: Sequence[str]) -> str:
    shown = ", ".join(clip(item, SHOWN_CHARACTERS) for item in items[:SHOWN_IDS])
    return shown if len(items) <= SHOWN_IDS else f"{shown}, ..."
