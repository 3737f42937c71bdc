"""The README's numbers are those of the committed results."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("experiment", ["bioasq-rebuilt", "hpo"])
def test_the_readme_shows_the_table_that_the_records_gave(experiment: str) -> None:
    shown = _find_tables((ROOT / "README.md").read_text(encoding="utf-8"))
    generated = _find_tables((ROOT / "results" / f"{experiment}.md").read_text(encoding="utf-8"))
    assert generated[0] in shown


def test_every_file_that_the_readme_links_to_is_there() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def _find_tables(text: str) -> list[str]:
    return re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)
