"""The hub gives snapshots at commits, the hashes that it lists, and the commit that a branch is at."""

from __future__ import annotations

import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from harness.experiment.data import COMMIT
from harness.sources.hub_client import call_hub

Kind = Literal["dataset", "model"]

CHECK_SECONDS = 5
WITHOUT_HUB = (
    "; without the hub: experiment hpo needs none, bioasq-rebuilt only its data folder, and `harness fetch` on a "
    "machine that reaches the hub makes a folder to run from"
)


def download_snapshot(
    repository: str, revision: str, kind: Kind, *, wanted: Sequence[str], unwanted: Sequence[str]
) -> Path:
    """Bring the wanted files of a commit into the hub's cache and return the snapshot's folder.

    Raises:
        SourceError: they cannot be had; says why.
    """
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - most commands never ask the hub

    def act() -> Path:
        folder = snapshot_download(
            repository,
            repo_type=kind,
            revision=revision,
            allow_patterns=list(wanted),
            ignore_patterns=list(unwanted),
        )
        return Path(folder)

    return call_hub(name_commit(repository, revision), act, advice=WITHOUT_HUB)


def download_again(repository: str, revision: str, kind: Kind, names: Sequence[str]) -> None:
    """Put fresh copies of some files into the hub's cache: the client never looks at those it has.

    Raises:
        SourceError: they cannot be had; says why.
    """
    from huggingface_hub import hf_hub_download  # noqa: PLC0415 - see download_snapshot

    for name in names:

        def act(name: str = name) -> str:
            return str(
                hf_hub_download(repository, name, repo_type=kind, revision=revision, force_download=True),
            )

        call_hub(name_commit(repository, revision), act)


def find_head(repository: str, kind: Kind) -> str:
    """Return the commit that a repository's main branch is at.

    Raises:
        SourceError: the hub does not say; says why.
    """
    from huggingface_hub import HfApi  # noqa: PLC0415 - see download_snapshot

    def act() -> str:
        head = HfApi().repo_info(repository, repo_type=kind).sha
        if not isinstance(head, str) or not COMMIT.fullmatch(head):
            raise TypeError(f"main is at {head!r}, expected a commit")
        return head

    return call_hub(f"hub {repository} @ main", act)


def list_hashes(repository: str, revision: str, kind: Kind) -> dict[str, str]:
    """Return path -> hash as the hub lists it: the SHA-256 of a large file, git's SHA-1 of a small one.

    Raises:
        SourceError: the hub does not say; says why.
    """
    from huggingface_hub import HfApi  # noqa: PLC0415 - see download_snapshot
    from huggingface_hub.hf_api import RepoFile  # noqa: PLC0415

    def act() -> dict[str, str]:
        entries = HfApi().list_repo_tree(repository, revision=revision, repo_type=kind, recursive=True)
        files = [entry for entry in entries if isinstance(entry, RepoFile)]
        hashes = {file.path: file.lfs.sha256 if file.lfs else file.blob_id for file in files}
        wrong = next((one for pair in hashes.items() for one in pair if not isinstance(one, str)), None)
        if wrong is not None:
            raise TypeError(f"found {wrong!r} in a listing of paths and hashes")
        return hashes

    return call_hub(name_commit(repository, revision), act, tries=1)


def name_commit(repository: str, revision: str) -> str:
    """Name a commit in a message."""
    return f"hub {repository} @ {revision[:12]}"


def is_offline() -> bool:
    """Say whether the user forbids the hub (HF_HUB_OFFLINE, TRANSFORMERS_OFFLINE)."""
    from huggingface_hub import constants  # noqa: PLC0415 - see download_snapshot

    return constants.is_offline_mode()


class _NoRedirection(urllib.request.HTTPRedirectHandler):
    """Takes a redirection for the answer that it is: the next one may be of any size, and is read whole."""

    def redirect_request(self, *_: object, **__: object) -> None:
        """Make no further request."""


def is_hub_reachable() -> bool:
    """Ask the hub for a page, once and briefly; any answer counts. Nobody is asked where HF_HUB_OFFLINE is set."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        return False
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    try:
        request = urllib.request.Request(f"{endpoint}/api/models?limit=1", method="HEAD")  # noqa: S310 - fixed scheme
        with urllib.request.build_opener(_NoRedirection()).open(request, timeout=CHECK_SECONDS):
            return True
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError, http.client.HTTPException):
        return False
