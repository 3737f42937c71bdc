"""Sums are the SHA-256 list of a results folder's evidence, so that no bit of a record changes unseen."""

from __future__ import annotations

from pathlib import Path

from harness.core.files import hash_file

SUMS_FILE = "SHA256SUMS"
EVIDENCE = ("records", "runs")


def render_sums(results: Path) -> str:
    """List every file below ``records`` and ``runs`` with its SHA-256, as ``sha256sum --check`` reads it.

    Raises:
        SourceError: a file cannot be read.
    """
    paths = sorted(
        path
        for folder in EVIDENCE
        for path in (results / folder).rglob("*")
        if path.is_file() and not path.name.startswith(".")
    )
    lines = (f"{hash_file(path)}  {path.relative_to(results).as_posix()}\n" for path in paths)
    return "".join(lines)
