"""Files of a source: which kinds a role takes, and the hashes that they are known by."""

from __future__ import annotations

import fnmatch
import hashlib
import lzma
import os
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import Literal

from harness.errors import SourceError

Role = Literal["data", "model"]

# What is taken of a source. Models: weights as safetensors only, so no pickle ever reaches the disk.
WANTED = {
    "model": ("*.json", "*.txt", "*.safetensors", "*.model"),
    "data": ("README.md", "*.jsonl", "*.json", "*.parquet", "*.csv", "*.obo"),
}
UNWANTED = ("onnx/*", "openvino/*", ".*", "*/.*")

# All that zipfile raises on a damaged archive, of which one wrong bit is enough: another method of compression, a name
# that is not UTF-8 (a ValueError), a flag that says encrypted (a RuntimeError) or patched.
ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    OverflowError,
)


def hash_git_blob(path: Path) -> str:
    """Return the SHA-1 under which git, and so the hub, knows a file's content.

    Raises:
        SourceError: it cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as cause:
        raise SourceError(f"{path}: cannot be read: {cause.strerror or cause}") from cause
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def hash_files(folder: Path, role: Role) -> dict[str, str]:
    """Return path -> SHA-256 for every file of a folder that the role takes, sorted by path.

    Raises:
        SourceError: a file cannot be read, or there is none.
    """
    files = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and is_wanted(name, role):
            files[name] = hash_file(path)
    if not files:
        raise SourceError(f"{folder}: holds no file of the kinds {', '.join(WANTED[role])}")
    return files


def hash_file(path: Path) -> str:
    """Return a file's SHA-256.

    Raises:
        SourceError: it cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as cause:
        raise SourceError(f"{path}: cannot be read: {cause.strerror or cause}") from cause


def is_wanted(name: str, role: Role) -> bool:
    """Say whether a role takes a file of this name (relative, with slashes)."""
    return any(fnmatch.fnmatch(name, pattern) for pattern in WANTED[role]) and not any(
        fnmatch.fnmatch(name, pattern) for pattern in UNWANTED
    )


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old one or the new one, never a part.

    Raises:
        OSError: the disk refuses; nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def hash_tree(folder: Path, *, skip: Collection[str] = ()) -> dict[str, str]:
    """Return relative path -> SHA-256 of every file below a folder, sorted by path, save those in ``skip``.

    Raises:
        OSError: a file cannot be read.
    """
    files = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name not in skip:
            with path.open("rb") as stream:
                files[name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return files
