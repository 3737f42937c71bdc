"""An ontology in OBO format gives rows: a synonym of a term to be matched with the term's definition."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.errors import DataError
from harness.experiment.data import Selection

# OBO 1.4 flat file format: a quoted text with backslash escapes, then scope or references.
QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"\s*(\w*)')
ESCAPE = re.compile(r"\\(.)")
WHITE_SPACE = {"n": "\n", "t": "\t", "W": " "}
EXACT = "EXACT"


@dataclass(frozen=True)
class Term:
    """A live term: id, definition and exact synonyms in the file's order."""

    id: str
    definition: str
    synonyms: tuple[str, ...]


def read_terms(path: Path) -> tuple[Term, ...]:
    """Return the terms that are not obsolete and have a definition and an exact synonym.

    Raises:
        DataError: the file cannot be read, or a quoted text is broken; names file and line.
    """
    try:
        # Not splitlines(), which would also cut at separators that may stand inside a text.
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as cause:
        raise DataError(f"{path}: cannot be read: {cause}") from cause
    terms = []
    for start, stanza in _list_stanzas(lines):
        tags: dict[str, list[tuple[str, str]]] = {}
        for offset, line in enumerate(stanza):
            tag, _, value = line.partition(": ")
            tags.setdefault(tag, []).append((value, f"{path}:{start + offset}"))
        obsolete = any(value.startswith("true") for value, _ in tags.get("is_obsolete", ()))
        if obsolete or not {"id", "def", "synonym"} <= set(tags):
            continue
        definition, _ = _unquote(*tags["def"][0])
        synonyms = [text for text, scope in (_unquote(*entry) for entry in tags["synonym"]) if scope == EXACT]
        if definition and synonyms:
            terms.append(Term(tags["id"][0][0].strip(), definition, tuple(synonyms)))
    return tuple(terms)


def select_rows(terms: tuple[Term, ...], selection: Selection) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Choose terms for train and test by hash, so that the choice is fixed, blind and needs no generator.

    Terms are ordered by the SHA-256 of ``salt:id``; the first ``test_rows`` are test, the next ``train_rows``
    train. Of a term's synonyms the one whose SHA-256 of ``salt:id:synonym`` sorts first is taken.

    Returns:
        Train rows and test rows with the keys ``id``, ``anchor`` (synonym) and ``positive`` (definition).

    Raises:
        DataError: the ontology has fewer terms than the selection asks for.
    """
    wanted = selection.test_rows + selection.train_rows
    if len(terms) < wanted:
        raise DataError(f"the ontology has {len(terms)} usable terms, the selection asks for {wanted}")
    chosen = sorted(terms, key=lambda term: _digest(f"{selection.salt}:{term.id}"))[:wanted]
    rows = [
        {
            "id": term.id,
            "anchor": min(term.synonyms, key=lambda text: _digest(f"{selection.salt}:{term.id}:{text}")),
            "positive": term.definition,
        }
        for term in chosen
    ]
    return rows[selection.test_rows :], rows[: selection.test_rows]


def _list_stanzas(lines: list[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield (number of the first line, lines) of each ``[Term]``."""
    start: int | None = None
    for number, line in enumerate([*lines, "["], start=1):
        if line.startswith("["):
            if start is not None:
                yield start, lines[start - 1 : number - 1]
            start = number + 1 if line.strip() == "[Term]" else None


def _unquote(value: str, place: str) -> tuple[str, str]:
    """Return the quoted text and the word that follows it."""
    match = QUOTED.match(value)
    if match is None:
        raise DataError(f"{place}: expected a text in double quotes, found {value[:60]!r}")
    return ESCAPE.sub(lambda found: WHITE_SPACE.get(found[1], found[1]), match[1]).strip(), match[2]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
