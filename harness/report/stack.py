"""The report on two stacks of packages: where they part, step by step, and what each part changed of the result."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean, stdev

from harness.analysis.attribution import (
    FLOAT_NOISE,
    LOSS_NOISE,
    Change,
    MeanChange,
    compare_batches,
    compare_means,
    find_first_layer,
    has_equal_batches,
    is_in_file_order,
)
from harness.analysis.spread import smallest_step
from harness.core.text import format_seconds
from harness.records.record import Record
from harness.records.stack import StackRecord, StackTraining
from harness.report.document import Paragraph, Report, Section, Table

TODAY, REPLAYED, HARNESS = "today's libraries", "today's libraries on the published batches", "this harness"
LEAD = (
    "One script ran in both environments, on the CPU and in fp32, on the same files; it trains by the libraries' own "
    "trainer, and nothing of this harness trains there. Values come from the embeddings by the harness's own search "
    "and measures, for all sides alike."
)
# The steps whose losses are shown, beside the last.
SHOWN_STEPS = (1, 2, 5, 10, 20, 50)


def name_stack_report(experiment: str, stack: str) -> str:
    """Return the name of the page of an experiment in a stack."""
    return f"{experiment}-stack-{stack}"


def build_stack_report(records: Sequence[StackRecord], harness: Sequence[Record] = ()) -> Report:
    """Report on one experiment in one stack, for each model and recipe that was compared.

    Args:
        records: of that experiment and stack, at least one.
        harness: the experiment's records of trials, which say what the harness itself gave.
    """
    first = records[0]
    sections: list[Section] = []
    for record in records:
        chain = _Chain(record, harness)
        prefix = f"{record.model}/{record.recipe}: " if len(records) > 1 else ""
        sections += [
            Section(f"{prefix}Step by step", tuple(_list_steps(record)), brief=True),
            Section(f"{prefix}What changed the value", tuple(_list_changes(record, chain)), brief=True),
            Section(f"{prefix}Losses", tuple(_list_losses(record))),
        ]
    return Report(
        name=name_stack_report(first.experiment, first.stack),
        title=f"Did the libraries change {first.experiment}? The {first.stack} stack against today's",
        conclusions=tuple(conclude(record, harness) for record in records),
        lead=(LEAD,),
        sections=(*sections, Section("Environments", (_list_packages(first),))),
    )


def conclude(record: StackRecord, harness: Sequence[Record] = ()) -> str:
    """Say in one sentence what the libraries changed."""
    chain, inputs = _Chain(record, harness), record.inputs
    parted = [
        *([f"the tokens of {inputs.differing_tokens} of {inputs.texts} texts"] if inputs.differing_tokens else []),
        *([f"embeddings by {inputs.embedding_difference:.1e}"] if inputs.embedding_difference > FLOAT_NOISE else []),
    ]
    compared = compare_batches(record.published.trainings, record.today.trainings)
    if any(one.same < one.steps for one in compared):
        there, here = _word_order(record.published.trainings), _word_order(record.today.trainings)
        parted.append(f"the batches (there {there}; today {here})")
    changed = f"changed {' and '.join(parted)}" if parted else "changed nothing that was looked at"
    if not inputs.differing_tokens and inputs.embedding_difference <= FLOAT_NOISE:
        changed += f"; tokens are the same, embeddings differ by at most {inputs.embedding_difference:.0e}"
    ends = [
        f"{words} {_word_change(change)}"
        for words, change in (
            ("in all", chain.change("published", "today")),
            ("on the same batches", chain.change("published", "replayed")),
        )
        if change is not None
    ]
    if not ends and (change := chain.change("published", "harness")) is not None:
        ends = [f"from the published stack to this harness {_word_change(change)}"]
    after = f"; {record.primary} after training changed {', '.join(ends)}" if ends else "; no training was compared"
    return f"{record.model}: the libraries {changed}{after}."


class _Chain:
    """The sides in the order in which one thing after another is changed, with their values of the primary measure."""

    def __init__(self, record: StackRecord, harness: Sequence[Record]) -> None:
        self.record = record
        own = [
            one
            for one in harness
            if (one.trial.model, one.trial.variant) == (record.model, record.recipe) and one.trial.seed is not None
        ]
        self.values: dict[str, list[tuple[float, ...]]] = {
            "published": [training.result.per_query for training in record.published.trainings],
            "replayed": [training.result.per_query for training in record.replayed],
            "today": [training.result.per_query for training in record.today.trainings],
            "harness": [one.per_query[record.primary] for one in own],
        }

    def change(self, before: str, after: str) -> MeanChange | None:
        """Compare two sides, if both were run on the same number of queries."""
        sides = self.values[before], self.values[after]
        if not all(sides) or len({len(queries) for side in sides for queries in side}) > 1:
            return None
        record = self.record
        step = smallest_step(record.primary, len(sides[0][0]))
        return compare_means(*sides, margin=record.margin, step=step)


def _list_steps(record: StackRecord) -> Iterator[Table]:
    inputs, published, today = record.inputs, record.published, record.today
    layer = find_first_layer(inputs.layer_differences)
    same = "same"
    rows: list[tuple[str, ...]] = [
        ("rows and texts", f"{record.train_rows} rows, {inputs.texts} texts", "the same files", same),
        (
            "tokens",
            f"of {inputs.texts} texts",
            f"{inputs.differing_tokens} differ",
            _say(inputs.differing_tokens == 0),
        ),
        (
            "layers",
            f"{len(inputs.layer_differences)}, of {inputs.traced_texts} texts",
            f"differ by at most {max(inputs.layer_differences, default=0.0):.1e}",
            same if layer is None else f"differ from layer {layer} on",
        ),
        (
            "embeddings",
            f"of {inputs.texts} texts",
            f"differ by at most {inputs.embedding_difference:.1e}",
            _say(inputs.embedding_difference <= FLOAT_NOISE),
        ),
        (
            f"{record.primary} untrained",
            f"{published.untrained.values[record.primary]:.6f}",
            f"{today.untrained.values[record.primary]:.6f}",
            _say(published.untrained.per_query == today.untrained.per_query),
        ),
        (
            "loss of the first rows, without dropout",
            f"{published.probe.loss:.6f}",
            f"{today.probe.loss:.6f}",
            _say(abs(published.probe.loss - today.probe.loss) <= LOSS_NOISE),
        ),
        (
            "norm of its gradient",
            f"{published.probe.gradient_norm:.6f}",
            f"{today.probe.gradient_norm:.6f}",
            _say(abs(published.probe.gradient_norm / today.probe.gradient_norm - 1) <= LOSS_NOISE),
        ),
    ]
    if published.trainings:
        rows.append(_describe_batches(record))
    if record.replayed:
        rows.append(_describe_first_loss(record))
    yield Table(("what", record.stack, "today", "verdict"), tuple(rows))


def _describe_batches(record: StackRecord) -> tuple[str, ...]:
    compared = compare_batches(record.published.trainings, record.today.trainings)
    steps, same = sum(one.steps for one in compared), sum(one.same for one in compared)
    verdict = "not run" if not compared else f"{same} of {steps} are the same"
    sides = record.published.trainings, record.today.trainings
    return ("batches", *(_word_order(side) for side in sides), verdict)


def _describe_first_loss(record: StackRecord) -> tuple[str, ...]:
    """Compare the first loss on the same batch: what then differs is dropout, since the probe's loss has none."""
    again = {training.seed: training for training in record.replayed}
    pairs = [(one.loss[0], again[one.seed].loss[0]) for one in record.published.trainings if one.seed in again]
    equal = all(abs(one - other) <= LOSS_NOISE for one, other in pairs)
    published, today = (", ".join(f"{pair[side]:.4f}" for pair in pairs) for side in (0, 1))
    return ("loss of step 1 on the same batch", published, today, "same" if equal else "other draws of dropout")


