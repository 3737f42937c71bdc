"""A report is what records say, as sections of tables, before anybody decides how to show it."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from harness.errors import RecordError
from harness.experiment import Claims, Experiment, Variant
from harness.progress import format_seconds
from harness.record import Record

GIBIBYTE = 2**30


@dataclass(frozen=True)
class Table:
    """Text cells below a heading line."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Section:
    """A heading with paragraphs and tables."""

    heading: str
    paragraphs: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()


@dataclass(frozen=True)
class Report:
    """All that is shown of one experiment."""

    experiment: Experiment
    notice: str | None
    sections: tuple[Section, ...] = field(default_factory=tuple)


def build_report(records: Sequence[Record]) -> Report:
    """Say what the records of one experiment say.

    Args:
        records: at least one, all of one experiment.

    Raises:
        RecordError: no records, or records of several experiments or manifests.
    """
    experiment = check_same_experiment(records)
    published = experiment.published
    notice = None
    if published is not None and published.not_comparable:
        notice = (
            f"These values were obtained on {published.not_comparable}. They stand beside the published ones for "
            "orientation and cannot be compared with them cell by cell."
        )
    sections = [
        *(list_values(records, experiment, model.name) for model in experiment.models),
        list_costs(records),
        list_data(records),
        list_environments(records),
        list_commands(records, experiment),
    ]
    return Report(experiment, notice, tuple(section for section in sections if section.tables or section.paragraphs))


def check_same_experiment(records: Sequence[Record]) -> Experiment:
    """Return the experiment that all records belong to, with the models and seeds of all.

    Raises:
        RecordError: none, or several.
    """
    if not records:
        raise RecordError("there are no records to report on")
    names = sorted({record.trial.experiment for record in records})
    if len(names) > 1:
        raise RecordError(f"records of several experiments: {', '.join(names)}")
    # Each record holds the manifest narrowed to what was run then; the fullest one knows every model and claim.
    return max((record.experiment for record in records), key=lambda found: (len(found.models), len(found.seeds)))


def select(records: Sequence[Record], model: str, variant: Variant) -> list[Record]:
    """Return the records of a model and variant, by seed."""
    found = [record for record in records if (record.trial.model, record.trial.variant) == (model, variant)]
    return sorted(found, key=lambda record: -1 if record.trial.seed is None else record.trial.seed)


def list_values(records: Sequence[Record], experiment: Experiment, model: str) -> Section:
    """Set published values beside ours, for every measure of one model."""
    baseline, tuned = select(records, model, "baseline"), select(records, model, "finetuned")
    if not baseline and not tuned:
        return Section(model)
    claims = {variant: _list_claims(experiment, model, variant) for variant in ("baseline", "finetuned")}
    columns = ["measure"]
    columns += [f"{claim.source}: before" for claim in claims["baseline"]]
    columns += ["ours: before"] if baseline else []
    columns += [f"{claim.source}: after" for claim in claims["finetuned"]]
    columns += ["ours: after", "sd"] if tuned else []
    rows = []
    for measure in experiment.evaluation.measures:
        row = [measure, *(claim.values.get(measure, "") for claim in claims["baseline"])]
        row += [f"{baseline[0].values[measure]:.4f}"] if baseline else []
        row += [claim.values.get(measure, "") for claim in claims["finetuned"]]
        if tuned:
            values = [record.values[measure] for record in tuned]
            row += [f"{statistics.fmean(values):.4f}"]
            row += [f"{statistics.stdev(values):.4f}" if len(values) > 1 else "one seed"]
        rows.append(tuple(row))
    notes = []
    if tuned:
        seeds = ", ".join(str(record.trial.seed) for record in tuned)
        notes.append(f"After fine-tuning: mean and standard deviation over {len(tuned)} seeds ({seeds}).")
    notes += list(_list_disagreements((*claims["baseline"], *claims["finetuned"])))
    return Section(model, tuple(notes), (Table(tuple(columns), tuple(rows)),))


def list_costs(records: Sequence[Record]) -> Section:
    """Say what each trial took."""
    columns = ("trial", "prepare", "baseline", "train", "evaluate", "peak memory", "peak GPU memory", "training cost")
    rows = []
    for record in _sort(records):
        stages = record.stages
        device = [cost.peak_device_memory_bytes for cost in stages.values() if cost.peak_device_memory_bytes]
        rows.append(
            (
                record.trial.id,
                *(format_seconds(stages[name].seconds) if name in stages else "" for name in columns[1:5]),
                _format_bytes(max(cost.peak_memory_bytes for cost in stages.values())),
                _format_bytes(max(device)) if device else "",
                "" if record.training_cost_usd is None else f"{record.training_cost_usd:.4f} USD",
            )
        )
    used = [column for index, column in enumerate(columns) if any(row[index] for row in rows)]
    kept = tuple(tuple(row[columns.index(column)] for column in used) for row in rows)
    notes = ["Seconds are wall time of the stage when it was done, with the device synchronised."]
    resumed = [record.trial.id for record in records if record.training and record.training.resumes]
    if resumed:
        notes.append(f"Training went on from a checkpoint after an interruption in: {', '.join(sorted(resumed))}.")
    return Section("Time, memory and cost", tuple(notes), (Table(tuple(used), kept),))


