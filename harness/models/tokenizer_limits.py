"""How much longer a tokenizer may make a text before it cuts it into tokens, which is all that a length then bounds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from harness.errors import SourceError

# Llama's marks of spaces make 4, ALBERT's quotes 2; three replacements by 1,000 characters took all memory.
MOST_GROWTH = 256


def check_growth(folder: Path, contents: Mapping[str, Any]) -> None:
    """Refuse a tokenizer among a model folder's JSON files, by name, that could fill the memory with a short text.

    Raises:
        SourceError: names the file.
    """
    for name, content in contents.items():
        if PurePosixPath(name).name == "tokenizer.json" and measure_growth(content) > MOST_GROWTH:
            raise SourceError(f"{folder / name}: its steps could make a text over {MOST_GROWTH} times longer")


def measure_growth(tokenizer: Any) -> int:
    """Return how many times longer the steps that rewrite text could make it at most, by a tokenizer.json's content.

    Counted are Replace, Prepend and ByteLevel, as often as they stand there; what is of other types than it should be
    is for the library to refuse.
    """
    growth = 1
    for step in _list_steps(tokenizer):
        growth *= _measure_step(step)
    return growth


def _list_steps(tokenizer: Any) -> Iterator[Mapping[str, Any]]:
    if not isinstance(tokenizer, dict):
        return
    left = [tokenizer.get("normalizer"), tokenizer.get("pre_tokenizer")]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            yield value
            left.extend(value.values())
        elif isinstance(value, list):
            left.extend(value)


def _measure_step(step: Mapping[str, Any]) -> int:
    if step.get("type") == "ByteLevel":
        return 2
    if step.get("type") == "Prepend":
        return 1 + len(str(step.get("prepend", "")))
    if step.get("type") != "Replace":
        return 1
    content, pattern = str(step.get("content", "")), step.get("pattern")
    literal = pattern.get("String") if isinstance(pattern, dict) else None
    # An expression may match between any two characters.
    return max(1, -(-len(content) // len(literal))) if isinstance(literal, str) and literal else 1 + len(content)
