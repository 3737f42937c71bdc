"""Weights and embeddings are too large to publish; where a store still has them, they are held against the records."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.evidence.determinism import EMBEDDINGS_FILE, WEIGHTS_FILE
from harness.pipeline.store import Entry, Store, check_output, read_entry
from harness.records.record import Record, StageCost


def check_kept(records: Sequence[Record], store: Store) -> Iterator[str]:
    """Hold the outputs that a store has against the digests that records give: whole, the same, the same weights.

    What the store does not have is passed over. Every byte of what it has is read, each output once.
    """
    broken: dict[str, list[str]] = {}
    for record in records:
        for stage, cost in record.stages.items():
            folder = store.root / stage / cost.key
            if not folder.is_dir():
                continue
            if cost.key not in broken:
                broken[cost.key] = check_output(folder)
                yield from (f"{folder}: {problem}" for problem in broken[cost.key])
            if not broken[cost.key]:
                entry = read_entry(folder)
                yield from (f"{record.place}: {line}" for line in _compare(record, stage, cost, entry))


def _compare(record: Record, stage: str, cost: StageCost, entry: Entry) -> Iterator[str]:
    if entry.digest != cost.output_digest:
        yield f"stages.{stage}.output_digest: reads {cost.output_digest[:16]}..., the store has {entry.digest[:16]}..."
    expected = {}
    if stage == "train" and record.training is not None:
        expected[WEIGHTS_FILE] = ("training.weights_sha256", record.training.weights_sha256)
    # The key of a stage is that of the first result.
    if stage in ("baseline", "evaluate") and record.embeddings_sha256 is not None:
        expected[EMBEDDINGS_FILE] = ("embeddings_sha256", record.embeddings_sha256)
    for name, (place, recorded) in expected.items():
        kept = entry.files.get(name)
        if kept is not None and kept != recorded:
            yield f"{place}: reads {recorded[:16]}..., the store's {name} has {kept[:16]}..."
