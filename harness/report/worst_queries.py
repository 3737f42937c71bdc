"""The worst queries: what was asked, what was expected, and what ranked above it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.core.text import clip
from harness.errors import RecordError
from harness.experiment.trial import Pair
from harness.records.artifacts import Evidence, Standing, Texts
from harness.records.record import Record
from harness.records.record_set import Shelf
from harness.records.trec import Qrels
from harness.report.document import Example, Paragraph, Ranking, Section

WORST = 10
SHOWN_CHARACTERS = 400


@dataclass(frozen=True)
class Ranked:
    """A record and how its queries stand in its run."""

    record: Record
    standing: Standing

    def find_rank(self, query: str) -> int:
        """Return the rank of the best relevant passage, one behind the longest list where it is not in the run."""
        return self.standing.ranks.get(query, 0) or self.standing.depth + 1


def list_worst_queries(shelf: Shelf, pair: Pair, evidence: Evidence) -> Section:
    """Show the queries of one model that rank their passage lowest after fine-tuning.

    Worst is the highest rank averaged over seeds, a passage that is not in the run counting as one behind its end;
    among equals the one that was worse before, then the lower id.

    Args:
        shelf: the records.
        pair: the model, and the recipe that it is trained by.
        evidence: the records' runs, qrels and texts.

    Raises:
        RecordError: a run, the qrels or the texts are absent, not those of the record, or broken.
        DataError: a run or qrels file breaks a rule.
    """
    base, tuned = shelf.select_pair(pair)
    records = [*base, *tuned]
    heading = f"Worst queries of {pair.label}"
    if not records:
        return Section(heading, ())
    if records[0].texts is None:
        return Section(heading, (Paragraph("The texts of this data are not published with the records."),))
    for artifact in (records[0].texts, records[0].qrels, *(record.run for record in records)):
        evidence.check(artifact)
    texts, qrels = evidence.read_texts(records[0].texts), evidence.read_qrels(records[0].qrels)
    before, after = (
        [Ranked(record, evidence.find_standing(record.run, records[0].qrels)) for record in kind]
        for kind in (base, tuned)
    )
    judged = after or before
    worst = sorted(qrels, key=lambda query: (-_mean_rank(judged, query), -_mean_rank(before or judged, query), query))[
        :WORST
    ]
    examples = tuple(_show(query, qrels, texts, before, after) for query in worst)
    when = "after fine-tuning" if after else "without fine-tuning"
    note = f"The {len(examples)} of {len(qrels)} queries whose passage ranks lowest {when}, averaged over seeds."
    return Section(heading, (Paragraph(note), *examples))


def _mean_rank(ranked: Sequence[Ranked], query: str) -> float:
    return sum(found.find_rank(query) for found in ranked) / len(ranked)


def _show(query: str, qrels: Qrels, texts: Texts, before: Sequence[Ranked], after: Sequence[Ranked]) -> Example:
    relevant = [passage for passage, relevance in qrels[query].items() if relevance > 0]
    expected = [_find(texts.passages, passage) for passage in relevant]
    rankings = []
    for label, ranked in (("before fine-tuning", before), ("after fine-tuning", after)):
        if ranked:
            # Of several seeds the one that ranks it lowest, since that one has something to show.
            shown = max(ranked, key=lambda found: found.find_rank(query))
            words = [_word_rank(found, query) for found in ranked]
            standing = "rank " + (words[0] if len(set(words)) == 1 else ", ".join(words))
            if len(ranked) > 1:
                seeds = ", ".join(str(found.record.trial.seed) for found in ranked)
                standing += f" with seeds {seeds}; above it with seed {shown.record.trial.seed}"
            rankings.append(Ranking(label, standing, _list_above(shown, query, texts, expected)))
    question, answer = _find(texts.queries, query), " / ".join(expected)
    return Example(query, clip(question, SHOWN_CHARACTERS), clip(answer, SHOWN_CHARACTERS), tuple(rankings))


def _word_rank(found: Ranked, query: str) -> str:
    rank = found.standing.ranks.get(query, 0)
    return str(rank) if rank else f"beyond {found.standing.depth}"


def _list_above(found: Ranked, query: str, texts: Texts, expected: Sequence[str]) -> tuple[str, ...]:
    first = found.standing.first.get(query, ())
    above = [_find(texts.passages, passage) for passage in first[: found.find_rank(query) - 1]]
    return tuple(
        f"{clip(text, SHOWN_CHARACTERS)} (the same text as the one expected)"
        if text in expected
        else clip(text, SHOWN_CHARACTERS)
        for text in above
    )


def _find(texts: dict[str, str], name: str) -> str:
    if name not in texts:
        raise RecordError(f"the published texts have no {name!r}, which the run or the qrels name")
    return texts[name]
