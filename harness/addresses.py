"""Addresses are taken out of other programs' messages: they name private hosts, and may hold a password."""

from __future__ import annotations

import re

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
