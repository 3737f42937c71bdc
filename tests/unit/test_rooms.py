"""What needs no torch starts without it: doors load nothing slow, and only the room of models loads torch at all.

That imports point one way between rooms is a contract in pyproject.toml, held by `nox -s lint`.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

HARNESS = Path(__file__).parents[2] / "harness"
ROOMS = sorted(path.parent.name for path in HARNESS.glob("*/__init__.py"))
MODULES = sorted(
    ".".join(path.relative_to(HARNESS.parent).with_suffix("").parts)
    for path in HARNESS.rglob("*.py")
    if path.name not in {"__init__.py", "__main__.py"}
)

# Importable with an extra only.
EXTRAS = {"harness.engines.ray_engine"}
# A second of start-up each, so never loaded before they are used.
SLOW = {"datasets", "huggingface_hub", "matplotlib", "pandas", "sentence_transformers", "tensorboard", "torch"}
CPU_SECONDS = 1.0


def list_loaded(code: str, packages: set[str]) -> list[str]:
    """Return which of some packages are loaded after the code ran in a process of its own."""
    show = f"import sys; {code}; print(*sorted(set(sys.modules) & {packages!r}))"
    ended = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True)
    return ended.stdout.split()


def test_no_door_loads_what_takes_long() -> None:
    assert list_loaded("; ".join(f"import harness.{room}" for room in ROOMS), SLOW) == []


@pytest.mark.parametrize("room", ["", *ROOMS])
def test_a_door_offers_a_few_names_that_are_there(room: str) -> None:
    door = import_module(f"harness.{room}".rstrip("."))
    offered = dir(door)
    assert offered == sorted(_read_names(Path(str(door.__file__))))
    assert 1 <= len(offered) <= 10
    missing = [name for name in offered if room != "models" and getattr(door, name, None) is None]
    assert missing == []
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        door.nothing  # noqa: B018 - asking is the point


def _read_names(path: Path) -> list[str]:
    """Return the names that a door tells type checkers of."""
    (block,) = [node for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.If)]
    return [name.name for node in block.body if isinstance(node, ast.ImportFrom) for name in node.names]


def test_only_the_room_of_models_loads_torch() -> None:
    modules = [name for name in MODULES if not name.startswith("harness.models.") and name not in EXTRAS]
    assert list_loaded("; ".join(f"import {name}" for name in modules), SLOW) == []


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("harness.gate.")])
def test_the_gate_loads_no_statistics_of_scipy(module: str) -> None:
    assert list_loaded(f"import {module}", {"scipy.stats"}) == []


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
    ended = subprocess.run([sys.executable, "-c", COMMAND, *sorted(SLOW)], capture_output=True, text=True, check=True)
    loaded, seconds = ended.stderr.splitlines()[-1].rsplit(maxsplit=1)
    assert loaded == "[]"
    # Of the processor, not of the wall, so that a busy machine does not matter.
    assert float(seconds) < CPU_SECONDS
