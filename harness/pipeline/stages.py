"""The four stages, each a function from frozen inputs to a stored output: prepare, baseline, train, evaluate."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness.core.schema import Frozen, canonical_json, decode_json, read_text
from harness.errors import StoreError
from harness.experiment.data import Data
from harness.experiment.evaluation import Evaluation
from harness.experiment.lock import ResolvedSource
from harness.experiment.recipe import Recipe
from harness.models.device import Precision, describe_arithmetic
from harness.models.encoder import Encoder, count_truncated, encode_roles, make_encoder, open_encoder
from harness.models.encoding import OWN_ENCODING, Encoding
from harness.models.search import retrieve
from harness.models.training import LOG_FILE, MODEL_FOLDER, StepProgress, train_model
from harness.pipeline.cost import Meter
from harness.pipeline.dataset import PreparedData, list_columns, load_rows, read_prepared, write_prepared
from harness.pipeline.store import Cost, Output, Store
from harness.records.environment import list_packages
from harness.records.measures import average, evaluate_run
from harness.records.record import StageName, TrainingLog
from harness.records.run import Run, read_run, write_run

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

# Bumped by hand when a stage would give another output for the same inputs.
VERSIONS: dict[StageName, int] = {"prepare": 1, "baseline": 2, "train": 2, "evaluate": 2}
# Versions of these packages change numerics; those of others do not.
NUMERIC_PACKAGES = ("accelerate", "numpy", "sentence-transformers", "tokenizers", "torch", "transformers")
RUN_FILE = "run.gz"
NOTES_FILE = "notes.json"
EMBEDDINGS_FILE = "embeddings.npy"

TextProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class Prepared:
    """The prepared data and the stored output it was read from."""

    data: PreparedData
    output: Output


@dataclass(frozen=True)
class Trained:
    """A checkpoint: the model's folder, its log, and the stored output."""

    folder: Path
    log: TrainingLog
    output: Output


@dataclass(frozen=True)
class Retrieved:
    """The ranked lists of one model, how many texts were longer than it reads, and notes on how it was asked."""

    run: Run
    truncated_texts: int
    notes: tuple[str, ...]
    output: Output


class _Notes(Frozen):
    truncated_texts: int
    encoding: tuple[str, ...] = ()


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

    def make(target: Path, scratch: Path) -> Cost:
        with Meter("cpu") as meter:
            train, test = load_rows(folder, data, cache=scratch / "datasets")
            write_prepared(target, train, test)
        return meter.cost

    described = data.model_dump(mode="json", exclude={"source"}, exclude_none=True)
    inputs = {"version": VERSIONS["prepare"], "data": described, "files": source.files}
    output = store.get_or_make("prepare", inputs, make)
    return Prepared(read_prepared(output.folder), output)


def train(
    base: Path,
    base_digest: str,
    prepared: Prepared,
    recipe: Recipe,
    evaluation: Evaluation,
    *,
    seed: int,
    device: str,
    precision: Precision,
    store: Store,
    encoding: Encoding = OWN_ENCODING,
    progress: StepProgress | None = None,
    trackers: Sequence[str] = (),
) -> Trained:
    """Fine-tune a base model on the prepared pairs.

    Raises:
        TrainingError: the loss is not finite.
        StoreError: the store cannot be used.
    """

    def evaluate_so_far(model: SentenceTransformer) -> Mapping[str, float]:
        run = rank_passages(make_encoder(model, encoding, place=str(base)), prepared.data, evaluation, device=device)
        return average(evaluate_run(run, prepared.data.qrels, evaluation.measures))

    def make(target: Path, scratch: Path) -> Cost:
        with Meter(device) as meter:
            checkpoint = train_model(
                base,
                list_columns(prepared.data.train, recipe.inputs),
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
            )
        return Cost(checkpoint.seconds, meter.cost.peak_memory_bytes, meter.cost.peak_device_memory_bytes)

    inputs = {
        "version": VERSIONS["train"],
        # Checkpoints and evaluations on the way leave no trace in the weights, names of recipes and data none either.
        "recipe": recipe.model_dump(
            mode="json",
            exclude={
                "base": True,
                "data": True,
                "precision": True,
                "arguments": {"save_steps", "save_total_limit", "eval_steps"},
            },
            exclude_none=True,
        ),
        "base": base_digest,
        "pairs": prepared.output.entry.files["train.jsonl"],
        "seed": seed,
        "precision": precision,
        **_list_encoding(encoding),
        **_list_numeric_inputs(device),
    }
    output = store.get_or_make("train", inputs, make)
    text = read_text(output.folder / LOG_FILE, limit_bytes=2**26, error=StoreError)
    log = decode_json(TrainingLog, text, place=str(output.folder / LOG_FILE), error=StoreError)
    return Trained(output.folder / MODEL_FOLDER, log, output)


