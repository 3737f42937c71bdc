"""The one strict base for everything parsed from TOML or JSON, so that unknown keys never pass in silence."""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from harness.core.files import refuse_special
from harness.core.text import clip, printable, quote
from harness.errors import HarnessError

SHOWN_ERRORS = 8
SHOWN_CHARACTERS = 80
MESSAGE_CHARACTERS = 500

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
# A stranger's numbers are bounded, far beyond what anything measured can be: their squares, sums and products with a
# price then stay finite, whoever computes with them.
MOST = 10**12
Unit = Annotated[float, Field(ge=0, le=1)]
Number = Annotated[float, Field(ge=-MOST, le=MOST)]
Positive = Annotated[float, Field(gt=0, le=MOST)]
Natural = Annotated[int, Field(ge=0, le=MOST)]
Count = Annotated[int, Field(gt=0, le=MOST)]
Seconds = Annotated[float, Field(ge=0, le=1e9)]
Bytes = Annotated[int, Field(ge=0, le=2**50)]
Dollars = Annotated[float, Field(ge=0, le=1e9)]
# Categories of characters that end a line or command a terminal: controls, line and paragraph separators.
COMMANDING = frozenset({"Cc", "Zl", "Zp"})


def check_line(text: str) -> str:
    """Return a text that stays on its line wherever it is shown.

    Raises:
        ValueError: it holds a line end or another control character.
    """
    return _refuse_controls(text, allowed="", expected="one line without control characters")


def check_prose(text: str) -> str:
    """Return a text that may have several lines, as a summary.

    Raises:
        ValueError: it holds a control character that is no line feed.
    """
    return _refuse_controls(text, allowed="\n", expected="text without control characters")


def _refuse_controls(text: str, *, allowed: str, expected: str) -> str:
    for place, letter in enumerate(text):
        if letter not in allowed and unicodedata.category(letter) in COMMANDING:
            raise ValueError(f"U+{ord(letter):04X} at character {place}, expected {expected}")
    return text


def check_part(part: str, found: int, whole: str, most: int) -> None:
    """Hold a count of some against the count of all.

    Raises:
        ValueError: there are more of them than there are at all.
    """
    if found > most:
        raise ValueError(f"{part} is {found}, expected at most {whole}, {most}")


Line = Annotated[str, AfterValidator(check_line)]
Prose = Annotated[str, AfterValidator(check_prose)]


class Frozen(BaseModel):
    """An immutable value with strict types: unknown keys, coercions and non-finite numbers are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some fields changed, validated like a new value.

        Raises:
            ValidationError: a changed field breaks its type.
        """
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        return type(self)(**{**fields, **changes})


Model = TypeVar("Model", bound=Frozen)


def decode(kind: type[Model], data: Mapping[str, Any], *, place: str, error: type[HarnessError]) -> Model:
    """Build a ``kind`` from plain data, or say which key is wrong and what was expected.

    Args:
        kind: the class to build.
        data: plain dictionaries, lists, strings, numbers and booleans.
        place: the file (or other origin) that messages name.
        error: the kind of error to raise.

    Raises:
        HarnessError: of type ``error``, naming the place, every wrong key and what was expected there.
    """
    try:
        text = json.dumps(data, allow_nan=False)
    except RecursionError as cause:
        raise error(f"{place}: cannot be read: nested too deeply") from cause
    except (TypeError, ValueError) as cause:
        where = next(_find_foreign(data), None)
        if where is None:
            raise error(f"{place}: cannot be read: {cause}") from cause
        key, value = where
        expected = "text (in quotes), a finite number, a boolean, a list or a table"
        raise error(
            f"{place}: {clip(_dotted(key), SHOWN_CHARACTERS)}: found {quote(value)}; expected {expected}"
        ) from cause
    return decode_json(kind, text, place=place, error=error)


def decode_json(kind: type[Model], text: str | bytes, *, place: str, error: type[HarnessError]) -> Model:
    """Build a ``kind`` from JSON text; see `decode` for the errors."""
    try:
        return kind.model_validate_json(text)
    except ValidationError as cause:
        raise error("\n".join(_describe(kind, cause, place))) from cause


