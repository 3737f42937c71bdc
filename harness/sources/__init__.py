"""Where files come from, each held against the lock.

A new kind of source goes here: its declaration into `harness.experiment.data`, its fetching beside ``hub`` and
``wheels``, its case into ``fetch``. ``locking`` makes locks, ``offline`` a folder that runs without a network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.core.door import open_door

if TYPE_CHECKING:
    from harness.sources.fetch import Fetched as Fetched
    from harness.sources.fetch import Fetcher as Fetcher
    from harness.sources.locking import prepare_lock as prepare_lock
    from harness.sources.locking import write_lock as write_lock
    from harness.sources.offline import pack_parcel as pack_parcel

__getattr__, __dir__ = open_door(
    __name__,
    {
        "harness.sources.fetch": "Fetcher Fetched",
        "harness.sources.locking": "prepare_lock write_lock",
        "harness.sources.offline": "pack_parcel",
    },
)