def evaluate(
    folder: Path,
    model_digest: str,
    prepared: Prepared,
    evaluation: Evaluation,
    *,
    stage: StageName,
    device: str,
    store: Store,
    encoding: Encoding = OWN_ENCODING,
    progress: TextProgress | None = None,
) -> Retrieved:
    """Rank the corpus for every query with a model: the stage ``baseline`` or ``evaluate``.

    Measures are not part of the output: they follow from the run, so that another measure costs no encoding.

    Raises:
        SourceError: the model cannot be loaded.
        StoreError: the store cannot be used.
    """

    def make(target: Path, _: Path) -> Cost:
        with Meter(device) as meter:
            encoder = open_encoder(folder, device=device, encoding=encoding)
            embeddings = _embed_all(encoder, prepared.data, evaluation, progress)
            run = _rank_all(encoder, embeddings, prepared.data, evaluation, device)
        write_run(run, target / RUN_FILE)
        # Not read again: they let a proof of determinism name the first text whose embedding differs.
        np.save(target / EMBEDDINGS_FILE, embeddings)
        truncated = count_truncated(encoder, list(prepared.data.queries.values()), role="query")
        truncated += count_truncated(encoder, list(prepared.data.corpus.values()), role="passage")
        notes = _Notes(truncated_texts=truncated, encoding=encoder.notes)
        (target / NOTES_FILE).write_text(notes.model_dump_json(), encoding="utf-8")
        return meter.cost

    inputs = {
        "version": VERSIONS[stage],
        "model": model_digest,
        "data": prepared.output.entry.digest,
        "top_k": evaluation.top_k,
        "batch_tokens": evaluation.batch_tokens,
        **_list_encoding(encoding),
        **_list_numeric_inputs(device),
    }
    output = store.get_or_make(stage, inputs, make)
    text = read_text(output.folder / NOTES_FILE, limit_bytes=2**20, error=StoreError)
    notes = decode_json(_Notes, text, place=str(output.folder / NOTES_FILE), error=StoreError)
    return Retrieved(read_run(output.folder / RUN_FILE), notes.truncated_texts, notes.encoding, output)


def rank_passages(
    encoder: Encoder,
    data: PreparedData,
    evaluation: Evaluation,
    *,
    device: str,
    progress: TextProgress | None = None,
) -> Run:
    """Encode every text once, in fp32, and return each query's best passages by the encoder's similarity."""
    return _rank_all(encoder, _embed_all(encoder, data, evaluation, progress), data, evaluation, device)


def _embed_all(
    encoder: Encoder, data: PreparedData, evaluation: Evaluation, progress: TextProgress | None
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
    encoder: Encoder, embeddings: NDArray[np.float32], data: PreparedData, evaluation: Evaluation, device: str
) -> Run:
    count = len(data.queries)
    whole = np.ascontiguousarray(embeddings[:, : encoder.dims[0]])
    return retrieve(
        whole[:count],
        list(data.queries),
        whole[count:],
        list(data.corpus),
        top_k=evaluation.top_k,
        device=device,
        similarity=encoder.similarity,
    )


def digest_files(files: Mapping[str, str]) -> str:
    """Return one SHA-256 for a set of files given as path -> SHA-256."""
    return hashlib.sha256(canonical_json(dict(files)).encode()).hexdigest()


def _list_encoding(encoding: Encoding) -> dict[str, object]:
    """Return what is set; nothing where the model's own settings, which its digest covers, decide."""
    return {} if encoding == OWN_ENCODING else {"encoding": dataclasses.asdict(encoding)}


def _list_numeric_inputs(device: str) -> dict[str, object]:
    packages = list_packages()
    kind = device.partition(":")[0]
    inputs: dict[str, object] = {
        "device": kind,
        "packages": {name: packages[name] for name in NUMERIC_PACKAGES if name in packages},
    }
    # Sums are split among threads and vector lanes, and another split rounds otherwise; a GPU's are not.
    return inputs | dataclasses.asdict(describe_arithmetic()) if kind == "cpu" else inputs
