"""Everything parsed passes here: what is unknown, mistyped or not finite is refused, with its place."""

from __future__ import annotations

import datetime as dt
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from harness.core.schema import Frozen, canonical_json, decode, decode_json, format_json, read_text
from harness.errors import DataError, ManifestError


class Inner(Frozen):
    """A nested table."""

    batch_size: int
    rate: float = 0.5


class Outer(Frozen):
    """A whole file."""

    name: str
    inner: Inner
    items: tuple[Inner, ...] = ()
    flags: tuple[bool, ...] = ()


GOOD: dict[str, Any] = {"name": "a", "inner": {"batch_size": 2}}


def message(data: Any) -> str:
    with pytest.raises(ManifestError) as caught:
        decode(Outer, data, place="f.toml", error=ManifestError)
    return str(caught.value)


def test_plain_data_become_a_frozen_value() -> None:
    value = decode(Outer, {**GOOD, "items": [{"batch_size": 1}]}, place="f", error=ManifestError)
    assert value.items == (Inner(batch_size=1),)
    with pytest.raises(ValidationError):
        value.name = "b"


def test_a_misspelt_key_is_named_with_the_one_that_was_meant() -> None:
    said = message({**GOOD, "inner": {"batch_size": 2, "batchsize": 3}})
    assert said == "f.toml: unknown key 'inner.batchsize'; did you mean 'batch_size'?"


def test_a_key_like_no_other_is_named_without_a_guess() -> None:
    assert message({**GOOD, "zzzz": 1}) == "f.toml: unknown key 'zzzz'"


def test_a_missing_key_is_named() -> None:
    assert message({"name": "a", "inner": {}}) == "f.toml: key 'inner.batch_size' is missing"


@pytest.mark.parametrize("value", ["2", 2.5, True, None, [2]], ids=repr)
def test_no_type_is_taken_for_another(value: object) -> None:
    said = message({**GOOD, "inner": {"batch_size": value}})
    assert said.startswith(f"f.toml: inner.batch_size: found {value!r}: ")
    assert "valid integer" in said


def test_places_in_lists_are_numbered() -> None:
    assert "f.toml: items[1].batch_size: found 'x'" in message(
        {**GOOD, "items": [{"batch_size": 1}, {"batch_size": "x"}]}
    )


def test_every_problem_is_told_until_there_are_too_many() -> None:
    said = message({**GOOD, **{f"unknown{number}": number for number in range(10)}}).splitlines()
    assert len(said) == 9
    assert said[-1] == "f.toml: and 2 more"


def test_a_long_value_is_cut() -> None:
    assert len(message({**GOOD, "inner": "x" * 10_000})) < 250


@pytest.mark.parametrize("value", [math.inf, math.nan, dt.date(2024, 8, 1), dt.time(1, 2)], ids=str)
def test_what_json_does_not_know_is_named_with_its_place(value: object) -> None:
    said = message({**GOOD, "items": [{"batch_size": 1, "rate": value}]})
    assert said.startswith(f"f.toml: items[0].rate: found {value!r}; expected text (in quotes), a finite number")


def test_broken_json_names_its_place() -> None:
    with pytest.raises(DataError, match=r"^f\.json: not valid JSON: "):
        decode_json(Outer, '{"name": ', place="f.json", error=DataError)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_number_that_is_not_finite_is_refused_in_json(number: str) -> None:
    text = f'{{"name": "a", "inner": {{"batch_size": 1, "rate": {number}}}}}'
    with pytest.raises(DataError, match=r"f\.json: inner\.rate: found (nan|-?inf)"):
        decode_json(Outer, text, place="f.json", error=DataError)


def test_json_nested_without_end_is_an_error_of_ours() -> None:
    with pytest.raises(DataError, match=r"f\.json"):
        decode_json(Outer, "[" * 100_000, place="f.json", error=DataError)


def test_a_copy_is_validated_like_a_new_value() -> None:
    inner = Inner(batch_size=1)
    assert inner.replace(batch_size=2) == Inner(batch_size=2)
    with pytest.raises(ValidationError):
        inner.replace(batch_size="2")


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@settings(max_examples=20, deadline=None)
@given(PLAIN)
def test_what_is_written_for_people_reads_back_equal(value: Any) -> None:
    assert json.loads(format_json(value)) == value


@settings(max_examples=20, deadline=None)
@given(st.dictionaries(st.text(), PLAIN))
def test_canonical_json_is_the_same_in_every_order_of_keys(value: dict[str, Any]) -> None:
    assert canonical_json(value) == canonical_json(dict(reversed(value.items())))
    assert json.loads(canonical_json(value)) == value


@pytest.mark.parametrize("write", [canonical_json, format_json])
def test_nan_is_not_written(write: Any) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write({"a": [1.0, math.nan]})


def test_a_key_has_a_line_of_its_own_and_a_list_of_numbers_one_line() -> None:
    assert format_json({"a": [1, 2], "b": {"c": 1}}) == '{\n  "a": [1, 2],\n  "b": {\n    "c": 1\n  }\n}'


def test_a_small_file_is_read_and_what_is_no_such_file_refused(tmp_path: Path) -> None:
    path = tmp_path / "f.toml"
    path.write_text("å", encoding="utf-8")
    assert read_text(path, limit_bytes=2, error=ManifestError) == "å"
    with pytest.raises(ManifestError, match=r"f\.toml: larger than 1 bytes"):
        read_text(path, limit_bytes=1, error=ManifestError)
    path.write_bytes(b"\xff")
    with pytest.raises(ManifestError, match=r"f\.toml: not UTF-8 text"):
        read_text(path, limit_bytes=9, error=ManifestError)
    with pytest.raises(DataError, match=r"absent: cannot be read: No such file"):
        read_text(tmp_path / "absent", limit_bytes=9, error=DataError)
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        read_text(tmp_path, limit_bytes=9, error=DataError)


class Priced(Frozen):
    """A table whose keys are the writer's own."""

    prices: dict[str, float]


@pytest.mark.parametrize("end", ["\n", "\r", "\u2028", "\x1b"])
def test_a_key_never_ends_the_line_that_it_is_shown_in(end: str) -> None:
    with pytest.raises(ManifestError) as caught:
        decode(Priced, {"prices": {f"a{end}::add-mask::x": "high"}}, place="f.toml", error=ManifestError)
    assert str(caught.value).startswith("f.toml: prices.a?::add-mask::x: found 'high'")
    with pytest.raises(ManifestError) as caught:
        decode(Priced, {"prices": {f"a{end}::add-mask::x": math.inf}}, place="f.toml", error=ManifestError)
    assert str(caught.value).startswith("f.toml: prices.a?::add-mask::x: found inf")
