"""pytest options, fixtures and terminal summary that turn an experiment's trials into test cases."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import HarnessError, ThresholdMissed
from harness.trial import Trial, list_trials

if TYPE_CHECKING:
    from harness.pipeline import Workplace
    from harness.progress import Progress
    from harness.record import Record
    from harness.selection import Selected

SELECTED = pytest.StashKey["Selected"]()
FAILURES = pytest.StashKey[list[str]]()
RECORDS = pytest.StashKey["list[Record]"]()
EXIT_CODE = 2


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of an experiment."""
    group = parser.getgroup("harness", "reproduce a fine-tuning experiment")
    group.addoption("--experiment", metavar="NAME", help="name or manifest (default: by what this machine can do)")
    group.addoption("--models", metavar="A,B", help="only these models of the experiment")
    group.addoption("--seeds", metavar="N|A,B", help="a count (3) or a list with a comma (0,5)")
    group.addoption("--device", default="auto", help="auto, cpu or cuda:N (default: a GPU where there is one)")
    group.addoption("--precision", choices=["fp16", "bf16", "fp32"], help="of training (default: the manifest's)")
    group.addoption("--store", metavar="DIR", help="where stage outputs are kept (default: .store)")
    group.addoption("--results", metavar="DIR", help="where records and tables go (default: results)")
    group.addoption("--data-dir", metavar="DIR", help="folder in place of the manifest's data folder")


def pytest_configure(config: pytest.Config) -> None:
    """Start with nothing seen."""
    config.stash[FAILURES] = []
    config.stash[RECORDS] = []


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make one case per trial for a test that takes ``trial``."""
    if "trial" in metafunc.fixturenames:
        trials = list(list_trials(_select(metafunc.config).experiment))
        metafunc.parametrize("trial", trials, ids=[trial.id for trial in trials])


def pytest_report_collectionfinish(config: pytest.Config) -> list[str]:
    """Say which experiment was taken and why, before anything runs."""
    selected = config.stash.get(SELECTED, None)
    if selected is None:
        return []
    experiment = selected.experiment
    trials = list(list_trials(experiment))
    lines = [
        f"experiment {experiment.name}: {selected.reason}",
        f"{experiment.title}: {len(trials)} trials, seeds {', '.join(map(str, experiment.seeds))}",
    ]
    if experiment.published is not None and experiment.published.not_comparable:
        lines.append(f"{experiment.published.not_comparable}: not comparable with the published values cell by cell")
    return lines


@pytest.fixture(scope="session")
def selected(pytestconfig: pytest.Config) -> Selected:
    """The experiment as the user wants it run, with its lock."""
    return _select(pytestconfig)


@pytest.fixture(scope="session")
def workplace(selected: Selected, pytestconfig: pytest.Config) -> Workplace:
    """Device, store, results and machine."""
    from harness.pipeline import open_workplace  # noqa: PLC0415 - loads torch

    data_dir = pytestconfig.getoption("data_dir") or os.environ.get("HARNESS_DATA_DIR")
    return open_workplace(
        selected.experiment,
        selected.lock,
        base=selected.base,
        store=Path(pytestconfig.getoption("store") or pytestconfig.rootpath / ".store"),
        results=_find_results(pytestconfig),
        device=pytestconfig.getoption("device"),
        precision=pytestconfig.getoption("precision"),
        data_dir=Path(data_dir) if data_dir else None,
    )


@pytest.fixture(scope="session")
def progress(selected: Selected, pytestconfig: pytest.Config) -> Progress:
    """Progress, written past pytest's capturing."""
    from harness.progress import Progress  # noqa: PLC0415 - only where trials run

    return Progress(_Terminal(pytestconfig), list(list_trials(selected.experiment)))


@pytest.fixture
def keep_record(pytestconfig: pytest.Config) -> Any:
    """Remember a record for the summary at the end."""
    return pytestconfig.stash[RECORDS].append


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show our own errors as their message, and remember those that mean that the run could not be made."""
    report = yield
    if call.excinfo is not None and isinstance(call.excinfo.value, HarnessError):
        report.longrepr = f"{type(call.excinfo.value).__name__}: {call.excinfo.value}"
        if not isinstance(call.excinfo.value, ThresholdMissed):
            item.config.stash[FAILURES].append(item.nodeid)
    return report


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the tables; end with 2 where the run could not be made."""
    if session.config.stash[RECORDS]:
        from harness.markdown import write_tables  # noqa: PLC0415 - only where trials ran

        try:
            write_tables(_find_results(session.config))
        except HarnessError as error:
            session.config.stash[FAILURES].append(str(error))
    if session.config.stash[FAILURES]:
        session.exitstatus = EXIT_CODE


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Show the tables of what ran."""
    records = config.stash[RECORDS]
    if records:
        from harness.terminal import render_terminal  # noqa: PLC0415 - only where trials ran

        terminalreporter.section(records[0].trial.experiment)
        terminalreporter.write_line(render_terminal(records))
        results = _find_results(config)
        terminalreporter.write_line(f"tables: {results / (records[0].trial.experiment + '.md')}")
    for failure in config.stash[FAILURES]:
        terminalreporter.write_line(f"could not be made: {failure}", red=True)


def _select(config: pytest.Config) -> Selected:
    """Choose the experiment once per session; a bad one ends it with exit code 2."""
    if SELECTED not in config.stash:
        from harness.selection import select_experiment  # noqa: PLC0415 - only where trials are wanted

        try:
            config.stash[SELECTED] = select_experiment(
                config.getoption("experiment"),
                config.rootpath / "benchmarks" / "experiments",
                models=config.getoption("models"),
                seeds=config.getoption("seeds"),
            )
        except HarnessError as error:
            pytest.exit(f"{type(error).__name__}: {error}", returncode=error.exit_code)
    return config.stash[SELECTED]


def _find_results(config: pytest.Config) -> Path:
    return Path(config.getoption("results") or config.rootpath / "results")


class _Terminal(io.TextIOBase):
    """The terminal as it is outside of pytest's capturing."""

    def __init__(self, config: pytest.Config) -> None:
        self._capture = config.pluginmanager.getplugin("capturemanager")
        with self._capture.global_and_fixture_disabled():
            self._interactive = sys.stdout.isatty()
        self._fresh = True

    def write(self, text: str) -> int:
        with self._capture.global_and_fixture_disabled():
            # pytest leaves the cursor behind the name of the case.
            written = sys.stdout.write(f"\n{text}" if self._fresh else text)
            sys.stdout.flush()
        self._fresh = False
        return written

    def flush(self) -> None:
        """Every write is flushed already."""

    def isatty(self) -> bool:
        return self._interactive


def describe(record: Record) -> dict[str, Any]:
    """Return what a benchmark's ``extra_info`` should carry of a record."""
    return {
        "trial": record.trial.id,
        "values": dict(record.values),
        "seconds": {stage: cost.seconds for stage, cost in record.stages.items()},
        "cached": {stage: cost.cached for stage, cost in record.stages.items()},
        "device": record.device_name,
    }


__all__ = ["Trial", "describe"]
