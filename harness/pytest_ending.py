"""How a session ends: with 0, 1 where a threshold or claim is missed, and 2 for all that is no such answer."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Generator

import pytest

from harness.errors import COULD_NOT_RUN, HarnessError
from harness.pytest_session import SESSION, Session

TOO_LITTLE_MEMORY = "too little memory"


def explain(error: BaseException) -> str | None:
    """Return what is said of an error that needs no traceback, or None."""
    from harness.core.text import printable  # noqa: PLC0415 - only for our own cases

    if isinstance(error, HarnessError):
        return printable(f"{type(error).__name__}: {error}", keep="\n")
    short = isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
    if short or (isinstance(error, ImportError) and "failed to map segment" in str(error)):
        return f"{TOO_LITTLE_MEMORY}: {type(error).__name__}: {printable(str(error)) or 'no more could be had'}"
    return None


class Guard:
    """Stands around what other plugins do at the end: their errors are no missed threshold.

    A cache that cannot be written and a handle that a library leaks are such errors where warnings are made errors.
    """

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None]:
        """End with 2 where something fails after the last case."""
        ours = session.config.stash[SESSION]
        ours.session = session
        try:
            yield
        except Exception as error:  # noqa: BLE001 - of any plugin, and raised again where no case is ours
            _take_for_unrun(ours, error)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_unconfigure(self, config: pytest.Config) -> Generator[None]:
        """Likewise for what fails when all is said, when pytest would end with 1."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - of any plugin, and raised again where no case is ours
            _take_for_unrun(config.stash[SESSION], error)


def _take_for_unrun(ours: Session, error: Exception) -> None:
    if not ours.ours or ours.session is None:
        raise error
    from harness.core.text import printable  # noqa: PLC0415 - only for our own cases

    # One line: where GitHub listens again, no line of it may begin a command.
    print(printable(f"could not run: {type(error).__name__}: {error}"), file=sys.stderr)
    ours.session.exitstatus = COULD_NOT_RUN


def end_starved(session: Session) -> None:
    """End Python here where memory ended before: libraries crash as they are taken down without any (signal 11)."""
    if session.starved:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(COULD_NOT_RUN)
