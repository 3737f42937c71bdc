"""What a reader may conclude, one sentence per model or comparison, before any table."""

from __future__ import annotations

from collections.abc import Iterator

from harness.analysis.equivalence import Agreement, Verdict
from harness.analysis.paired_queries import ChangedCell
from harness.analysis.verdict import CellVerdict, ExperimentVerdict
from harness.core.text import relate_p
from harness.experiment.claims import BASELINE
from harness.experiment.manifest import Experiment
from harness.report.comparison_words import word_difference
from harness.report.findings import cut_source, shorten

AGREEMENTS = {
    Agreement.SAME: "gives the published values before fine-tuning",
    Agreement.CLOSE: "comes close to the published values before fine-tuning",
    Agreement.DIFFERENT: "gives other values than the published ones before fine-tuning",
}


def list_conclusions(judged: ExperimentVerdict) -> tuple[str, ...]:
    """Say what may be concluded of each model (its claims, or else its fine-tuning) and of each comparison."""
    return tuple(_list_sentences(judged))


def _list_sentences(judged: ExperimentVerdict) -> Iterator[str]:
    primary = judged.experiment.evaluation.primary
    claimed = {cell.claim.model for cell in judged.cells if cell.claim.mean is not None}
    unsaid = True
    for model in judged.experiment.models:
        cells = [cell for cell in judged.cells if cell.claim.model == model.name and cell.claim.mean is not None]
        if judged.not_comparable:
            trained = [cell for cell in cells if cell.claim.variant != BASELINE]
            yield from (word_other_queries(cell, judged.not_comparable) for cell in trained or cells)
        else:
            yield from (conclude(cell) for cell in sorted(cells, key=lambda cell: cell.claim.variant == BASELINE))
        if cells:
            continue
        # Once on a page; but where something was published of another model, of each that it is not about.
        unsaid = unsaid or bool(claimed)
        for change in judged.changes:
            if (change.pair.model, change.measure) == (model.name, primary):
                said = "Nothing was published to compare with. " if unsaid else ""
                yield f"{said}{describe_change(change, judged.experiment)}"
                unsaid = False
    for verdict in judged.comparisons:
        if verdict.deciding.contrast is not None:
            yield f"{word_difference(verdict.deciding)}."


def conclude(cell: CellVerdict) -> str:
    """Say in one sentence what one verdict means."""
    claim, outcome = cell.claim, cell.outcome
    on = "" if claim.place is None else f" on {claim.place}"
    name, mean = f"{claim.measure} of {claim.label}{on}", f"{claim.mean:.4f}"
    if outcome is None:
        text = AGREEMENTS[claim.agreement] if claim.agreement is not None else "has no verdict"
        return (
            f"{claim.label} {text}{on}: its worst measure is {claim.measure}, {mean} against {shorten(claim.printed)}."
        )
    printed, margin = f"the published {shorten(claim.printed)}", f"{outcome.margin:g}"
    ours = f"{mean} over {outcome.count} seed{'s' if outcome.count > 1 else ''}"
    start = {
        Verdict.REPRODUCED: f"The published {name} is reproduced",
        Verdict.EXCEEDS: f"The published {name} is exceeded",
        Verdict.NOT_REPRODUCED: f"The published {name} is not reproduced",
        Verdict.COMPATIBLE: f"Compatible, not established, {name}",
        Verdict.DIFFERS: f"The {name} differs from the published one",
        Verdict.UNDECIDED: f"Undecided, {name}",
    }[outcome.verdict]
    if outcome.verdict is Verdict.COMPATIBLE and outcome.spread is not None and not outcome.establishable:
        draws = "one printed draw" if claim.published.seeds == 1 else f"{claim.published.seeds} printed draws"
        return f"{start}: {draws} cannot establish it within {margin} at this spread (ours {ours}, {printed})."
    rest = {
        Verdict.REPRODUCED: f"the means differ by less than {margin}",
        Verdict.EXCEEDS: f"our mean is higher by more than {margin}",
        Verdict.NOT_REPRODUCED: f"our mean is lower by more than {margin}",
        Verdict.COMPATIBLE: f"{printed} may be one more seed of ours; more seeds are needed to tell within {margin}",
        Verdict.DIFFERS: f"{printed} is no seed of ours, but whether the means differ by more than {margin} is open",
        Verdict.UNDECIDED: "one seed shows no spread",
    }[outcome.verdict]
    return f"{start}: {rest} (ours {ours}, {printed})."


def word_other_queries(cell: CellVerdict, reason: str) -> str:
    """Say how far ours is from a value that was published for other queries, and that this is no verdict."""
    claim = cell.claim
    error = "" if claim.z is None else f", {abs(claim.z):.1f} standard errors of {claim.standard_error:.4f}"
    return (
        f"No verdict on {claim.label}, since these are other queries than the published ones ({reason}): its "
        f"{claim.measure} of {claim.mean:.4f} is {claim.difference:+.4f} from the published "
        f"{shorten(claim.printed)} ({cut_source(claim.source)}){error}."
    )


def describe_change(cell: ChangedCell, experiment: Experiment) -> str:
    """Say what fine-tuning changed, query by query, and where there are several test sets, on which one."""
    on = f" on {experiment.primary_set}" if len(experiment.evaluation.on) > 1 else ""
    return (
        f"{cell.pair.label}: fine-tuning changes {cell.measure}{on} by {cell.difference:+.4f} per query (95 % interval "
        f"{cell.interval.low:+.4f} to {cell.interval.high:+.4f}, p {relate_p(cell.p_holm)} after Holm): "
        f"{cell.counts.wins} queries won, {cell.counts.ties} tied, {cell.counts.losses} lost."
    )
