"""Statistics, from records to verdicts: no files, no torch.

A new test or interval goes here: over queries into ``paired_queries``, over seeds into ``seeds`` and ``spread``, on
printed values into ``equivalence``; ``verdict`` says what they mean for an experiment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.core.door import open_door

if TYPE_CHECKING:
    from harness.analysis.equivalence import decide as decide
    from harness.analysis.equivalence import judge_agreement as judge_agreement
    from harness.analysis.paired_queries import holm as holm
    from harness.analysis.paired_queries import sign_flip_test as sign_flip_test
    from harness.analysis.spread import moderate as moderate
    from harness.analysis.spread import pool_spread as pool_spread
    from harness.analysis.verdict import ExperimentVerdict as ExperimentVerdict
    from harness.analysis.verdict import judge as judge

__getattr__, __dir__ = open_door(
    __name__,
    {
        "harness.analysis.verdict": "judge ExperimentVerdict",
        "harness.analysis.spread": "moderate pool_spread",
        "harness.analysis.equivalence": "decide judge_agreement",
        "harness.analysis.paired_queries": "sign_flip_test holm",
    },
)
