"""The four stages, each a function from frozen inputs to a stored output: prepare, baseline, train, evaluate."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness.core.schema import Frozen, decode_json, read_text
from harness.errors import StoreError
from harness.experiment.data import Data, PartName
from harness.experiment.evaluation import Evaluation
from harness.experiment.lock import ResolvedSource
from harness.experiment.recipe import Recipe
from harness.models.device import Precision, describe_arithmetic, find_flash
from harness.models.encoder import Encoder, count_truncated, encode_roles, make_encoder, open_encoder
from harness.models.encoding import OWN_ENCODING, Encoding
from harness.models.lora import find_peft
from harness.models.search import retrieve
from harness.models.training import LOG_FILE, MODEL_FOLDER, StepProgress, train_model
from harness.pipeline.cost import Meter
from harness.pipeline.dataset import PreparedData, TestData, read_prepared, write_prepared
from harness.pipeline.load_data import load_data
from harness.pipeline.rows import Row, list_columns, list_labels
from harness.pipeline.store import Cost, Output, Store
from harness.records.environment import list_packages
from harness.records.measures import average, evaluate_run
from harness.records.record import EncodingLog, StageName, TrainingLog
from harness.records.run import Run, read_run, write_run

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

# Bumped by hand when a stage would give another output for the same inputs.
VERSIONS: dict[StageName, int] = {"prepare": 1, "baseline": 3, "mine": 1, "train": 2, "evaluate": 3}
# Versions of these packages change numerics; those of others do not.
NUMERIC_PACKAGES = ("accelerate", "numpy", "sentence-transformers", "tokenizers", "torch", "transformers")
NOTES_FILE = "notes.json"
EMBEDDINGS_FILE = "embeddings.npy"

TextProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class Prepared:
    """The prepared data and the stored output it was read from."""

    data: PreparedData
    output: Output


@dataclass(frozen=True)
class PreparedTest:
    """One part of prepared data, to be ranked and judged, and the output that it is of."""

    data: TestData
    part: PartName
    output: Output


@dataclass(frozen=True)
class Guide:
    """The model that guides a loss: its folder and the digest of its files."""

    folder: Path
    digest: str


@dataclass(frozen=True)
class Trained:
    """A checkpoint: the model's folder, its log, and the stored output."""

    folder: Path
    log: TrainingLog
    output: Output


@dataclass(frozen=True)
class Retrieved:
    """The ranked lists of one model on one test set.

    Attributes:
        runs: by dimension; None stands for the model's own, where none are set.
        truncated_texts: how many texts were longer than the model reads.
        truncated_passages: how many of them are passages; None where an earlier harness did not tell.
        encoding: how the model was asked, if it is an encoder.
        notes: what a reader of the values should know of these lists.
        output: the stored output, with a file for every run.
    """

    runs: Mapping[int | None, Run]
    truncated_texts: int
    truncated_passages: int | None
    encoding: EncodingLog | None
    notes: tuple[str, ...]
    output: Output


class Notes(Frozen):
    """What is kept beside an output's runs."""

    truncated_texts: int
    truncated_passages: int | None = None
    encoding: EncodingLog | None = None
    notes: tuple[str, ...] = ()


def prepare(data: Data, source: ResolvedSource, folder: Path, *, store: Store) -> Prepared:
    """Turn a source's files into training pairs, queries, corpus and qrels on disk.

    Args:
        data: the manifest's part on data.
        source: the hashes of the files in ``folder``.
        folder: the source's checked files.
        store: where the output is kept.

    Raises:
        DataError: rows break a rule.
        StoreError: the store cannot be used.
    """

    def make(target: Path, _: Path) -> Cost:
        with Meter("cpu") as meter:
            write_prepared(target, load_data(folder, data, source.files))
        return meter.cost

    described = data.model_dump(mode="json", exclude={"source"}, exclude_none=True)
    inputs = {"version": VERSIONS["prepare"], "data": described, "files": source.files}
    output = store.get_or_make("prepare", inputs, make)
    return Prepared(read_prepared(output.folder), output)


