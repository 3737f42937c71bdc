"""Write the hashed requirements again: the versions of constraints.txt, each with its file's SHA-256.

The files are those that pip chooses for this machine and Python; they are for Linux on x86-64 and Python 3.11.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "requirements"
# A file -> what pip is asked for. Each file is whole, but for torch: that is in cuda.txt as PyPI has it, with what it
# needs, and in cpu.txt as other indexes have it. In one line, pip would take PyPI's even where it finds the smaller.
FILES = {
    "run": (".", "setuptools"),
    "dev": (".[dev]", "setuptools"),
    "ray": (".[dev,ray]", "setuptools"),
    "lint": ("ruff", "import-linter", "zizmor"),
    "docs": ("zensical",),
    "nox": ("nox",),
}
CUDA = re.compile(r"cuda-|nvidia-|(torch|triton)$")
PROJECT = "retrieval-harness"
HEAD = "# `nox -s pins` wrote this from constraints.txt. For Linux on x86-64 and Python 3.11.\n"

# Name and version -> SHA-256 of the file.
Pins = dict[tuple[str, str], str]


def main() -> None:
    """Write all files."""
    public = {
        name: value for name, value in os.environ.items() if name not in {"PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"}
    }
    public["PIP_CONFIG_FILE"] = os.devnull
    for name, wanted in FILES.items():
        pins = resolve(*wanted, environment=public)
        cuda = {pin: digest for pin, digest in pins.items() if CUDA.match(pin[0])}
        write(FOLDER / f"{name}.txt", {pin: digest for pin, digest in pins.items() if pin not in cuda})
        if name == "run":
            write(FOLDER / "cuda.txt", cuda)
    smaller = {pin: digest for pin, digest in resolve("torch", "--no-deps").items() if pin[1].endswith("+cpu")}
    if smaller:
        write(FOLDER / "cpu.txt", smaller)
    else:
        print("cpu.txt stays as it is: no index here has a build of torch for CPUs only")


def resolve(*wanted: str, environment: dict[str, str] | None = None) -> Pins:
    """Ask pip what it would install, without a look at what is installed."""
    pip = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--only-binary=:all:", "--quiet"]
    command = [*pip, "--report", "-", "--constraint", "constraints.txt", *wanted]
    said = subprocess.run(command, check=True, capture_output=True, text=True, cwd=FOLDER.parent, env=environment)
    found: Pins = {}
    for one in json.loads(said.stdout)["install"]:
        name = re.sub(r"[-_.]+", "-", one["metadata"]["name"]).lower()
        if name != PROJECT:
            found[name, one["metadata"]["version"]] = one["download_info"]["archive_info"]["hashes"]["sha256"]
    return found


def write(path: Path, pins: Pins) -> None:
    """Write a file, a line for each pin."""
    lines = [f"{name}=={version} --hash=sha256:{digest}\n" for (name, version), digest in sorted(pins.items())]
    path.write_text(HEAD + "".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
