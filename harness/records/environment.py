"""The environment a value was obtained in: machine, packages and commit, as far as they can change numbers."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
from pathlib import Path

import psutil

from harness.core.schema import Bytes, Frozen, Natural, digest_json

PACKAGES = (
    "accelerate",
    "bm25s",
    "datasets",
    "flash_attn",
    "huggingface_hub",
    "ir_measures",
    "numpy",
    "safetensors",
    "scipy",
    "sentence-transformers",
    "tokenizers",
    "torch",
    "transformers",
)
COMMAND_SECONDS = 10
# As Linux names them, on x86 and on ARM.
CPU_FEATURES = ("avx2", "avx512f", "avx512_bf16", "amx_tile", "amx_bf16", "asimd", "sve", "bf16")
GIBIBYTE = 2**30


class Gpu(Frozen):
    """A GPU as its driver names it."""

    name: str
    driver: str
    memory_bytes: Bytes


class Environment(Frozen):
    """Machine, Python, packages and the harness's own commit."""

    os: str
    architecture: str
    cpu: str
    cpu_count: Natural
    memory_bytes: Bytes
    gpus: tuple[Gpu, ...]
    python: str
    packages: dict[str, str]
    harness_version: str
    commit: str | None
    dirty: bool | None
    # Virtual machines hide the processor's name; these tell two that go by the same one apart. The first records
    # had neither.
    cpu_model: str | None = None
    cpu_features: tuple[str, ...] = ()
    # Of the repository that the manifest lies in.
    manifest_commit: str | None = None
    manifest_dirty: bool | None = None
    # What decides the order of sums: torch's threads and vector instructions. Earlier records had neither.
    threads: Natural | None = None
    cpu_capability: str | None = None

    @property
    def revision(self) -> str | None:
        """The commit, marked where the checkout had uncommitted changes; None outside of a checkout."""
        return f"{self.commit}+changes" if self.commit and self.dirty else self.commit

    @property
    def fingerprint(self) -> str:
        """Short hash of what decides speed: CPU, cores, memory (in GiB), GPUs with their driver and torch."""
        parts: dict[str, object] = {
            "architecture": self.architecture,
            "cpu": self.cpu,
            "cpu_count": self.cpu_count,
            "memory_gib": round(self.memory_bytes / GIBIBYTE),
            "gpus": [gpu.model_dump() for gpu in self.gpus],
            "torch": self.packages.get("torch"),
        }
        if self.cpu_model is not None:
            parts["cpu_model"] = self.cpu_model
            parts["cpu_features"] = list(self.cpu_features)
        return digest_json(parts)[:12]


def collect_environment(harness: Path, manifests: Path | None = None) -> Environment:
    """Describe this machine and the git checkouts that the harness and a manifest lie in.

    Host and user names are left out. Commits and dirty flags are None where a folder is not tracked by git.

    Args:
        harness: a folder of the harness's own.
        manifests: the manifest's folder.
    """
    commit, dirty = _find_commit(harness)
    manifest_commit, manifest_dirty = _find_commit(manifests) if manifests is not None else (None, None)
    return Environment(
        os=f"{platform.system()} {platform.release()}",
        architecture=platform.machine(),
        cpu=_name_cpu(),
        cpu_count=count_cpus(),
        memory_bytes=psutil.virtual_memory().total,
        gpus=list_gpus(),
        python=platform.python_version(),
        packages=list_packages(),
        harness_version=importlib.metadata.version("retrieval-harness"),
        commit=commit,
        dirty=dirty,
        cpu_model=_read_cpu_model(),
        cpu_features=_list_cpu_features(),
        manifest_commit=manifest_commit,
        manifest_dirty=manifest_dirty,
    )


def _find_commit(folder: Path) -> tuple[str | None, bool | None]:
    """Return the commit of the checkout that a folder is tracked in, and whether it has other changes than results."""
    git = ("git", "-C", str(folder))
    # An installed copy may lie inside a checkout of something else, whose commit says nothing of it.
    if _ask(*git, "ls-files", "--error-unmatch", "--", ".") is None:
        return None, None
    # Results and store are what a run writes, so they do not make the code that wrote them dirty; manifests do.
    written = (":(top,exclude)results", ":(top,exclude).store")
    status = _ask(*git, "status", "--porcelain", "--", ":(top)", *written)
    return _ask(*git, "rev-parse", "HEAD"), None if status is None else bool(status)


def count_cpus() -> int:
    """Return how many CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def list_packages() -> dict[str, str]:
    """Return the versions of the packages that can change numbers; an absent one is left out."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def list_gpus() -> tuple[Gpu, ...]:
    """Return the GPUs that ``nvidia-smi`` lists; none where there is no such command."""
    answer = _ask("nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader,nounits")
    gpus = []
    for line in (answer or "").splitlines():
        fields = [field.strip() for field in line.split(",")]
        if len(fields) == 3 and fields[2].isdigit():  # noqa: PLR2004 - the three fields asked for
            gpus.append(Gpu(name=fields[0], driver=fields[1], memory_bytes=int(fields[2]) * 2**20))
    return tuple(gpus)


def _name_cpu() -> str:
    return _read_cpu_field("model name") or platform.processor() or "unknown"


def _read_cpu_model() -> str | None:
    """Return the numbers that the maker tells its processors apart by, where Linux on x86 lists them."""
    numbers = {name: _read_cpu_field(name) for name in ("cpu family", "model\t", "stepping")}
    return " ".join(f"{name.strip()} {number}" for name, number in numbers.items()) if all(numbers.values()) else None


def _list_cpu_features() -> tuple[str, ...]:
    """Return which of the instructions that decide the speed of matrix products the processor has."""
    listed = set((_read_cpu_field("flags") or _read_cpu_field("Features")).split())
    return tuple(name for name in CPU_FEATURES if name in listed)


def _read_cpu_field(field: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(field)), "")


def _ask(*command: str) -> str | None:
    """Return a command's output, or None where it is absent, fails or hangs."""
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
