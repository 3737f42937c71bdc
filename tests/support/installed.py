"""The harness as its users have it: built from a copy of this checkout's files and installed away from it."""

from __future__ import annotations

import os
import shutil
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parents[2]
# What a wheel and the action are made of.
PARTS = ("harness", "action", "action.yml", "pyproject.toml", "constraints.txt", "README.md", "LICENSE")


def copy_checkout(folder: Path) -> Path:
    """Copy what an installation needs; building in the checkout would leave files there, and take in older ones."""
    folder.mkdir(parents=True)
    for name in PARTS:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    return folder


def lend_packages(environment: Path) -> None:
    """Let a virtual environment find the packages of this one behind its own: torch again would take minutes.

    What is installed there goes first, and what this one has installed to be edited is not found: a .pth names folders,
    whose own .pth files nobody reads.
    """
    (packages,) = environment.glob("lib/python*/site-packages")
    (packages / "lent.pth").write_text(f"{sysconfig.get_path('purelib')}\n", encoding="utf-8")


def clean_environment(**variables: str) -> dict[str, str]:
    """Return this process's variables without this checkout's path and a runner's, and with some more."""
    gone = ("GITHUB_", "PYTHONPATH", "PYTEST_")
    return {name: value for name, value in os.environ.items() if not name.startswith(gone)} | variables
