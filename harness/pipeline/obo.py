"""An ontology in OBO format gives rows: a synonym of a term to be matched with the term's definition."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.core.files import refuse_special
from harness.errors import DataError
from harness.experiment.data import PartName, Selection

# OBO 1.4 flat file format: a quoted text with backslash escapes, then scope, perhaps a type, and references.
QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"\s*(\w*)\s*([^\s\[]*)')
ESCAPE = re.compile(r"\\(.)")
WHITE_SPACE = {"n": "\n", "t": "\t", "W": " "}
EXACT = "EXACT"


@dataclass(frozen=True)
class Synonym:
    """Another name of a term, and what the ontology says it is, as ``layperson``, if anything."""

    text: str
    type: str | None = None


@dataclass(frozen=True)
class Term:
    """A live term: id, definition and exact synonyms in the file's order."""

    id: str
    definition: str
    synonyms: tuple[Synonym, ...]


def read_terms(path: Path) -> tuple[Term, ...]:
    """Return the terms that are not obsolete and have a definition and an exact synonym.

    Raises:
        DataError: the file cannot be read, or a quoted text is broken; names file and line.
    """
    try:
        # Not splitlines(), which would also cut at separators that may stand inside a text.
        lines = refuse_special(path).read_text(encoding="utf-8").split("\n")
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
        definition, _, _ = _unquote(*tags["def"][0])
        synonyms = [
            Synonym(text, kind or None)
            for text, scope, kind in (_unquote(*entry) for entry in tags["synonym"])
            if scope == EXACT
        ]
        if definition and synonyms:
            terms.append(Term(tags["id"][0][0].strip(), definition, tuple(synonyms)))
    return tuple(terms)


def select_rows(terms: tuple[Term, ...], selection: Selection) -> dict[PartName, list[dict[str, str]]]:
    """Choose terms for train and test by hash, so that the choice is fixed, blind and needs no generator.

    Terms are ordered by the SHA-256 of ``salt:id``; the first ``skip_terms`` are left out, whatever their synonyms; of
    those with a synonym of the type asked for the first ``test_rows`` are test, the next ``train_rows`` train. Of a
    term's synonyms the one whose SHA-256 of ``salt:id:synonym`` sorts first is taken.

    Returns:
        Rows of each part with the keys ``id``, ``anchor`` (synonym) and ``positive`` (definition); without
        ``train_rows`` there is no train part.

    Raises:
        DataError: the ontology has fewer terms than the selection asks for.
    """
    ordered = sorted(terms, key=lambda term: _digest(f"{selection.salt}:{term.id}"))[selection.skip_terms or 0 :]
    usable = [(term, texts) for term in ordered if (texts := _list_texts(term, selection.synonym_type))]
    wanted = selection.test_rows + (selection.train_rows or 0)
    if len(usable) < wanted:
        raise DataError(f"the ontology has {len(usable)} usable terms, the selection asks for {wanted}")
    rows = [
        {
            "id": term.id,
            "anchor": min(texts, key=lambda text: _digest(f"{selection.salt}:{term.id}:{text}")),
            "positive": term.definition,
        }
        for term, texts in usable[:wanted]
    ]
    test = rows[: selection.test_rows]
    return {"test": test} if selection.train_rows is None else {"train": rows[selection.test_rows :], "test": test}


def _list_texts(term: Term, synonym_type: str | None) -> list[str]:
    return [synonym.text for synonym in term.synonyms if synonym_type in (None, synonym.type)]


def _list_stanzas(lines: list[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield (number of the first line, lines) of each ``[Term]``."""
    start: int | None = None
    for number, line in enumerate([*lines, "["], start=1):
        if line.startswith("["):
            if start is not None:
                yield start, lines[start - 1 : number - 1]
            start = number + 1 if line.strip() == "[Term]" else None


def _unquote(value: str, place: str) -> tuple[str, str, str]:
    """Return the quoted text and the two words that follow it, empty where there are none."""
    match = QUOTED.match(value)
    if match is None:
        raise DataError(f"{place}: expected a text in double quotes, found {value[:60]!r}")
    return ESCAPE.sub(lambda found: WHITE_SPACE.get(found[1], found[1]), match[1]).strip(), match[2], match[3]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
