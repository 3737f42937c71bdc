"""Where files come from, each held against the lock.

A new kind of source is declared in `harness.experiment.data`, fetched by a module beside ``hub`` (repositories) and
``wheels`` (packages of Python), and chosen in ``fetch``. Locks need no change: ``locking`` writes the hashes of
whatever was fetched, ``offline`` copies it to a folder that runs without a network.
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
