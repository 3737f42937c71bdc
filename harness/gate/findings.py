"""What a gate found that nobody should miss, and its cases for test reports."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet

from harness.gate.compare import GateReport
from harness.gate.costs import CostCell
from harness.gate.quality import QualityCell, Status
from harness.report.document import Case, Finding

# Findings stand at the head of a comment, which must still fit where every name is as long as it can be.
MOST_FINDINGS = 25
FINDING_CHARACTERS = 250
MOST_PROBLEMS = 1000


def list_gate_findings(result: GateReport, primary: AbstractSet[tuple[str, str]]) -> Iterator[Finding]:
    """Yield problems, then regressions by group, then notices, so many of each as fit the head of a report.

    Args:
        result: what the gate found.
        primary: experiments with their primary measures, which are named first.
    """
    yield from _limit([Finding("error", "cannot be compared", text) for text in result.problems])
    by_group: dict[str, list[str]] = {}
    for cell in sorted(result.quality, key=lambda cell: not is_primary(cell, primary)):
        if cell.status is Status.REGRESSION:
            by_group.setdefault(cell.group, []).append(
                f"{cell.measure} {cell.reference.mean:.4f} to {cell.candidate.mean:.4f} ({cell.change:+.4f}), "
                f"{cell.reason}"
            )
    worse = [Finding("error", "regression", _join(texts), group) for group, texts in by_group.items()]
    worse += [
        Finding("error", "regression", f"{name_cost(cell.cost)}: {cell.reason}", cell.group)
        for cell in result.costs
        if cell.status is Status.REGRESSION
    ]
    yield from _limit(worse)
    yield from _limit([Finding("notice", "for review", text) for text in result.notices])


def is_primary(cell: QualityCell, primary: AbstractSet[tuple[str, str]]) -> bool:
    """Say whether a cell is of its experiment's primary measure."""
    return (cell.group.partition("/")[0], cell.measure) in primary


def _join(texts: Sequence[str]) -> str:
    """Give the first in full and count the rest, which the tables show."""
    more = len(texts) - 1
    return texts[0] + (f"; and {more} more measure{'s' if more > 1 else ''}" if more else "")


def _limit(findings: Sequence[Finding]) -> Iterator[Finding]:
    shown = findings if len(findings) <= MOST_FINDINGS else findings[: MOST_FINDINGS - 1]
    for finding in shown:
        text = finding.text
        cut = text if len(text) <= FINDING_CHARACTERS else text[:FINDING_CHARACTERS] + "..."
        yield Finding(finding.level, finding.title, cut, finding.cell)
    if len(shown) < len(findings):
        more = f"{len(findings) - len(shown)} more, which the tables name"
        yield Finding(findings[0].level, findings[0].title, more)


def list_gate_cases(result: GateReport) -> Iterator[Case]:
    """Yield a case per problem, measure and cost."""
    for number, problem in enumerate(result.problems[:MOST_PROBLEMS], 1):
        yield Case("comparison", f"problem {number}", 0.0, failure=problem)
    if not result.problems:
        yield Case("comparison", "both sides can be compared", 0.0)
    for cell in result.quality:
        properties = [
            ("reference", repr(cell.reference.mean)),
            ("candidate", repr(cell.candidate.mean)),
            ("change", repr(cell.change)),
            ("reference_seeds", ",".join(map(str, cell.reference_seeds))),
            ("candidate_seeds", ",".join(map(str, cell.candidate_seeds))),
            ("judged_by", cell.judged_by),
            ("seed_p_value", _show_optional(cell.seed_p_value)),
            ("query_p_value", _show_optional(cell.query_p_value)),
            ("adjusted_p_value", repr(cell.adjusted_p_value)),
            ("status", str(cell.status)),
        ]
        failure = cell.reason if cell.status is Status.REGRESSION else None
        yield Case("quality", f"{cell.group}/{cell.measure}", 0.0, tuple(properties), failure)
    for cost in result.costs:
        yield Case("cost", f"{cost.group}/{cost.cost}", 0.0, _list_cost_properties(cost), _word_cost_failure(cost))


def _list_cost_properties(cell: CostCell) -> tuple[tuple[str, str], ...]:
    properties = [("status", str(cell.status)), ("reason", cell.reason)]
    if cell.outcome is not None:
        properties += [
            ("reference", repr(cell.outcome.reference_mean)),
            ("candidate", repr(cell.outcome.candidate_mean)),
        ]
    return tuple(properties)


def _word_cost_failure(cell: CostCell) -> str | None:
    return cell.reason if cell.status is Status.REGRESSION else None


def _show_optional(value: float | None) -> str:
    return "" if value is None else repr(value)


def name_cost(cost: str) -> str:
    """Return a cost as people call it."""
    name = cost.rpartition("_")[0].replace("_", " ")
    return {"train": "training time", "evaluate": "evaluation time", "peak device memory": "peak GPU memory"}.get(
        name, name
    )
