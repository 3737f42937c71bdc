"""Whatever a library raises while a stranger's model is at work becomes one line that names folder and module."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from harness.errors import HarnessError, SourceError
from harness.models.device import describe_failure, is_out_of_memory

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


@contextmanager
def model_errors(
    model: SentenceTransformer, doing: str, *, place: str, error: type[HarnessError] = SourceError
) -> Iterator[None]:
    """Turn what a library raises into one line: a token beyond the embeddings ends in an IndexError, for one.

    Our own errors pass as they are, and so do the disk's and memory that ran out, which are no fault of the model's.

    Args:
        model: whose modules are looked for in the frames that the error passed through.
        doing: what the model cannot do.
        place: its folder.
        error: the kind of error to raise.

    Raises:
        HarnessError: of type `error`.
    """
    try:
        yield
    except (HarnessError, OSError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as cause:  # a panic of the tokenizer's is no Exception
        if is_out_of_memory(cause):
            raise
        raise error(
            f"{place}: the model cannot {doing}{_name_module(model, cause)}: {describe_failure(cause)}"
        ) from cause


def _name_module(model: SentenceTransformer, error: BaseException) -> str:
    """Name the model's module that an error came from: the last that its frames pass through."""
    names = {id(module): f"{number}, {type(module).__name__}" for number, module in enumerate(model)}
    found = ""
    trace = error.__traceback__
    while trace is not None:
        found = names.get(id(trace.tb_frame.f_locals.get("self")), found)
        trace = trace.tb_next
    return f" (module {found})" if found else ""
