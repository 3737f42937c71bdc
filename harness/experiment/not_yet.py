"""What a manifest of version 2 can say and nothing acts on so far: refused before a run, never passed over."""

from __future__ import annotations

from collections.abc import Iterator

from harness.errors import ManifestError
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
    yield from (key for key in ("comparisons", "forgetting") if getattr(experiment, key))
