"""The project's own prose: its pages, and the commands that they show."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").glob("*/*.md")])


@dataclass(frozen=True)
class Shown:
    """A command in a console block, and the output below it, if any is shown."""

    page: Path
    command: str
    output: str

    @property
    def arguments(self) -> list[str]:
        """The command as a shell takes it apart, without a comment."""
        return shlex.split(self.command, comments=True)


def list_commands(page: Path) -> Iterator[Shown]:
    """Find what a page shows to be typed."""
    text = page.read_text(encoding="utf-8")
    for block in re.findall(r"^```console\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            yield Shown(page, command, output)
