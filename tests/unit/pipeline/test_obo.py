"""An ontology gives rows that are the same on every machine, and what is broken in it is named with its line."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import pytest

from harness.errors import DataError
from harness.experiment.data import Selection
from harness.pipeline.obo import Term, read_terms, select_rows

HEADER = "format-version: 1.4\nontology: hp\n\n"
TERM = """[Term]
id: HP:1
name: one
def: "A \\"quoted\\" text,\\nof two lines." [PMID:1]
synonym: "first" EXACT layperson []
synonym: "wider" BROAD []
synonym: "second" EXACT []
xref: X:1
"""
SELECTION = Selection(salt="s", train_rows=6, test_rows=3)


def write(tmp_path: Path, *stanzas: str) -> Path:
    path = tmp_path / "a.obo"
    path.write_text(HEADER + "\n".join(stanzas), encoding="utf-8")
    return path


def test_a_term_has_its_definition_unescaped_and_its_exact_synonyms_in_order(tmp_path: Path) -> None:
    assert read_terms(write(tmp_path, TERM)) == (Term("HP:1", 'A "quoted" text,\nof two lines.', ("first", "second")),)


@pytest.mark.parametrize(
    "stanza",
    [
        TERM + "is_obsolete: true\n",
        TERM.replace("def:", "comment:"),
        TERM.replace("EXACT", "RELATED"),
        TERM.replace("[Term]", "[Typedef]"),
        TERM.replace('def: "A \\"quoted\\" text,\\nof two lines."', 'def: ""'),
    ],
    ids=["obsolete", "no definition", "no exact synonym", "no term", "empty definition"],
)
def test_what_cannot_give_a_pair_is_left_out(tmp_path: Path, stanza: str) -> None:
    other = TERM.replace("HP:1", "HP:2")
    assert [term.id for term in read_terms(write(tmp_path, stanza, other))] == ["HP:2"]


def test_a_term_said_not_to_be_obsolete_is_taken(tmp_path: Path) -> None:
    assert len(read_terms(write(tmp_path, TERM + "is_obsolete: false\n"))) == 1


def test_a_separator_inside_a_text_does_not_end_the_line(tmp_path: Path) -> None:
    path = write(tmp_path, TERM.replace("first", "fi\u2028rst"))
    assert read_terms(path)[0].synonyms == ("fi\u2028rst", "second")


def test_a_broken_text_is_named_with_file_and_line(tmp_path: Path) -> None:
    path = write(tmp_path, TERM.replace('"first"', '"first'))
    with pytest.raises(DataError) as caught:
        read_terms(path)
    assert str(caught.value).startswith(f"{path}:8: expected a text in double quotes, found '\"first EXACT")


@pytest.mark.parametrize("content", [b"\xff\xfe", None], ids=["not UTF-8", "absent"])
def test_what_is_no_ontology_is_named(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "a.obo").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.obo: cannot be read"):
        read_terms(tmp_path / "a.obo")


def make_terms(count: int) -> list[Term]:
    return [Term(f"HP:{number}", f"definition {number}", (f"a {number}", f"b {number}")) for number in range(count)]


def test_the_choice_does_not_depend_on_the_order_of_the_file() -> None:
    terms = make_terms(20)
    shuffled = terms.copy()
    random.Random(7).shuffle(shuffled)
    assert select_rows(tuple(shuffled), SELECTION) == select_rows(tuple(terms), SELECTION)


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_the_choice_is_the_documented_one() -> None:
    order = sorted((f"HP:{number}" for number in range(20)), key=lambda name: digest(f"s:{name}"))
    train, test = select_rows(tuple(make_terms(20)), SELECTION)
    assert [row["id"] for row in test] == order[:3]
    assert [row["id"] for row in train] == order[3:9]
    for row in (*train, *test):
        number = row["id"].removeprefix("HP:")
        synonyms = (f"a {number}", f"b {number}")
        assert row["anchor"] == min(synonyms, key=lambda text: digest(f"s:{row['id']}:{text}"))
        assert row["positive"] == f"definition {number}"


def test_no_term_is_in_train_and_test_and_the_numbers_are_those_asked_for() -> None:
    train, test = select_rows(tuple(make_terms(9)), SELECTION)
    assert (len(train), len(test)) == (6, 3)
    assert len({row["id"] for row in (*train, *test)}) == 9


def test_another_salt_is_another_choice() -> None:
    terms = tuple(make_terms(20))
    assert select_rows(terms, SELECTION) != select_rows(terms, SELECTION.replace(salt="t"))


def test_too_few_terms_are_an_error_with_both_numbers() -> None:
    with pytest.raises(DataError, match="has 8 usable terms, the selection asks for 9"):
        select_rows(tuple(make_terms(8)), SELECTION)
