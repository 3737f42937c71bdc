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
from harness.experiment.trial import list_trials

if TYPE_CHECKING:
    from harness.pipeline.progress import Progress
    from harness.pipeline.run_trial import Workplace
    from harness.pipeline.selection import Selected
    from harness.records.record import Record
    from harness.report.document import Report

SELECTED = pytest.StashKey["Selected"]()
FAILURES = pytest.StashKey[list[str]]()
RECORDS = pytest.StashKey["list[Record]"]()
STORED = pytest.StashKey["list[Record]"]()
REPORT = pytest.StashKey["Report"]()
UNJUDGED = pytest.StashKey[set[str]]()
EXIT_CODE = 2


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of an experiment."""
    group = parser.getgroup("harness", "reproduce a fine-tuning experiment")
    group.addoption("--experiment", metavar="NAME", help="name or manifest (default: by what this machine can do)")
    group.addoption("--models", metavar="A,B", help="only these models of the experiment")
    group.addoption("--seeds", metavar="N|A,B", help="a count (3) or a list with a comma (0,5)")
    group.addoption("--device", default="auto", help="auto, cpu or cuda:N (default: a GPU where there is one)")
    group.addoption("--precision", metavar="P", help="of training: fp16, bf16 or fp32 (default: the manifest's)")
    group.addoption("--store", metavar="DIR", help="where stage outputs are kept (default: .store)")
    group.addoption("--results", metavar="DIR", help="where records and tables go (default: results)")
    group.addoption("--report-to", metavar="A,B", default="", help="trackers beside TensorBoard, as wandb or trackio")
    group.addoption("--data-dir", metavar="DIR", help="folder in place of the manifest's data folder")


def pytest_configure(config: pytest.Config) -> None:
    """Start with nothing seen."""
    config.stash[FAILURES] = []
    config.stash[RECORDS] = []
    config.stash[STORED] = []


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make one case per trial for a test that takes ``trial``."""
    if "trial" in metafunc.fixturenames:
        trials = list(list_trials(_select(metafunc.config).experiment))
        metafunc.parametrize("trial", trials, ids=[trial.id for trial in trials])
    if "cell" in metafunc.fixturenames:
        experiment = _select(metafunc.config).experiment
        cells = list(dict.fromkeys((trial.model, trial.variant) for trial in list_trials(experiment)))
        metafunc.parametrize("cell", cells, ids=["/".join((experiment.name, *cell)) for cell in cells])


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
    from harness.pipeline.run_trial import open_workplace  # noqa: PLC0415 - loads torch
    from harness.pipeline.selection import choose_data_dir  # noqa: PLC0415 - see _select

    try:
        return open_workplace(
            selected.experiment,
            selected.lock,
            base=selected.base,
            store=Path(pytestconfig.getoption("store") or pytestconfig.rootpath / ".store"),
            results=_find_results(pytestconfig),
            device=pytestconfig.getoption("device"),
            precision=pytestconfig.getoption("precision"),
            trackers=[name.strip() for name in pytestconfig.getoption("report_to").split(",") if name.strip()],
            data_dir=choose_data_dir(pytestconfig.getoption("data_dir"), selected.experiment, os.environ),
        )
    except HarnessError as error:
        # No trial can be made, and each would say so again.
        pytest.exit(f"{type(error).__name__}: {error}", returncode=EXIT_CODE)


@pytest.fixture(scope="session")
def progress(selected: Selected, pytestconfig: pytest.Config) -> Progress:
    """Progress, written past pytest's capturing."""
    from harness.pipeline.progress import Progress  # noqa: PLC0415 - only where trials run

    return Progress(_Terminal(pytestconfig), list(list_trials(selected.experiment)))


@pytest.fixture
def keep_record(pytestconfig: pytest.Config) -> Any:
    """Remember a record for the summary at the end."""
    return pytestconfig.stash[RECORDS].append


@pytest.fixture
def stored_records(selected: Selected, pytestconfig: pytest.Config) -> list[Record]:
    """The stored records of the selected trials, of this session or an earlier one."""
    from harness.records.record import read_records  # noqa: PLC0415 - see _select

    folder = _find_results(pytestconfig) / "records" / selected.experiment.name
    wanted = set(list_trials(selected.experiment))
    found = [record for record in read_records(folder) if record.trial in wanted] if folder.is_dir() else []
    pytestconfig.stash[STORED] = found
    return found


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show our own errors as their message, and remember those that mean that the run could not be made."""
    report = yield
    # Other people's tests keep pytest's own way, whatever they raise.
    if call.excinfo is None or "selected" not in getattr(item, "fixturenames", ()):
        return report
    error = call.excinfo.value
    if isinstance(error, HarnessError):
        report.longrepr = f"{type(error).__name__}: {error}"
    # What nobody foresaw is no missed threshold either.
    if report.failed and not isinstance(error, ThresholdMissed | AssertionError | pytest.fail.Exception):
        item.config.stash[FAILURES].append(item.nodeid)
    return report


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the tables; end with 2 where the run could not be made."""
    config = session.config
    if config.stash[RECORDS] or config.stash[STORED]:
        from harness.report.experiment import build_report  # noqa: PLC0415 - only where trials ran
        from harness.report.results_folder import write_tables  # noqa: PLC0415

        try:
            records: list[Record] = config.stash[STORED] or config.stash[RECORDS]
            if config.stash[RECORDS]:
                config.stash[UNJUDGED] = {records[0].trial.experiment}  # until its tables are written
                rendered = write_tables(_find_results(config))
                config.stash[FAILURES] += rendered.problems.values()
                config.stash[UNJUDGED] = set(rendered.problems)
            config.stash[REPORT] = build_report(records)
        except HarnessError as error:
            if str(error) not in config.stash[FAILURES]:
                config.stash[FAILURES].append(str(error))
    if config.stash[FAILURES]:
        session.exitstatus = EXIT_CODE


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Show what came out, on GitHub also where its readers look."""
    report: Report | None = config.stash.get(REPORT, None)
    if report is not None:
        from harness.report.github import list_commands, publish_summary  # noqa: PLC0415 - only where trials ran
        from harness.report.terminal import render_terminal  # noqa: PLC0415

        terminalreporter.section(report.name)
        terminalreporter.write_line(render_terminal(report))
        if report.name not in config.stash.get(UNJUDGED, set()):
            table = _find_results(config) / f"{report.name}.md"
            terminalreporter.write_line(f"\ntables: {table} and .html beside it")
        for command in list_commands(report, os.environ):
            terminalreporter.write_line(command)
        publish_summary(report, os.environ)
    for failure in config.stash[FAILURES]:
        terminalreporter.write_line(f"could not be made: {failure}", red=True)


def _select(config: pytest.Config) -> Selected:
    """Choose the experiment once per session; a bad one ends it with exit code 2, before anything runs."""
    if SELECTED not in config.stash:
        from harness.pipeline.selection import select_experiment  # noqa: PLC0415 - only where trials are wanted

        try:
            config.stash[SELECTED] = select_experiment(
                config.getoption("experiment"),
                config.rootpath / "benchmarks" / "experiments",
                models=config.getoption("models"),
                seeds=config.getoption("seeds"),
            )
        except HarnessError as error:
            said = f"{type(error).__name__}: {error}"
            # Every module of cases meets it; the session ends before any of them runs.
            if said not in config.stash[FAILURES]:
                config.stash[FAILURES].append(said)
            # Of this error pytest shows the message alone; of pytest.exit() it would show a traceback here.
            raise pytest.Collector.CollectError(said) from error
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
