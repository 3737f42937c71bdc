"""Loads models from checked folders, so that whatever is wrong with one is said in one line that names the file."""

from __future__ import annotations

import gc
import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.core.text import clip, printable
from harness.errors import SourceError
from harness.models.device import describe_failure, is_out_of_memory, memory_errors, open_device
from harness.models.model_folder import MODULES, ModelFolder, check_model_folder

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

SHOWN_WEIGHTS = 3
SHOWN_REASON = 120
COLOUR = re.compile("\x1b\\[[0-9;]*m")
MISSING = re.compile(r"^\s*(\S+)\s*\|\s*MISSING", re.MULTILINE)
MISMATCHED = re.compile(r"^\s*(\S+)\s*\|\s*MISMATCH\s*\|(.*)", re.MULTILINE)
# A pooler stands beside the embeddings of the tokens, and not every model is saved with one.
UNUSED = re.compile(r"(?:^|\.)pooler\.")


def load_model(folder: Path, *, device: str) -> SentenceTransformer:
    """Load a Sentence Transformers model from a folder, in fp32 and evaluation mode.

    Args:
        folder: a complete model folder with safetensors weights. Nothing is fetched and no code of the model is run.
        device: where the model goes, for instance `cpu` or `cuda`.

    Returns:
        The model.

    Raises:
        SourceError: naming the file and the cause: what `check_model_folder` refuses, or what a library cannot load.
        HarnessError: the model does not fit into memory.
    """
    open_device(device)
    with memory_errors(f"{folder}: loading the model", advice="free some, or take a smaller model"):
        model, missing = _load(check_model_folder(folder), device)
    if missing:
        shown = f"weights that the model uses are not in its safetensors: {_shorten(missing)}"
        raise SourceError(f"{folder}: {len(missing)} {shown}")
    foreign = sorted({type(module).__name__ for module in model} - MODULES)
    if foreign:
        raise SourceError(f"{folder}: modules {', '.join(foreign)} are not among those allowed")
    _drop_chat_templates(model, folder)
    return model.eval()


def _drop_chat_templates(model: SentenceTransformer, folder: Path) -> None:
    """Take away programs that the folder brings: even one that is only asked for its variables can fill the memory.

    Raises:
        SourceError: the model puts texts into its template, and would embed others without it.
    """
    for module in model.modules():
        if "message" in getattr(module, "modality_config", ()):
            raise SourceError(f"{folder}: the model embeds texts by a chat template, which is not run here")
        holders: list[Any] = [getattr(module, "processor", None), getattr(module, "tokenizer", None)]
        for holder in holders:
            if getattr(holder, "chat_template", None) is not None:
                holder.chat_template = None


def _load(checked: ModelFolder, device: str) -> tuple[SentenceTransformer, list[str]]:
    """Turn whatever the libraries raise into one error that names the file at fault where it can be found."""
    import torch  # noqa: PLC0415 - takes seconds
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415 - takes seconds

    spare_imports()
    try:
        with _weight_report() as found:
            model = SentenceTransformer(
                str(checked.path),
                device=device,
                local_files_only=True,
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True, "dtype": torch.float32},
            )
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as cause:  # a panic of the tokenizer's is no Exception
        if is_out_of_memory(cause):
            raise
        if found.mismatched:
            shown = f"weights of another shape than its configuration says: {_shorten(found.mismatched)}"
            raise SourceError(f"{checked.path}: the model cannot be loaded: {len(found.mismatched)} {shown}") from cause
        file, words = _find_culprit(checked) or (checked.path, describe_failure(cause))
        raise SourceError(f"{file}: the model cannot be loaded: {words}") from cause
    return model, found.missing


@cache
def spare_imports() -> None:
    """Have the garbage collector leave alone what is there now: the libraries, just imported.

    Every stage begins with a collection, the trainer and the process end with one: up to a second each, for a million
    objects that stay. Once only, since a model that were there at a later call would never be freed.
    """
    gc.freeze()


def _find_culprit(checked: ModelFolder) -> tuple[Path, str] | None:
    """Load the parts of each transformer one by one, and return the first that fails with what it says."""
    import tokenizers  # noqa: PLC0415 - only here
    from transformers import AutoConfig, AutoTokenizer  # noqa: PLC0415 - takes seconds

    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    for path in sorted({checked.path, *(checked.path / module.path for module in checked.modules)}):
        parts = (
            (path / "tokenizer.json", lambda file: tokenizers.Tokenizer.from_file(str(file))),
            (path / "config.json", lambda file: AutoConfig.from_pretrained(str(file.parent), **options)),
            (path / "tokenizer_config.json", lambda file: AutoTokenizer.from_pretrained(str(file.parent), **options)),
        )
        for file, load in parts:
            if not file.is_file() or (file.name == "config.json" and not _holds_transformer(path, checked)):
                continue
            try:
                load(file)
            except (KeyboardInterrupt, SystemExit, GeneratorExit):
                raise
            except BaseException as cause:  # noqa: BLE001 - a panic of the tokenizer's is no Exception
                return file, describe_failure(cause)
    return None


def _holds_transformer(path: Path, checked: ModelFolder) -> bool:
    own = [module.type for module in checked.modules if checked.path / module.path == path]
    return not checked.modules or any(reference.endswith(".Transformer") for reference in own)


def _shorten(said: Sequence[str]) -> str:
    return ", ".join(said[:SHOWN_WEIGHTS]) + (", ..." if len(said) > SHOWN_WEIGHTS else "")


@dataclass(frozen=True)
class _Found:
    """What transformers says of weights that do not fit: those it made up at random, and those of another shape."""

    missing: list[str]
    mismatched: list[str]


@contextmanager
def _weight_report() -> Iterator[_Found]:
    """Collect what transformers says of weights in a warning alone.

    An evaluation of a model with weights that are made up would give other values every time.
    """
    found = _Found([], [])

    def note(record: logging.LogRecord) -> bool:
        text = printable(COLOUR.sub("", record.getMessage()), keep="\n")
        found.missing.extend(name for name in MISSING.findall(text) if not UNUSED.search(name))
        found.mismatched.extend(f"{name} ({clip(why.strip(), SHOWN_REASON)})" for name, why in MISMATCHED.findall(text))
        # The names are the model folder's, and nothing that commands a terminal gets there.
        record.msg, record.args = text, None
        # Whoever calls hears of it by an error.
        return not (found.missing or found.mismatched)

    logger = logging.getLogger("transformers.modeling_utils")
    level = logger.level
    logger.setLevel(logging.WARNING)
    logger.addFilter(note)
    try:
        yield found
    finally:
        logger.removeFilter(note)
        logger.setLevel(level)
