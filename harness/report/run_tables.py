"""The tables of how it was run: time, memory and cost, data, machines, and the command that does it all again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.core.text import format_seconds
from harness.experiment.manifest import Experiment
from harness.records.record import Record
from harness.report.document import Command, Finding, Paragraph, Section, Table

GIBIBYTE = 2**30
# Of rows or batches, what goes by the board without a word: the last batches of a sampler are seldom whole.
UNUSED = 0.01
STAGES = ("prepare", "baseline", "mine", "train", "evaluate")


def list_costs(records: Sequence[Record]) -> Section:
    """Say what each trial took."""
    columns = ("trial", *STAGES, "peak memory", "peak GPU memory", "training cost")
    rows = []
    for record in sort_records(records):
        device = [cost.peak_device_memory_bytes for cost in record.stages.values() if cost.peak_device_memory_bytes]
        seconds = {str(stage): format_seconds(cost.seconds) for stage, cost in record.stages.items()}
        rows.append(
            (
                name_trial(record),
                *(seconds.get(stage, "") for stage in STAGES),
                _format_bytes(max((cost.peak_memory_bytes for cost in record.stages.values()), default=0)),
                _format_bytes(max(device)) if device else "",
                "" if record.training_cost_usd is None else f"{record.training_cost_usd:.4f} USD",
            )
        )
    used = [index for index in range(len(columns)) if any(row[index] for row in rows)]
    table = Table(tuple(columns[index] for index in used), tuple(tuple(row[index] for index in used) for row in rows))
    blocks: list[Paragraph | Table] = [
        Paragraph("Seconds are wall time of the stage when it was done, with the device synchronised."),
        table,
    ]
    published = records[0].experiment.published
    if published is not None and published.training_seconds is not None:
        where = f" on {published.hardware}" if published.hardware else ""
        blocks.append(Paragraph(f"Published: {format_seconds(published.training_seconds)} of training{where}."))
    resumed = [record.trial.id for record in records if record.training and record.training.resumes]
    if resumed:
        names = ", ".join(sorted(resumed))
        blocks.append(Paragraph(f"Training went on from a checkpoint after an interruption in: {names}."))
    blocks += [Paragraph(sentence) for sentence in (*_word_sharing(records), *_word_training(records))]
    return Section("Time, memory and cost", tuple(blocks))


def _word_sharing(records: Sequence[Record]) -> Iterator[str]:
    """Say which seconds are those of a shared machine, and which trials were begun more than once."""
    most = max((record.execution.trials_on_machine for record in records if record.execution), default=1)
    shared = [record.trial.id for record in records if record.execution and record.execution.trials_on_machine > 1]
    if shared:
        names = "all" if len(shared) == len(records) else ", ".join(sorted(shared))
        yield f"Up to {most} trials ran on one machine at once, so that these seconds are also the others': {names}."
    lost = [record.trial.id for record in records if record.execution and record.execution.attempts > 1]
    if lost:
        yield f"Begun again after a worker was lost: {', '.join(sorted(lost))}."


def _word_training(records: Sequence[Record]) -> Iterator[str]:
    """Say what a recipe did besides training on its rows: mined negatives, an adapter, a step chosen on a dev part."""
    told = set[str]()
    for record in sort_records(records):
        where, log = f"{record.trial.model}/{record.trial.variant}", record.training
        mined, adapter = record.mining, log.adapter if log else None
        said = []
        if mined is not None:
            count = f"{mined.mined_rows} of {mined.given_rows} rows"
            said.append(f"{where}: {mined.model} found negatives for {count}; the others were not trained on.")
        if adapter is not None:
            said.append(f"{where}: an adapter of {adapter.trained:,} numbers was trained and merged.")
        if log is not None and log.selected is not None:
            chosen = log.selected
            score = f"{chosen.measure} {chosen.value:.4f} on {chosen.on}"
            said.append(
                f"{name_trial(record)}: the weights of step {chosen.step} of {log.steps} were kept, by {score}."
            )
        for sentence in said:
            if sentence not in told:
                told.add(sentence)
                yield sentence


def list_mixed_devices(records: Sequence[Record]) -> Iterator[Finding]:
    """Name the cells whose seeds ran on different devices, which round otherwise: their spread is also the devices'."""
    devices: dict[str, dict[str, list[str]]] = {}
    for record in sort_records(records):
        cell = f"{record.trial.model}/{record.trial.variant}"
        device = record.device_name
        if record.device == "cpu":
            found = record.environment
            device += f" ({found.threads or '?'} threads, {found.cpu_capability or '?'})"
        devices.setdefault(cell, {}).setdefault(device, []).append(str(record.trial.seed))
    for cell, seeds in devices.items():
        if len(seeds) > 1:
            said = "; ".join(f"{device}: seeds {', '.join(names)}" for device, names in seeds.items())
            yield Finding("warning", "seeds on different devices", said, cell)


