"""Requests to the test Hub and its answers, free of sockets."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Host = Literal["hub", "cdn"]
"""Large files come from a second host, as on the real Hub, where the client must not send its token."""


@dataclass(frozen=True)
class Request:
    """A request as it came: `path` quoted and without its query, names of `headers` small, `chunks` the body."""

    host: Host
    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    chunks: Iterator[bytes]

    def read(self) -> bytes:
        """Read the whole body."""
        return b"".join(self.chunks)


@dataclass(frozen=True)
class Answer:
    """Status, headers and either bytes or a file, of which a client may ask a range."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    file: Path | None = None


class Refusal(Exception):  # noqa: N818 - the word of the protocol
    """A request that the Hub turns down; `code` and `message` travel in headers that the client reads."""

    def __init__(self, status: int, message: str, *, code: str = "", headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.headers = status, message, code, headers or {}

    def answer(self) -> Answer:
        """Say it the way the Hub does."""
        headers = {**self.headers, "X-Error-Message": self.message}
        if self.code:
            headers["X-Error-Code"] = self.code
        return json_answer({"error": self.message}, status=self.status, headers=headers)


@dataclass(frozen=True)
class Route:
    """Which requests a function answers, and whether they need leave to write."""

    host: Host
    methods: frozenset[str]
    pattern: re.Pattern[str]
    answer: Callable[[Request, re.Match[str]], Answer]
    writes: bool


def route(
    methods: str,
    pattern: str,
    answer: Callable[[Request, re.Match[str]], Answer],
    *,
    host: Host = "hub",
    writes: bool = False,
) -> Route:
    """Make a route of methods, separated by spaces, and the pattern of a whole quoted path."""
    return Route(host, frozenset(methods.split()), re.compile(pattern), answer, writes)


def json_answer(content: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """Answer with JSON."""
    return Answer(status, {"Content-Type": "application/json", **(headers or {})}, json.dumps(content).encode())
