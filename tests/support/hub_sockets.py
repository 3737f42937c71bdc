"""The sockets of the test Hub: HTTP/1.1 with ranges, a log of requests, and faults where they are ordered."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

from tests.support.hub_answers import Hub
from tests.support.hub_faults import Fault, Faults
from tests.support.hub_protocol import Answer, Host, Request

_CHUNK = 64 * 1024


@dataclass(frozen=True)
class LoggedRequest:
    """A request that was answered; of a token only that one was sent. `proxied` tells that we were its proxy."""

    host: Host
    method: str
    path: str
    status: int
    range: str | None
    sent_token: bool
    proxied: bool


class Listener(ThreadingHTTPServer):
    """One of the two hosts, on a port of 127.0.0.1 that the system picks."""

    daemon_threads = True  # a client's idle connection must not hold up the end

    def __init__(
        self, host: Host, hub: Hub, faults: Faults, log: list[LoggedRequest], closing: threading.Event
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.host, self.hub, self.faults, self.log, self.closing = host, hub, faults, log, closing


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Listener

    def do_GET(self) -> None:
        request = self._request()
        shown = unquote(request.path)
        fault = self.server.faults.take(self.command, shown)
        if fault and fault.delay_seconds:
            self.server.closing.wait(fault.delay_seconds)
        answer = _refuse(fault) if fault and fault.status else self.server.hub.answer(request)
        for _ in request.chunks:  # what was not read would be taken for the next request
            pass
        content = fault.body if fault and not fault.status else None
        size = _size(answer) if content is None else len(content)
        status, first, last = answer.status, 0, size - 1
        wanted = self.headers.get("Range")
        if wanted and answer.file and content is None:
            first, last = _parse_range(wanted, size)
            status = 206 if first <= last else 416
        sent_token, proxied = "Authorization" in self.headers, self.path.startswith("http:")
        self.server.log.append(LoggedRequest(request.host, self.command, shown, status, wanted, sent_token, proxied))
        self.send_response(status)
        for name, value in {**answer.headers, **(fault.headers if fault and not fault.status else {})}.items():
            self.send_header(name, value)
        if status in {206, 416}:
            self.send_header("Content-Range", f"bytes {f'{first}-{last}' if status == 206 else '*'}/{size}")
        self.send_header("Content-Length", str(max(last + 1 - first, 0)))
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()
        if self.command != "HEAD":
            chunks = iter([content]) if content is not None else _chunks(answer, first, last)
            self._send(chunks, first, fault)

    do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815 - named by http.server

    def _request(self) -> Request:
        """Read a request; one for a proxy names the host in its target, and then we are the proxy."""
        target, host = urlsplit(self.path), self.server.host
        if target.netloc:
            host = "cdn" if self.server.hub.urls["cdn"].endswith(f"//{target.netloc}") else "hub"
        headers = {name.lower(): value for name, value in self.headers.items()}
        fields = parse_qs(target.query, keep_blank_values=True)
        return Request(host, self.command, target.path, fields, headers, self._read())

    def _send(self, chunks: Iterator[bytes], offset: int, fault: Fault | None) -> None:
        left = fault.cut_after if fault else None
        for chunk in _trickle(chunks, fault):
            whole = bytearray(chunk)
            if fault and fault.flip_at is not None and offset <= fault.flip_at < offset + len(whole):
                whole[fault.flip_at - offset] ^= 1
            self.wfile.write(whole if left is None else whole[:left])
            offset += len(whole)
            if left is not None:
                left -= len(whole)
                if left <= 0:
                    self._cut(reset=bool(fault and fault.reset))
                    return
            if fault and fault.bytes_per_second and self.server.closing.wait(len(whole) / fault.bytes_per_second):
                return

    def _cut(self, *, reset: bool) -> None:
        self.close_connection = True
        if reset:
            time.sleep(0.05)  # what was sent before must arrive first
            # With no time to linger, closing sends RST; http.server's own way of closing would send FIN.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            os.close(self.connection.detach())

    def _read(self) -> Iterator[bytes]:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while size := int(self.rfile.readline().split(b";")[0], 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return
        left = int(self.headers.get("Content-Length", 0))
        while left > 0 and (chunk := self.rfile.read(min(left, _CHUNK))):
            left -= len(chunk)
            yield chunk

    def handle_one_request(self) -> None:
        """Answer one request; a client that goes away in the middle is no error."""
        try:
            super().handle_one_request()
        except ConnectionError:
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - named by http.server
        """Say nothing: the log is `HubServer.requests`."""


def _refuse(fault: Fault) -> Answer:
    headers = dict(fault.headers)
    if fault.retry_after is not None:
        headers["Retry-After"] = str(fault.retry_after)
    return Answer(fault.status or 500, headers, fault.body or b'{"error": "a fault of the test Hub"}')


def _size(answer: Answer) -> int:
    return answer.file.stat().st_size if answer.file else len(answer.body)


def _parse_range(wanted: str, size: int) -> tuple[int, int]:
    """Read `bytes=first-last`, both inclusive and either absent; an empty range cannot be satisfied."""
    first, _, last = wanted.removeprefix("bytes=").partition("-")
    if not first:
        return max(size - int(last), 0), size - 1
    return int(first), min(int(last), size - 1) if last else size - 1


def _chunks(answer: Answer, first: int, last: int) -> Iterator[bytes]:
    if answer.file is None:
        yield answer.body
        return
    with answer.file.open("rb") as stream:
        stream.seek(first)
        while first <= last and (chunk := stream.read(min(_CHUNK, last + 1 - first))):
            first += len(chunk)
            yield chunk


def _trickle(chunks: Iterator[bytes], fault: Fault | None) -> Iterator[bytes]:
    """Cut the chunks so small that they come ten times a second at the speed that the fault orders."""
    size = max(fault.bytes_per_second // 10, 1) if fault and fault.bytes_per_second else _CHUNK
    for chunk in chunks:
        for start in range(0, len(chunk), size):
            yield chunk[start : start + size]