def train(
    base: Path,
    base_digest: str,
    rows: Sequence[Row],
    rows_digest: str,
    recipe: Recipe,
    *,
    test: PreparedTest,
    evaluation: Evaluation,
    seed: int,
    device: str,
    precision: Precision,
    store: Store,
    encoding: Encoding = OWN_ENCODING,
    progress: StepProgress | None = None,
    trackers: Sequence[str] = (),
    guide: Guide | None = None,
) -> Trained:
    """Fine-tune a base model on rows, which ``rows_digest`` stands for.

    ``test`` is what is evaluated on the way, where the recipe asks, and chooses the step that is kept where it selects.

    Raises:
        TrainingError: the loss is not finite.
        StoreError: the store cannot be used.
    """

    def evaluate_so_far(model: SentenceTransformer) -> Mapping[str, float]:
        run = rank_passages(make_encoder(model, encoding, place=str(base)), test.data, evaluation, device=device)
        return average(evaluate_run(run, test.data.qrels, evaluation.measures))

    def make(target: Path, scratch: Path) -> Cost:
        with Meter(device) as meter:
            checkpoint = train_model(
                base,
                list_inputs(rows, recipe),
                recipe,
                seed=seed,
                device=device,
                precision=precision,
                encoding=encoding,
                target=target,
                scratch=scratch,
                progress=progress,
                evaluate=evaluate_so_far,
                trackers=trackers,
                guide=None if guide is None else guide.folder,
            )
        return Cost(checkpoint.seconds, meter.cost.peak_memory_bytes, meter.cost.peak_device_memory_bytes)

    # What a GPU would do plays no part on a CPU; the word for it stands in all keys of the first stores.
    embedding = {"cuda": "grouped", "cpu": recipe.embedding.cpu} if device == "cpu" else {"cuda": recipe.embedding.cuda}
    inputs = {
        "version": VERSIONS["train"],
        # Checkpoints and evaluations on the way leave no trace in the weights, names of recipes and data none either.
        "recipe": recipe.model_dump(
            mode="json",
            exclude={
                "base": True,
                "data": True,
                # What they do is in the rows.
                "negatives": True,
                "select": True,
                # Its files stand for it below.
                "loss": {"guide"},
                "precision": True,
                "embedding": True,
                "arguments": {"save_steps", "save_total_limit", "eval_steps", "dataloader_num_workers"},
            },
            exclude_none=True,
        )
        | {"embedding": embedding},
        **({} if recipe.select is None else {"select": _list_selection(recipe, test, evaluation)}),
        "base": base_digest,
        "pairs": rows_digest,
        "seed": seed,
        "precision": precision,
        **({} if guide is None else {"guide": guide.digest}),
        **({} if (flash := find_flash(device)) is None else {"flash_attention": flash}),
        **({} if recipe.lora is None else {"peft": find_peft()}),
        **list_encoding(encoding),
        **list_numeric_inputs(device),
    }
    output = store.get_or_make("train", inputs, make)
    text = read_text(output.folder / LOG_FILE, limit_bytes=2**26, error=StoreError)
    log = decode_json(TrainingLog, text, place=str(output.folder / LOG_FILE), error=StoreError)
    return Trained(output.folder / MODEL_FOLDER, log, output)


def _list_selection(recipe: Recipe, dev: PreparedTest, evaluation: Evaluation) -> dict[str, object]:
    """Return what decides which step is kept."""
    return {
        "measure": recipe.select and recipe.select.measure,
        "data": dev.output.entry.digest,
        "part": dev.part,
        "eval_steps": recipe.arguments.eval_steps,
        "top_k": evaluation.top_k,
        "batch_tokens": evaluation.batch_tokens,
    }


def evaluate(
    folder: Path,
    model_digest: str,
    test: PreparedTest,
    evaluation: Evaluation,
    *,
    stage: StageName,
    device: str,
    store: Store,
    encoding: Encoding = OWN_ENCODING,
    progress: TextProgress | None = None,
) -> Retrieved:
    """Rank the corpus for every query of a test set with a model: the stage ``baseline`` or ``evaluate``.

    Texts are embedded once, whatever the number of dimensions. Measures are not part of the output: they follow from
    the runs, so that another measure costs no encoding.

    Raises:
        SourceError: the model cannot be loaded.
        StoreError: the store cannot be used.
    """
    data = test.data

    def make(target: Path, _: Path) -> Cost:
        with Meter(device) as meter:
            encoder = open_encoder(folder, device=device, encoding=encoding)
            embeddings = _embed_all(encoder, data, evaluation, progress)
            for dim in encoding.truncate_dims or (None,):
                run = _rank_all(encoder, embeddings, data, evaluation, device, dim=dim)
                write_run(run, target / name_run_file(dim))
        # Not read again: they let `harness rerun` name the first text whose embedding differs.
        np.save(target / EMBEDDINGS_FILE, embeddings)
        queries = count_truncated(encoder, list(data.queries.values()), role="query")
        passages = count_truncated(encoder, list(data.corpus.values()), role="passage")
        log = EncodingLog(prompts=dict(encoder.prompts), similarity=encoder.similarity, notes=encoder.notes)
        write_notes(target, Notes(truncated_texts=queries + passages, truncated_passages=passages, encoding=log))
        return meter.cost

    inputs = {
        "version": VERSIONS[stage],
        "model": model_digest,
        "data": test.output.entry.digest,
        "part": test.part,
        "top_k": evaluation.top_k,
        "batch_tokens": evaluation.batch_tokens,
        **list_encoding(encoding),
        **list_numeric_inputs(device),
    }
    return read_retrieved(store.get_or_make(stage, inputs, make), encoding.truncate_dims)


