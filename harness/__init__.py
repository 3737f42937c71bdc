"""A benchmark and reproducibility harness for fine-tuned retrieval embeddings.

    >>> experiment = harness.read_experiment(Path("my.toml"))
    >>> records = harness.read_records(Path("results/records/my"))
    >>> verdicts = harness.judge(experiment, records)

Rooms and the command line, whose imports point one way, from the bottom up (contracts in pyproject.toml):

    core          words, files, strict parsing
    experiment    what is declared
    records       what is kept of a trial
    sources       where files come from
    models        torch: load, embed, search, train    |   analysis   statistics on records
    pipeline      a trial from sources to record       |   report     one document, many renderers
    evidence      what a stranger can check            |   gate       candidate against reference
    engines       where trials run
    cli, pytest_plugin (with the other modules of pytest_)

Each room's docstring says what goes there; tests/unit mirrors the rooms, docs/ is for users.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.core.door import open_door

if TYPE_CHECKING:
    from harness.analysis.verdict import judge as judge
    from harness.experiment.manifest import read_experiment as read_experiment
    from harness.gate.compare import compare as compare
    from harness.pipeline.run_trial import run_trial as run_trial
    from harness.records.record import read_records as read_records
    from harness.report.experiment import build_report as build_report

_get, __dir__ = open_door(
    __name__,
    {
        "harness.experiment.manifest": "read_experiment",
        "harness.pipeline.run_trial": "run_trial",
        "harness.records.record": "read_records",
        "harness.analysis.verdict": "judge",
        "harness.gate.compare": "compare",
        "harness.report.experiment": "build_report",
    },
)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version  # noqa: PLC0415 - reading it takes longer than all else here

        return version("retrieval-harness")
    return _get(name)