def _list_changes(record: StackRecord, chain: _Chain) -> Iterator[Paragraph | Table]:
    names = {"published": f"{record.stack} stack", "replayed": REPLAYED, "today": TODAY, "harness": HARNESS}
    sides = tuple(
        (names[side], f"{len(tables)}", *_summarize(tables)) for side, tables in chain.values.items() if tables
    )
    if not sides:
        yield Paragraph("No training was run.")
        return
    yield Table(("side", "seeds", f"{record.primary}", "seed by seed"), sides, title="values after training")
    links = (
        ("arithmetic and dropout's draws", "published", "replayed"),
        ("the batches", "replayed", "today"),
        ("all that the libraries changed", "published", "today"),
        ("the harness beside today's libraries", "today", "harness"),
        ("all of it", "published", "harness"),
    )
    rows = []
    for what, before, after in links:
        change = chain.change(before, after)
        if change is not None:
            interval, verdict = _show_interval(change), change.change or "one seed: no verdict"
            rows.append((what, names[before], names[after], f"{change.difference:+.4f}", interval, str(verdict)))
    if rows:
        columns = ("what changed", "from", "to", "difference", "90 % interval", "verdict")
        yield Table(columns, tuple(rows), title=f"differences of means, margin ±{record.margin:g}")
        yield Paragraph(
            "Equivalent: the 90 % interval, with the spread between seeds of both sides, lies within the margin. "
            "Different: beyond the 99 % interval. Open: neither."
        )


