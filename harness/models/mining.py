"""Hard negatives are found by Sentence Transformers' own function, for pairs of the train part, among its passages."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.errors import TrainingError
from harness.experiment.negatives import Negatives
from harness.models.device import full_precision, memory_errors
from harness.models.encoder import apply_length
from harness.models.encoding import Encoding
from harness.models.failures import model_errors
from harness.models.loading import load_model

Pair = tuple[str, str]


def mine_negatives(
    folder: Path, pairs: Sequence[Pair], negatives: Negatives, *, device: str, encoding: Encoding
) -> Mapping[Pair, tuple[str, ...]]:
    """Return the negatives of each (query, passage) pair that has enough; all passages of a query are kept out of them.

    Args:
        folder: of the model that looks for them.
        pairs: texts of the train part.
        negatives: the manifest's bounds.
        device: ``cpu`` or ``cuda:0``.
        encoding: how the manifest wants the model asked.

    Raises:
        SourceError: the model cannot be loaded, or cannot embed these texts.
        TrainingError: there are fewer passages than ranks asked for, or no pair has enough negatives.
    """
    from datasets import Dataset  # noqa: PLC0415 - heavy
    from sentence_transformers.util import mine_hard_negatives  # noqa: PLC0415 - heavy

    passages = len({passage for _, passage in pairs})
    if passages < negatives.range_max:
        raise TrainingError(f"negatives: range_max is {negatives.range_max}, the train part has {passages} passages")
    model = load_model(folder, device=device)
    apply_length(model, encoding, place=str(folder))
    if encoding.similarity is not None:
        model.similarity_fn_name = encoding.similarity
    table = Dataset.from_dict({"query": [query for query, _ in pairs], "passage": [passage for _, passage in pairs]})
    arguments: dict[str, Any] = dict(negatives.arguments)
    # Its progress bars cannot be switched off, and would run into our own.
    bars = contextlib.redirect_stderr(io.StringIO())
    with (
        bars,
        full_precision(),
        memory_errors("mining negatives", advice="free some, or take a smaller model", error=TrainingError),
        model_errors(model, "mine negatives", place=str(folder)),
    ):
        mined = mine_hard_negatives(
            table,
            model,
            anchor_column_name="query",
            positive_column_name="passage",
            query_prompt=encoding.query_prompt,
            corpus_prompt=encoding.passage_prompt,
            output_format="n-tuple",
            sampling_strategy="top",
            verbose=False,
            **arguments,
        )
    columns = [name for name in mined.column_names if name.startswith("negative")]
    found = {(row["query"], row["passage"]): tuple(str(row[name]) for name in columns) for row in mined}
    if not found:
        raise TrainingError(f"negatives: none of {len(pairs)} rows has {negatives.num_negatives} within the bounds")
    return found
