"""An encoder is a model with the settings it is asked by, checked against the library's own way of encoding."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import HarnessError, SourceError
from harness.experiment.model import Similarity
from harness.models.device import describe_failure, is_out_of_memory
from harness.models.encoding import (
    TASKS,
    Encoding,
    Role,
    Task,
    Way,
    note_unused,
    resolve_dims,
    resolve_prompt,
    resolve_similarity,
)
from harness.models.failures import model_errors
from harness.models.loading import load_model

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

TextProgress = Callable[[int, int], None]
ROLES: tuple[Role, Role] = ("query", "passage")

# What every model is tried with: short, nearly empty, duplicate, non-ASCII and long texts.
SENTENCE = "the patient was given a second dose of the drug after three days without fever and walked home again"
LONG_WORDS = 400
PROBES = (
    "heart",
    ".",
    "Which receptors does the kinase bind?",
    "heart",
    "Größe, façade, Ελλάδα, Россия, 北京の天気, नमस्ते \U0001f642",
    "A sentence of some length that says nothing in particular, so that the others differ from it in length.",
)
# All of them in one batch by the library, in several by us: another padding must change nothing.
LIBRARY_PROBE_TOKENS, OWN_PROBE_TOKENS = 4096, 128
# The modules that cut texts.
READERS = frozenset({"Transformer", "WordEmbeddings"})
# Of an embedding's length: what float32 loses in another order of sums; a wrong mask or position costs a hundredth.
NOISE = 2e-5


@dataclass(frozen=True)
class Encoder:
    """A model that can be asked.

    Attributes:
        model: in evaluation mode, its settings applied.
        similarity: how embeddings of queries and passages are compared.
        width: numbers in a whole embedding.
        dims: how many of them are evaluated, once for each.
        ways: how texts of each role are put into the model.
        notes: what a reader of the values should know of the encoding.
        place: the model's folder, for messages.
    """

    model: SentenceTransformer
    similarity: Similarity
    width: int
    dims: tuple[int, ...]
    ways: Mapping[Role, Way]
    notes: tuple[str, ...]
    place: str

    @property
    def prompts(self) -> dict[Role, str]:
        """What is put before texts of each role."""
        return {role: way.prompt for role, way in self.ways.items()}


def open_encoder(folder: Path, *, device: str, encoding: Encoding | None = None) -> Encoder:
    """Load a model from a folder, apply settings, and check how its texts can be embedded.

    Args:
        folder: a complete model folder with safetensors weights. Nothing is fetched and no code of the model is run.
        device: where the model goes, for instance `cpu` or `cuda`.
        encoding: settings; the model's own without.

    Raises:
        SourceError: the model cannot be loaded or cannot embed, or the settings do not fit it; names file or module,
            and the cause.
        HarnessError: memory does not suffice.
    """
    return make_encoder(load_model(folder, device=device), encoding or Encoding(), place=str(folder))


def make_encoder(model: SentenceTransformer, encoding: Encoding, *, place: str) -> Encoder:
    """Apply settings to a loaded model, and check how its texts can be embedded.

    For each role a few texts are embedded by the library's `encode_query` or `encode_document`. The fastest of our ways
    that gives the same, but for float noise, is taken, and the library's own where none does, which a note says.

    Args:
        model: the model, which is put into evaluation mode.
        encoding: settings.
        place: the folder, for messages.

    Raises:
        SourceError: the model cannot embed, or the settings do not fit it.
    """
    apply_length(model, encoding, place=place)
    similarity = resolve_similarity(encoding, model.similarity_fn_name, place=place)
    model.eval()
    prompts = {name: prompt or "" for name, prompt in model.prompts.items()}
    chosen: dict[Role, _Choice] = {}
    for role in ROLES:
        prompt = resolve_prompt(role, encoding, prompts, model.default_prompt_name)
        task = TASKS[role] if minds_task(model) else None
        same = (choice for choice in chosen.values() if (choice.way.prompt, choice.way.task) == (prompt, task))
        chosen[role] = next(same, None) or _choose_way(model, prompt, task, encoding=encoding, place=place)
    first, second = (chosen[role] for role in ROLES)
    notes = {"texts" if first is second else "queries": first.note, "passages": "" if first is second else second.note}
    if first.width != second.width:
        raise SourceError(f"{place}: queries have {first.width} dimensions but passages {second.width}")
    return Encoder(
        model=model,
        similarity=similarity,
        width=first.width,
        dims=resolve_dims(encoding, model.truncate_dim, first.width, place=place),
        ways={role: choice.way for role, choice in chosen.items()},
        notes=(
            *(f"{what} {note}" for what, note in notes.items() if note),
            *(note for role in ROLES if (note := note_unused(role, encoding, prompts, model.default_prompt_name))),
        ),
        place=place,
    )


def apply_length(model: SentenceTransformer, encoding: Encoding, *, place: str) -> None:
    """Have the model read as many tokens as is set.

    Raises:
        SourceError: no such number, or the model has no places for so many tokens.
    """
    wanted = encoding.max_seq_length
    if wanted is None:
        return
    own = getattr(model.config, "max_position_embeddings", None)
    if wanted < 1 or (isinstance(own, int) and wanted > own):
        raise SourceError(f"{place}: max_seq_length is {wanted}, expected a number from 1 to {own or 'any'}")
    # A router has an input module for each route, and static embeddings read texts whole.
    readers: list[Any] = [module for module in model.modules() if type(module).__name__ in READERS]
    if not readers:
        raise SourceError(f"{place}: max_seq_length is {wanted}, but the model reads texts whole")
    for reader in readers:
        reader.max_seq_length = wanted


def encode_texts(
    encoder: Encoder,
    texts: Sequence[str],
    *,
    role: Role,
    batch_tokens: int,
    progress: TextProgress | None = None,
) -> NDArray[np.float32]:
    """Embed texts of one role in fp32 as the library does, each distinct text once.

    Args:
        encoder: whose model is put into evaluation mode.
        texts: what to embed; duplicates cost nothing.
        role: queries or passages.
        batch_tokens: tokens that are embedded together, at most, unless one text alone has more.
        progress: called after each batch with the number of distinct texts that are done, and of all.

    Returns:
        One row per text, in the order of `texts`, shape (texts, dimensions); whole, and normalised only if the model
        does it.

    Raises:
        HarnessError: `batch_tokens` is below 1, or memory does not suffice (names the batch).
        SourceError: the model cannot embed these texts.
    """
    encoder.model.eval()
    with model_errors(encoder.model, "embed texts", place=encoder.place):
        return _embed(
            encoder.model,
            texts,
            encoder.ways[role],
            width=encoder.width,
            batch_tokens=batch_tokens,
            progress=progress,
        )


def encode_roles(
    encoder: Encoder,
    queries: Sequence[str],
    passages: Sequence[str],
    *,
    batch_tokens: int,
    progress: TextProgress | None = None,
) -> NDArray[np.float32]:
    """Embed queries and passages; where the model is asked alike for both, a text of both is embedded once.

    See `encode_texts` for arguments and errors. ``progress`` counts on from queries to passages.

    Returns:
        One row per query, then one per passage.
    """
    if encoder.ways["query"] == encoder.ways["passage"]:
        texts = [*queries, *passages]
        return encode_texts(encoder, texts, role="passage", batch_tokens=batch_tokens, progress=progress)
    embeddings = np.empty((len(queries) + len(passages), encoder.width), dtype=np.float32)
    distinct: dict[Role, int] = {"query": len(set(queries)), "passage": len(set(passages))}
    parts: tuple[tuple[Role, Sequence[str], slice], ...] = (
        ("query", queries, slice(0, len(queries))),
        ("passage", passages, slice(len(queries), None)),
    )
    for role, own, rows in parts:
        before = 0 if role == "query" else distinct["query"]

        def tell(done: int, _: int, before: int = before) -> None:
            if progress is not None:
                progress(before + done, sum(distinct.values()))

        embeddings[rows] = encode_texts(encoder, own, role=role, batch_tokens=batch_tokens, progress=tell)
    return embeddings


def count_truncated(encoder: Encoder, texts: Sequence[str], *, role: Role) -> int:
    """Count the texts that have more tokens than the model reads, prompt and special tokens included."""
    import tokenizers  # noqa: PLC0415 - only here

    from harness.models.embedding_paths import find_input_module  # noqa: PLC0415 - imports torch

    way = encoder.ways[role]
    module = find_input_module(encoder.model, way)
    own = getattr(module, "query_length" if role == "query" else "document_length", None)
    limit = own or getattr(module, "max_seq_length", None)
    tokenizer: Any = getattr(module, "tokenizer", None)
    if limit is None or math.isinf(limit) or tokenizer is None:
        return 0
    whole = [f"{way.prompt}{text}" for text in texts]
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        if callable(tokenizer):
            return sum(len(tokenizer(text, truncation=False)["input_ids"]) > limit for text in whole)
        return sum(len(tokenizer.tokenize(text)) > limit for text in whole)
    # A copy, since switching truncation off would last.
    counting = tokenizers.Tokenizer.from_str(backend.to_str())
    counting.no_truncation()
    counting.no_padding()
    together = 256
    return sum(
        len(encoding.ids) > limit
        for start in range(0, len(whole), together)
        for encoding in counting.encode_batch(whole[start : start + together])
    )


def _embed(
    model: SentenceTransformer,
    texts: Sequence[str],
    way: Way,
    *,
    width: int,
    batch_tokens: int,
    progress: TextProgress | None,
) -> NDArray[np.float32]:
    from harness.models.embedding_paths import embed_distinct  # noqa: PLC0415 - imports torch

    if batch_tokens < 1:
        raise HarnessError(f"batch_tokens is {batch_tokens}, expected at least 1")
    if not texts:
        return np.empty((0, width), dtype=np.float32)
    numbers: dict[str, int] = {}
    rows = [numbers.setdefault(text, len(numbers)) for text in texts]
    embeddings = embed_distinct(model, list(numbers), way, batch_tokens=batch_tokens, progress=progress)
    return embeddings[rows]


def minds_task(model: SentenceTransformer) -> bool:
    """Say whether a model may do other things for a query than for a document, prompts aside."""
    first: Any = model[0]
    if not hasattr(first, "modality_config"):
        return True  # a router, or a module that is not a transformer
    settings = ("query_length", "document_length", "query_expansion")
    return any(getattr(first, name, None) is not None for name in settings) or "message" in first.modality_config


@dataclass(frozen=True)
class _Choice:
    """A way, the embeddings' width, and why it is not a faster one."""

    way: Way
    width: int
    note: str


