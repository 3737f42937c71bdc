"""Whatever a library raises while a model is at work becomes one line: folder and module, and what to change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from harness.errors import HarnessError, SourceError
from harness.experiment.loss import LOSSES
from harness.experiment.recipe import Recipe
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


def advise_on_memory(recipe: Recipe) -> str:
    """Say what to change where a training batch does not fit, what keeps the recipe's gradients first.

    A smaller batch has fewer negatives, so that it cannot be taken in silence.
    """
    loss, arguments = recipe.loss, recipe.arguments
    size, gathered = arguments.per_device_train_batch_size, arguments.gradient_accumulation_steps or 1
    changes = []
    if loss.mini_batch_size is not None:
        changes.append(f"lower loss.mini_batch_size ({loss.mini_batch_size}), which changes no gradient")
    elif (cached := f"Cached{loss.name}") in LOSSES:
        changes.append(f"take the loss {cached} with a mini_batch_size below {size}, which keeps batch and negatives")
    if not arguments.gradient_checkpointing:
        changes.append("set gradient_checkpointing = true, which takes about a third more time")
    smaller = f"lower per_device_train_batch_size ({size}) and raise gradient_accumulation_steps ({gathered})"
    meaning = "has fewer negatives, so that it is another recipe" if loss.kind.in_batch else "keeps the rows of a step"
    changes.append(f"{smaller}, which {meaning}")
    return f"free some, take a device with more, or: {'; or '.join(changes)}"
