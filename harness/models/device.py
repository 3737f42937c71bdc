"""The device is where tensors live: which one, its abilities, its random state, and the memory beside and on it."""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import random
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from harness.core.text import clip, printable
from harness.errors import HarnessError

# Of the matrix products in training; weights, sums and the optimizer stay in fp32.
Precision = Literal["fp32", "bf16", "fp16"]

SEED_LIMIT = 2**32

# As torch's allocators, the system, C++ and oneDNN (which makes its code anew for every shape) say it.
OUT_OF_MEMORY = re.compile(
    r"DefaultCPUAllocator|out of memory|[Cc]an(?:no|')t allocate memory|bad_alloc"
    r"|could not create a (?:primitive|memory object)$"
)
SHOWN_CHARACTERS = 300

# Of the first GPUs that flash attention is for (Ampere).
FLASH_CAPABILITY = (8, 0)

# Kernels that oneDNN keeps for reuse; a training step needs about a hundred.
KERNELS_KEPT = 256


def name_device(device: str, cpu: str) -> str:
    """Return the GPU's name as its driver gives it, or ``cpu``, the processor's, for anything else."""
    import torch  # noqa: PLC0415 - takes seconds

    return str(torch.cuda.get_device_name(device)) if device.startswith("cuda") else cpu


@dataclass(frozen=True)
class Arithmetic:
    """What decides the order of a CPU's sums: torch's threads, and the vector instructions that it uses."""

    threads: int
    cpu_capability: str


def describe_arithmetic() -> Arithmetic:
    """Ask torch, which takes both from the process's environment and the processor."""
    import torch  # noqa: PLC0415 - takes seconds

    return Arithmetic(torch.get_num_threads(), torch.backends.cpu.get_cpu_capability())


def open_device(device: str) -> None:
    """Set up a GPU; to be called before anything else is done there, as often as need be.

    cuBLAS reads with its first product how much memory it may take to always sum in one order, and the allocator has
    no peak to reset before CUDA is up. What names no GPU, as the trainer's own parts, means the one that is chosen.
    """
    import torch  # noqa: PLC0415 - takes seconds

    if device.startswith("cuda"):
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.cuda.init()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        if torch.device(device).index is not None:
            torch.cuda.set_device(device)


@contextmanager
def full_precision() -> Iterator[None]:
    """Have a GPU multiply fp32 as fp32: TF32, which keeps 11 of 24 bits, is off within, and as it was afterwards.

    torch has it off unless somebody switched it on for the process. Two settings do, and refuse to be mixed.
    """
    import torch  # noqa: PLC0415 - takes seconds

    products: Any = torch.backends.cuda.matmul
    if products.fp32_precision != "tf32":
        yield
        return
    try:
        older = bool(products.allow_tf32)
    except RuntimeError:
        older = False
    name, off, on = ("allow_tf32", False, True) if older else ("fp32_precision", "ieee", "tf32")
    setattr(products, name, off)
    try:
        yield
    finally:
        setattr(products, name, on)


def reset_peak_device_memory(device: str) -> None:
    """Let the peak be counted from here."""
    import torch  # noqa: PLC0415 - takes seconds

    open_device(device)
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)


def seed_everything(seed: int) -> None:
    """Seed Python's, NumPy's and torch's generators, those of all devices included.

    Args:
        seed: from 0 to 2**32 - 1.

    Raises:
        HarnessError: the seed is out of that range.
    """
    import torch  # noqa: PLC0415 - takes seconds

    if not 0 <= seed < SEED_LIMIT:
        raise HarnessError(f"seed is {seed}, expected one from 0 to {SEED_LIMIT - 1}")
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - libraries draw from the legacy generator
    torch.manual_seed(seed)


def pick_device(wanted: str) -> str:
    """Turn the wish `auto` into the best device at hand, and check any other.

    Args:
        wanted: `auto`, `cpu`, `mps`, `cuda` or `cuda:N`.

    Returns:
        The device's name for torch.

    Raises:
        HarnessError: there is no such device here.
    """
    import torch  # noqa: PLC0415 - takes seconds

    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise HarnessError(f"device is {wanted!r}, expected auto, cpu, mps, cuda or cuda:N") from error
    present = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not present.get(device.type, False):
        raise HarnessError(f"device is {wanted!r}, which this machine does not have")
    return wanted


