"""The README's numbers are those of the committed results, and it stays short."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
LONGEST = 130


def test_the_readme_shows_the_table_that_the_records_gave() -> None:
    text = README.read_text(encoding="utf-8")
    block = text.partition("<!-- results -->")[2].partition("<!-- /results -->")[0]
    generated = _find_tables((ROOT / "results" / "bioasq-rebuilt.md").read_text(encoding="utf-8"))
    assert _find_tables(block) == generated[:1]


def test_the_readme_shows_the_comparison_that_the_records_gave() -> None:
    text = README.read_text(encoding="utf-8")
    block = text.partition("<!-- ablation -->")[2].partition("<!-- /ablation -->")[0]
    page = (ROOT / "results" / "hpo-ablation.md").read_text(encoding="utf-8").partition("## Comparisons")[2]
    assert _find_tables(block) == _find_tables(page)[:1]


def test_the_readme_is_short_and_has_the_command_that_ci_runs() -> None:
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) < LONGEST
    for session in ("reproduce", "tests"):
        assert f"$ python3 -m pip install nox && python3 -m nox -s {session}\n" in text
    assert "python3 -m pip install nox && python3 -m nox -s tests" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def _find_tables(text: str) -> list[str]:
    return re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)
