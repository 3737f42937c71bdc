"""The hub's client, made to give up in time and to say why: limits, further tries and messages for every call."""

from __future__ import annotations

import errno
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from harness.core.text import clip, format_bytes, quote, strip_addresses
from harness.errors import HarnessError, SourceError

if TYPE_CHECKING:
    # The HTTP library that huggingface_hub itself requires.
    from httpx2 import Request, Response

Answer = TypeVar("Answer")

# The client tries most calls six times itself; these are for what it gives up at once.
TRIES = 3
FIRST_WAIT_SECONDS = 1.0
# What a hub may ask us to wait, over all its answers to one call.
PATIENCE_SECONDS = 120
# Times the client's own limit for a transfer (HF_HUB_DOWNLOAD_TIMEOUT, 10 s), since other calls have none.
READING, WRITING = 3, 12
# Of all that is read whole in one call: the listing of a repository of 100,000 files has 25 MB.
ANSWERS_LIMIT_BYTES = 32 * 2**20
MOST_PAGES = 1000
# Of the disk, not of the hub: trying again does not help.
DISK_ERRORS = frozenset({errno.EACCES, errno.EDQUOT, errno.ENOSPC, errno.ENOTDIR, errno.EROFS})
REQUEST_TIMEOUT, TOO_MANY_REQUESTS, SERVER_ERROR = 408, 429, 500
SHOWN_CHARACTERS = 300
NUMBERS = ("HF_HUB_DOWNLOAD_TIMEOUT", "HF_HUB_ETAG_TIMEOUT")
PROXY_VARIABLES = ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY")
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


class TooLargeAnswerError(Exception):
    """The hub answers with more than anybody should take into memory."""

    def __init__(self, response: Response, limit: str) -> None:
        super().__init__(f"the answer to {clip(strip_addresses(response.url.path), SHOWN_CHARACTERS)} {limit}")


class _Allowance:
    """What a hub may answer to one call, in all that its client reads whole: errors and redirections too, files not."""

    def __init__(self) -> None:
        self._read_bytes = self._pages = 0

    def bound(self, response: Response) -> None:
        self._pages += "next" in response.links
        if self._pages > MOST_PAGES:
            raise TooLargeAnswerError(response, f"is one more page of a list, expected at most {MOST_PAGES}")
        pieces = response.iter_bytes

        def iter_bytes(chunk_size: int | None = None) -> Iterator[bytes]:
            for piece in pieces(chunk_size):
                # Files come in pieces of a size that is given.
                self._read_bytes += len(piece) if chunk_size is None else 0
                if self._read_bytes > ANSWERS_LIMIT_BYTES:
                    raise TooLargeAnswerError(response, f"exceeds {format_bytes(ANSWERS_LIMIT_BYTES)}, the limit")
                yield piece

        response.iter_bytes = iter_bytes  # type: ignore[method-assign]


def check_variables(environment: Mapping[str, str]) -> None:
    """Check the variables that the client reads as it is loaded, by whichever library, and fails at.

    Raises:
        SourceError: one is no whole number.
    """
    for name in NUMBERS:
        said = environment.get(name)
        if said is not None and not re.fullmatch(r"\s*[-+]?[0-9]{1,9}\s*", said):
            raise SourceError(f"the environment variable {name} is {quote(said)}, expected a whole number of seconds")


def call_hub(
    what: str,
    act: Callable[[], Answer],
    *,
    tries: int = TRIES,
    factor: int = READING,
    advice: str = "",
    error: type[HarnessError] = SourceError,
) -> Answer:
    """Do something with the hub's client: with time limits, again where that can help, else with a plain error.

    Args:
        what: begins every message.
        act: the calls; done again from the start, so doing them twice must do no harm.
        tries: 1 where the client itself tries all of it often enough.
        factor: how patient to be with one answer: READING or WRITING.
        advice: ends the message where the hub cannot be had at all.
        error: the kind of error to raise.

    Raises:
        HarnessError: of type ``error``; says what went wrong and never shows an address or a token. Neither do the
            frames that a traceback shows of it: the client's, whose variables hold the token, are cut off.
    """
    for attempt in range(1, tries + 1):
        try:
            with _limit_client(factor):
                return act()
        except KeyboardInterrupt:
            failure: BaseException = KeyboardInterrupt()
            wait = None
        except HarnessError as cause:
            # Our own words, of what was asked for: no other try would change them.
            failure, wait = cause.with_traceback(None), None
        except Exception as cause:  # noqa: BLE001 - an answer of any wrong shape ends in any exception
            failure = error(_explain(what, cause, attempt, advice))
            again = attempt < tries and _may_pass(cause)
            wait = max(FIRST_WAIT_SECONDS * 2 ** (attempt - 1), _read_wait(cause)) if again else None
        # Not raised where it was caught, since the client's exception would come along.
        if wait is None:
            raise failure
        time.sleep(wait)
    raise AssertionError  # pragma: no cover - the last try returns or raises


