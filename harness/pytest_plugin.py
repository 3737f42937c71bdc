"""The pytest plugin: a manifest named to pytest is a test file, its trials and claims are the cases.

It acts on its own cases (`harness.pytest_cases`) alone. In any other suite it adds options and does nothing else, so
nothing heavy is imported before one of the cases is collected.
"""

from __future__ import annotations

import atexit
import dataclasses
import os
import secrets
import sys
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import COULD_NOT_RUN, DIFFERS, PASSED, ClaimMissed, HarnessError, ThresholdMissed
from harness.pytest_ending import TOO_LITTLE_MEMORY, Guard, end_starved, explain
from harness.pytest_session import (
    CLAIMS_CASE,
    SESSION,
    TRIAL_CASE,
    Session,
    add_options,
    find_trial,
    is_ours,
    name_case,
    read_config,
    read_engine,
    select,
)
from harness.pytest_terminal import Terminal, introduce

if TYPE_CHECKING:
    from harness.engines.engine import Engine
    from harness.pipeline.selection import Selected
    from harness.records.record import Record


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of an experiment."""
    add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Start with nothing seen, and refuse more than one manifest."""
    session = config.stash[SESSION] = Session()
    atexit.register(end_starved, session)
    config.pluginmanager.register(Guard(), "harness-guard")
    manifests = [argument for argument in config.args if argument.partition("::")[0].endswith(".toml")]
    if len({argument.partition("::")[0] for argument in manifests}) > 1:
        pytest.exit(f"one manifest a session, found {', '.join(manifests)}", returncode=COULD_NOT_RUN)


class ManifestModule(pytest.Module):
    """A manifest as a test file."""

    def _getobj(self) -> ModuleType:
        import harness.pytest_cases  # noqa: PLC0415 - heavy, and nobody else's affair

        return harness.pytest_cases


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """Take a manifest that was named on the command line; other TOML files are nobody's tests."""
    if file_path.suffix != ".toml" or not parent.session.isinitpath(file_path):
        return None
    parent.config.stash[SESSION].manifest = file_path
    return ManifestModule.from_parent(parent, path=file_path)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make one case per trial, and one per model and variant for its claims."""
    if not is_ours(metafunc.function):
        return
    from harness.experiment.trial import list_trials  # noqa: PLC0415 - only for our own cases

    experiment = select(metafunc.config).experiment
    trials = list(list_trials(experiment))
    if "trial" in metafunc.fixturenames:
        metafunc.parametrize("trial", trials, ids=[trial.id for trial in trials])
    if "cell" in metafunc.fixturenames:
        cells = list(dict.fromkeys((trial.model, trial.variant) for trial in trials))
        metafunc.parametrize("cell", cells, ids=["/".join((experiment.name, *cell)) for cell in cells])


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put claims behind the trials that write their records, and have no case fail by a library's warning."""
    ours = [item for item in items if is_ours(getattr(item, "function", None))]
    config.stash[SESSION].ours = bool(ours)
    if not ours:
        return
    for item in ours:
        item.add_marker(pytest.mark.filterwarnings("default"))
    items.sort(key=lambda item: item in ours and name_case(item) == CLAIMS_CASE)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(ids: Sequence[str]) -> None:
    """Refuse workers before any trial, in the process that people look at."""
    if any(name.partition("[")[0].endswith((f"::{TRIAL_CASE}", f"::{CLAIMS_CASE}")) for name in ids):
        pytest.exit(
            "an experiment runs in one process: workers (-n) would switch its timing off and judge claims "
            "before the trials have run; leave -n out",
            returncode=COULD_NOT_RUN,
        )


def pytest_report_collectionfinish(config: pytest.Config) -> list[str]:
    """Say which experiment was taken and why, before anything runs."""
    session = config.stash[SESSION]
    if not session.ours and not session.failures:
        return []
    lines = []
    if os.environ.get("GITHUB_ACTIONS") == "true":
        # What pytest prints from here on may hold a stranger's words, of which the runner shall carry out nothing.
        session.token = secrets.token_hex(16)
        lines.append(f"::stop-commands::{session.token}")
    if session.selected is not None:
        lines += introduce(session.selected)
    return lines


@pytest.fixture(scope="session")
def harness_selected(pytestconfig: pytest.Config) -> Selected:
    """The experiment as the user wants it run, with its lock."""
    return select(pytestconfig)


@pytest.fixture(scope="session")
def harness_engine(harness_selected: Selected, request: pytest.FixtureRequest) -> Iterator[Engine]:
    """What runs the trials, all of which it is given at once."""
    from harness.engines.choice import open_engine  # noqa: PLC0415 - only for our own cases
    from harness.pipeline.selection import choose_data_dir  # noqa: PLC0415

    pytestconfig = request.config
    config = read_config(pytestconfig)
    data_dir = choose_data_dir(config.data_dir, harness_selected.experiment, os.environ)
    run, stream = dataclasses.replace(config, data_dir=data_dir), Terminal(pytestconfig)
    try:
        engine = open_engine(read_engine(pytestconfig), harness_selected, run, stream)
        engine.submit([trial for item in request.session.items if (trial := find_trial(item)) is not None])
    except (HarnessError, MemoryError, ImportError, OSError) as error:
        # No trial can be made, and each would say so again.
        pytest.exit(explain(error) or f"{type(error).__name__}: {error}", returncode=COULD_NOT_RUN)
    yield engine
    engine.close()


