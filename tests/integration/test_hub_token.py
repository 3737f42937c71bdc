"""The token is shown to the hub, and to no other host that an answer of the hub names."""

from __future__ import annotations

import os
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

from tests.support.hub_child import CANARY, run_child

LIST_FILES = """
from huggingface_hub import HfApi
from harness.sources.hub_client import call_hub
print(json.dumps(call_hub("a list", lambda: [one.path for one in HfApi().list_repo_tree("user/m", revision="a" * 40)])))
"""


class Recorder(HTTPServer):
    """A host that answers every request with an empty answer and remembers what it was shown."""

    def __init__(self, following: str | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.following, self.shown = following, list[str | None]()
        Thread(target=self.serve_forever, daemon=True).start()


class _Answer(BaseHTTPRequestHandler):
    server: Recorder

    def do_GET(self) -> None:
        self.server.shown.append(self.headers["Authorization"])
        content = b"[]" if "/tree/" in self.path or self.path == "/next" else b"{}"
        self.send_response(200)
        if self.server.following is not None:
            self.send_header("Link", f'<{self.server.following}>; rel="next"')
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in the library
        """Say nothing."""


def test_the_next_page_at_another_host_is_asked_for_without_the_token(tmp_path: Path) -> None:
    with Recorder() as other, Recorder(f"http://127.0.0.1:{other.server_port}/next") as hub:
        endpoint = f"http://127.0.0.1:{hub.server_port}"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        given = {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path), "HF_TOKEN": CANARY, "NO_PROXY": "127.0.0.1"}
        assert run_child(environment, LIST_FILES, **given) == []
        hub.shutdown()
        other.shutdown()
    assert f"Bearer {CANARY}" in hub.shown
    assert set(other.shown) == {None}