@contextmanager
def _limit_client(factor: int) -> Iterator[None]:
    """Have the client's calls end in time, none of which but transfers has a limit of its own."""
    from httpx2 import URL, Client  # noqa: PLC0415 - most commands never ask the hub
    from huggingface_hub import constants, get_session, get_token, set_client_factory  # noqa: PLC0415

    # Made at once, since a proxy variable that is no address fails here.
    session = get_session()
    hooks, follow, timeout = session.event_hooks, session.follow_redirects, session.timeout
    seconds = float(constants.HF_HUB_DOWNLOAD_TIMEOUT * factor)
    home = URL(constants.ENDPOINT).netloc
    waited = 0

    def limit(request: Request) -> None:
        given: Mapping[str, float | None] = request.extensions.get("timeout") or {}
        parts = ("connect", "read", "write", "pool")
        request.extensions["timeout"] = {part: given.get(part) or seconds for part in parts}
        # The address of a list's next page comes from the answer, and the client would show its token to any host.
        if request.url.netloc != home and request.headers.get("Authorization") == f"Bearer {get_token()}":
            del request.headers["Authorization"]

    def refuse_long_wait(response: Response) -> None:
        nonlocal waited
        asked = _parse_wait(response)
        if asked is not None:
            waited += asked
            if waited > PATIENCE_SECONDS:
                raise AskedToWaitError(response.status_code, asked)

    limited: Mapping[str, list[Callable[..., None]]] = {
        "request": [*hooks.get("request", []), limit],
        "response": [*hooks.get("response", []), refuse_long_wait, _Allowance().bound],
    }
    # A factory, since the client closes its session and makes another one after some errors.
    set_client_factory(lambda: Client(event_hooks=limited, follow_redirects=follow, timeout=timeout))
    try:
        yield
    finally:
        set_client_factory(lambda: Client(event_hooks=hooks, follow_redirects=follow, timeout=timeout))


def _parse_wait(response: Response) -> int | None:
    """Return how many seconds an answer asks to wait before the next try, or None."""
    # Its documentation imports it from here; only the marker for type checkers lacks.
    from huggingface_hub.utils import parse_ratelimit_headers  # type: ignore[attr-defined]  # noqa: PLC0415

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
    from httpx2 import HTTPError, ProxyError, TimeoutException  # noqa: PLC0415 - see _limit_client
    from huggingface_hub.errors import LocalEntryNotFoundError  # noqa: PLC0415

    # The client waited six times for a timeout; the other is what it says after six tries, or where it may not ask.
    if isinstance(cause, TimeoutException | LocalEntryNotFoundError):
        return False
    # A ValueError is a malformed name, card or proxy variable; a connection that breaks in the middle of a file comes
    # as an error of the HTTP library, which is no OSError.
    if isinstance(cause, ValueError | ProxyError) or not isinstance(cause, OSError | RuntimeError | HTTPError):
        return False
    if isinstance(cause, OSError) and cause.errno in DISK_ERRORS:
        return False
    response = _find_response(cause)
    if response is None:
        return True
    return response.status_code >= SERVER_ERROR or response.status_code in {REQUEST_TIMEOUT, TOO_MANY_REQUESTS}


def _find_response(cause: BaseException | None) -> Response | None:
    """Return the hub's answer behind an error of its client, or None where there was none."""
    while cause is not None:
        response: Response | None = getattr(cause, "response", None)
        if isinstance(getattr(response, "status_code", None), int):
            return response
        cause = cause.__cause__
    return None


def _explain(what: str, cause: BaseException, tries: int, advice: str) -> str:
    """Say in a line what went wrong, told apart as far as what to do about it differs."""
    from httpx2 import HTTPError  # noqa: PLC0415 - see _limit_client
    from huggingface_hub import constants  # noqa: PLC0415
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled  # noqa: PLC0415

    after = f"{tries} tries" if tries > 1 else "1 try"
    response = _find_response(cause)
    if isinstance(cause, AskedToWaitError):
        reason = (
            f"HTTP {cause.status}: the hub asks to wait {cause.seconds} s, and we wait no longer than "
            f"{PATIENCE_SECONDS} s here; try again later, or set HF_TOKEN for a larger allowance"
        )
    elif isinstance(cause, TooLargeAnswerError):
        reason = str(cause)
    elif isinstance(cause, OSError) and cause.errno in DISK_ERRORS:
        reason = f"{cause.filename or constants.HF_HUB_CACHE}: {cause.strerror}; HF_HOME moves the hub's cache"
    elif constants.is_offline_mode() and isinstance(cause, LocalEntryNotFoundError | OfflineModeIsEnabled):
        reason = f"HF_HUB_OFFLINE is set and the hub's cache does not hold this; run it once without{advice}"
    elif not isinstance(cause, OSError | RuntimeError | ValueError | HTTPError):
        found = clip(strip_addresses(" ".join(str(cause).split())), SHOWN_CHARACTERS)
        reason = f"the answer is JSON of another shape than the hub's ({type(cause).__name__}: {found}){advice}"
    elif isinstance(cause, json.JSONDecodeError):
        reason = f"the answer is not the hub's: something else on the way answers in its place{_name_proxies()}{advice}"
    elif isinstance(cause, ValueError):
        reason = f"{clip(strip_addresses(' '.join(str(cause).split())), SHOWN_CHARACTERS)}{_name_proxies()}"
    elif response is not None:
        status = response.status_code
        failing = status >= SERVER_ERROR or status == TOO_MANY_REQUESTS
        reason = f"HTTP {status}: {REASONS.get(status, 'the hub failed')} ({after}){advice if failing else ''}"
    elif "Consistency check failed" in str(cause):
        reason = f"a file came with another length than announced ({after}), from the hub or what stands between"
    else:
        # The client wraps what it met, and that says more.
        root = cause.__cause__ or cause
        found = clip(strip_addresses(next(iter(str(root).splitlines()), "")), SHOWN_CHARACTERS)
        reason = f"the hub cannot be reached ({after}; {type(root).__name__}: {found}){_name_proxies()}{advice}"
    return f"{what}: {reason}"


def _name_proxies() -> str:
    """Name the proxy variables that are set, never what they hold: it may be a password."""
    names = [name for upper in PROXY_VARIABLES for name in (upper, upper.lower()) if os.environ.get(name)]
    return f"; a proxy is set by {', '.join(names)}" if names else ""
