"""The stage between prepare and train where a recipe wants negatives that its data do not have."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.experiment.negatives import Negatives
from harness.models.encoding import Encoding
from harness.models.mining import mine_negatives
from harness.pipeline.cost import Meter
from harness.pipeline.dataset import TRAIN_FILE, read_train, write_train
from harness.pipeline.rows import Row
from harness.pipeline.stages import VERSIONS, Prepared, list_encoding, list_numeric_inputs
from harness.pipeline.store import Cost, Output, Store
from harness.records.record import MiningLog


@dataclass(frozen=True)
class Mined:
    """The rows with their negatives, how many were found, and the stored output."""

    rows: tuple[Row, ...]
    log: MiningLog
    output: Output


def mine(
    folder: Path,
    model_digest: str,
    prepared: Prepared,
    negatives: Negatives,
    *,
    device: str,
    encoding: Encoding,
    store: Store,
) -> Mined:
    """Find negatives for the train part's rows, among its own passages; rows without enough are left out.

    Args:
        folder: of the model that looks for them.
        model_digest: of its files.
        prepared: the recipe's data.
        negatives: the manifest's bounds.
        device: ``cpu`` or ``cuda:0``.
        encoding: how the manifest wants the model asked.
        store: where the output is kept.

    Raises:
        SourceError: the model cannot be loaded.
        TrainingError: no row has enough negatives.
        StoreError: the store cannot be used.
    """
    given = prepared.data.train

    def make(target: Path, _: Path) -> Cost:
        with Meter(device) as meter:
            pairs = [(row.query, row.passage) for row in given]
            found = mine_negatives(folder, pairs, negatives, device=device, encoding=encoding)
            write_train(target, _join(given, found))
        return meter.cost

    inputs = {
        "version": VERSIONS["mine"],
        "model": model_digest,
        "pairs": prepared.output.entry.files[TRAIN_FILE],
        "negatives": negatives.arguments,
        **list_encoding(encoding),
        **list_numeric_inputs(device),
    }
    output = store.get_or_make("mine", inputs, make)
    rows = read_train(output.folder)
    return Mined(rows, MiningLog(model=negatives.model, given_rows=len(given), mined_rows=len(rows)), output)


def _join(rows: Sequence[Row], found: Mapping[tuple[str, str], tuple[str, ...]]) -> tuple[Row, ...]:
    """Give rows their negatives, in the order of the rows, which the sampler draws from."""
    return tuple(
        dataclasses.replace(row, negatives=found[row.query, row.passage])
        for row in rows
        if (row.query, row.passage) in found
    )
