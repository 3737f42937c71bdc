"""Words for people: durations, sizes, and strangers' text made harmless to show."""

from __future__ import annotations

import re

MINUTE = 60
HOUR = 3600
KIBI = 1024
SMALL_P = 0.001
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


def clip(text: str, most: int) -> str:
    """Return at most so many characters of a text, with three dots where something was cut off."""
    return text if len(text) <= most else text[:most] + "..."


def quote(value: object, most: int = 80) -> str:
    """Return a stranger's value as Python spells it, cut where it is long."""
    try:
        spelt = repr(value)
    except ValueError:  # a whole number of more digits than Python turns into text
        spelt = f"a number of type {type(value).__name__} with very many digits"
    return clip(spelt, most)


def is_encodable(text: str) -> bool:
    """Say whether text is free of the lone surrogates that JSON and names of files let pass and UTF-8 does not."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def printable(text: str, *, keep: str = "", instead: str = " ") -> str:
    """Replace what is not shown: a stranger's words must not move the cursor, colour the screen or end the line.

    Args:
        text: anybody's words.
        keep: characters that stay though they are not printable, as a line end.
        instead: what stands in place of every other one.
    """
    return "".join(letter if letter.isprintable() or letter in keep else instead for letter in text)


def format_bytes(size: float) -> str:
    """Write a size with one decimal in the largest unit that it fills: ``12.0 B``, ``1.5 KiB``, ``2.0 GiB``."""
    for unit in ("B", "KiB", "MiB"):
        if size < KIBI:
            return f"{size:.1f} {unit}"
        size /= KIBI
    return f"{size:.1f} GiB"


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


def format_p(p_value: float) -> str:
    """Write a p-value with three decimals, or as below the smallest that these can tell."""
    return f"< {SMALL_P:g}" if p_value < SMALL_P else f"{p_value:.3f}"


def relate_p(p_value: float) -> str:
    """Write a p-value as it follows the letter p."""
    text = format_p(p_value)
    return text if text.startswith("<") else f"= {text}"