def list_inputs(rows: Sequence[Row], recipe: Recipe) -> dict[str, list[str] | list[float]]:
    """Return what the recipe's loss gets, column by column.

    Raises:
        DataError: there is no row, or one lacks what the loss needs.
    """
    texts, label = list_columns(rows, recipe.texts), recipe.label
    return {**texts, **({} if label is None else {label: list_labels(rows, label)})}


def name_run_file(dim: int | None) -> str:
    """Name the file of a run within its output."""
    return "run.gz" if dim is None else f"run.dim={dim}.gz"


def write_notes(target: Path, notes: Notes) -> None:
    """Write the notes of an output under way."""
    (target / NOTES_FILE).write_text(notes.model_dump_json(), encoding="utf-8")


def read_retrieved(output: Output, dims: Sequence[int] = ()) -> Retrieved:
    """Read a stored output's runs and notes.

    Raises:
        DataError: a run is broken.
        StoreError: the notes are.
    """
    text = read_text(output.folder / NOTES_FILE, limit_bytes=2**20, error=StoreError)
    notes = decode_json(Notes, text, place=str(output.folder / NOTES_FILE), error=StoreError)
    runs = {dim: read_run(output.folder / name_run_file(dim)) for dim in (dims or (None,))}
    return Retrieved(runs, notes.truncated_texts, notes.truncated_passages, notes.encoding, notes.notes, output)


def rank_passages(
    encoder: Encoder,
    data: TestData,
    evaluation: Evaluation,
    *,
    device: str,
    progress: TextProgress | None = None,
) -> Run:
    """Encode every text once, in fp32, and return each query's best passages by the encoder's similarity."""
    return _rank_all(encoder, _embed_all(encoder, data, evaluation, progress), data, evaluation, device)


def _embed_all(
    encoder: Encoder, data: TestData, evaluation: Evaluation, progress: TextProgress | None
) -> NDArray[np.float32]:
    """Return one row per query, then one per passage."""
    return encode_roles(
        encoder,
        list(data.queries.values()),
        list(data.corpus.values()),
        batch_tokens=evaluation.batch_tokens,
        progress=progress,
    )


def _rank_all(
    encoder: Encoder,
    embeddings: NDArray[np.float32],
    data: TestData,
    evaluation: Evaluation,
    device: str,
    *,
    dim: int | None = None,
) -> Run:
    count = len(data.queries)
    whole = np.ascontiguousarray(embeddings[:, : dim or encoder.dims[0]])
    return retrieve(
        whole[:count],
        list(data.queries),
        whole[count:],
        list(data.corpus),
        top_k=evaluation.top_k,
        device=device,
        similarity=encoder.similarity,
    )


def list_encoding(encoding: Encoding) -> dict[str, object]:
    """Return what is set, as part of a key; nothing where the model's own settings, which its digest covers, decide."""
    return {} if encoding == OWN_ENCODING else {"encoding": dataclasses.asdict(encoding)}


def list_numeric_inputs(device: str) -> dict[str, object]:
    """Return what decides how numbers are rounded, as part of a key."""
    packages = list_packages()
    kind = device.partition(":")[0]
    inputs: dict[str, object] = {
        "device": kind,
        "packages": {name: packages[name] for name in NUMERIC_PACKAGES if name in packages},
    }
    # Sums are split among threads and vector lanes, and another split rounds otherwise; a GPU's are not.
    return inputs | dataclasses.asdict(describe_arithmetic()) if kind == "cpu" else inputs
