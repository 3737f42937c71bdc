"""The docs name every key of manifest and policy, link to what is there, and show commands that there are."""

from __future__ import annotations

import re
import typing
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from harness.cli.main import make_parser
from harness.core.schema import Frozen
from harness.experiment.manifest import Experiment
from harness.gate.policy import Policy
from tests.support.docs import PAGES, ROOT, Shown, list_commands

KEYS = re.compile(r"^<!-- keys: (\w+) -->\n((?:^\|.*\n)+)", flags=re.MULTILINE)
COMMANDS = [shown for page in PAGES for shown in list_commands(page) if shown.arguments[0] == "harness"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_a_page_links_to_is_there(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize(("page", "root"), [("manifest.md", Experiment), ("policy.md", Policy)])
def test_a_page_has_a_table_for_every_part_with_every_key_and_default(page: str, root: type[Frozen]) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    said = {name: _read_rows(rows) for name, rows in KEYS.findall(text)}
    parts = _reach(root)
    assert set(said) == {part.__name__ for part in parts}
    for part in parts:
        assert said[part.__name__] == {key: _word_default(info) for key, info in part.model_fields.items()}


def test_a_shown_command_is_one_that_there_is() -> None:
    assert len(COMMANDS) > 10


@pytest.mark.parametrize("shown", COMMANDS, ids=[shown.command for shown in COMMANDS])
def test_the_parser_takes_a_shown_command(shown: Shown) -> None:
    own = shown.arguments[1:]
    make_parser().parse_args(own[: own.index("--")] if "--" in own else own)


def _read_rows(rows: str) -> dict[str, str]:
    """Return key -> default of a table, in the table's own words."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in rows.splitlines()[2:]]
    return {key.strip("`"): default.strip("`") for key, _, default, *_ in cells}


def _reach(root: type[Frozen]) -> list[type[Frozen]]:
    """Return a model and every other one that its fields can hold."""
    found = [root]
    for model in found:
        for info in model.model_fields.values():
            found += [one for one in _list_models(info.annotation) if one not in found]
    return found


def _list_models(annotation: Any) -> list[type[Frozen]]:
    if isinstance(annotation, type) and issubclass(annotation, Frozen):
        return [annotation]
    return list(dict.fromkeys(one for part in typing.get_args(annotation) for one in _list_models(part)))


def _word_default(info: FieldInfo) -> str:
    default = info.get_default(call_default_factory=True, validated_data={})
    if info.is_required():
        return "required"
    if isinstance(default, BaseModel) and all(not one.is_required() for one in type(default).model_fields.values()):
        return "see below"
    if isinstance(default, BaseModel):
        return "{ " + ", ".join(f"{key} = {value}" for key, value in default.model_dump().items()) + " }"
    if default is None or default in ((), {}):
        return "none"
    return str(default).lower() if isinstance(default, bool) else str(default)


def test_the_error_rates_that_the_docs_state_are_those_of_the_simulation() -> None:
    """In docs/verdicts.md; the braces, of an effect common to all queries of a seed, are included."""
    text = (ROOT / "results" / "calibration.md").read_text(encoding="utf-8")
    gate, given, golden, verdicts = (_read_simulated(section) for section in text.split("\n## ")[1:5])
    assert max(max(row["false alarm"]) for row in (*gate, *golden)) < 0.02
    wide = [row for row in gate if [*row["queries"], *row["seeds"]] == [707, 3, 3]]
    assert min(min(row["found 0.01"]) for row in wide) > 0.85
    assert (
        max(max(row["of 300 references, those that fail more than 5 % of unchanged pipelines"]) for row in given) < 0.08
    )
    assert max(max(row["reproduced at the margin"]) for row in verdicts) < 0.08
    assert max(max(row["denied if equal"]) for row in verdicts) < 0.02


def _read_simulated(section: str) -> list[dict[str, tuple[float, ...]]]:
    """Return the rows of a section's table, each cell as the numbers in it."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    return [
        {name: tuple(map(float, re.findall(r"[0-9.]+", cell))) for name, cell in zip(lines[0], row, strict=True)}
        for row in lines[2:]
    ]


def test_the_policy_page_shows_the_tests_own_policy() -> None:
    policy = (ROOT / "tests" / "data" / "gate" / "seeds.toml").read_text(encoding="utf-8")
    assert f"```toml\n{policy}```\n" in (ROOT / "docs" / "policy.md").read_text(encoding="utf-8")
