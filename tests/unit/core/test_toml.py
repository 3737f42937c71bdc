"""TOML is parsed in bounded room, and what is none is one message."""

from __future__ import annotations

import pytest

from harness.core.toml import MOST_PARTS, parse_toml
from harness.errors import ManifestError


def parse(text: str) -> object:
    return parse_toml(text, place="a.toml", error=ManifestError)


@pytest.mark.parametrize(
    "text",
    [
        "a." * 30_000 + "a = 1",
        "x = 1\n[" + "'a' . " * 30_000 + "a]",
        'x = { "a".' + "a." * 20 + "a = 1 }",
    ],
    ids=["key", "table", "inline"],
)
def test_a_key_of_very_many_parts_is_refused_unparsed(text: str) -> None:
    with pytest.raises(ManifestError, match=rf"a\.toml: line [12]: a key of more than {MOST_PARTS} parts"):
        parse(text)


def test_dots_in_texts_and_numbers_are_no_keys() -> None:
    words = "e.g. this. And that ... v1.2.3.4, " * 30
    assert parse(f'a.b."c.d" = "{words}"\nn = [1.5, 2.5]') == {"a": {"b": {"c.d": words}}, "n": [1.5, 2.5]}


@pytest.mark.parametrize("text", ["a", "a = " + "9" * 6000, "a = " + "[" * 30_000], ids=["broken", "digits", "deep"])
def test_what_is_no_toml_is_one_message(text: str) -> None:
    with pytest.raises(ManifestError, match=r"a\.toml: not valid TOML"):
        parse(text)