def canonical_json(value: Any) -> str:
    """Write plain data so that equal data give equal bytes: sorted keys, no spaces, no NaN.

    Raises:
        ValueError: a number is not finite.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest_json(value: Any) -> str:
    """Return the SHA-256 of plain data, as `canonical_json` writes them.

    Raises:
        ValueError: a number is not finite.
    """
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def format_json(value: Any, indent: str = "") -> str:
    """Write JSON for people and diffs: one key a line, but lists of plain values on one line.

    Raises:
        ValueError: a number is not finite.
    """
    inner = indent + "  "
    if isinstance(value, Mapping) and value:
        items = (f"{inner}{json.dumps(key)}: {format_json(item, inner)}" for key, item in value.items())
        return "{\n" + ",\n".join(items) + "\n" + indent + "}"
    if isinstance(value, list) and any(isinstance(item, list | dict) for item in value):
        return "[\n" + ",\n".join(inner + json.dumps(item, allow_nan=False) for item in value) + "\n" + indent + "]"
    return json.dumps(value, allow_nan=False)


def read_text(path: Path, *, limit_bytes: int, error: type[HarnessError]) -> str:
    """Read a small UTF-8 file, refusing what is larger than it can honestly be.

    Raises:
        HarnessError: of type ``error``: absent, unreadable, no regular file, too large or not UTF-8.
    """
    try:
        with refuse_special(path).open("rb") as stream:
            content = stream.read(limit_bytes + 1)
    except OSError as cause:
        raise error(f"{path}: cannot be read: {cause.strerror or cause}") from cause
    if len(content) > limit_bytes:
        raise error(f"{path}: larger than {limit_bytes} bytes, the most such a file may have")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as cause:
        raise error(f"{path}: not UTF-8 text: {cause}") from cause


def _describe(kind: type[Frozen], cause: ValidationError, place: str) -> Iterator[str]:
    # What is unknown comes before what is missing: a misspelt key is both, and the first says what was meant.
    problems = sorted(
        cause.errors(include_url=False, include_context=False), key=lambda problem: problem["type"] != "extra_forbidden"
    )
    for problem in problems[:SHOWN_ERRORS]:
        where = clip(_dotted(problem["loc"]), SHOWN_CHARACTERS)
        if problem["type"] == "extra_forbidden":
            guess = _nearest(str(problem["loc"][-1]), kind)
            yield f"{place}: unknown key {where!r}" + (f"; did you mean {guess!r}?" if guess else "")
        elif problem["type"] == "missing":
            yield f"{place}: key {where!r} is missing"
        elif problem["type"] == "json_invalid":
            yield f"{place}: not valid JSON: {problem['msg']}"
        else:
            expected = clip(_phrase(problem["msg"]), MESSAGE_CHARACTERS)
            yield f"{place}: {where or 'the whole'}: found {quote(problem['input'])}: {expected}"
    if len(problems) > SHOWN_ERRORS:
        yield f"{place}: and {len(problems) - SHOWN_ERRORS} more"


def _phrase(message: str) -> str:
    """Say in our words what pydantic says in its own."""
    _, of_kinds, kinds = message.partition("does not match any of the expected tags: ")
    if of_kinds:
        return f"expected the kind {kinds}"
    return message.removeprefix("Value error, ").replace("Input should be", "expected")


def _find_foreign(value: Any, location: tuple[int | str, ...] = ()) -> Iterator[tuple[tuple[int | str, ...], Any]]:
    """Yield (place, value) of what TOML knows and JSON does not: dates, times, infinities and NaN."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _find_foreign(item, (*location, str(key)))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _find_foreign(item, (*location, index))
    elif not isinstance(value, str | int | float) or (isinstance(value, float) and not math.isfinite(value)):
        yield location, value


def _dotted(location: tuple[int | str, ...]) -> str:
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in location]
    # Keys are a stranger's words too: none of them may end the line that it is shown in.
    return printable("".join(parts).lstrip("."), instead="?")


def _nearest(key: str, kind: type[Frozen]) -> str | None:
    if len(key) > SHOWN_CHARACTERS:
        return None  # no key is so long, and comparing it would take as long as a stranger likes
    matches = difflib.get_close_matches(key, sorted(_known_keys(kind, set())), n=1)
    return matches[0] if matches else None


def _known_keys(kind: Any, seen: set[Any]) -> set[str]:
    """Collect the field names of a class and of every class its fields mention."""
    if kind in seen:
        return set()
    seen.add(kind)
    keys: set[str] = set()
    if isinstance(kind, type) and issubclass(kind, Frozen):
        for name, field in kind.model_fields.items():
            keys.add(field.alias or name)
            keys |= _known_keys(field.annotation, seen)
    for argument in getattr(kind, "__args__", ()):
        if not isinstance(argument, str | int | float | bool):
            keys |= _known_keys(argument, seen)
    return keys
