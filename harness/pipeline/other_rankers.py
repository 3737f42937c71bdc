"""The stage ``baseline`` of what is no encoder: BM25, and the ranked lists that another system wrote."""

from __future__ import annotations

import dataclasses
import importlib.metadata
from collections.abc import Mapping
from pathlib import Path

from harness.errors import SourceError
from harness.experiment.evaluation import Evaluation
from harness.models.bm25 import BM25, Bm25, rank_bm25
from harness.pipeline.cost import Meter
from harness.pipeline.stages import VERSIONS, Notes, PreparedTest, Retrieved, name_run_file, read_retrieved, write_notes
from harness.pipeline.store import Cost, Store
from harness.records.foreign_run import note_missing, read_foreign_run
from harness.records.record import StageName
from harness.records.run import write_run

STAGE: StageName = "baseline"
ENDINGS = (".run.gz", ".run")


def rank_words(test: PreparedTest, evaluation: Evaluation, *, store: Store, settings: Bm25 = BM25) -> Retrieved:
    """Rank the corpus for every query of a test set by BM25.

    Raises:
        DataError: no passage has a word.
        StoreError: the store cannot be used.
    """
    data = test.data

    def make(target: Path, _: Path) -> Cost:
        with Meter("cpu") as meter:
            run = rank_bm25(data.queries, data.corpus, top_k=evaluation.top_k, settings=settings)
        write_run(run, target / name_run_file(None))
        write_notes(target, Notes(truncated_texts=0))
        return meter.cost

    inputs = {
        "version": VERSIONS[STAGE],
        "bm25": list_parameters(settings),
        "data": test.output.entry.digest,
        "part": test.part,
        "top_k": evaluation.top_k,
    }
    return read_retrieved(store.get_or_make(STAGE, inputs, make))


def list_parameters(settings: Bm25 = BM25) -> dict[str, str | float]:
    """Return what decides BM25's values: its parameters and the package's version."""
    return {**dataclasses.asdict(settings), "bm25s": importlib.metadata.version("bm25s")}


def take_run(
    folder: Path, files: Mapping[str, str], on: str, test: PreparedTest, evaluation: Evaluation, *, store: Store
) -> Retrieved:
    """Take the ranked lists of another system, DATA.PART.run or DATA.PART.run.gz, in the order of the tie rule.

    Args:
        folder: with the checked files.
        files: their names and SHA-256 sums.
        on: the test set, DATA/PART.
        test: the test set's data.
        evaluation: says how many ranks are kept.
        store: where the output is kept.

    Raises:
        SourceError: there is no such file, or there are two.
        DataError: the file is no run of these queries and passages.
        StoreError: the store cannot be used.
    """
    names = [name for ending in ENDINGS if (name := on.replace("/", ".") + ending) in files]
    if len(names) != 1:
        expected = " or ".join(on.replace("/", ".") + ending for ending in ENDINGS)
        raise SourceError(f"{folder}: expected one file {expected}, found {', '.join(names or files) or 'none'}")
    data = test.data

    def make(target: Path, _: Path) -> Cost:
        with Meter("cpu") as meter:
            run = read_foreign_run(
                folder / names[0], queries=data.queries, passages=data.corpus, top_k=evaluation.top_k
            )
        write_run(run, target / name_run_file(None))
        write_notes(target, Notes(truncated_texts=0, notes=note_missing(run, data.queries)))
        return meter.cost

    inputs = {
        "version": VERSIONS[STAGE],
        "run": files[names[0]],
        "data": test.output.entry.digest,
        "part": test.part,
        "top_k": evaluation.top_k,
    }
    return read_retrieved(store.get_or_make(STAGE, inputs, make))
