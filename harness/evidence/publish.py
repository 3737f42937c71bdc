"""Publishing pushes a trained model with its card, training logs and evidence to the hub, in one commit."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core.files import hash_file, refuse_links
from harness.core.text import format_bytes
from harness.errors import PublishError
from harness.evidence.model_card import EVIDENCE, format_card
from harness.experiment.manifest import read_experiment
from harness.experiment.trial import list_pairs
from harness.pipeline.store import check_output, read_entry
from harness.records.plan import locate_plan
from harness.records.record import Record, read_records
from harness.records.record_set import Shelf
from harness.sources.hub_client import WRITING, call_hub

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
import struct

# Each record: length, its checksum, the event, its checksum. Taking out whole records leaves the others valid.
HEADER, CHECKSUM_BYTES = struct.Struct("<QI"), 4
# In the tag of every text that the trainer logs: its arguments, with the output folder, and the model's config.
TEXT_MARK = b"/text_summary"
CARD = "README.md"
# Folders of the repository that are ours alone: what is in them and is not pushed any more is deleted.
LOGS = "logs"
WEIGHTS = "model.safetensors"

Content = Path | bytes


@dataclass(frozen=True)
class Publication:
    """What would go to the hub: path in the repository -> file or bytes, and which weights these are and why."""

    repository: str
    experiment: str
    choice: str
    files: Mapping[str, Content]


def gather(
    manifest: Path,
    *,
    results: Path,
    store: Path,
    repository: str,
    model: str | None = None,
    seed: int | None = None,
) -> Publication:
    """Collect what belongs to one trained model, each part checked against the records.

    Args:
        manifest: the experiment's; its lock lies beside it.
        results: the folder with the records and runs.
        store: the store's folder, which has the weights and training logs.
        repository: ``USER/NAME``.
        model: which fine-tuned model; None where there is one only.
        seed: which seed's weights; None takes the median one by the primary measure, of two the worse.

    Raises:
        ManifestError: the manifest is broken.
        PublishError: there is no such record, or the store or the results do not hold what the record says.
        RecordError: a record is broken, or was made with another recipe or data than the manifest's.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise PublishError(f"the repository is {repository!r}, expected USER/NAME")
    experiment = read_experiment(manifest)
    records = read_records(results / "records" / experiment.name)
    siblings = _select(Shelf(experiment, records), model)
    record, choice = _choose(siblings, seed)
    output = _locate_training(record, store)
    missing = [name for name in (f"model/{WEIGHTS}", "model/config.json") if not (output / name).is_file()]
    if missing:
        raise PublishError(f"{output}: has no {', '.join(missing)}")
    files: dict[str, Content] = {
        path.relative_to(output / "model").as_posix(): path for path in _list_files(output / "model")
    }
    if hash_file(output / "model" / WEIGHTS) != (record.training.weights_sha256 if record.training else None):
        raise PublishError(f"{output / 'model' / WEIGHTS}: not the weights that {record.trial.id} was measured with")
    files |= _gather_logs(record, siblings, store)
    files |= _gather_evidence(records, results)
    for path in (manifest, manifest.with_suffix(".lock")):
        if not path.is_file():
            raise PublishError(f"{path}: is missing")
        files[f"{EVIDENCE}/experiments/{experiment.name}{path.suffix}"] = path
    files[CARD] = format_card(record, records, repository, choice).encode()
    return Publication(repository, experiment.name, choice, dict(sorted(files.items())))


def push(publication: Publication, *, private: bool) -> str:
    """Make the repository where there is none, commit everything at once, and say which commit it is.

    What is there already is not committed again. The token is the client's own affair: HF_TOKEN, or its store.

    Raises:
        PublishError: the hub does not take it, the token is among the files, or the repository should be private
            and is not.
    """
    from huggingface_hub import HfApi, get_token  # noqa: PLC0415 - most commands never ask the hub

    _refuse_token(publication.files, get_token())
    repository, api = publication.repository, HfApi()

    def make() -> str:
        api.create_repo(repository, private=private or None, exist_ok=True)
        about = api.repo_info(repository)
        if private and not about.private:
            # Nothing is known of what a public repository's owner wants, so its visibility is left as it is.
            raise PublishError(f"hub {repository}: is public already; name another one, or make it private first")
        return str(about.sha)

    def commit() -> tuple[str, str]:
        before = make()
        info = api.create_commit(
            repository,
            list(_list_operations(publication.files, api, repository, before)),
            commit_message=f"{publication.experiment}: model, card, training logs and evidence",
            commit_description=publication.choice,
            parent_commit=before,
        )
        return before, str(info.oid)

    before, after = call_hub(f"hub {repository}", commit, factor=WRITING, error=PublishError)
    return f"{repository} @ {after}: {'holds all of this already' if before == after else 'pushed in one commit'}"


def format_size(content: Content) -> str:
    """Write the size of a file for people."""
    return format_bytes(len(content) if isinstance(content, bytes) else content.stat().st_size)


