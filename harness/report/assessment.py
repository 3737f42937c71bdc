"""An assessment is records with their verdicts; here also the words and formats that its tables share."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from harness.analysis.redundant_measures import Repeat
from harness.analysis.seeds import Interval
from harness.analysis.verdict import ClaimVerdict, Judgement
from harness.experiment.manifest import Variant
from harness.records.record import Record
from harness.records.record_set import Shelf
from harness.report.document import Table
from harness.report.findings import cut_source

SMALL_P = 0.001
WHEN: dict[Variant, str] = {"baseline": "before fine-tuning", "finetuned": "after fine-tuning"}


@dataclass(frozen=True)
class Assessment:
    """What the tables are made from: records on a shelf, the verdicts on them, and measures that repeat another."""

    shelf: Shelf
    judgement: Judgement
    repeats: dict[str, Repeat]

    @property
    def measures(self) -> tuple[str, ...]:
        """The measures that do not repeat another one."""
        return tuple(name for name in self.shelf.experiment.evaluation.measures if name not in self.repeats)

    @property
    def mark(self) -> str | None:
        """The reservation on published values beside ours."""
        reason = self.judgement.not_comparable
        return None if reason is None else f"{reason}: published values stand here for orientation"

    def list_claims(self, model: str, variant: Variant, measure: str) -> list[ClaimVerdict]:
        """Return the claims on one cell, in the manifest's order."""
        key = (model, variant, measure)
        return [claim for claim in self.judgement.claims if (claim.model, claim.variant, claim.measure) == key]


def label_sources(sources: Sequence[str]) -> dict[str, str]:
    """Give each source a short name: its words up to the first comma, numbered where two would be alike."""
    labels: dict[str, str] = {}
    for source in sources:
        if source not in labels:
            short = cut_source(source)
            alike = sum(1 for known in labels if cut_source(known) == short)
            labels[source] = short if not alike else f"{short} {alike + 1}"
    return labels


def word_verdict(claims: Sequence[ClaimVerdict]) -> str:
    """Name the verdicts on one cell: once where all sources agree; in parentheses where data are not comparable."""
    labels = label_sources([claim.source for claim in claims])
    words = {labels[claim.source]: str(claim.verdict) for claim in claims if claim.verdict is not None}
    if len(set(words.values())) <= 1:
        text = next(iter(words.values()), "")
    else:
        text = "; ".join(f"{word} ({label})" for label, word in words.items())
    return f"({text})" if text and not all(claim.comparable for claim in claims) else text


def count_verdicts(judgement: Judgement) -> list[tuple[str, int]]:
    """Count the verdicts on claims, in the order in which they first appear."""
    counts: dict[str, int] = {}
    for claim in judgement.claims:
        word = "without record" if claim.verdict is None else str(claim.verdict)
        counts[word] = counts.get(word, 0) + 1
    return list(counts.items())


def format_p(p_value: float) -> str:
    """Write a p-value with three decimals, or as below the smallest that these can tell."""
    return f"< {SMALL_P:g}" if p_value < SMALL_P else f"{p_value:.3f}"


def format_mean(values: Sequence[float]) -> str:
    """Write the mean of values, or nothing where there are none."""
    return f"{statistics.fmean(values):.4f}" if values else ""


def format_spread(values: Sequence[float]) -> str:
    """Write mean and standard deviation, or just the value where there is one."""
    return f"{format_mean(values)} ± {statistics.stdev(values):.4f}" if len(values) > 1 else format_mean(values)


def format_interval(interval: Interval | None) -> str:
    """Write an interval, or nothing where there is none."""
    return "" if interval is None else f"{interval.low:.4f} to {interval.high:.4f}"


def list_measure(records: Sequence[Record], measure: str) -> tuple[float, ...]:
    """Return each record's value of a measure."""
    return tuple(record.values[measure] for record in records)


def drop_empty(table: Table) -> Table:
    """Leave out the columns in which no row has anything."""
    kept = [index for index in range(len(table.columns)) if index == 0 or any(row[index] for row in table.rows)]
    return Table(
        tuple(table.columns[index] for index in kept),
        tuple(tuple(row[index] for index in kept) for row in table.rows),
        table.title,
        table.mark,
        table.spare,
    )


def format_percent(interval: Interval) -> str:
    """Write an interval of a ratio."""
    return f"{interval.low:.0%} to {interval.high:.0%}"
