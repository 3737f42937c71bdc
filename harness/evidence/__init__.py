"""What a stranger can check, and what is published.

A new check goes into ``binding`` (records against manifest, machine, git and one another) or ``recompute`` (values
from runs), and is called in ``verify``; what nobody can recompute is listed in ``attested``. ``baselines`` runs
untrained models again, ``determinism`` a whole trial twice. ``bundle`` packs all evidence; ``publish`` and
``model_card`` are what the hub gets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.core.door import open_door

if TYPE_CHECKING:
    from harness.evidence.bundle import unpack_bundle as unpack_bundle
    from harness.evidence.bundle import write_bundle as write_bundle
    from harness.evidence.determinism import compare_outcomes as compare_outcomes
    from harness.evidence.determinism import rerun_trial as rerun_trial
    from harness.evidence.publish import gather as gather
    from harness.evidence.publish import push as push
    from harness.evidence.verify import verify_bundle as verify_bundle
    from harness.evidence.verify import verify_results as verify_results

__getattr__, __dir__ = open_door(
    __name__,
    {
        "harness.evidence.verify": "verify_results verify_bundle",
        "harness.evidence.bundle": "write_bundle unpack_bundle",
        "harness.evidence.determinism": "rerun_trial compare_outcomes",
        "harness.evidence.publish": "gather push",
    },
)