def list_data(records: Sequence[Record]) -> Section:
    """Say what data the values were obtained on."""
    rows = []
    for digest in sorted({record.data.digest for record in records}):
        record = next(record for record in _sort(records) if record.data.digest == digest)
        data = record.data
        rows += [
            ("source", record.sources["data"].origin),
            ("training pairs", f"{data.train_pairs}"),
            ("queries", f"{data.queries}"),
            ("passages", f"{data.passages}"),
            ("passages that repeat the text of another", f"{data.duplicate_passages}"),
            ("best mrr@10 that these repeats leave possible", f"{data.best_reachable_mrr:.4f}"),
            ("texts longer than the model reads", f"{max(found.truncated_texts for found in records)}"),
            ("digest of the prepared data", digest[:16]),
        ]
    return Section("Data", (), (Table(("what", "value"), tuple(rows)),))


def list_environments(records: Sequence[Record]) -> Section:
    """Say where the values were obtained."""
    tables = []
    for fingerprint in sorted({record.environment.fingerprint for record in records}):
        same = [record for record in _sort(records) if record.environment.fingerprint == fingerprint]
        found = same[0].environment
        gpus = ", ".join(f"{gpu.name} (driver {gpu.driver})" for gpu in found.gpus)
        precisions = sorted({record.training.precision for record in same if record.training})
        commits = sorted({_name_commit(record) for record in same})
        rows = [
            ("machine", fingerprint),
            ("system", f"{found.os}, {found.architecture}"),
            ("CPU", f"{found.cpu}, {found.cpu_count} cores, {_format_bytes(found.memory_bytes)}"),
            ("GPU", gpus or "none"),
            ("device used", ", ".join(sorted({record.device_name for record in same}))),
            ("precision", f"training {', '.join(precisions) or 'none'}; evaluation fp32"),
            ("Python", found.python),
            ("packages", ", ".join(f"{name} {version}" for name, version in sorted(found.packages.items()))),
            ("harness", f"{found.harness_version}, commit {', '.join(commits)}"),
            ("written", f"{min(record.created for record in same)} to {max(record.created for record in same)}"),
        ]
        tables.append(Table(("what", "value"), tuple(rows)))
    return Section("Environment", (), tuple(tables))


def list_commands(records: Sequence[Record], experiment: Experiment) -> Section:
    """Say how to obtain the values again."""
    seeds = sorted({record.trial.seed for record in records if record.trial.seed is not None})
    chosen = "" if list(experiment.seeds) == seeds or not seeds else f" --seeds {','.join(map(str, seeds))},"
    return Section(
        "How to run it again", (f"`python3 -m nox -s reproduce -- --experiment {experiment.name}{chosen}`",), ()
    )


def _list_claims(experiment: Experiment, model: str, variant: Variant) -> list[Claims]:
    return [claims for claims in experiment.claims if (claims.model, claims.variant) == (model, variant)]


def _list_disagreements(claims: Sequence[Claims]) -> Iterator[str]:
    """Name the cells where two printed sources contradict each other by more than rounding."""
    for index, first in enumerate(claims):
        for second in claims[index + 1 :]:
            if first.variant != second.variant:
                continue
            for measure in sorted(set(first.values) & set(second.values)):
                one, other = Decimal(first.values[measure]), Decimal(second.values[measure])
                if abs(one - other) > half_digit(first.values[measure]) + half_digit(second.values[measure]):
                    yield (
                        f"The publication contradicts itself on {measure} ({first.variant}): {one} in the "
                        f"{first.source}, {other} in the {second.source}."
                    )


def half_digit(printed: str) -> Decimal:
    """Return half of the last printed digit: 0.00005 for ``0.8919``."""
    exponent = Decimal(printed).as_tuple().exponent
    return Decimal(5).scaleb(int(exponent) - 1)


def _sort(records: Sequence[Record]) -> list[Record]:
    return sorted(records, key=lambda record: (record.trial.model, record.trial.variant, record.trial.seed or 0))


def _name_commit(record: Record) -> str:
    commit = (record.environment.commit or "unknown")[:12]
    return f"{commit} with uncommitted changes" if record.environment.dirty else commit


def _format_bytes(count: int) -> str:
    return f"{count / GIBIBYTE:.1f} GiB"
