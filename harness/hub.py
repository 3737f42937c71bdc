"""The hub's client, made to give up in time and to say why: snapshots at commits, hashes, heads of branches."""

from __future__ import annotations

import errno
import http.client
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from harness.addresses import strip_addresses
from harness.errors import HarnessError, SourceError

if TYPE_CHECKING:
    from huggingface_hub.utils import httpx

Kind = Literal["dataset", "model"]
Answer = TypeVar("Answer")

# The client tries most calls six times itself; these are for what it gives up at once. No try begins after so long.
TRIES = 3
TRIES_SECONDS = 20.0
FIRST_WAIT_SECONDS = 1.0
# What a hub may ask us to wait, over all its answers to one call.
PATIENCE_SECONDS = 120
# Times the client's own limit for a transfer (HF_HUB_DOWNLOAD_TIMEOUT, 10 s), since other calls have none.
READING, WRITING = 3, 12
CHECK_SECONDS = 5
# Of the disk, not of the hub: trying again does not help.
DISK_ERRORS = frozenset({errno.EACCES, errno.EDQUOT, errno.ENOSPC, errno.EROFS})
REQUEST_TIMEOUT, TOO_MANY_REQUESTS, SERVER_ERROR = 408, 429, 500
PROXY_VARIABLES = ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY")
WITHOUT_HUB = (
    "; without the hub: --experiment hpo needs none, bioasq-rebuilt only its data folder, and `harness fetch` on a "
    "machine that reaches the hub makes a folder to run from"
)
REASONS = {
    400: "the hub does not take what was sent",
    401: "the hub does not know who asks: the repository is private or absent, or the token is wrong or missing "
    "(set HF_TOKEN, or run: hf auth login)",
    403: "the hub refuses: the repository is gated or this token's owner may not do this",
    404: "the hub has no such repository, commit or file",
    409: "the hub says that something else is in the way",
    412: "somebody else pushed in the meantime; look at what came, then do it again",
    429: "the hub says that too much was asked of it; wait, or set HF_TOKEN",
}


class AskedToWaitError(Exception):
    """The hub asks for a longer wait than anybody should sit through."""

    def __init__(self, status: int, seconds: int) -> None:
        super().__init__(f"HTTP {status}: the hub asks to wait {seconds} s")
        self.status, self.seconds = status, seconds


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
        return str(HfApi().repo_info(repository, repo_type=kind).sha)

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
        return {file.path: file.lfs.sha256 if file.lfs else file.blob_id for file in files}

    return call_hub(name_commit(repository, revision), act)


def name_commit(repository: str, revision: str) -> str:
    """Name a commit in a message."""
    return f"hub {repository} @ {revision[:12]}"


def is_offline() -> bool:
    """Say whether the user forbids the hub (HF_HUB_OFFLINE, TRANSFORMERS_OFFLINE)."""
    from huggingface_hub import constants  # noqa: PLC0415 - see download_snapshot

    return constants.is_offline_mode()


def is_hub_reachable() -> bool:
    """Ask the hub for a page, once and briefly; any answer counts. Nobody is asked where HF_HUB_OFFLINE is set."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        return False
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    try:
        request = urllib.request.Request(f"{endpoint}/api/models?limit=1", method="HEAD")  # noqa: S310 - fixed scheme
        with urllib.request.urlopen(request, timeout=CHECK_SECONDS):  # noqa: S310 - fixed scheme
            return True
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError, http.client.HTTPException):
        return False


def call_hub(
    what: str,
    act: Callable[[], Answer],
    *,
    factor: int = READING,
    advice: str = "",
    error: type[HarnessError] = SourceError,
) -> Answer:
    """Do something with the hub's client: with time limits, again where that can help, else with a plain error.

    Args:
        what: begins every message.
        act: the calls; done again from the start, so doing them twice must do no harm.
        factor: how patient to be with one answer: READING or WRITING.
        advice: ends the message where the hub cannot be had at all.
        error: the kind of error to raise.

    Raises:
        HarnessError: of type ``error``; says what went wrong and never shows an address or a token.
    """
    from huggingface_hub.utils import httpx  # noqa: PLC0415 - see download_snapshot

    started = time.monotonic()
    for attempt in range(1, TRIES + 1):
        try:
            with _limit_client(factor):
                return act()
        # A connection that breaks in the middle of a file comes as an error of the HTTP library, which is no OSError;
        # a ValueError is a malformed name, card or proxy variable.
        except (OSError, RuntimeError, ValueError, httpx.HTTPError, AskedToWaitError) as cause:
            last = attempt == TRIES or time.monotonic() - started > TRIES_SECONDS
            if last or not _may_pass(cause):
                raise error(_explain(what, cause, attempt, advice)) from cause
            wait = max(FIRST_WAIT_SECONDS * 2 ** (attempt - 1), _read_wait(cause))
        time.sleep(wait)
    raise AssertionError  # pragma: no cover - the last try returns or raises


@contextmanager
def _limit_client(factor: int) -> Iterator[None]:
    """Have the client's calls end in time, none of which but transfers has a limit of its own."""
    from huggingface_hub import constants, get_session, set_client_factory  # noqa: PLC0415 - see download_snapshot
    from huggingface_hub.utils import _http, httpx  # noqa: PLC0415

    seconds = float(constants.HF_HUB_DOWNLOAD_TIMEOUT * factor)
    waited = 0

    def limit(request: httpx.Request) -> None:
        given: Mapping[str, float | None] = request.extensions.get("timeout") or {}
        parts = ("connect", "read", "write", "pool")
        request.extensions["timeout"] = {part: given.get(part) or seconds for part in parts}

    def refuse_long_wait(response: httpx.Response) -> None:
        nonlocal waited
        asked = _parse_wait(response)
        if asked is not None:
            waited += asked
            if waited > PATIENCE_SECONDS:
                raise AskedToWaitError(response.status_code, asked)

    def make_client() -> httpx.Client:
        client = _http.default_client_factory()
        hooks = client.event_hooks
        client.event_hooks = {
            "request": [*hooks.get("request", []), limit],
            "response": [*hooks.get("response", []), refuse_long_wait],
        }
        return client

    set_client_factory(make_client)
    try:
        # Made at once, since a proxy variable that is no address fails here.
        get_session()
        yield
    finally:
        set_client_factory(_http.default_client_factory)


