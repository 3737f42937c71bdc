"""A stack's environment: made once for its pins, and given work by files only."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import filelock

from harness.core.files import write_atomically
from harness.core.schema import digest_json
from harness.core.text import clip, printable, strip_addresses
from harness.errors import StackError
from harness.experiment.stack import Stack

RUNNER = Path(__file__).parents[1] / "models" / "stack_runner.py"
READY_FILE, JOB_FILE = "installed.txt", "job.json"
SHOWN_CHARACTERS = 600
SHOWN_LINES = 3


@dataclass(frozen=True)
class Training:
    """One training of a job: its seed, the name of its folder, and the rows of each batch (None: the sampler's)."""

    seed: int
    place: str
    rows: Sequence[Sequence[int]] | None = None


@dataclass(frozen=True)
class Job:
    """What the runner is asked for; its docstring says what it writes.

    Attributes:
        model: folder of the model.
        texts: queries, then passages.
        columns: name -> texts of the training rows, in the order in which the loss gets them.
        arguments: fields of SentenceTransformerTrainingArguments.
        batch_sampler: as those arguments name it.
        scale: of the loss.
        trainings: what is trained, if anything.
        batch_size: of embedding.
    """

    model: str
    texts: Sequence[str]
    columns: Mapping[str, Sequence[str]]
    arguments: Mapping[str, object]
    batch_sampler: str
    scale: float
    trainings: Sequence[Training] = ()
    batch_size: int = 32


def hash_stack(stack: Stack) -> str:
    """Return the name of a stack's environment: another order of the same pins is the same one."""
    return digest_json([stack.python, sorted(stack.packages)])[:16]


def make_stack(stack: Stack, root: Path, say: Callable[[str], None]) -> Path:
    """Return the interpreter of an environment with a stack's packages; it is made on first use, which takes minutes.

    Args:
        stack: Python and pins.
        root: folder that environments are kept below, each under the hash of its pins.
        say: told what is done.

    Raises:
        StackError: there is no such Python here, or pip cannot install the packages; says why.
    """
    folder = root / hash_stack(stack)
    interpreter = folder / "bin" / "python"
    try:
        root.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(root / f"{folder.name}.lock"):
            if not (folder / READY_FILE).is_file():
                _install(stack, folder, interpreter, say)
    except OSError as cause:
        raise StackError(f"{folder}: cannot be written: {cause.strerror or cause}") from cause
    return interpreter


def _install(stack: Stack, folder: Path, interpreter: Path, say: Callable[[str], None]) -> None:
    # What is there was left by a process that was killed.
    shutil.rmtree(folder, ignore_errors=True)
    python = _find_python(stack.python)
    say(f"making an environment of Python {stack.python} and {len(stack.packages)} pinned packages; takes minutes")
    _call([python, "-m", "venv", str(folder)], f"Python {stack.python}: no environment can be made")
    pip = [str(interpreter), "-m", "pip", "--disable-pip-version-check"]
    failure = f"these packages cannot be installed together with Python {stack.python}: {', '.join(stack.packages)}"
    _call([*pip, "install", "--quiet", *stack.packages], failure)
    frozen = _call([*pip, "freeze"], "pip cannot list what it installed")
    write_atomically(folder / READY_FILE, frozen.encode())


def run_job(interpreter: Path, job: Job, folder: Path, *, threads: int, say: Callable[[str], None]) -> None:
    """Have an environment do a job in a folder; what an earlier call finished there is not done again.

    Raises:
        StackError: the runner failed; says its last words.
    """
    if _is_done(job, folder):  # to load all packages for nothing takes seconds
        return
    # Nothing of this process's own packages may be found by the other interpreter.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment |= {"OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    log = folder / "runner.log"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / JOB_FILE, json.dumps(asdict(job)).encode())
        with log.open("w", encoding="utf-8") as errors:
            runner = subprocess.Popen(
                [str(interpreter), str(RUNNER), str(folder)],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=environment,
            )
            with runner:
                for line in runner.stdout or ():
                    say(printable(line.strip()))
    except OSError as cause:
        raise StackError(f"{folder}: {cause.strerror or cause}") from cause
    if runner.returncode:
        said = log.read_text(encoding="utf-8", errors="replace")
        raise StackError(f"{folder}: the runner ended with {runner.returncode}: {_cut_words(said)}")


def _is_done(job: Job, folder: Path) -> bool:
    """Say whether the runner has written all of a job; of each part it writes these files last."""
    last = ("untrained/probe.json", *(f"{training.place}/training.json" for training in job.trainings))
    return all((folder / name).is_file() for name in last)


def _find_python(version: str) -> str:
    if version == f"{sys.version_info.major}.{sys.version_info.minor}":
        return sys.executable
    found = shutil.which(f"python{version}")
    if found is None:
        raise StackError(f"Python {version}: there is no python{version} on this machine's PATH; install it first")
    return found


def _call(command: Sequence[str], failure: str) -> str:
    """Run a command and return what it printed.

    Raises:
        StackError: it ended with an error, which is shown without addresses.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if ended.returncode:
        raise StackError(f"{failure}: {_cut_words(ended.stderr or ended.stdout)}")
    return ended.stdout


def _cut_words(said: str) -> str:
    """Return the first lines that pip marks as errors, else the last ones."""
    # pip lists every version that there is.
    short = re.sub(r" \(from versions: [^)]*\)", "", strip_addresses(said))
    lines = [line.strip() for line in short.splitlines() if line.strip()] or ["it said nothing"]
    errors = [line for line in lines if line.startswith("ERROR")]
    return clip(printable(" ".join(errors[:SHOWN_LINES] or lines[-SHOWN_LINES:])), SHOWN_CHARACTERS)
