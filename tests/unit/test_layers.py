"""Imports point one way through the library, and what needs no torch starts without it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

HARNESS = Path(__file__).parents[2] / "harness"

# A module imports only what stands before it. A new module goes behind all it imports, beside those of its kind.
LAYERS = re.findall(
    r"\w+",
    """
    errors text files columns schema measure sums
    material experiment trial environment run qrels lock record history
    wheels hub_client hub intake sources parcel drift
    ontology dataset texts evidence
    dropout attention packing device encoder grouping shortlist retrieval
    measures store meter trainer event_files checkpoints training
    stages progress pipeline selection
    statistics permutation equivalence shelf policy repeats change cells costs verdict gate reference
    palette charts report findings gate_findings assessment
    pictures markdown html junit github terminal bundle examples fact_tables gallery gate_report
    inventory needs doctor proof prove faults reference_report review summary_tables value_tables
    experiment_report card publish results pytest_plugin verify evidence_commands hub_commands cli
    """,
)

# torch and what brings it; only these modules may import it, and only those that are all torch do so at their head.
HEAVY = {"torch", "sentence_transformers", "transformers"}
KNOW_TORCH = {
    "attention",
    "device",
    "dropout",
    "encoder",
    "grouping",
    "packing",
    "retrieval",
    "shortlist",
    "trainer",
    "training",
}
ARE_TORCH = {"attention", "dropout", "grouping", "packing", "trainer"}
# A second of start-up each, so never at a module's head.
SLOW = {"datasets", "huggingface_hub", "matplotlib", "pandas", "tensorboard"}
CPU_SECONDS = 1.0

MODULES = sorted(path.stem for path in HARNESS.glob("*.py") if path.stem != "__init__")


@cache
def list_imports(module: str, *, head_only: bool = False) -> tuple[str, ...]:
    """Return the dotted names a module imports, save those for type checkers."""
    return tuple(_find_imports(module, head_only=head_only))


def _find_imports(module: str, *, head_only: bool) -> Iterator[str]:
    for node in _walk(_parse(module), head_only=head_only):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                yield f"relative:{node.module}"
            elif node.module == "harness":
                yield from (f"harness.{name.name}" for name in node.names)
            else:
                yield node.module or ""


def list_packages(module: str, *, head_only: bool = False) -> set[str]:
    """Return the packages a module imports from."""
    return {name.split(".")[0] for name in list_imports(module, head_only=head_only)}


def list_own(module: str) -> set[str]:
    """Return the modules of the library that a module imports at its head."""
    return {name.split(".")[1] for name in list_imports(module, head_only=True) if name.startswith("harness.")}


@cache
def _parse(module: str) -> ast.Module:
    return ast.parse((HARNESS / f"{module}.py").read_text(encoding="utf-8"))


def _walk(node: ast.AST, *, head_only: bool) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.stmt | ast.excepthandler | ast.match_case):
            continue
        if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            continue
        if head_only and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        yield child
        yield from _walk(child, head_only=head_only)


def test_every_module_stands_in_the_list_once() -> None:
    assert sorted(LAYERS) == MODULES


def test_a_module_imports_only_what_stands_before_it() -> None:
    wrong = [
        f"{module} imports {name}"
        for place, module in enumerate(LAYERS)
        for name in list_imports(module)
        if name.startswith("harness.") and name.split(".")[1] not in LAYERS[:place]
    ]
    assert wrong == []


def test_no_import_is_relative() -> None:
    assert [name for module in MODULES for name in list_imports(module) if name.startswith("relative:")] == []


def test_torch_is_known_to_few_modules_and_loaded_by_fewer() -> None:
    know = {module for module in MODULES if list_packages(module) & HEAVY}
    load = {module for module in MODULES if list_packages(module, head_only=True) & HEAVY}
    assert know - KNOW_TORCH == set()
    assert load - ARE_TORCH == set()


def test_what_takes_long_to_load_is_imported_where_it_is_used() -> None:
    wrong = {
        module: sorted(slow)
        for module in MODULES
        if (slow := list_packages(module, head_only=True) & SLOW)
        or (module not in KNOW_TORCH and (slow := list_own(module) & ARE_TORCH))
    }
    assert wrong == {}


COMMAND = """
import sys, time
from harness.cli.main import main
try:
    main(["--help"])
except SystemExit as error:
    assert error.code == 0, error.code
print(sorted(name for name in sys.argv[1:] if name in sys.modules), time.process_time(), file=sys.stderr)
"""


def test_help_is_shown_without_what_takes_long_to_load() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", COMMAND, *sorted(HEAVY | SLOW)], capture_output=True, text=True, check=True
    )
    loaded, seconds = ended.stderr.splitlines()[-1].rsplit(maxsplit=1)
    assert loaded == "[]"
    # Of the processor, not of the wall, so that a busy machine does not matter.
    assert float(seconds) < CPU_SECONDS