@pytest.fixture
def harness_keep(pytestconfig: pytest.Config) -> Callable[[Record], None]:
    """Remember a record for the summary at the end."""
    return pytestconfig.stash[SESSION].records.append


@pytest.fixture
def harness_stored(harness_selected: Selected, pytestconfig: pytest.Config) -> list[Record]:
    """The stored records of the selected trials, of this session or an earlier one."""
    from harness.experiment.trial import list_trials  # noqa: PLC0415 - only for our own cases
    from harness.records.record import read_records  # noqa: PLC0415

    folder = read_config(pytestconfig).results / "records" / harness_selected.experiment.name
    wanted = set(list_trials(harness_selected.experiment))
    found = [record for record in read_records(folder) if record.trial in wanted] if folder.is_dir() else []
    pytestconfig.stash[SESSION].stored = found
    return found


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show our own errors as their message, and tell a missed threshold or claim from a case that could not run."""
    # Other people's tests keep pytest's own way, whatever they raise.
    if call.excinfo is None or not is_ours(getattr(item, "function", None)):
        return (yield)
    error, session = call.excinfo.value, item.config.stash[SESSION]
    explained = explain(error)
    if explained is not None and not isinstance(error, HarnessError):
        # To show a traceback takes memory, of which there is none left: the frames hold it.
        traceback.clear_frames(error.__traceback__)
        plain = pytest.fail.Exception(explained, pytrace=False)
        call.excinfo = pytest.ExceptionInfo.from_exc_info((type(plain), plain, call.excinfo.tb))
    report = yield
    if explained is not None:
        report.longrepr = explained
        session.starved |= TOO_LITTLE_MEMORY in explained
    if report.failed:
        if isinstance(error, ThresholdMissed | ClaimMissed):
            session.missed += 1
        else:
            session.failures.append(item.nodeid)
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the tables; end with 0, 1 where a threshold or claim is missed, and 2 for all that is no such answer."""
    ours = session.config.stash[SESSION]
    if not ours.ours and not ours.failures:
        return
    _write_tables(session.config, ours)
    unclear = session.exitstatus not in {PASSED, DIFFERS} or (session.exitstatus == DIFFERS and not ours.missed)
    if ours.failures or unclear:
        session.exitstatus = COULD_NOT_RUN


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> Generator[None, object, object]:
    """End with 2 where not even pytest's own report of an error finds the memory that it takes."""
    try:
        return (yield)
    except MemoryError:
        session = config.stash.get(SESSION, None)
        if session is None or not (session.ours or session.manifest):
            raise
        session.starved = True
    print(f"could not run: {TOO_LITTLE_MEMORY}", file=sys.stderr)
    return COULD_NOT_RUN


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Show what came out."""
    session = config.stash[SESSION]
    if session.report is not None:
        from harness.report.terminal import render_terminal  # noqa: PLC0415 - only where trials ran

        report, results = session.report, read_config(config).results
        terminalreporter.section(report.name)
        terminalreporter.write_line(render_terminal(report))
        if report.name not in session.unjudged:
            terminalreporter.write_line(f"\ntables: {results / (report.name + '.md')} and .html beside it")
    for failure in session.failures:
        terminalreporter.write_line(f"could not run: {failure}", red=True)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Have GitHub listen again, and tell it what came out where its readers look."""
    session = config.stash.get(SESSION, None)
    if session is None:
        return
    if session.token is not None:
        print(f"::{session.token}::")
    if session.report is not None:
        from harness.report.github import list_commands, publish_summary  # noqa: PLC0415 - only where trials ran

        for command in list_commands(session.report, os.environ):
            print(command)
        try:
            publish_summary(session.report, os.environ)
        except HarnessError as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)


def _write_tables(config: pytest.Config, session: Session) -> None:
    if not session.records and not session.stored:
        return
    from harness.core.memo import open_memo  # noqa: PLC0415 - only where trials ran
    from harness.report.experiment import build_report  # noqa: PLC0415
    from harness.report.results_folder import write_tables  # noqa: PLC0415

    records = session.stored or session.records
    try:
        if session.records:
            session.unjudged = {records[0].trial.experiment}  # until its tables are written
            rendered = write_tables(read_config(config).results, memo=open_memo())
            session.failures += rendered.problems.values()
            session.unjudged = set(rendered.problems)
        session.report = build_report(records)
    except HarnessError as error:
        if str(error) not in session.failures:
            session.failures.append(str(error))