def list_poor_training(records: Sequence[Record]) -> Iterator[Finding]:
    """Name the cells that were trained on less than their rows, or whose loss could not get better."""
    told = set[tuple[str, str]]()
    for record in sort_records(records):
        log, cell = record.training, f"{record.trial.model}/{record.trial.variant}"
        if log is None:
            continue
        found = []
        if log.rows is not None and log.rows.used < (1 - UNUSED) * log.rows.given:
            unused = log.rows.given - log.rows.used
            said = f"{unused} of {log.rows.given} rows are in none of the {log.rows.batches} batches of an epoch"
            found.append(("rows unused", said))
        if log.rows is not None and log.rows.batches_of_one > UNUSED * log.rows.batches:
            found.append(("batches of one row", f"{log.rows.batches_of_one} of {log.rows.batches} batches"))
        if log.loss and max(point.loss for point in log.loss) == 0:
            found.append(("loss of 0", "at every step: nothing was learned"))
        for kind, words in found:
            if (cell, kind) not in told:
                told.add((cell, kind))
                yield Finding("warning", kind, words, cell)


def list_data(records: Sequence[Record], experiment: Experiment) -> Section:
    """Say what data the values were obtained on."""
    tables = []
    for digest in sorted({record.data.digest for record in records}):
        same = [record for record in sort_records(records) if record.data.digest == digest]
        data = same[0].data
        source = same[0].data_source
        rows = (
            ("source", source.origin if source else "unknown"),
            ("training pairs", f"{data.train_pairs}"),
            ("queries", f"{data.queries}"),
            ("passages", f"{data.passages}"),
            ("passages that repeat the text of another", f"{data.duplicate_passages}"),
            ("best mrr@10 that these repeats leave possible", f"{data.best_reachable_mrr:.4f}"),
            ("texts longer than the model reads", f"{max(record.truncated_texts for record in same)}"),
            *_list_further(same),
            ("digest of the prepared data", digest[:16]),
        )
        tables.append(Table(("what", "value"), rows))
    note = (Paragraph(" ".join(experiment.attribution.split())),) if experiment.attribution else ()
    return Section("Data", (*tables, *note))


def list_shared_queries(records: Sequence[Record]) -> Iterator[Finding]:
    """Name the test sets that have queries of train, on which a trained model may merely remember."""
    told = set()
    for view in (view for record in sort_records(records) for view in record.views):
        data = view.data
        if data.queries_in_train_normalised and view.on not in told:
            told.add(view.on)
            yield Finding("warning", "queries also in train", f"{view.on}: {_word_shared(view)} of {data.queries}")


def _list_further(same: Sequence[Record]) -> Iterator[tuple[str, str]]:
    """Yield what the first records did not hold."""
    data = same[0].data
    cut = [view.result.truncated_passages for record in same for view in record.views if view.on == same[0].on]
    known = [count for count in cut if count is not None]
    if known:
        yield "of them passages", f"{max(known)}"
    if data.queries_in_train is not None:
        several = len(same[0].experiment.data_read) > 1
        yield f"queries that are also in train{' of any data set' if several else ''}", _word_shared(same[0])
    below = {name: value for name, value in (data.best_reachable or {}).items() if round(value, 4) < 1}
    if below:
        yield "best reachable values below 1", ", ".join(f"{name} {value:.4f}" for name, value in below.items())


def _word_shared(record: Record) -> str:
    data = record.data
    return f"{data.queries_in_train} ({data.queries_in_train_normalised} but for case, punctuation and white space)"


def list_environments(records: Sequence[Record]) -> Section:
    """Say where the values were obtained."""
    tables = []
    for fingerprint in sorted({record.environment.fingerprint for record in records}):
        same = [record for record in sort_records(records) if record.environment.fingerprint == fingerprint]
        found = same[0].environment
        gpus = ", ".join(f"{gpu.name} (driver {gpu.driver})" for gpu in found.gpus)
        precisions = sorted({record.training.precision for record in same if record.training})
        commits = sorted({_name_commit(record) for record in same})
        rows = (
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
        )
        tables.append(Table(("what", "value"), rows))
    return Section("Environment", tuple(tables))


def list_commands(records: Sequence[Record], experiment: Experiment) -> Section:
    """Say how to obtain the values again."""
    seeds = sorted({record.trial.seed for record in records if record.trial.seed is not None})
    chosen = f" --seeds {','.join(map(str, seeds))}{',' * (len(seeds) == 1)}" if seeds else ""
    # A harness that was no checkout had no noxfile beside it.
    if all(record.environment.commit is None for record in records):
        return Section("How to run it again", (Command(f"harness run {experiment.name}.toml{chosen}"),))
    command = f"python3 -m nox -s reproduce -- --experiment {experiment.name}{chosen}"
    return Section("How to run it again", (Command(command),))


def name_trial(record: Record) -> str:
    """Name a trial within its experiment."""
    seed = "" if record.trial.seed is None else f", seed {record.trial.seed}"
    return f"{record.trial.model} {record.trial.variant}{seed}"


def sort_records(records: Sequence[Record]) -> list[Record]:
    """Order records by model, variant and seed."""
    return sorted(records, key=lambda record: (record.trial.model, record.trial.variant, record.trial.seed or 0))


def _name_commit(record: Record) -> str:
    commit = (record.environment.commit or "unknown")[:12]
    return f"{commit} with uncommitted changes" if record.environment.dirty else commit


def _format_bytes(count: int) -> str:
    return f"{count / GIBIBYTE:.1f} GiB"