def _list_losses(record: StackRecord) -> Iterator[Table | Paragraph]:
    trained = (
        ("published", record.published.trainings),
        ("replayed", record.replayed),
        ("today", record.today.trainings),
    )
    names = {"published": f"{record.stack} stack", "replayed": REPLAYED, "today": TODAY}
    steps = max((len(training.loss) for _, side in trained for training in side), default=0)
    shown = [step for step in SHOWN_STEPS if step < steps] + ([steps] if steps else [])
    rows = tuple(
        (
            names[side],
            f"{training.seed}",
            *(f"{training.loss[step - 1]:.4f}" if step <= len(training.loss) else "" for step in shown),
            format_seconds(training.seconds),
            training.weights_sha256[:12],
        )
        for side, trainings in trained
        for training in trainings
    )
    if not rows:
        yield Paragraph("No training was run.")
        return
    columns = ("side", "seed", *(f"step {step}" for step in shown), "time", "weights")
    yield Table(columns, rows, spare=("weights",))


def _list_packages(record: StackRecord) -> Table:
    old, new = record.published.environment, record.today.environment
    rows = [("Python", old.python, new.python)]
    rows += [
        (name, old.packages.get(name, ""), new.packages.get(name, ""))
        for name in sorted({*old.packages, *new.packages})
    ]
    rows += [("threads", f"{old.threads}", f"{new.threads}"), ("processor", record.cpu, record.cpu)]
    return Table(("package", record.stack, "today"), tuple(rows))


def _word_order(trainings: Sequence[StackTraining]) -> str:
    if not trainings:
        return "not run"
    order = "rows in file order" if all(map(is_in_file_order, trainings)) else "shuffled"
    return f"{order}, the same for every seed" if has_equal_batches(trainings) else order


def _word_change(change: MeanChange) -> str:
    if change.change is None:
        return f"by {change.difference:+.4f} (one seed)"
    words = {Change.EQUIVALENT: "equivalent", Change.DIFFERENT: "different", Change.OPEN: "open"}
    return f"by {change.difference:+.4f} (90 % interval {_show_interval(change)}: {words[change.change]})"


def _show_interval(change: MeanChange) -> str:
    return "" if change.interval is None else f"{change.interval.low:+.4f} to {change.interval.high:+.4f}"


def _summarize(tables: Sequence[Sequence[float]]) -> tuple[str, str]:
    means = [fmean(table) for table in tables]
    spread = f" ± {stdev(means):.4f}" if len(means) > 1 else ""
    return f"{fmean(means):.4f}{spread}", " ".join(f"{mean:.4f}" for mean in means)


def _say(same: bool) -> str:  # noqa: FBT001 - a word for it
    return "same" if same else "differs"
