"""A trial from sources to record: prepare, baseline, train, evaluate.

A new file format of tables (as Avro) goes into ``tables``, a new layout (as BEIR) into a module beside ``beir`` and
``obo``, both with a case in ``load_data``; `harness.experiment.data` names layouts. A new stage goes into
``stages`` and ``run_trial``.

``store`` keeps what stages make, ``selection`` turns what a person types into one experiment, ``doctor`` says what
a machine can run, ``init_experiment`` makes a first manifest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.core.door import open_door

if TYPE_CHECKING:
    from harness.pipeline.doctor import examine as examine
    from harness.pipeline.progress import Progress as Progress
    from harness.pipeline.run_trial import run_trial as run_trial
    from harness.pipeline.selection import select_experiment as select_experiment
    from harness.pipeline.store import Store as Store

__getattr__, __dir__ = open_door(
    __name__,
    {
        "harness.pipeline.run_trial": "run_trial",
        "harness.pipeline.selection": "select_experiment",
        "harness.pipeline.store": "Store",
        "harness.pipeline.progress": "Progress",
        "harness.pipeline.doctor": "examine",
    },
)
