"""A stranger's words are shown, but never more of them than a person reads."""

from __future__ import annotations

import pytest

from harness.core.text import quote
from harness.errors import DataError, HarnessError, SourceError


def test_a_value_is_quoted_as_python_spells_it() -> None:
    assert quote("a\nb") == r"'a\nb'"
    assert quote(None) == "None"


@pytest.mark.parametrize("value", ["x" * 1_300_000, ["x"] * 1_300_000, b"x" * 1_300_000, {"x": "y" * 1_300_000}])
def test_a_long_value_is_cut(value: object) -> None:
    assert len(quote(value)) == 83
    assert quote(value).endswith("...")


def test_a_number_that_python_does_not_spell_is_described() -> None:
    assert quote(10**6000) == "a number of type int with very many digits"


@pytest.mark.parametrize("kind", [HarnessError, DataError, SourceError])
def test_no_line_of_an_error_is_longer_than_anybody_reads(kind: type[HarnessError]) -> None:
    said = str(kind("first\n" + "x" * 1_300_000 + "\nlast"))
    assert said.splitlines()[0] == "first"
    assert said.splitlines()[2] == "last"
    assert len(said) < 2100
