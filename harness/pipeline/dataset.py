"""A data set is rows turned into training pairs, queries, corpus and qrels, every row checked on the way."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import DataError
from harness.experiment.data import Data, PartName
from harness.pipeline.obo import read_terms, select_rows
from harness.records.trec import MAX_LINE_BYTES, Qrels, read_qrels, write_qrels
from harness.sources.fetch import is_wanted

TRAIN_FILE = "train.jsonl"
TEST_FILE = "test.jsonl"
QRELS_FILE = "qrels.gz"
SHOWN_ROWS = 5
SHOWN_CHARACTERS = 60
MAX_ID_BYTES = MAX_LINE_BYTES // 4
ID_RULE = f"expected no white space, no control character NUL, and at most {MAX_ID_BYTES} bytes of UTF-8"


@dataclass(frozen=True)
class Row:
    """One pair of texts with the id that ties a query to its passage."""

    id: str
    anchor: str
    positive: str


def list_columns(rows: Sequence[Row], names: Sequence[str]) -> dict[str, list[str]]:
    """Return the texts of rows column by column, in the order of ``names``, each ``query`` or ``passage``."""
    fields = {"query": "anchor", "passage": "positive"}
    return {name: [getattr(row, fields[name]) for row in rows] for name in names}


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

    ``corpus`` has the positives of train and test, ``queries`` the anchors of test; the relevant passage of a
    query is the one of the same id.
    """

    train: tuple[Row, ...]
    queries: Mapping[str, str]
    corpus: Mapping[str, str]
    qrels: Qrels

    def select(self, part: PartName) -> TestData:
        """Return what is ranked and judged of a part.

        Raises:
            DataError: the part has no judgements.
        """
        if part != "test":
            raise DataError(f"part {part!r} has no judgements; test alone has, so far")
        return TestData(self.queries, self.corpus, self.qrels)


def load_rows(folder: Path, data: Data, *, cache: Path) -> tuple[tuple[Row, ...], tuple[Row, ...]]:
    """Load a source's rows through ``datasets`` (or from an ontology), rename the columns and check them.

    Args:
        folder: the source's checked files.
        data: format, columns, splits and the numbers of rows expected.
        cache: where ``datasets`` may keep its tables.

    Returns:
        Train rows and test rows, in the source's order.

    Raises:
        DataError: broken JSON (file and line), a missing column or split, an unexpected number of rows, or rows
            that break a rule; names the rows.
    """
    if data.format == "obo" and data.selection is not None:
        files = sorted(folder.rglob("*.obo"))
        if len(files) != 1:
            raise DataError(f"{folder}: has {len(files)} .obo files, expected 1")
        train, test = select_rows(read_terms(files[0]), data.selection)
        columns = {"id": "id", "anchor": "anchor", "positive": "positive"}
    elif data.columns is not None:
        _check_json(folder)
        checked = _link_checked(folder, cache / "checked")
        if data.splits is None or data.columns.id is None:
            raise DataError(f"{folder}: not yet: a table without splits, or without ids")
        splits = data.splits
        train, test = (_load_split(checked, data, split, cache, folder) for split in (splits.train, splits.test))
        columns = {"id": data.columns.id, "anchor": data.columns.query, "positive": data.columns.passage}
    train_rows = tuple(_check_rows(train, columns, "train"))
    test_rows = tuple(_check_rows(test, columns, "test"))
    _check_expected("train", train_rows, data)
    _check_expected("test", test_rows, data)
    return train_rows, test_rows


def prepare_data(train: Sequence[Row], test: Sequence[Row]) -> PreparedData:
    """Join the rows into what retrieval needs.

    Raises:
        DataError: an id stands in train and test.
    """
    shared = sorted({row.id for row in train} & {row.id for row in test})
    if shared:
        raise DataError(f"{len(shared)} ids stand in train and in test: {_name(shared)}")
    queries = {row.id: row.anchor for row in test}
    corpus = {row.id: row.positive for row in (*train, *test)}
    qrels = {row.id: {row.id: 1} for row in test}
    check_relevance(queries, corpus, qrels)
    return PreparedData(tuple(train), queries, corpus, qrels)


