"""What commands print: a stranger's words in it command neither a terminal nor a runner of workflows."""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress

from harness.core.text import clip, printable

# As GitHub's runner looks for commands: of two colons at the start of a line, blanks aside, of the others anywhere.
COMMANDS = ((re.compile(r"^\s*::"), "::", ": :"), (re.compile(r"##\["), "##[", "## ["))
MOST_CHARACTERS = 20_000


def guard(text: str) -> str:
    """Return one line of which nothing is carried out, whatever names of files and columns it quotes."""
    line = clip(printable(text, instead="?"), MOST_CHARACTERS)
    for pattern, command, harmless in COMMANDS:
        line = pattern.sub(lambda found, old=command, new=harmless: found[0].replace(old, new), line)  # type: ignore[misc]
    return line


def guard_lines(text: str) -> str:
    """Return lines, each of them guarded."""
    return "\n".join(map(guard, text.split("\n")))


def say(text: object) -> None:
    """Print one line of what was asked for."""
    print(guard(str(text)))


def complain(text: str) -> None:
    """Print to stderr what is no answer; where it takes nothing, the exit code alone says it.

    An error here would be one of Python's own, which ends with 1, and that is an answer.
    """
    if sys.stderr is None:
        return
    try:
        print(guard_lines(text), file=sys.stderr, flush=True)
    except OSError:
        with suppress(OSError, ValueError):
            # What is left to write would fail once more as Python ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
