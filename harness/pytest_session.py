"""What one session of pytest wants and has met: its options, its experiment, its cases and their records."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import HarnessError

if TYPE_CHECKING:
    from harness.engines.engine import EngineConfig
    from harness.experiment.trial import Trial
    from harness.pipeline.selection import RunConfig, Selected
    from harness.records.record import Record
    from harness.report.document import Report

CASES = "harness.pytest_cases"
TRIAL_CASE, CLAIMS_CASE = "test_experiment_trial", "test_experiment_claims"


@dataclasses.dataclass
class Session:
    """What one session of pytest has met of our cases."""

    ours: bool = False
    session: pytest.Session | None = None
    manifest: Path | None = None
    selected: Selected | None = None
    records: list[Record] = dataclasses.field(default_factory=list)
    stored: list[Record] = dataclasses.field(default_factory=list)
    report: Report | None = None
    unjudged: set[str] = dataclasses.field(default_factory=set)
    missed: int = 0
    failures: list[str] = dataclasses.field(default_factory=list)
    token: str | None = None
    starved: bool = False


SESSION = pytest.StashKey[Session]()


def add_options(parser: pytest.Parser) -> None:
    """Add the options of an experiment to pytest's own."""
    group = parser.getgroup("harness", "reproduce a fine-tuning experiment: pytest MANIFEST.toml")

    def add(name: str, **more: Any) -> None:
        group.addoption(f"--harness-{name}", dest=f"harness_{name.replace('-', '_')}", **more)

    add("experiment", metavar="NAME", help="for cases in test files: name or manifest (default: what can run here)")
    add("models", metavar="A,B", help="only these models of the experiment")
    add("seeds", metavar="N|A,B", help="a count (3) or a list with a comma (0,5)")
    add("device", default="auto", help="auto, cpu or cuda:N (default: a GPU where there is one)")
    add("precision", metavar="P", help="of training: fp16, bf16 or fp32 (default: the manifest's)")
    add("store", metavar="DIR", help="where stage outputs are kept (default: .store in pytest's rootdir)")
    add("results", metavar="DIR", help="where records and tables go (default: results in pytest's rootdir)")
    add("report-to", metavar="A,B", default="", help="trackers beside TensorBoard, as wandb or trackio")
    add("data-dir", metavar="DIR", help="folder in place of the manifest's data folder")
    add("engine", default="local", metavar="local|ray", help="where trials run: one by one here, or on a Ray cluster")
    add("address", metavar="auto|HOST:PORT", help="of a running Ray cluster (default: one is started on this machine)")
    add("parallel", type=int, metavar="N", help="most trials at a time (default: as many as there is room for)")
    add("gpus-per-trial", type=float, metavar="F", help="of Ray, as 1 or 0.5 (default: 1 where there are GPUs)")
    add("cpus-per-trial", type=int, metavar="N", help="of Ray, and threads of a trial (default: torch's own number)")


def is_ours(function: object) -> bool:
    """Say whether a test function is one of our cases."""
    return getattr(function, "__module__", None) == CASES


def name_case(item: pytest.Item) -> str:
    """Return the name of a case's function."""
    return str(getattr(item, "originalname", item.name))


def find_trial(item: pytest.Item) -> Trial | None:
    """Return the trial that a case runs, or None where it runs none."""
    from harness.experiment.trial import Trial  # noqa: PLC0415 - only for our own cases

    if not isinstance(item, pytest.Function) or not is_ours(item.function) or name_case(item) != TRIAL_CASE:
        return None
    trial = item.callspec.params["trial"]
    return trial if isinstance(trial, Trial) else None


def select(config: pytest.Config) -> Selected:
    """Choose the experiment once per session; a bad one ends it with exit code 2, before anything runs."""
    session = config.stash[SESSION]
    if session.selected is None:
        from harness.pipeline.selection import select_experiment  # noqa: PLC0415 - only for our own cases
        from harness.sources.hub_client import check_variables  # noqa: PLC0415 - likewise

        wanted = read_config(config)
        try:
            check_variables(os.environ)
            session.selected = select_experiment(wanted, config.rootpath / "benchmarks" / "experiments")
        except HarnessError as error:
            said = f"{type(error).__name__}: {error}"
            # Every module of cases meets it; the session ends before any of them runs.
            if said not in session.failures:
                session.failures.append(said)
            # Of this error pytest shows the message alone; of pytest.exit() it would show a traceback here.
            raise pytest.Collector.CollectError(said) from error
    return session.selected


def read_config(config: pytest.Config) -> RunConfig:
    """Return how the user wants the run."""
    from harness.pipeline.selection import RunConfig  # noqa: PLC0415 - only for our own cases

    def get(name: str) -> Any:
        return config.getoption(f"harness_{name}")

    manifest = config.stash[SESSION].manifest
    return RunConfig(
        experiment=get("experiment") if manifest is None else str(manifest),
        models=get("models"),
        seeds=get("seeds"),
        device=get("device"),
        precision=get("precision"),
        store=Path(get("store") or config.rootpath / ".store"),
        results=Path(get("results") or config.rootpath / "results"),
        data_dir=Path(get("data_dir")) if get("data_dir") else None,
        trackers=tuple(name.strip() for name in get("report_to").split(",") if name.strip()),
    )


def read_engine(config: pytest.Config) -> EngineConfig:
    """Return where the user wants trials to run."""
    from harness.engines.engine import EngineConfig  # noqa: PLC0415 - only for our own cases

    names = ("address", "parallel", "gpus_per_trial", "cpus_per_trial")
    return EngineConfig(
        config.getoption("harness_engine"), **{name: config.getoption(f"harness_{name}") for name in names}
    )