def check_relevance(queries: Mapping[str, str], corpus: Mapping[str, str], qrels: Qrels) -> None:
    """Check that every query has a relevant passage and that it is in the corpus.

    Raises:
        DataError: naming the queries.
    """
    without = sorted(set(queries) - {query for query, judged in qrels.items() if any(judged.values())})
    if without:
        raise DataError(f"{len(without)} queries have no relevant passage: {_name(without)}")
    unknown = sorted(set(qrels) - set(queries))
    if unknown:
        raise DataError(f"{len(unknown)} judged queries are not among the queries: {_name(unknown)}")
    lost = [f"{query} -> {passage}" for query, judged in qrels.items() for passage in judged if passage not in corpus]
    if lost:
        raise DataError(f"{len(lost)} judged passages are not in the corpus: {_name(lost)}")


def write_prepared(folder: Path, train: Sequence[Row], test: Sequence[Row]) -> None:
    """Write train, test and qrels into a folder, the same bytes for the same rows.

    Raises:
        DataError: an id stands in train and test.
        OSError: the disk refuses.
    """
    prepared = prepare_data(train, test)
    for name, rows in ((TRAIN_FILE, train), (TEST_FILE, test)):
        lines = (json.dumps(vars(row), ensure_ascii=False) for row in rows)
        (folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    write_qrels(prepared.qrels, folder / QRELS_FILE)


def read_prepared(folder: Path) -> PreparedData:
    """Read back what `write_prepared` wrote.

    Raises:
        DataError: a file is broken, or the qrels are not those of the rows.
    """
    train, test = (tuple(Row(**row) for _, row in _read_json_lines(folder / name)) for name in (TRAIN_FILE, TEST_FILE))
    prepared = prepare_data(train, test)
    if read_qrels(folder / QRELS_FILE) != prepared.qrels:
        raise DataError(f"{folder / QRELS_FILE}: not the qrels of the rows beside it")
    return prepared


def _link_checked(folder: Path, target: Path) -> Path:
    """Link the files that were checked into a folder of their own: ``datasets`` would also read others beside them."""
    shutil.rmtree(target, ignore_errors=True)
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        if path.is_file() and is_wanted(name.as_posix(), "data"):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).symlink_to(path.resolve())
    return target


def _load_split(folder: Path, data: Data, split: str | None, cache: Path, place: Path) -> list[dict[str, Any]]:
    # Imported here: it takes a second, and reading prepared data back does not need it.
    import datasets  # noqa: PLC0415

    datasets.disable_progress_bars()
    try:
        table = datasets.load_dataset(str(folder), name=data.config, split=split, cache_dir=str(cache))
    except (ValueError, OSError, datasets.exceptions.DatasetsError) as cause:
        raise DataError(f"{place}: config {data.config!r}, split {split!r}: {cause}") from cause
    chosen = data.columns
    columns = () if chosen is None else tuple(name for name in (chosen.query, chosen.passage, chosen.id) if name)
    missing = [column for column in columns if column not in table.column_names]
    if missing:
        raise DataError(f"{place}: split {split!r} has no column {missing[0]!r}; it has {table.column_names}")
    return list(table.select_columns(list(columns)).to_list())


