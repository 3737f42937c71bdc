"""Words for people: durations, sizes, and strangers' text made harmless to show."""

from __future__ import annotations

import re

MINUTE = 60
HOUR = 3600
# Addresses name private hosts, and may hold a password.
# Whole addresses, then what urllib3 and pip write of one: host='...', url: /path, and numeric hosts.
PATTERNS = (
    re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://[^\s'\"<>]+"),
    re.compile(r"(?<=host=)'[^']*'|(?<=host=)\"[^\"]*\""),
    re.compile(r"(?<=url: )\S+"),
    re.compile(r"\b[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?::[0-9]+)?\b"),
)
STRIPPED = "<address>"


def strip_addresses(text: str) -> str:
    """Return a message without the addresses in it."""
    for pattern in PATTERNS:
        text = pattern.sub(STRIPPED, text)
    return text


def format_seconds(seconds: float) -> str:
    """Write a duration as people say it: ``0.4 s``, ``37 s``, ``5 min 3 s``, ``2 h 5 min``."""
    if seconds < 9.95:  # noqa: PLR2004 - one decimal while it says something
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < MINUTE:
        return f"{whole} s"
    if whole < HOUR:
        return f"{whole // MINUTE} min {whole % MINUTE} s"
    return f"{whole // HOUR} h {whole % HOUR // MINUTE} min"
