"""How a model is asked: what is put before its texts, how they are compared, how much it reads, which dimensions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from harness.errors import SourceError
from harness.experiment.model import Similarity

Role = Literal["query", "passage"]
# As the library calls the roles where it routes by them.
Task = Literal["query", "document"]
# How texts go through the model: end to end without padding, padded in batches of like length, or as the library does.
Path = Literal["packed", "padded", "library"]

TASKS: dict[Role, Task] = {"query": "query", "passage": "document"}
# The library takes the first of these that a model has, as encode_query and encode_document do.
PROMPT_NAMES: dict[Role, tuple[str, ...]] = {"query": ("query",), "passage": ("document", "passage", "corpus")}


@dataclass(frozen=True)
class Encoding:
    """What a user sets; None, and no dimensions, stand for the model's own.

    Attributes:
        query_prompt: put before every query; "" for nothing.
        passage_prompt: put before every passage.
        similarity: must be the model's own unless ``similarity_override``.
        similarity_override: another similarity than the model's own is meant.
        max_seq_length: tokens of a text that are read, special tokens included.
        truncate_dims: of the embeddings, the first so many numbers are evaluated, once for each.
    """

    query_prompt: str | None = None
    passage_prompt: str | None = None
    similarity: Similarity | None = None
    similarity_override: bool = False
    max_seq_length: int | None = None
    truncate_dims: tuple[int, ...] = ()

    def prompt(self, role: Role) -> str | None:
        """Return the prompt that is set for a role."""
        return self.query_prompt if role == "query" else self.passage_prompt


# The model's own prompts, similarity, length and dimensions.
OWN_ENCODING = Encoding()


@dataclass(frozen=True)
class Way:
    """How texts of one role are put into a model: what stands before them, and the task where the model minds it."""

    prompt: str
    task: Task | None
    path: Path


def resolve_prompt(role: Role, encoding: Encoding, prompts: Mapping[str, str], default: str | None) -> str:
    """Return what is put before texts of a role: what is set, else what the library would put there.

    Args:
        role: query or passage.
        encoding: what the user set.
        prompts: the model's own, by name.
        default: name of the one for roles without their own.
    """
    wanted = encoding.prompt(role)
    if wanted is not None:
        return wanted
    name = next((name for name in PROMPT_NAMES[role] if name in prompts), default)
    return "" if name is None else prompts[name]


def note_unused(role: Role, encoding: Encoding, prompts: Mapping[str, str], default: str | None) -> str:
    """Say that a model has a prompt for a role that the library passes over; empty where it has none.

    The library gives every model an empty prompt for documents, so that of one saved under "passage", as E5's are, the
    prompt is not taken.
    """
    if encoding.prompt(role) is not None or resolve_prompt(role, encoding, prompts, default):
        return ""
    names = [*PROMPT_NAMES[role], *([] if default is None else [default])]
    unused = [f"{name} ({prompts[name]!r})" for name in names if prompts.get(name)]
    what = "queries" if role == "query" else "passages"
    return f"{what} have no prompt, since the library does not take the model's {', '.join(unused)}" if unused else ""


def resolve_similarity(encoding: Encoding, own: Similarity, *, place: str) -> Similarity:
    """Return how embeddings are compared.

    Raises:
        SourceError: another similarity than the model's own is set, and not said to be meant.
    """
    wanted = encoding.similarity
    if wanted not in {None, own} and not encoding.similarity_override:
        raise SourceError(
            f"{place}: similarity is {wanted!r}, while the model's own is {own!r}; set similarity_override where "
            "another is meant"
        )
    return wanted or own


def resolve_dims(encoding: Encoding, own: int | None, width: int, *, place: str) -> tuple[int, ...]:
    """Return the dimensions to evaluate, in the order set.

    Args:
        encoding: what the user set.
        own: the model's own truncation, if it has one.
        width: of the whole embeddings.
        place: what messages name.

    Raises:
        SourceError: one is not from 1 to ``width``, or listed twice.
    """
    dims = encoding.truncate_dims or (min(own or width, width),)
    for dim in dims:
        if not 1 <= dim <= width:
            raise SourceError(f"{place}: truncate_dims has {dim}, expected numbers from 1 to {width}")
    if len(set(dims)) != len(dims):
        raise SourceError(f"{place}: truncate_dims lists a number twice: {list(dims)}")
    return dims
