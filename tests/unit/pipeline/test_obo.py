"""An ontology gives rows that are the same on every machine, and what is broken in it is named with its line."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import pytest

from harness.errors import DataError
from harness.experiment.data import Selection
from harness.pipeline.obo import Synonym, Term, read_terms, select_rows

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
    synonyms = (Synonym("first", "layperson"), Synonym("second"))
    assert read_terms(write(tmp_path, TERM)) == (Term("HP:1", 'A "quoted" text,\nof two lines.', synonyms),)


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
    assert [synonym.text for synonym in read_terms(path)[0].synonyms] == ["fi\u2028rst", "second"]


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
    return [
        Term(f"HP:{number}", f"definition {number}", (Synonym(f"a {number}", "layperson"), Synonym(f"b {number}")))
        for number in range(count)
    ]


def test_the_choice_does_not_depend_on_the_order_of_the_file() -> None:
    terms = make_terms(20)
    shuffled = terms.copy()
    random.Random(7).shuffle(shuffled)
    assert select_rows(tuple(shuffled), SELECTION) == select_rows(tuple(terms), SELECTION)


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_the_choice_is_the_documented_one() -> None:
    order = sorted((f"HP:{number}" for number in range(20)), key=lambda name: digest(f"s:{name}"))
    chosen = select_rows(tuple(make_terms(20)), SELECTION)
    train, test = chosen["train"], chosen["test"]
    assert [row["id"] for row in test] == order[:3]
    assert [row["id"] for row in train] == order[3:9]
    for row in (*train, *test):
        number = row["id"].removeprefix("HP:")
        synonyms = (f"a {number}", f"b {number}")
        assert row["anchor"] == min(synonyms, key=lambda text: digest(f"s:{row['id']}:{text}"))
        assert row["positive"] == f"definition {number}"


def test_no_term_is_in_train_and_test_and_the_numbers_are_those_asked_for() -> None:
    chosen = select_rows(tuple(make_terms(9)), SELECTION)
    assert {part: len(rows) for part, rows in chosen.items()} == {"train": 6, "test": 3}
    assert len({row["id"] for rows in chosen.values() for row in rows}) == 9


def test_a_second_selection_skips_the_terms_of_the_first() -> None:
    terms = tuple(make_terms(20))
    first, second = select_rows(terms, SELECTION), select_rows(terms, SELECTION.replace(skip_terms=9))
    order = sorted((term.id for term in terms), key=lambda name: digest(f"s:{name}"))
    assert [row["id"] for row in second["test"]] == order[9:12]
    taken = [{row["id"] for rows in chosen.values() for row in rows} for chosen in (first, second)]
    assert not taken[0] & taken[1]


def test_terms_are_skipped_before_those_without_a_synonym_of_the_type() -> None:
    """Else the terms left out would not be those that a selection of all synonyms took."""
    plain = Synonym("plain")
    terms = tuple(term if int(term.id[3:]) % 2 else Term(term.id, "", (plain,)) for term in make_terms(40))
    chosen = select_rows(terms, Selection(salt="s", test_rows=3, skip_terms=9, synonym_type="layperson"))
    order = sorted((f"HP:{number}" for number in range(40)), key=lambda name: digest(f"s:{name}"))
    assert list(chosen) == ["test"]
    assert [row["id"] for row in chosen["test"]] == [name for name in order[9:] if int(name[3:]) % 2][:3]
    assert all(row["anchor"].startswith("a ") for row in chosen["test"])


def test_too_few_terms_with_a_synonym_of_the_type_are_an_error() -> None:
    with pytest.raises(DataError, match="has 0 usable terms, the selection asks for 9"):
        select_rows(tuple(make_terms(20)), SELECTION.replace(synonym_type="abbreviation"))


def test_another_salt_is_another_choice() -> None:
    terms = tuple(make_terms(20))
    assert select_rows(terms, SELECTION) != select_rows(terms, SELECTION.replace(salt="t"))


def test_too_few_terms_are_an_error_with_both_numbers() -> None:
    with pytest.raises(DataError, match="has 8 usable terms, the selection asks for 9"):
        select_rows(tuple(make_terms(8)), SELECTION)
