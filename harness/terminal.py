"""The terminal shows the table a person waited for, narrow enough for eighty columns."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from tabulate import tabulate

from harness.record import Record
from harness.report import check_same_experiment, select


def render_terminal(records: Sequence[Record]) -> str:
    """Write values before and after fine-tuning, per model, as plain text.

    Args:
        records: at least one, all of one experiment.
    """
    experiment = check_same_experiment(records)
    blocks = []
    for model in experiment.models:
        baseline, tuned = select(records, model.name, "baseline"), select(records, model.name, "finetuned")
        rows = []
        for measure in experiment.evaluation.measures:
            before = f"{baseline[0].values[measure]:.4f}" if baseline else ""
            values = [record.values[measure] for record in tuned]
            after = f"{statistics.fmean(values):.4f}" if values else ""
            spread = f"{statistics.stdev(values):.4f}" if len(values) > 1 else ""
            gain = f"{statistics.fmean(values) - baseline[0].values[measure]:+.4f}" if baseline and values else ""
            rows.append((measure, before, after, spread, gain))
        columns = ("measure", "before", f"after ({len(tuned)} seeds)", "sd", "gain")
        kept = [index for index in range(len(columns)) if index == 0 or any(row[index] for row in rows)]
        body = [[row[index] for index in kept] for row in rows]
        table = tabulate(
            body,
            headers=[columns[index] for index in kept],
            tablefmt="simple",
            disable_numparse=True,
            colalign=["left", *["right"] * (len(kept) - 1)],
        )
        blocks.append(f"{model.name}\n{table}")
    return "\n\n".join(blocks)
