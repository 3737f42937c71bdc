"""A candidate against the accepted reference: worse, no worse, suspect, or not comparable.

A new limit goes into ``policy``, the rule that uses it into ``quality`` (measures) or ``costs`` (seconds, bytes),
whose cells ``compare`` puts together. ``reference`` replaces what is accepted, ``golden`` keeps the fixed one
beside it; ``report`` and ``acceptance_report`` build the documents that `harness.report` renders; ``simulation``
says how often the gate errs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.core.door import open_door

if TYPE_CHECKING:
    from harness.gate.compare import GateReport as GateReport
    from harness.gate.compare import compare as compare
    from harness.gate.policy import Policy as Policy
    from harness.gate.policy import read_policy as read_policy
    from harness.gate.reference import accept as accept
    from harness.gate.reference import plan_acceptance as plan_acceptance
    from harness.gate.report import build_gate_report as build_gate_report

__getattr__, __dir__ = open_door(
    __name__,
    {
        "harness.gate.compare": "compare GateReport",
        "harness.gate.policy": "Policy read_policy",
        "harness.gate.reference": "accept plan_acceptance",
        "harness.gate.report": "build_gate_report",
    },
)
