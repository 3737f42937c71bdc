"""TOML of anybody's, parsed in bounded room: the standard parser's grows with the square of a key's parts."""

from __future__ import annotations

import re
import tomllib
from typing import Any

from harness.errors import HarnessError

# Of a dotted key or a table's name: ours have five at most. 60 KB of one key took 3.5 GB.
MOST_PARTS = 16
PART = r"""(?:[A-Za-z0-9_-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+"""
LONG_KEY = re.compile(rf"(?<![A-Za-z0-9_-]){PART}(?:\.[ \t]*+{PART}){{{MOST_PARTS}}}")


def parse_toml(text: str, *, place: str, error: type[HarnessError]) -> dict[str, Any]:
    """Parse TOML.

    Args:
        text: what a file holds.
        place: the file, for messages.
        error: the kind of error to raise.

    Raises:
        HarnessError: of type ``error``: it is no TOML, nested too deeply, or has a key of more than 16 parts.
    """
    found = LONG_KEY.search(text)
    if found is not None:
        line = text.count("\n", 0, found.start()) + 1
        raise error(f"{place}: line {line}: a key of more than {MOST_PARTS} parts with dots between")
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as cause:  # a number of too many digits is a plain ValueError
        raise error(f"{place}: not valid TOML: {cause}") from cause