def synchronize(device: str) -> None:
    """Wait until the device has done all that it was given, so that a clock can be read."""
    import torch  # noqa: PLC0415 - takes seconds

    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    elif device == "mps":
        torch.mps.synchronize()


def native_bf16(device: str) -> bool:
    """Say whether the device multiplies bf16 matrices in hardware; elsewhere bf16 is emulated, and slow."""
    import torch  # noqa: PLC0415 - takes seconds

    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device != "cpu":
        return False
    abilities = torch.cpu.get_capabilities()
    return any(bool(abilities.get(name)) for name in ("amx_bf16", "avx512_bf16", "bf16"))


def find_flash(device: str) -> str | None:
    """Return the version of flash attention that is installed and that a device has kernels for; None without."""
    if not device.startswith("cuda"):
        return None
    import torch  # noqa: PLC0415 - takes seconds
    from transformers.utils.import_utils import is_flash_attn_2_available  # noqa: PLC0415 - takes seconds

    if not is_flash_attn_2_available() or torch.cuda.get_device_capability(device) < FLASH_CAPABILITY:
        return None
    return importlib.metadata.version("flash_attn")


def peak_device_memory_bytes(device: str) -> int | None:
    """Most bytes of the device's own memory that tensors have held at once in this process; None on a CPU."""
    import torch  # noqa: PLC0415 - takes seconds

    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device)
    return None


def keep_freed_memory() -> bool:
    """Set up the process for tensors of many shapes; to be called once, before the first tensor.

    Freed memory is reused instead of handed back to the system after every large tensor: fresh pages cost more than
    many operators do, on virtual machines, whose hosts take returned pages away, several times more. Pages are of 2 MiB
    for large tensors, where the system lets a program ask for those: the first steps of a training then take a quarter
    less time. And oneDNN keeps the kernels of the latest shapes only, each of which holds about a megabyte, instead of
    those of the latest 1,024.

    Returns:
        True where memory is reused: on Linux with glibc.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(KERNELS_KEPT))
    # torch asks for 2 MiB pages where this is set as it makes its first tensor.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    library = _load_glibc()
    # M_MMAP_THRESHOLD and M_TRIM_THRESHOLD of malloc.h, each as large as can be.
    return library is not None and bool(library.mallopt(-3, 2**30)) and bool(library.mallopt(-1, 2**31 - 1))


def return_freed_memory() -> bool:
    """Hand freed memory back to the system after all, between stages, so that one does not start with another's peak.

    Returns:
        True where some was handed back.
    """
    library = _load_glibc()
    return library is not None and bool(library.malloc_trim(0))


def _load_glibc() -> ctypes.CDLL | None:
    """The C library, if it is the one whose malloc can be told what to do."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        library = ctypes.CDLL("libc.so.6")
    except OSError:
        return None
    return library if hasattr(library, "malloc_trim") else None


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that memory ran out, of the device or of the machine.

    torch raises a bare RuntimeError where the system refuses memory to a CPU's tensors.
    """
    import torch  # noqa: PLC0415 - takes seconds

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError | OSError) and OUT_OF_MEMORY.search(str(error)) is not None


@contextmanager
def memory_errors(doing: str, *, advice: str, error: type[HarnessError] = HarnessError) -> Iterator[None]:
    """Turn memory that ran out into one line that says what it ran out at, and what to change.

    Raises:
        HarnessError: of type `error`.
    """
    try:
        yield
    except Exception as cause:
        if isinstance(cause, HarnessError) or not is_out_of_memory(cause):
            raise
        raise error(f"{doing}: too little memory: {describe_failure(cause)}; {advice}") from cause


def describe_failure(error: BaseException) -> str:
    """Say in one line what a library raised: its kind and its words."""
    words = " ".join(printable(str(error)).split())
    return clip(f"{type(error).__name__}: {words}" if words else type(error).__name__, SHOWN_CHARACTERS)
