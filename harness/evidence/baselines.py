"""The untrained values follow from locked weights and data alone, so anybody can have them computed again."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.evidence.determinism import Attempt, run_anew
from harness.experiment.claims import BASELINE
from harness.records.record import Record, Result


@dataclass(frozen=True)
class Rerun:
    """How trials are run again: on which device, with the checked sources of which store, with whose data folder."""

    device: str = "auto"
    sources: Path | None = None
    data_dir: Path | None = None


def rerun_baselines(records: Sequence[Record], experiments: Path, rerun: Rerun) -> Iterator[str]:
    """Run every untrained trial again, from its lock, in a store of its own, and say what differs.

    Queries, judgements and the digest of the prepared data must be the same, and each mean within one query's worth,
    1/Q: another processor rounds otherwise, which may change the order of two passages that are nearly as good.

    Raises:
        HarnessError: a trial cannot be run here.
    """
    for record in records:
        if record.trial.variant != BASELINE:
            continue
        manifest = experiments / f"{record.trial.experiment}.toml"
        with tempfile.TemporaryDirectory(prefix="harness-baseline-") as name:
            attempt = Attempt(
                manifest=str(manifest),
                experiments=experiments,
                trial=record.trial.id,
                device=rerun.device,
                precision=None,
                data_dir=rerun.data_dir,
                sources=rerun.sources,
                folder=Path(name),
            )
            found = run_anew(attempt, record.trial).record
        for on, result in record.evaluations.items():
            if on not in found.evaluations:
                yield f"{record.place}: {on}: the manifest gives no such result"
                continue
            yield from (f"{record.place}: {on}: {line}" for line in _compare(result, found.evaluations[on]))


def _compare(recorded: Result, found: Result) -> Iterator[str]:
    if recorded.data != found.data:
        yield f"data: reads {recorded.data}, the locked data give {found.data}"
    if (recorded.query_ids, recorded.qrels.sha256) != (found.query_ids, found.qrels.sha256):
        yield "queries and judgements are not those of the locked data"
        return
    for measure, mean in found.values.items():
        value = recorded.values.get(measure)
        if value is None or abs(value - mean) > 1 / len(found.query_ids):
            yield f"values[{measure!r}]: reads {value}, the locked weights and data give {mean}"