def _check_rows(rows: Iterable[Mapping[str, Any]], columns: Mapping[str, str], place: str) -> Iterator[Row]:
    problems: list[str] = []
    seen: Counter[str] = Counter()
    for number, row in enumerate(rows):
        found = row[columns["id"]]
        # Hub tables often number their rows; anything else but text is somebody's mistake.
        if isinstance(found, bool) or not isinstance(found, str | int) or not str(found).strip():
            problems.append(f"row {number}: id is {found!r}, expected text or a whole number")
            continue
        name = str(found)
        if not _is_plain_id(name):
            problems.append(f"row {number}: id {name[:SHOWN_CHARACTERS]!r} cannot stand in a run: {ID_RULE}")
        seen[name] += 1
        if seen[name] > 1:
            problems.append(f"row {number}: id {name!r} stands twice")
        texts = {}
        for column in ("anchor", "positive"):
            text = row[columns[column]]
            if not isinstance(text, str) or not text.strip():
                problems.append(f"row {number} (id {name!r}): {columns[column]} is {text!r}, expected text")
            elif not _is_encodable(text):
                problems.append(f"row {number} (id {name!r}): {columns[column]} cannot be written as UTF-8: {text!r}")
            else:
                texts[column] = text
        if len(texts) == 2:  # noqa: PLR2004 - anchor and positive
            yield Row(id=name, **texts)
    if problems:
        more = f"\n  and {len(problems) - SHOWN_ROWS} more" if len(problems) > SHOWN_ROWS else ""
        raise DataError(
            f"{place}: rows break a rule in {len(problems)} places:\n  " + "\n  ".join(problems[:SHOWN_ROWS]) + more
        )


def _is_plain_id(name: str) -> bool:
    """Say whether an id can stand in a TREC file, so that what `write_run` would refuse is found before any work."""
    return name.split() == [name] and "\0" not in name and _is_encodable(name) and len(name.encode()) <= MAX_ID_BYTES


def _is_encodable(text: str) -> bool:
    """Say whether text is free of the lone surrogates that JSON lets pass and UTF-8 does not."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_expected(place: PartName, rows: Sequence[Row], data: Data) -> None:
    count, first = data.expected_rows(place), data.expected_first_id(place)
    if count is not None and len(rows) != count:
        raise DataError(f"{place}: has {len(rows)} rows, the manifest says {count}")
    if first is not None and rows[0].id != first:
        raise DataError(f"{place}: the first id is {rows[0].id!r}, the manifest says {first!r}")


def _check_json(folder: Path) -> None:
    """Find broken JSON ourselves, since ``datasets`` does not say where it is.

    A file named .json holds one value, or one a line like a .jsonl file.
    """
    for path in sorted(folder.rglob("*.json*")):
        if not is_wanted(path.relative_to(folder).as_posix(), "data") or not path.is_file():
            continue
        if path.suffix == ".json" and _is_one_value(path):
            continue
        for _ in _read_json_lines(path):
            pass


def _is_one_value(path: Path) -> bool:
    """Say whether a file holds one JSON value over all its lines, or one value per line.

    Raises:
        DataError: neither; names file and line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as cause:
        raise DataError(f"{path}: cannot be read: {cause}") from cause
    try:
        json.loads(text)
    except json.JSONDecodeError as cause:
        first = text.split("\n", maxsplit=1)[0]
        if not _is_json(first):
            raise DataError(f"{path}:{cause.lineno}: broken JSON at column {cause.colno}: {cause.msg}") from cause
        return False
    except RecursionError as cause:
        raise DataError(f"{path}: broken JSON: nested too deeply") from cause
    return True


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _read_json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, object)."""
    try:
        with path.open(encoding="utf-8") as stream:
            for number, line in enumerate(stream, start=1):
                try:
                    value = json.loads(line.rstrip("\n"))
                except json.JSONDecodeError as cause:
                    what = f" at column {cause.colno}: {cause.msg}" if line.strip() else ": the line is empty"
                    raise DataError(f"{path}:{number}: broken JSON{what}") from cause
                except RecursionError as cause:
                    raise DataError(f"{path}:{number}: broken JSON: nested too deeply") from cause
                if not isinstance(value, dict):
                    raise DataError(f"{path}:{number}: expected an object, found {type(value).__name__}")
                yield number, value
    except (OSError, UnicodeDecodeError) as cause:
        raise DataError(f"{path}: cannot be read: {cause}") from cause


def _name(items: Sequence[str]) -> str:
    shown = ", ".join(items[:SHOWN_ROWS])
    return shown if len(items) <= SHOWN_ROWS else f"{shown}, ..."
