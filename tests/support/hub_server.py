"""A Hugging Face Hub of our own on 127.0.0.1, which the real clients download from and push to.

No package does both, so this is the smallest server that `huggingface_hub`, `datasets` and `sentence-transformers`
accept: folders as repositories at given commits, and commits taken (create, preupload, LFS upload, commit). Files are
sent the plain way: the xet protocol is neither offered nor understood, which `hub_environment` tells the client.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.hub_answers import Hub
from tests.support.hub_faults import Fault, Faults
from tests.support.hub_protocol import Host
from tests.support.hub_repository import LFS_BYTES, Commit, HubRepository, Kind
from tests.support.hub_sockets import Listener, LoggedRequest

__all__ = ["Fault", "Faults", "HubRepository", "HubServer", "LoggedRequest", "hub_environment"]

_INHERITED = (
    "PATH",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "HOME",
    "LD_LIBRARY_PATH",
    "PYTHONPATH",
    "VIRTUAL_ENV",
    "OMP_NUM_THREADS",
)


class HubServer:
    """Serves `repositories`, oldest commit first, while its context lasts; the last of each id is its `main`.

    Args:
        repositories: what is there from the beginning.
        token: if given, needed for writing and for private repositories.
        user: whose token that is, and the owner of repositories made without one.
        faults: what goes wrong; `server.faults.add(...)` orders more.
        lfs_bytes: files above this size are LFS objects, whatever their name.

    Raises:
        ValueError: a folder is missing or holds a link that leads out of it, or a commit comes twice.
    """

    def __init__(
        self,
        repositories: Iterable[HubRepository] = (),
        *,
        token: str | None = None,
        user: str = "tester",
        faults: Faults | None = None,
        lfs_bytes: int = LFS_BYTES,
    ) -> None:
        self.faults = faults or Faults()
        self._objects = tempfile.TemporaryDirectory(prefix="hub-objects-")
        self._hub = Hub(Path(self._objects.name), token=token, user=user, lfs_bytes=lfs_bytes)
        self._log: list[LoggedRequest] = []
        self._closing = threading.Event()
        self._listeners: dict[Host, Listener] = {}
        try:
            for repository in repositories:
                self._hub.add(repository)
        except ValueError:
            self._objects.cleanup()
            raise

    def __enter__(self) -> Self:
        hosts: tuple[Host, ...] = ("hub", "cdn")
        for host in hosts:
            listener = Listener(host, self._hub, self.faults, self._log, self._closing)
            self._listeners[host] = listener
            self._hub.urls[host] = f"http://127.0.0.1:{listener.server_address[1]}"
            threading.Thread(target=listener.serve_forever, args=(0.05,), name=f"hub-{host}", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        for listener in self._listeners.values():
            listener.shutdown()
            listener.server_close()
        self._objects.cleanup()

    @property
    def url(self) -> str:
        """The endpoint, for `HF_ENDPOINT`."""
        return self._hub.urls["hub"]

    @property
    def cdn_url(self) -> str:
        """Where large files come from."""
        return self._hub.urls["cdn"]

    @property
    def requests(self) -> tuple[LoggedRequest, ...]:
        """All requests so far, in the order of their answers."""
        return tuple(self._log)

    def move(self, repo_id: str, commit: str, folder: Path, *, kind: Kind = "model", private: bool = False) -> Commit:
        """Move `main` of a repository to a new commit with the files of `folder`; the older ones stay."""
        return self._hub.add(HubRepository(kind, repo_id, commit, folder, private))

    def commits(self, repo_id: str, *, kind: Kind = "model") -> tuple[Commit, ...]:
        """List the commits of a repository, oldest first; none where there is no repository.

        One made by a client begins, as on the Hub, with an "initial commit" of `.gitattributes`.
        """
        history = self._hub.histories.get((kind, repo_id))
        return tuple(history.commits) if history else ()

    def is_private(self, repo_id: str, *, kind: Kind = "model") -> bool:
        """Tell whether a repository, which must exist, is private."""
        return self._hub.histories[kind, repo_id].private

    def files(self, repo_id: str, revision: str = "main", *, kind: Kind = "model") -> dict[str, bytes]:
        """Read all files of a repository at a revision.

        Raises:
            KeyError: there is no such repository or revision.
        """
        commit = self._hub.histories[kind, repo_id].find(revision)
        if commit is None:
            raise KeyError(f"{repo_id} has no revision {revision}")
        return {path: blob.source.read_bytes() for path, blob in commit.files.items()}


def hub_environment(server: HubServer, cache: Path, *, token: str | None = None) -> dict[str, str]:
    """Make the whole environment of a child process that speaks to `server` and keeps its files in `cache`.

    The endpoint is read when `huggingface_hub` is imported, hence a child process. Nothing of the caller's own
    Hub settings, tokens or proxies is passed on.
    """
    kept = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    ours = {
        "HF_ENDPOINT": server.url,
        "HF_HOME": str(cache),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
        "NO_PROXY": "127.0.0.1",  # some systems name a proxy outside the environment
        "no_proxy": "127.0.0.1",
    }
    return kept | ours | ({"HF_TOKEN": token} if token else {})