def _select(shelf: Shelf, model: str | None) -> tuple[Record, ...]:
    """Return the records of the fine-tuned model asked for, or of the only one."""
    known = {pair.label: shelf.select_pair(pair)[1] for pair in list_pairs(shelf.experiment) if pair.recipe is not None}
    with_records = [name for name, records in known.items() if records]
    chosen = with_records if model is None else [name for name in with_records if name == model]
    if len(chosen) != 1:
        there = ", ".join(with_records) or "none; run the experiment first"
        asked = "there must be one fine-tuned model with records" if model is None else f"no records of {model!r}"
        raise PublishError(f"{shelf.experiment.name}: {asked}; fine-tuned and recorded: {there}")
    return known[chosen[0]]


def _choose(siblings: Sequence[Record], seed: int | None) -> tuple[Record, str]:
    """Return the record whose weights go, and say which that is and why."""
    primary = siblings[0].experiment.evaluation.primary
    seeds = sorted(record.trial.seed or 0 for record in siblings)
    if seed is None:
        ordered = sorted(siblings, key=lambda record: (record.values[primary], record.trial.seed or 0))
        record = ordered[(len(ordered) - 1) // 2]
        why = f"the median one of seeds {', '.join(map(str, seeds))} by {primary}" if len(seeds) > 1 else "the only one"
    else:
        found = [record for record in siblings if record.trial.seed == seed]
        if not found:
            raise PublishError(
                f"{siblings[0].trial.experiment}: no record of seed {seed}; there: {', '.join(map(str, seeds))}"
            )
        record, why = found[0], "chosen by hand"
    value = f"{primary} {record.values[primary]:.4f}"
    return record, f"The weights are those of {record.trial.model}, seed {record.trial.seed}, {why} ({value})."


def _locate_training(record: Record, store: Path) -> Path:
    """Return the folder of a trial's stored training output, checked to be whole and the one recorded."""
    cost = record.stages.get("train")
    if cost is None:
        raise PublishError(f"{record.trial.id}: the record knows of no training")
    folder = store / "train" / cost.key
    if not folder.is_dir():
        raise PublishError(f"{store}: does not hold the training of {record.trial.id}; name the right one with --store")
    problems = check_output(folder)
    if problems:
        raise PublishError(f"{folder}: is broken: {'; '.join(problems)}")
    found = read_entry(folder).digest
    if found != cost.output_digest:
        raise PublishError(f"{folder}: has the digest {found[:12]}, {record.trial.id} says {cost.output_digest[:12]}")
    return folder


def _gather_logs(record: Record, siblings: Sequence[Record], store: Path) -> dict[str, Content]:
    """Take the events of every seed that the store still has; those of the pushed one are there."""
    files: dict[str, Content] = {}
    for sibling in siblings:
        cost = sibling.stages.get("train")
        if cost is None or (sibling != record and not (store / "train" / cost.key).is_dir()):
            continue
        for path in _list_files(_locate_training(sibling, store) / "tensorboard"):
            files[f"{LOGS}/seed={sibling.trial.seed}/{path.name}"] = drop_texts(path.read_bytes())
    return files


def _gather_evidence(records: Sequence[Record], results: Path) -> dict[str, Content]:
    """Take records, runs, qrels and lists of trials; texts only where the manifest says that they may be quoted."""
    files: dict[str, Content] = {}
    for record in records:
        files[f"{EVIDENCE}/{record.place}"] = results / record.place
        for artifact in record.artifacts:
            if not record.experiment.attribution and artifact in {one.texts for one in record.evaluations.values()}:
                continue
            path = refuse_links(results / artifact.path, below=results)
            if hash_file(path) != artifact.sha256:
                raise PublishError(f"{path}: not the file that {record.trial.id} was recorded with")
            files[f"{EVIDENCE}/{artifact.path}"] = path
        plan = locate_plan(results, record.trial.experiment)
        if refuse_links(plan, below=results).is_file():
            files[f"{EVIDENCE}/{plan.relative_to(results).as_posix()}"] = plan
    return files


def _list_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _refuse_token(files: Mapping[str, Content], token: str | None) -> None:
    for name, content in files.items() if token else ():
        # Weights are numbers, and large.
        if name != WEIGHTS and str(token).encode() in (content if isinstance(content, bytes) else content.read_bytes()):
            raise PublishError(f"{name}: holds the hub's token; nothing was pushed")


def _list_operations(
    files: Mapping[str, Content], api: HfApi, repository: str, commit: str
) -> Iterator[CommitOperationAdd | CommitOperationDelete]:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete  # noqa: PLC0415 - see push

    for name, content in files.items():
        yield CommitOperationAdd(name, content)
    for name in api.list_repo_files(repository, revision=commit):
        if name.startswith((f"{EVIDENCE}/", f"{LOGS}/")) and name not in files:
            yield CommitOperationDelete(name)


def drop_texts(content: bytes) -> bytes:
    """Return an event file without its texts, and without a last record that was cut off by a kill."""
    return b"".join(record for record in _split(content) if TEXT_MARK not in record)


def _split(content: bytes) -> Iterator[bytes]:
    start = 0
    while start + HEADER.size <= len(content):
        (length, _) = HEADER.unpack_from(content, start)
        end = start + HEADER.size + length + CHECKSUM_BYTES
        if end > len(content):
            return
        yield content[start:end]
        start = end
