"""Faults that the test Hub commits on order, so that failures of the network can be tested one by one."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase


@dataclass(frozen=True)
class Fault:
    """What goes wrong with requests whose path (without the query) matches the pattern `path`.

    A file of a repository is asked for at `/user/name/resolve/COMMIT/FILE` (data sets: `/datasets/user/...`); large
    ones are then sent from `/cdn/SHA256/FILE` of the second host, so `*/FILE` means both.

    Attributes:
        path: shell pattern of the paths.
        method: only this method; by default any, except that faults of a body spare HEAD, which has none.
        times: how many requests are hit; None means all.
        status: answer with this status instead; a 3xx, 4xx or 5xx.
        headers: sent too, for instance `X-Error-Code: GatedRepo`.
        retry_after: seconds, sent as `Retry-After`.
        body: send these bytes instead of the right ones, whatever was announced.
        flip_at: offset in the file of a byte sent with its lowest bit flipped.
        cut_after: close the connection after so many bytes of the body.
        reset: close it with RST, as a crashed peer or a firewall does, rather than with FIN.
        delay_seconds: wait before the answer begins.
        bytes_per_second: trickle the body.
    """

    path: str
    method: str | None = None
    times: int | None = 1
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    retry_after: int | None = None
    body: bytes | None = None
    flip_at: int | None = None
    cut_after: int | None = None
    reset: bool = False
    delay_seconds: float = 0.0
    bytes_per_second: int | None = None

    def matches(self, method: str, path: str) -> bool:
        """Tell whether this fault hits a request."""
        of_body = any(value is not None for value in (self.body, self.flip_at, self.cut_after, self.bytes_per_second))
        if self.method is None and self.status is None and of_body and method == "HEAD":
            return False
        return self.method in {None, method} and fnmatchcase(path, self.path)


class Faults:
    """Faults still to be committed; the first that matches a request hits it."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self._lock = threading.Lock()
        self._left = [(fault, fault.times) for fault in faults]

    def add(self, *faults: Fault) -> None:
        """Order more faults, after those ordered before."""
        with self._lock:
            self._left.extend((fault, fault.times) for fault in faults)

    def clear(self) -> None:
        """Commit no more faults."""
        with self._lock:
            self._left.clear()

    def take(self, method: str, path: str) -> Fault | None:
        """Return the fault that hits this request, counting it."""
        with self._lock:
            for place, (fault, times) in enumerate(self._left):
                if fault.matches(method, path):
                    if times == 1:
                        del self._left[place]
                    elif times is not None:
                        self._left[place] = (fault, times - 1)
                    return fault
        return None