def _choose_way(
    model: SentenceTransformer, prompt: str, task: Task | None, *, encoding: Encoding, place: str
) -> _Choice:
    """Find the fastest way that gives what the library gives."""
    from harness.models.embedding_paths import list_paths  # noqa: PLC0415 - imports torch

    # A word is a token at least, so that what is set is reached.
    longest = LONG_WORDS if encoding.max_seq_length is None else encoding.max_seq_length
    texts = [*PROBES, " ".join([SENTENCE] * (1 + longest // len(SENTENCE.split())))]
    library = Way(prompt, task, "library")
    expected = _embed_or_explain(model, texts, library, LIBRARY_PROBE_TOKENS, place)
    if expected.ndim != 2 or not np.isfinite(expected).all():  # noqa: PLR2004 - a matrix
        raise SourceError(f"{place}: the embeddings of plain texts are not finite numbers, one row per text")
    problems = []
    for path in list_paths(model):
        way = Way(prompt, task, path)
        if path == "library":
            break
        try:
            found = _embed(model, texts, way, width=expected.shape[1], batch_tokens=OWN_PROBE_TOKENS, progress=None)
        except Exception as cause:
            if is_out_of_memory(cause) or isinstance(cause, HarnessError):
                raise
            problems.append(f"{path} embeddings fail: {describe_failure(cause)}")
            continue
        difference = _differ(found, expected)
        if difference <= NOISE:
            return _Choice(way, expected.shape[1], _say(path, problems))
        problems.append(f"{path} embeddings differ by {difference:.1g} of their length")
    difference = _differ(_embed_or_explain(model, texts, library, 1, place), expected)
    if difference > NOISE:
        raise SourceError(
            f"{place}: a text's embedding changes by {difference:.1g} of its length with the texts in its batch, so "
            "that values would be those of the batches; a module works across padding"
        )
    return _Choice(library, expected.shape[1], _say("library", problems))


def _say(path: str, problems: Sequence[str]) -> str:
    if not problems:
        return ""
    taken = "the library's own way is taken" if path == "library" else f"{path} ones are taken"
    return f"are not embedded the fastest way: {'; '.join(problems)}; {taken}"


def _embed_or_explain(
    model: SentenceTransformer, texts: Sequence[str], way: Way, batch_tokens: int, place: str
) -> NDArray[np.float32]:
    """Embed by the library, and name the module where it fails."""
    with model_errors(model, "embed texts", place=place):
        return _embed(model, texts, way, width=0, batch_tokens=batch_tokens, progress=None)


def _differ(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """Return the largest distance of two embeddings of a text, as a part of the expected one's length."""
    if found.shape != expected.shape:
        return math.inf
    lengths = np.linalg.norm(expected.astype(np.float64), axis=1)
    distances = np.linalg.norm(found.astype(np.float64) - expected, axis=1)
    worst = float(np.max(distances / np.maximum(lengths, 1e-12)))
    return worst if math.isfinite(worst) else math.inf
