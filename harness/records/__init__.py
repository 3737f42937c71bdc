"""What is kept of a trial, and how a value follows from it.

A new field of a record goes into ``record``; a new measure is computed in ``measures`` (named in
`harness.experiment.measure`). ``run`` and ``trec`` read and write ranked lists and judgements, ``artifacts`` the files
beside records, ``untrusted`` records that a stranger may have written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.core.door import open_door

if TYPE_CHECKING:
    from harness.records.measures import average as average
    from harness.records.measures import evaluate_run as evaluate_run
    from harness.records.record import Record as Record
    from harness.records.record import read_record as read_record
    from harness.records.record import read_records as read_records
    from harness.records.record import write_record as write_record
    from harness.records.run import Run as Run
    from harness.records.run import read_run as read_run
    from harness.records.untrusted import take_in as take_in

__getattr__, __dir__ = open_door(
    __name__,
    {
        "harness.records.record": "Record read_record read_records write_record",
        "harness.records.run": "Run read_run",
        "harness.records.measures": "evaluate_run average",
        "harness.records.untrusted": "take_in",
    },
)
