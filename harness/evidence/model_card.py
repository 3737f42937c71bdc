"""The model card says what the pushed weights are and are worth, all of it taken from records."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from harness.analysis.seeds import mean_interval, summarize
from harness.experiment.data import Data, HubSource
from harness.experiment.manifest import Experiment
from harness.records.record import Record
from harness.records.record_set import Shelf
from harness.report.document import Command, Paragraph, Section, Table
from harness.report.experiment import build_report
from harness.report.markdown import escape, escape_line, render_finding, render_section

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

LEVEL = 0.95
# Where `harness.evidence.publish` puts records and runs in the repository.
EVIDENCE = "evidence"
SHOWN_CHARACTERS = 2000
# Pictures are no part of a card.
LEFT_OUT = frozenset({"Training", "Over time"})


def format_card(record: Record, records: Sequence[Record], repository: str, choice: str) -> str:
    """Write the card of one trained model: the same records give the same bytes.

    Args:
        record: of the trial whose weights are pushed.
        records: all of the experiment, among them ``record``.
        repository: ``USER/NAME`` on the hub.
        choice: which weights these are and why.

    Raises:
        RecordError: the records are not of one experiment, recipe and data.
    """
    report = build_report(records)
    name = repository.partition("/")[2]
    lines = ["---", _format_metadata(record, records, repository), "---", "", f"# {escape(name)}", ""]
    for text in (*report.conclusions, choice, *report.lead, *([report.mark] if report.mark else [])):
        lines += [escape_line(text, limit=SHOWN_CHARACTERS), ""]
    if report.findings:
        lines += [*map(render_finding, report.findings), ""]
    lines += [
        "## How to use it",
        "",
        "```python",
        "from sentence_transformers import SentenceTransformer",
        "",
        f"model = SentenceTransformer({json.dumps(repository)})",
        "similarities = model.similarity(model.encode_query([question]), model.encode_document(passages))",
        "```",
        "",
    ]
    sections = [_list_recipe(record), _list_sources(record), *report.sections, _list_contents(record)]
    for section in sections:
        if section.heading not in LEFT_OUT:
            lines += render_section(section, report.name, None)
    return "\n".join(lines).rstrip("\n") + "\n"


def _format_metadata(record: Record, records: Sequence[Record], repository: str) -> str:
    """Write the head that the hub reads, with the values as its model-index.

    Not as ``.eval_results/*.yaml``: the hub takes these only for a dataset that is registered there as a benchmark, by
    the name of one of its tasks, and shows model-index for all others (https://huggingface.co/docs/hub/eval-results).
    """
    from huggingface_hub import ModelCardData  # noqa: PLC0415 - only publishing needs it

    experiment = record.experiment
    base, data = experiment.model(record.trial.model).source, _find_data(experiment).source
    metadata = ModelCardData(
        base_model=base.repository if isinstance(base, HubSource) else None,
        datasets=[data.repository] if isinstance(data, HubSource) else None,
        library_name="sentence-transformers",
        pipeline_tag="sentence-similarity",
        tags=["sentence-transformers", "sentence-similarity", "feature-extraction", "retrieval-harness"],
        model_name=repository.partition("/")[2],
        eval_results=list(_list_results(record, records, repository)),
    )
    return metadata.to_yaml().rstrip("\n")


def _list_results(record: Record, records: Sequence[Record], repository: str) -> Iterator[EvalResult]:
    """Yield, for each measure, the value of these very weights, then the mean over seeds with its interval.

    Each names the evidence in the repository as its source.
    """
    from huggingface_hub import EvalResult, constants  # noqa: PLC0415 - only publishing needs it

    experiment = record.experiment
    siblings = Shelf(experiment, records).select(record.trial.model, record.trial.variant)
    data = _find_data(experiment)
    source, part = data.source, experiment.primary_set.part
    split = part if data.splits is None else getattr(data.splits, part)

    def make(measure: str, value: float, label: str) -> EvalResult:
        return EvalResult(
            task_type="information-retrieval",
            task_name="Information Retrieval",
            dataset_type=source.repository if isinstance(source, HubSource) else experiment.name,
            dataset_name=_name_data(experiment),
            dataset_config=data.config,
            dataset_split=split,
            dataset_revision=source.revision if isinstance(source, HubSource) else None,
            metric_type=f"cosine_{measure}",
            metric_name=label,
            metric_value=value,
            source_name="records and runs that the values follow from",
            source_url=f"{constants.ENDPOINT}/{repository}/tree/main/{EVIDENCE}",
        )

    for measure in experiment.evaluation.measures:
        yield make(measure, record.values[measure], f"{measure} (seed {record.trial.seed}, these weights)")
        values = [sibling.values[measure] for sibling in siblings]
        if len(values) > 1:
            interval = mean_interval(values, LEVEL)
            label = (
                f"{measure} (mean of {len(values)} seeds, {LEVEL * 100:.0f} % interval "
                f"{interval.low:.4f} to {interval.high:.4f})"
            )
            yield make(measure, summarize(values).mean, label)


def _name_data(experiment: Experiment) -> str:
    source = _find_data(experiment).source
    return source.repository if isinstance(source, HubSource) else experiment.title


def _list_recipe(record: Record) -> Section:
    """Spell out the manifest's recipe, and what the device made of its precision."""
    recipe = record.experiment.recipes[record.trial.variant]
    said = recipe.model_dump(mode="json", exclude={"base", "precision", "arguments"}, exclude_none=True)
    said |= recipe.arguments.model_dump(mode="json", exclude_none=True)
    rows = [(key, _format_value(value)) for key, value in said.items()]
    if record.training is not None:
        rows += [("precision", record.training.precision), ("steps", f"{record.training.steps}")]
    rows.append(("seed", f"{record.trial.seed}"))
    note = Paragraph("What is not named here is the trainer's default at the versions listed under Environment.")
    return Section("Recipe", (Table(("what", "value"), tuple(rows)), note))


def _format_value(value: object) -> str:
    """Write a value of a recipe in one cell."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {one}" for key, one in value.items())
    return ", ".join(value) if isinstance(value, list) else f"{value}"


def _find_data(experiment: Experiment) -> Data:
    """Return the data set that the primary values are of."""
    return experiment.data[experiment.primary_set.data]


def _list_sources(record: Record) -> Section:
    """Say where data and base model came from, down to the commit and the hash of the weights."""
    rows = []
    for role, source in sorted(record.sources.items()):
        checked = "every file by SHA-256" if source.locked else "by commit; the lock does not know every hash"
        rows.append((role, source.origin, f"{len(source.files)}", checked))
    blocks: list[Paragraph | Table] = [Table(("what", "from", "files", "checked"), tuple(rows))]
    weights = None if record.model_source is None else record.model_source.files.get("model.safetensors")
    if weights is not None and record.training is not None:
        blocks.append(
            Paragraph(f"SHA-256 of model.safetensors: before {weights}, after {record.training.weights_sha256}.")
        )
    return Section("Sources", tuple(blocks))


def _list_contents(record: Record) -> Section:
    name = record.trial.experiment
    rows = (
        ("model.safetensors and beside it", "the model"),
        (f"{EVIDENCE}/records/{name}", "one record per trial: values per query, times, versions, hashes"),
        (f"{EVIDENCE}/runs/{name}", "ranked lists and relevance judgements that the values follow from"),
        (f"{EVIDENCE}/experiments", "the manifest and its lock: commits and SHA-256 sums of data and base model"),
        ("logs", "TensorBoard events of training, one folder per seed"),
    )
    note = Paragraph("With the harness installed, this recomputes every number from the files here, without a GPU:")
    command = Command(f"harness report {EVIDENCE} && harness verify {EVIDENCE} --experiments {EVIDENCE}/experiments")
    return Section("What is in this repository", (Table(("where", "what"), rows), note, command))
