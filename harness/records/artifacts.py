"""The files beside records (runs, qrels, texts), each read once, however many records name it."""

from __future__ import annotations

import gzip
import hashlib
import io
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.core.files import hash_file, refuse_links, refuse_special
from harness.core.schema import Frozen, canonical_json, decode_json
from harness.errors import RecordError
from harness.records.ranking import Passages, Ranking
from harness.records.record import Artifact
from harness.records.run import Run, read_run
from harness.records.trec import Limits, Qrels, read_qrels

# A larger collection's texts are not published: a repository is no place for them, and a reader stops here.
MAX_TEXTS_BYTES = 32 * 2**20
# Of a run or of judgements, from whomever they come. Bounded by what they become, too: 150 bytes a line of a run, 400 a
# query. More queries than these no record that is read can have.
LIMITS = Limits(bytes=256 * 2**20, lines=10_000_000, queries=500_000)
KEPT_FIRST = 3


@dataclass(frozen=True)
class Standing:
    """What a report shows of a run; beside its lists as numbers, all of it that is kept: runs are too large for many.

    ``ranks`` is, per query of the run, the rank of its best relevant passage (0: not in the run), ``first`` the
    passages ranked first, ``depth`` the length of the longest list.
    """

    ranks: dict[str, int]
    first: dict[str, tuple[str, ...]]
    depth: int


class Evidence:
    """The files below a results folder by what records say of them.

    Digests, qrels, texts, rankings and standings are kept: one object is one look at the folder, which must not change
    meanwhile.
    ``marks`` tell, by a run's path, different lists and scores apart, of those that were read.
    """

    def __init__(self, results: Path) -> None:
        self.results = results
        self._digests: dict[str, str] = {}
        self._qrels: dict[str, Qrels] = {}
        self._texts: dict[str, Texts] = {}
        self._standings: dict[tuple[str, str], Standing] = {}
        self._rankings: dict[str, Ranking] = {}
        self.passages = Passages()
        self.marks: dict[str, str] = {}

    @property
    def files(self) -> int:
        """How many files have been read so far."""
        return len(self._digests)

    def has_read(self, artifact: Artifact) -> bool:
        """Say whether a file was there when it was looked at."""
        return artifact.path in self._digests

    def has(self, artifact: Artifact) -> bool:
        """Say whether a file of this name is there."""
        return (self.results / artifact.path).is_file()

    def hash(self, artifact: Artifact) -> str:
        """Return the SHA-256 that a file has, whatever the record says.

        Raises:
            RecordError: there is no such file, or a part of its path is a link.
            SourceError: it cannot be read.
        """
        if artifact.path not in self._digests:
            self._digests[artifact.path] = hash_file(self._locate(artifact))
        return self._digests[artifact.path]

    def check(self, artifact: Artifact) -> None:
        """Hold a file against the digest that the record gives.

        Raises:
            RecordError: it is another one, or as `hash`.
            SourceError: as `hash`.
        """
        found = self.hash(artifact)
        if found != artifact.sha256:
            path = self.results / artifact.path
            raise RecordError(f"{path}: has the SHA-256 {found[:16]}..., the record says {artifact.sha256[:16]}...")

    def read_qrels(self, artifact: Artifact) -> Qrels:
        """Return the judgements.

        Raises:
            RecordError: as `hash`.
            DataError: the file breaks a rule.
        """
        if artifact.path not in self._qrels:
            self._qrels[artifact.path] = read_qrels(self._locate(artifact), limits=LIMITS)
        return self._qrels[artifact.path]

    def read_texts(self, artifact: Artifact) -> Texts:
        """Return the texts.

        Raises:
            RecordError: as `hash`, or the file is not such texts.
            SourceError: as `hash`.
        """
        if artifact.path not in self._texts:
            # The digest that the file has: whether the record gives another one is for `check` to say.
            self._texts[artifact.path] = read_texts(self._locate(artifact), sha256=self.hash(artifact))
        return self._texts[artifact.path]

    def read_run(self, run: Artifact, qrels: Artifact) -> Run:
        """Return the ranked lists, and keep them as numbers, and their standing by these qrels.

        Raises:
            RecordError: as `hash`.
            DataError: a file breaks a rule.
        """
        found = read_run(self._locate(run), limits=LIMITS)
        self._standings[run.path, qrels.path] = _stand(found, self.read_qrels(qrels))
        self._rankings[run.path] = self.passages.number(found)
        self.marks[run.path] = _mark(found)
        return found

    def find_standing(self, run: Artifact, qrels: Artifact) -> Standing:
        """Return a run's standing, reading the run only if it was not read before.

        Raises:
            RecordError: as `hash`.
            DataError: a file breaks a rule.
        """
        if (run.path, qrels.path) not in self._standings:
            self.read_run(run, qrels)
        return self._standings[run.path, qrels.path]

    def find_ranking(self, run: Artifact, qrels: Artifact) -> Ranking:
        """Return a run's lists as `passages` numbers them, reading the run only if it was not read before.

        Raises:
            RecordError: as `hash`.
            DataError: a file breaks a rule.
        """
        if run.path not in self._rankings:
            self.read_run(run, qrels)
        return self._rankings[run.path]

    def _locate(self, artifact: Artifact) -> Path:
        path = self.results / artifact.path
        if not path.is_file():
            raise RecordError(f"{path}: no such file, and a record names it")
        # The path's own letters cannot climb out of the folder; a link in a stranger's folder could.
        return refuse_links(path, below=self.results)


def _stand(run: Run, qrels: Qrels) -> Standing:
    ranks, first = {}, {}
    for query, passages in zip(run.query_ids, run.passage_ids, strict=True):
        relevant = {passage for passage, relevance in qrels.get(query, {}).items() if relevance > 0}
        ranks[query] = next((rank for rank, passage in enumerate(passages, start=1) if passage in relevant), 0)
        first[query] = passages[:KEPT_FIRST]
    return Standing(ranks, first, max(map(len, run.passage_ids)))


def _mark(run: Run) -> str:
    found = hashlib.sha256()
    for query, passages, scores in zip(run.query_ids, run.passage_ids, run.scores, strict=True):
        # An id holds no white space.
        found.update(f"{query} {' '.join(passages)}\n".encode())
        found.update(np.asarray(scores).tobytes())
    return found.hexdigest()


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
        with refuse_special(path).open("rb") as stream:
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
