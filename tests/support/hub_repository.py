"""Repositories of the test Hub: files at commits, under the names that git and git-lfs give them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

Kind = Literal["model", "dataset"]

LFS_BYTES = 10 * 2**20
"""The Hub refuses larger files in plain git, so it asks for LFS above this size."""

# What the Hub writes into the .gitattributes of a new repository.
_DEFAULT_LFS = """
*.7z *.arrow *.bin *.bz2 *.ckpt *.ftz *.gz *.h5 *.joblib *.lfs.* *.mlmodel *.model *.msgpack *.npy *.npz *.onnx *.ot
*.parquet *.pb *.pickle *.pkl *.pt *.pth *.rar *.safetensors saved_model/* *.tar.* *.tar *.tflite *.tgz *.wasm *.xz
*.zip *.zst *tfevents*
"""
LFS_PATTERNS = tuple(_DEFAULT_LFS.split())
GIT_ATTRIBUTES = "".join(f"{pattern} filter=lfs diff=lfs merge=lfs -text\n" for pattern in LFS_PATTERNS)

_ID = re.compile(r"[\w.-]+/[\w.-]+")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class HubRepository:
    """A folder served as repository `id` at `commit`; the folder must not change while it is served."""

    kind: Kind
    id: str
    commit: str
    folder: Path
    private: bool = False

    def __post_init__(self) -> None:
        if self.kind not in {"model", "dataset"}:
            raise ValueError(f"kind is {self.kind!r}, expected 'model' or 'dataset'")
        if not _ID.fullmatch(self.id):
            raise ValueError(f"id is {self.id!r}, expected 'user/name'")
        if not _COMMIT.fullmatch(self.commit):
            raise ValueError(f"commit of {self.id} is {self.commit!r}, expected 40 hexadecimal digits")


@dataclass(frozen=True)
class Blob:
    """One content: where its bytes lie and the hashes by which the Hub's clients know it."""

    source: Path
    size: int
    git_sha1: str
    sha256: str
    lfs: bool

    @property
    def oid(self) -> str:
        """What `preupload` and an ETag say: SHA-256 of an LFS object, git's own hash otherwise."""
        return self.sha256 if self.lfs else self.git_sha1

    @cached_property
    def pointer(self) -> bytes:
        """The text that git holds in place of an LFS object."""
        lines = ("version https://git-lfs.github.com/spec/v1", f"oid sha256:{self.sha256}", f"size {self.size}\n")
        return "\n".join(lines).encode()

    @property
    def tree_oid(self) -> str:
        """The name of what git stores: of the pointer for an LFS object."""
        if not self.lfs:
            return self.git_sha1
        header = f"blob {len(self.pointer)}\0".encode()
        return hashlib.sha1(header + self.pointer, usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class Commit:
    """A state of a repository: `files` is the whole tree, `changed` the paths that differ from the parent."""

    id: str
    message: str
    description: str
    files: Mapping[str, Blob]
    changed: tuple[str, ...]


@dataclass
class History:
    """A repository's commits on `main`, oldest first."""

    kind: Kind
    id: str
    private: bool
    commits: list[Commit]

    def find(self, revision: str) -> Commit | None:
        """Find the commit of `main`, its full reference, or a hash; None where there is none."""
        if revision in {"main", "refs/heads/main"}:
            return self.commits[-1]
        return next((commit for commit in reversed(self.commits) if commit.id == revision), None)

    def add(self, files: Mapping[str, Blob], message: str, *, description: str = "", id_: str = "") -> Commit:
        """Append a commit; without `id_` it is named by its parent and contents, as git does.

        Raises:
            ValueError: `id_` already names a commit of this repository.
        """
        parent = self.commits[-1] if self.commits else None
        before = parent.files if parent else {}
        if id_ and self.find(id_):
            raise ValueError(f"{self.id} already has a commit {id_}")
        content = [parent and parent.id, message, sorted((path, blob.sha256) for path, blob in files.items())]
        name = hashlib.sha1(json.dumps(content).encode(), usedforsecurity=False).hexdigest()
        changed = sorted(
            path
            for path in {*before, *files}
            if path not in before or path not in files or before[path].sha256 != files[path].sha256
        )
        commit = Commit(id_ or name, message, description, dict(files), tuple(changed))
        self.commits.append(commit)
        return commit


def is_lfs(path: str, size: int, *, lfs_bytes: int = LFS_BYTES) -> bool:
    """Tell whether the Hub wants this file as an LFS object; an empty file never is one."""
    return size > 0 and (size > lfs_bytes or any(fnmatch(path, pattern) for pattern in LFS_PATTERNS))


def read_blob(source: Path, path: str, *, lfs_bytes: int = LFS_BYTES) -> Blob:
    """Hash the file `source`, which stands at `path` in its repository."""
    size = source.stat().st_size
    git_hash, sha256 = hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False), hashlib.sha256()
    with source.open("rb") as stream:
        while chunk := stream.read(2**20):
            git_hash.update(chunk)
            sha256.update(chunk)
    return Blob(source, size, git_hash.hexdigest(), sha256.hexdigest(), is_lfs(path, size, lfs_bytes=lfs_bytes))


def read_files(folder: Path, *, lfs_bytes: int = LFS_BYTES) -> dict[str, Blob]:
    """Read a folder as the tree of a commit.

    Raises:
        ValueError: the folder is missing, or a link in it leads out of it.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder")
    return {path: read_blob(file, path, lfs_bytes=lfs_bytes) for path, file in _walk(folder.resolve())}


def _walk(root: Path) -> Iterator[tuple[str, Path]]:
    for file in sorted(root.rglob("*")):
        if not file.resolve().is_relative_to(root):
            raise ValueError(f"{file} leads out of the served folder {root}, to {file.resolve()}")
        if file.is_file():
            yield file.relative_to(root).as_posix(), file


def is_repository_path(path: str) -> bool:
    """Tell whether a commit may write `path`: relative, plain, and not into git's own folder."""
    parts = path.split("/")
    return "\\" not in path and "\0" not in path and not {"", ".", "..", ".git"} & set(parts)


def about_blob(blob: Blob) -> dict[str, Any]:
    """Describe a file as the list in a repository's information does."""
    return {"size": blob.size, "blobId": blob.tree_oid} | ({"lfs": _about_lfs(blob)} if blob.lfs else {})


def tree_entry(path: str, blob: Blob | None) -> dict[str, Any]:
    """Describe a file, or without a blob a folder, as the listing of a tree does."""
    if blob is None:
        return {"type": "directory", "path": path, "size": 0, "oid": "0" * 40}
    entry = {"type": "file", "path": path, "size": blob.size, "oid": blob.tree_oid}
    return entry | ({"lfs": _about_lfs(blob)} if blob.lfs else {})


def _about_lfs(blob: Blob) -> dict[str, Any]:
    return {"oid": blob.sha256, "sha256": blob.sha256, "size": blob.size, "pointerSize": len(blob.pointer)}
