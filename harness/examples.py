"""Examples are the worst queries: what was asked, what was expected, and what ranked above it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import RecordError
from harness.record import Artifact, Record
from harness.report import Example, Paragraph, Ranking, Section
from harness.run import Qrels, read_qrels, read_run
from harness.shelf import Shelf
from harness.sources import hash_file
from harness.texts import Texts, read_texts

WORST = 10
SHOWN_ABOVE = 3
SHOWN_CHARACTERS = 400
RUN_LIMIT_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Ranked:
    """A record with its ranked lists and, per query, the rank of the best relevant passage (0: not in the run)."""

    record: Record
    passages: dict[str, tuple[str, ...]]
    ranks: dict[str, int]
    depth: int


def list_worst_queries(shelf: Shelf, model: str, results: Path) -> Section:
    """Show the queries of one model that rank their passage lowest after fine-tuning.

    Worst is the highest rank averaged over seeds, a passage that is not in the run counting as one behind its end;
    among equals the one that was worse before, then the lower id.

    Args:
        shelf: the records.
        model: its name.
        results: the folder that the records' runs, qrels and texts lie below.

    Raises:
        RecordError: a run, the qrels or the texts are absent, not those of the record, or broken.
        DataError: a run or qrels file breaks a rule.
    """
    base, tuned = shelf.select(model, "baseline"), shelf.select(model, "finetuned")
    records = [*base, *tuned]
    heading = f"Worst queries of {model}"
    if not records:
        return Section(heading, ())
    if records[0].texts is None:
        return Section(heading, (Paragraph("The texts of this data are not published with the records."),))
    texts = read_texts(_locate(results, records[0].texts, records[0]), sha256=records[0].texts.sha256)
    qrels = read_qrels(_check(results, records[0].qrels, records[0]), max_bytes=RUN_LIMIT_BYTES)
    before = [_rank(record, qrels, results) for record in base]
    after = [_rank(record, qrels, results) for record in tuned]
    judged = after or before
    worst = sorted(qrels, key=lambda query: (-_mean_rank(judged, query), -_mean_rank(before or judged, query), query))[
        :WORST
    ]
    examples = tuple(_show(query, qrels, texts, before, after) for query in worst)
    when = "after fine-tuning" if after else "without fine-tuning"
    note = f"The {len(examples)} of {len(qrels)} queries whose passage ranks lowest {when}, averaged over seeds."
    return Section(heading, (Paragraph(note), *examples))


def _rank(record: Record, qrels: Qrels, results: Path) -> Ranked:
    run = read_run(_check(results, record.run, record), max_bytes=RUN_LIMIT_BYTES)
    ranks = {}
    for query, passages in zip(run.query_ids, run.passage_ids, strict=True):
        relevant = {passage for passage, relevance in qrels.get(query, {}).items() if relevance > 0}
        ranks[query] = next((rank for rank, passage in enumerate(passages, start=1) if passage in relevant), 0)
    passages_of = dict(zip(run.query_ids, run.passage_ids, strict=True))
    return Ranked(record, passages_of, ranks, max(map(len, run.passage_ids)))


def _mean_rank(ranked: Sequence[Ranked], query: str) -> float:
    return sum(found.ranks.get(query, 0) or found.depth + 1 for found in ranked) / len(ranked)


def _show(query: str, qrels: Qrels, texts: Texts, before: Sequence[Ranked], after: Sequence[Ranked]) -> Example:
    relevant = [passage for passage, relevance in qrels[query].items() if relevance > 0]
    expected = [_find(texts.passages, passage) for passage in relevant]
    rankings = []
    for label, ranked in (("before fine-tuning", before), ("after fine-tuning", after)):
        if ranked:
            # Of several seeds the one that ranks it lowest, since that one has something to show.
            shown = max(ranked, key=lambda found: found.ranks.get(query, 0) or found.depth + 1)
            words = [_word_rank(found, query) for found in ranked]
            standing = "rank " + (words[0] if len(set(words)) == 1 else ", ".join(words))
            if len(ranked) > 1:
                seeds = ", ".join(str(found.record.trial.seed) for found in ranked)
                standing += f" with seeds {seeds}; above it with seed {shown.record.trial.seed}"
            rankings.append(Ranking(label, standing, _list_above(shown, query, texts, expected)))
    question, answer = _find(texts.queries, query), " / ".join(expected)
    return Example(query, _cut(question), _cut(answer), tuple(rankings))


def _word_rank(found: Ranked, query: str) -> str:
    rank = found.ranks.get(query, 0)
    return str(rank) if rank else f"beyond {found.depth}"


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "..."


def _list_above(found: Ranked, query: str, texts: Texts, expected: Sequence[str]) -> tuple[str, ...]:
    passages = found.passages.get(query, ())
    rank = found.ranks.get(query, 0) or len(passages) + 1
    above = [_find(texts.passages, passage) for passage in passages[: rank - 1][:SHOWN_ABOVE]]
    return tuple(
        f"{_cut(text)} (the same text as the one expected)" if text in expected else _cut(text) for text in above
    )


def _find(texts: dict[str, str], name: str) -> str:
    if name not in texts:
        raise RecordError(f"the published texts have no {name!r}, which the run or the qrels name")
    return texts[name]


def _check(results: Path, artifact: Artifact, record: Record) -> Path:
    path = _locate(results, artifact, record)
    found = hash_file(path)
    if found != artifact.sha256:
        raise RecordError(
            f"{path}: has the SHA-256 {found[:16]}..., the record of {record.trial.id} says {artifact.sha256[:16]}..."
        )
    return path


def _locate(results: Path, artifact: Artifact, record: Record) -> Path:
    path = results / artifact.path
    if not path.is_file():
        raise RecordError(f"{path}: no such file, and the record of {record.trial.id} names it")
    # The path's own letters cannot climb out of the folder; a link in a stranger's folder could.
    if not path.resolve().is_relative_to(results.resolve()):
        raise RecordError(f"{path}: lies outside {results}")
    return path
