"""Findings are what a reader of verdicts must not miss, and the rule for what fails a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.analysis.equivalence import Verdict
from harness.analysis.redundant_measures import Dispute
from harness.analysis.verdict import CellVerdict, ExperimentVerdict, Plan, ThresholdVerdict
from harness.core.text import format_seconds
from harness.experiment.claims import Threshold
from harness.report.comparison_words import review_comparison, review_forgetting
from harness.report.document import Finding, Level, order_findings

SHOWN_DECIMALS = 4
SHOWN_TOGETHER = 8


def list_findings(
    judged: ExperimentVerdict, disputes: Sequence[Dispute] = (), *, most: int | None = SHOWN_TOGETHER
) -> tuple[Finding, ...]:
    """List what verdicts ask a reader to look at, errors first, claims of one cell and verdict together.

    An error fails the run: a trial without record, a threshold not met, a comparison that does not show what the
    manifest asks of it, more forgotten than it allows, a primary claim found different, differing or not reproduced. A
    warning does not: one that is compatible, undecided or exceeded, and a threshold or bound that one seed cannot
    decide. Other queries than the published ones are never more than a notice.

    Args:
        judged: the verdicts.
        disputes: printed values that contradict each other.
        most: how many claims one finding spells out; None for all.
    """
    found = [*_list_missing(judged)]
    found += [finding for verdict in judged.thresholds if (finding := review_threshold(verdict)) is not None]
    found += [finding for verdict in judged.comparisons for finding in review_comparison(verdict)]
    found += [finding for verdict in judged.forgetting for finding in review_forgetting(verdict)]
    found += _join([finding for cell in judged.cells if (finding := review_cell(cell))], most)
    if judged.not_comparable:
        text = f"{judged.not_comparable}: published values are shown beside ours, none is judged"
        found.append(Finding("notice", "not comparable", text))
    found += _join([Finding("notice", "contradiction", text, cell) for cell, text in _word_disputes(disputes)], most)
    return order_findings(found)


def review_cell(cell: CellVerdict) -> Finding | None:
    """Return what is to be said of one verdict, or None where the claim stands or nothing was judged."""
    claim, outcome = cell.claim, cell.outcome
    if cell.verdict is None or cell.stands:
        return None
    level: Level = "error" if cell.stands is False else "warning"
    title = str(cell.verdict)
    if cell.verdict is Verdict.EXCEEDS:
        level = "warning"
        title += ", which can mean that test data leaked into training"
    reason = "" if outcome is None else f": {outcome.reason}"
    on = "" if claim.place is None else f" on {claim.place}"
    text = (
        f"{claim.measure}{on} {claim.mean:.4f}, published {shorten(claim.printed)} ({cut_source(claim.source)}), "
        f"difference {claim.difference:+.4f}{reason}"
    )
    return Finding(level, title, text, name_cell(claim.model, claim.variant))


def review_threshold(verdict: ThresholdVerdict) -> Finding | None:
    """Return what is to be said of one threshold, or None where it is met or nothing was measured."""
    bound, outcome = verdict.threshold, verdict.outcome
    if outcome is None or outcome.met:
        return None
    low = "" if outcome.lower_bound is None else f", lower {outcome.level:.0%} bound {outcome.lower_bound:.4f}"
    missed = outcome.met is False
    measure = f"{bound.measure}{name_place(bound)}"
    return Finding(
        "error" if missed else "warning",
        "threshold not met" if missed else "threshold undecided",
        f"{measure} must be above {bound.above:g}: mean {outcome.mean:.4f}{low}: {outcome.reason}",
        name_cell(bound.model, bound.variant),
    )


def name_place(bound: Threshold) -> str:
    """Say where a threshold holds, where it says so itself."""
    parts = ([] if bound.on is None else [f"on {bound.on}"]) + ([] if bound.dim is None else [f"at {bound.dim}"])
    return "".join(f" {part}" for part in parts)


def shorten(printed: str) -> str:
    """Return a printed value as it stands, or with four decimals where it has many more."""
    decimals = printed.partition(".")[2]
    return f"{float(printed):.{SHOWN_DECIMALS}f}" if len(decimals) > SHOWN_DECIMALS + 2 else printed


def cut_source(source: str) -> str:
    """Return a source's first words, up to the first comma."""
    return source.partition(",")[0].strip()[:20] or "source"


def name_cell(model: str, variant: str) -> str:
    """Return the name of a model and variant as findings give it."""
    return f"{model}/{variant}"


def describe_plan(plan: Plan) -> str:
    """Say how many further seeds would decide a claim, how probably, and what they would cost."""
    if plan.further_seeds is None or plan.probability is None:
        return plan.reason
    costs = []
    if plan.seconds is not None:
        costs.append(format_seconds(plan.seconds))
    if plan.cost_usd is not None:
        costs.append(f"{plan.cost_usd:.2f} USD")
    price = f" ({', '.join(costs)})" if costs else ""
    return f"{plan.further_seeds} more{price}, with a probability of {plan.probability:.0%}"


def _join(findings: Sequence[Finding], most: int | None) -> Iterator[Finding]:
    """Put findings of one level, title and cell into one, in the order of their first."""
    texts: dict[tuple[Level, str, str | None], list[str]] = {}
    for finding in findings:
        texts.setdefault((finding.level, finding.title, finding.cell), []).append(finding.text)
    for (level, title, cell), parts in texts.items():
        shown = parts if most is None or len(parts) <= most else [*parts[:most], f"and {len(parts) - most} more"]
        yield Finding(level, title, "; ".join(shown), cell)


def _word_disputes(disputes: Sequence[Dispute]) -> Iterator[tuple[str, str]]:
    """Yield (cell, text) per printed value that others contradict."""
    against: dict[tuple[str, tuple[str, str, str]], list[str]] = {}
    for dispute in disputes:
        measure, source, printed = dispute.second
        rivals = against.setdefault((name_cell(dispute.model, dispute.variant), dispute.first), [])
        rivals.append(f"{measure} = {shorten(printed)} ({cut_source(source)})")
    for (cell, (measure, source, printed)), rivals in against.items():
        yield cell, f"{measure} = {shorten(printed)} ({cut_source(source)}) against {', '.join(rivals)}"


def _list_missing(judged: ExperimentVerdict) -> Iterator[Finding]:
    missing = {
        (name_cell(cell.claim.model, cell.claim.variant), trial) for cell in judged.cells for trial in cell.missing
    } | {
        (name_cell(verdict.threshold.model, verdict.threshold.variant), trial)
        for verdict in judged.thresholds
        for trial in verdict.missing
    }
    compared = [(one.deciding, one.missing) for one in judged.comparisons]
    compared += [(one.cells, one.missing) for one in judged.forgetting]
    missing |= {(name_cell(*cells.a), trial) for cells, trials in compared for trial in trials}
    for cell, trial in sorted(missing):
        yield Finding("error", "missing record", f"there is no record of {trial}", cell)
