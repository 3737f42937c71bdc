"""Where trials run: one after another in this process, or beside each other on a cluster.

`open_engine` gives an `Engine`, which takes trials and gives their records. ``driver`` and ``worker`` are the two ends
of a trial that runs elsewhere, and know of no cluster; the driver alone writes results. ``ray_engine`` is the only
module that knows of Ray; another cluster goes into a module beside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.core.door import open_door

if TYPE_CHECKING:
    from harness.engines.choice import open_engine as open_engine
    from harness.engines.engine import Engine as Engine
    from harness.engines.engine import EngineConfig as EngineConfig

__getattr__, __dir__ = open_door(
    __name__, {"harness.engines.choice": "open_engine", "harness.engines.engine": "Engine EngineConfig"}
)
