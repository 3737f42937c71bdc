"""What is declared: data, models, recipes, measures, claims, and the lock that pins the sources.

A new key of the manifest goes into the module of its table: ``data``, ``model``, ``recipe``, ``evaluation``,
``claims`` or ``comparisons``; ``manifest`` is what they are together. ``measure`` knows the names of measures and
``recipe`` those of losses. ``trial`` spells out what is run; ``lock`` holds the hashes that sources are checked
against.

``upgrade`` reads manifests of version 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.core.door import open_door

if TYPE_CHECKING:
    from harness.experiment.lock import Lock as Lock
    from harness.experiment.lock import read_lock as read_lock
    from harness.experiment.manifest import Experiment as Experiment
    from harness.experiment.manifest import read_experiment as read_experiment
    from harness.experiment.measure import parse_measure as parse_measure
    from harness.experiment.trial import Trial as Trial
    from harness.experiment.trial import list_trials as list_trials
    from harness.experiment.trial import narrow as narrow

__getattr__, __dir__ = open_door(
    __name__,
    {
        "harness.experiment.manifest": "Experiment read_experiment",
        "harness.experiment.trial": "Trial list_trials narrow",
        "harness.experiment.lock": "Lock read_lock",
        "harness.experiment.measure": "parse_measure",
    },
)