def _parse_wait(response: httpx.Response) -> int | None:
    """Return how many seconds an answer asks to wait before the next try, or None."""
    from huggingface_hub.utils import parse_ratelimit_headers  # noqa: PLC0415 - see download_snapshot

    if response.status_code not in {TOO_MANY_REQUESTS, 503}:
        return None
    limits = parse_ratelimit_headers(response.headers)
    if response.status_code == TOO_MANY_REQUESTS and limits is not None and limits.remaining == 0:
        return limits.reset_in_seconds
    asked = response.headers.get("Retry-After", "").strip()
    return int(asked) if asked.isdigit() else None


def _read_wait(cause: BaseException) -> float:
    """Return how long the hub asked to wait in the answer that an error came of; 0 where it did not say."""
    response = _find_response(cause)
    asked = None if response is None else _parse_wait(response)
    return 0.0 if asked is None else asked + 1.0


def _may_pass(cause: BaseException) -> bool:
    """Say whether the same call might do better in a moment, where the client itself has not tried often enough."""
    from huggingface_hub.errors import LocalEntryNotFoundError  # noqa: PLC0415 - see download_snapshot
    from huggingface_hub.utils import httpx  # noqa: PLC0415

    # The second: what the client says after its own six tries, or where it may not ask.
    if isinstance(cause, AskedToWaitError | LocalEntryNotFoundError | ValueError | httpx.ProxyError):
        return False
    if isinstance(cause, OSError) and cause.errno in DISK_ERRORS:
        return False
    response = _find_response(cause)
    if response is None:
        return True
    return response.status_code >= SERVER_ERROR or response.status_code in {REQUEST_TIMEOUT, TOO_MANY_REQUESTS}


def _find_response(cause: BaseException | None) -> httpx.Response | None:
    """Return the hub's answer behind an error of its client, or None where there was none."""
    while cause is not None:
        response: httpx.Response | None = getattr(cause, "response", None)
        if isinstance(getattr(response, "status_code", None), int):
            return response
        cause = cause.__cause__
    return None


def _explain(what: str, cause: BaseException, tries: int, advice: str) -> str:
    """Say in a line what went wrong, told apart as far as what to do about it differs."""
    from huggingface_hub import constants  # noqa: PLC0415 - see download_snapshot
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled  # noqa: PLC0415

    after = f"{tries} tries" if tries > 1 else "1 try"
    if isinstance(cause, AskedToWaitError):
        return (
            f"{what}: HTTP {cause.status}: the hub asks to wait {cause.seconds} s, and nobody waits longer than "
            f"{PATIENCE_SECONDS} s here; try again later, or set HF_TOKEN for a larger allowance"
        )
    if isinstance(cause, OSError) and cause.errno in DISK_ERRORS:
        place = cause.filename or constants.HF_HUB_CACHE
        return f"{place}: {cause.strerror} ({what}); HF_HOME moves the hub's cache"
    if is_offline() and isinstance(cause, LocalEntryNotFoundError | OfflineModeIsEnabled):
        return f"{what}: HF_HUB_OFFLINE is set and the hub's cache does not hold this; run it once without{advice}"
    response = _find_response(cause)
    if response is not None:
        status = response.status_code
        failing = status >= SERVER_ERROR or status == TOO_MANY_REQUESTS
        reason = REASONS.get(status, "the hub failed")
        return f"{what}: HTTP {status}: {reason} ({after}){advice if failing else ''}"
    found = strip_addresses(next(iter(str(cause).splitlines()), ""))
    if "Consistency check failed" in found:
        return f"{what}: a file came with another length than announced ({after}), from the hub or what stands between"
    if isinstance(cause, ValueError):
        return f"{what}: {found}{_name_proxies()}"
    # The client wraps what it met: the name of that says more than its own.
    name = type(cause.__cause__ or cause).__name__
    return f"{what}: the hub cannot be reached ({after}; {name}: {found}){_name_proxies()}{advice}"


def _name_proxies() -> str:
    """Name the proxy variables that are set, never what they hold: it may be a password."""
    names = [name for upper in PROXY_VARIABLES for name in (upper, upper.lower()) if os.environ.get(name)]
    return f"; a proxy is set by {', '.join(names)}" if names else ""
