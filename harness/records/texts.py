"""Texts let a report quote queries and passages by their ids: one small file per experiment, checked by its digest."""

from __future__ import annotations

import gzip
import hashlib
import io
import zlib
from collections.abc import Mapping
from pathlib import Path

from harness.core.schema import Frozen, canonical_json, decode_json
from harness.errors import RecordError

# A larger collection's texts are not published: a repository is no place for them, and a reader stops here.
MAX_TEXTS_BYTES = 32 * 2**20


class Texts(Frozen):
    """The texts of an experiment's queries and passages, by id."""

    queries: dict[str, str]
    passages: dict[str, str]


def format_texts(queries: Mapping[str, str], passages: Mapping[str, str]) -> bytes | None:
    """Write texts as gzipped JSON, the same bytes for the same texts, or None where they are too many to publish."""
    plain = canonical_json({"queries": dict(queries), "passages": dict(passages)}).encode()
    return None if len(plain) > MAX_TEXTS_BYTES else gzip.compress(plain, mtime=0)


def read_texts(path: Path, *, sha256: str) -> Texts:
    """Read what `format_texts` wrote, from whomever it came.

    Args:
        path: the file.
        sha256: the digest that it must have.

    Raises:
        RecordError: the file is absent, another one, too large, or not such texts.
    """
    try:
        with path.open("rb") as stream:
            packed = stream.read(MAX_TEXTS_BYTES + 1)
    except OSError as cause:
        raise RecordError(f"{path}: cannot be read: {cause.strerror or cause}") from cause
    found = hashlib.sha256(packed).hexdigest()
    if found != sha256:
        raise RecordError(f"{path}: has the SHA-256 {found[:16]}..., its record says {sha256[:16]}...")
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(packed)) as stream:
            # Counted after decompression, so that a small file cannot fill the memory.
            plain = stream.read(MAX_TEXTS_BYTES + 1)
    except (OSError, EOFError, zlib.error) as cause:
        raise RecordError(f"{path}: not a whole gzip file: {cause}") from cause
    if len(plain) > MAX_TEXTS_BYTES:
        raise RecordError(f"{path}: holds more than {MAX_TEXTS_BYTES} bytes, the most such a file may have")
    return decode_json(Texts, plain, place=str(path), error=RecordError)
