"""What a manifest of version 2 can say and nothing acts on so far: refused before a run, never passed over."""

from __future__ import annotations

from collections.abc import Iterator

from harness.errors import ManifestError
from harness.experiment.data import Data
from harness.experiment.manifest import Experiment


def refuse_not_yet(experiment: Experiment) -> None:
    """Refuse an experiment that says what nothing here acts on.

    Raises:
        ManifestError: naming all of it.
    """
    found = list(_list_not_yet(experiment))
    if found:
        raise ManifestError(f"{experiment.name}: not yet: {'; '.join(found)}")


def _list_not_yet(experiment: Experiment) -> Iterator[str]:
    yield from (f"evaluation on {one}" for one in experiment.evaluation.test_sets if one.part != "test")
    for name, data in experiment.data.items():
        yield from _list_of_data(name, data)
    yield from (key for key in ("comparisons", "forgetting") if getattr(experiment, key))


def _list_of_data(name: str, data: Data) -> Iterator[str]:
    if data.format == "beir":
        yield f"data.{name}.format 'beir'"
    if data.format == "table" and (data.columns is None or data.columns.id is None):
        yield f"data.{name}: a table without ids"
    if data.part_names != ("train", "test"):
        yield f"data.{name}: other parts than train and test, both of them"
