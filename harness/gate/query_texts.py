"""What the queries of a record ask, where a results folder has their texts: an id alone often says nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import RecordError, SourceError
from harness.records.artifacts import Evidence
from harness.records.record import Record


@dataclass(frozen=True)
class QueryTexts:
    """Texts by query, and what is wrong with those that could not be read."""

    texts: Mapping[str, str]
    problem: str | None = None


def read_query_texts(records: Sequence[Record], folders: Sequence[Path]) -> QueryTexts:
    """Return the texts of the records' first result's queries, from the first folder that has them.

    Args:
        records: of one group, any of whose texts will do.
        folders: where records lie: a results folder's own, or one of its folders of records. A reference is kept
            without texts, so that they are usually the candidate's; they are held against the records' digest.
    """
    for artifact in dict.fromkeys(record.texts for record in records if record.texts is not None):
        for results in _list_results(folders):
            evidence = Evidence(results)
            if not evidence.has(artifact):
                continue
            try:
                evidence.check(artifact)
                return QueryTexts(evidence.read_texts(artifact).queries)
            except (RecordError, SourceError) as cause:
                return QueryTexts({}, str(cause))
    return QueryTexts({})


def _list_results(folders: Sequence[Path]) -> Iterator[Path]:
    """Yield the results folders that the records of a folder may be of: itself, or one or two above."""
    for folder in folders:
        yield from (folder, *folder.absolute().parents[:2])
