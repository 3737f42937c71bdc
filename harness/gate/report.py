"""The report of a gate: its outcome and all that it rests on, put into the sections that every renderer shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.analysis.seeds import Summary
from harness.core.text import format_p, format_seconds
from harness.gate.compare import GateOutcome, GateReport
from harness.gate.costs import CostCell
from harness.gate.fallen_queries import list_fallen_queries
from harness.gate.policy import Limit, Policy
from harness.gate.quality import QualityCell, Status
from harness.records.record import Record
from harness.report.document import Case, Finding, Paragraph, Report, Section, Table

# Findings stand at the head of a comment, which must still fit where every name is as long as it can be.
MOST_FINDINGS = 25
FINDING_CHARACTERS = 250
MOST_PROBLEMS = 1000
GIBIBYTE = 2**30
TITLES = {
    GateOutcome.PASS: "Gate passed: no worse than the reference",
    GateOutcome.REGRESSION: "Gate failed: worse than the reference",
    GateOutcome.NOT_COMPARABLE: "Gate cannot tell: not comparable with the reference",
    GateOutcome.SUSPECT: "Gate undecided: suspect",
}


def build_gate_report(
    result: GateReport, reference: Sequence[Record], candidate: Sequence[Record], folders: Sequence[Path] = ()
) -> Report:
    """Say what the gate found.

    Args:
        result: what `compare` returned.
        reference: the records it was given as reference.
        candidate: the records it was given to judge.
        folders: where the records lie, beside which the texts of queries may be.
    """
    single = _find_single(reference)
    sections = (
        _summarise(result, single),
        _list_problems(result),
        _list_costs(result, single),
        _list_measures(result, single),
        list_fallen_queries(result, reference, candidate, folders),
        _list_rules(result.policy),
    )
    return Report(
        name=name_gate_report(reference),
        title=TITLES[result.outcome] + (f" ({single})" if single else ""),
        lead=(_describe("Candidate", candidate), _describe("Reference", reference)),
        verdicts=_count(result),
        findings=tuple(list_gate_findings(result)),
        sections=tuple(section for section in sections if section.blocks),
        cases=(*list_gate_cases(result),),
    )


def name_gate_report(reference: Sequence[Record]) -> str:
    """Return the report's name, by which a comment is found again: after the reference's experiment if it is one."""
    single = _find_single(reference)
    return f"gate-{single}" if single else "gate"


def _find_single(records: Sequence[Record]) -> str | None:
    experiments = {record.trial.experiment for record in records}
    return experiments.pop() if len(experiments) == 1 else None


def _describe(side: str, records: Sequence[Record]) -> str:
    """Name what one side is: how many trials, of which seeds, made by which commit, when, on what."""
    if not records:
        return f"{side}: no records."
    seeds = sorted({record.trial.seed for record in records if record.trial.seed is not None})
    commits = sorted({_shorten(record.environment.revision) for record in records})
    dates = sorted({record.created[:10] for record in records})
    devices = sorted({record.device_name for record in records})
    days = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    parts = [
        f"{len(records)} trials",
        *([f"seeds {', '.join(map(str, seeds))}"] if seeds else []),
        f"commit {', '.join(commits)}",
        days,
        f"on {', '.join(devices)}",
    ]
    return f"{side}: {', '.join(parts)}."


def _shorten(revision: str | None) -> str:
    if revision is None:
        return "unknown"
    commit, plus, rest = revision.partition("+")
    return commit[:8] + plus + rest


def _summarise(result: GateReport, single: str | None) -> Section:
    """Show the primary measures, and how likely a false alarm is."""
    cells = [cell for cell in result.quality if cell.deciding]
    golden = any(cell.against == "golden" for cell in cells)
    rows = tuple(
        (_name_group(cell.group, single), cell.measure, *((cell.against,) if golden else ()), *_show(cell))
        for cell in cells
    )
    against = ("against",) if golden else ()
    columns = ("trials", "measure", *against, "reference", "candidate", "change", "p (Holm)", "status")
    blocks: list[Paragraph | Table] = []
    if rows:
        blocks.append(Table(columns, rows, spare=("p (Holm)", "change")))
    counted = _count(result)
    if counted:
        blocks.append(
            Paragraph(
                f"{len(cells)} of {len(result.quality) + len(result.costs)} values decide; all: {counted}. ± is the sd "
                "over seeds."
            )
        )
    if result.rates.power:
        powers = " and ".join(f"of {drop:g} with {power:.0%}" for drop, power in result.rates.power.items())
        blocks.append(
            Paragraph(
                f"Simulated for these seeds and spreads: an unchanged pipeline fails in {result.rates.false_alarm:.1%} "
                f"and runs further seeds in {result.rates.suspect:.0%}; a drop {powers} is found."
            )
        )
    for experiment, seeds in result.further_seeds.items():
        blocks.append(Paragraph(f"suspect: run seeds {','.join(map(str, seeds))} of {experiment}"))
    return Section("In short", tuple(blocks), brief=True)


def _list_problems(result: GateReport) -> Section:
    """Name every problem where the findings could not."""
    if len(result.problems) <= MOST_FINDINGS:
        return Section("What cannot be compared", ())
    shown = result.problems[:MOST_PROBLEMS]
    mark = f"the first {MOST_PROBLEMS} of {len(result.problems)}" if len(shown) < len(result.problems) else None
    rows = tuple((f"no. {number}", text) for number, text in enumerate(shown, start=1))
    return Section("What cannot be compared", (Table(("number", "problem"), rows, mark=mark),), brief=True)


def _list_measures(result: GateReport, single: str | None) -> Section:
    """Show every measure, a table for each model and variant."""
    tables = []
    for group in dict.fromkeys(cell.group for cell in result.quality):
        cells = [cell for cell in result.quality if cell.group == group]
        rows = tuple((cell.measure, cell.against, *_show(cell), cell.reason) for cell in cells)
        columns = ("measure", "against", "reference", "candidate", "change", "p", "status", "why")
        tables.append(Table(columns, rows, title=_name_group(group, single)))
    return Section("Every measure", tuple(tables))


def _list_costs(result: GateReport, single: str | None) -> Section:
    """Show seconds and memory; where nothing could be compared, say why once."""
    rows = []
    reasons: dict[str, list[str]] = {}
    for cell in result.costs:
        outcome = cell.outcome
        name = _name_group(cell.group, single)
        if outcome is None:
            reasons.setdefault(cell.reason, []).append(f"{name} ({name_cost(cell.cost)})")
            continue
        old, new = outcome.reference_mean, outcome.candidate_mean
        growth = f"{new / old - 1:+.0%}" if old else ""
        rows.append(
            (
                name,
                name_cost(cell.cost),
                _format_cost(cell.cost, old),
                _format_cost(cell.cost, new),
                growth,
                str(cell.status),
                "" if cell.status in (Status.SAME, Status.BETTER) else cell.reason,
            )
        )
    columns = ("trials", "cost", "reference", "candidate", "change", "status", "why")
    blocks: list[Paragraph | Table] = [Table(columns, tuple(rows), spare=("why", "change"))] if rows else []
    blocks += [Paragraph(f"Not compared, {reason}: {', '.join(names)}.") for reason, names in reasons.items()]
    return Section("Time and memory", tuple(blocks), brief=True)


def _list_rules(policy: Policy) -> Section:
    """Say what counts as worse."""
    quality, costs = policy.quality, policy.costs
    measures = Paragraph(
        "The primary measure of each model decides, the others are shown. Where chance between seeds explains its drop "
        f"with p of at most {1 - quality.level:g} (moderated t, corrected by Holm over models and references), three "
        f"fresh seeds are run and pooled; it is a regression if p is then at most {1 - quality.final_level:g} and it "
        f"fell by more than {quality.smallest_drop:g}."
    )
    growth = Paragraph(
        f"Seconds and memory are compared on one and the same machine only. They are worse at level {costs.level:g} "
        "when they grew past their noise and past both limits; "
        + ("that fails the gate." if costs.fail else "that is shown for review and fails nothing.")
    )
    names = ("train_seconds", "evaluate_seconds", "peak_memory_bytes", "peak_device_memory_bytes")
    limits: list[tuple[str, Limit]] = [(name, getattr(costs, name)) for name in names]
    rows = tuple((name_cost(name), f"{limit.relative:.0%}", _format_cost(name, limit.floor)) for name, limit in limits)
    table = Table(("cost", "may grow by", "and by"), rows)
    return Section("Rules", (measures, growth, table))


def _count(result: GateReport) -> str:
    statuses = [cell.status for cell in result.quality] + [cell.status for cell in result.costs]
    counts = Counter(map(str, statuses))
    return "; ".join(f"{count} {status}" for status, count in counts.most_common())


def _show(cell: QualityCell) -> tuple[str, str, str, str, str]:
    """Return the cells that tables have in common: both sides, change, p-value and status."""
    p_value = cell.p_value if cell.adjusted_p_value is None else cell.adjusted_p_value
    shown = "" if p_value is None else format_p(p_value)
    return _spread(cell.reference), _spread(cell.candidate), f"{cell.change:+.4f}", shown, str(cell.status)


def _spread(summary: Summary) -> str:
    return f"{summary.mean:.4f}" if summary.sd is None else f"{summary.mean:.4f} ± {summary.sd:.4f}"


def _format_cost(cost: str, value: float) -> str:
    return format_seconds(value) if cost.endswith("_seconds") else f"{value / GIBIBYTE:.2f} GiB"


def _name_group(group: str, single: str | None) -> str:
    return group.removeprefix(f"{single}/") if single else group


def list_gate_findings(result: GateReport) -> Iterator[Finding]:
    """Yield problems, then regressions by group, then notices, so many of each as fit the head of a report.

    Args:
        result: what the gate found.
    """
    yield from _limit([Finding("error", "cannot be compared", text) for text in result.problems])
    by_group: dict[str, list[str]] = {}
    for cell in result.quality:
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
    yield from _limit(
        [
            Finding("warning", "suspect", f"{cell.measure} ({cell.change:+.4f}): {cell.reason}", cell.group)
            for cell in result.quality
            if cell.status is Status.SUSPECT
        ]
        + [
            Finding("warning", "grew", f"{name_cost(cost.cost)}: {cost.reason}", cost.group)
            for cost in result.costs
            if cost.status is Status.WORSE
        ]
    )
    yield from _limit([Finding("notice", "for review", text) for text in result.notices])


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
            ("stage", str(cell.stage)),
            ("p_value", _show_optional(cell.p_value)),
            ("adjusted_p_value", _show_optional(cell.adjusted_p_value)),
            ("status", str(cell.status)),
        ]
        failure = cell.reason if cell.status is Status.REGRESSION else None
        name = f"{cell.group}/{cell.measure}" + (" (golden)" if cell.against == "golden" else "")
        yield Case("quality", name, 0.0, tuple(properties), failure)
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
