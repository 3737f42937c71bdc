"""The pytest plugin: a manifest named to pytest is a test file, its trials and claims are the cases.

It acts on its own cases (`harness.pytest_cases`) alone. In any other suite it adds options and does nothing else, so
nothing heavy is imported before one of the cases is collected.
"""

from __future__ import annotations

import atexit
import dataclasses
import errno
import io
import os
import secrets
import sys
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import ClaimMissed, HarnessError, ThresholdMissed

if TYPE_CHECKING:
    from harness.engines.engine import Engine, EngineConfig
    from harness.experiment.trial import Trial
    from harness.pipeline.selection import RunConfig, Selected
    from harness.records.record import Record
    from harness.report.document import Report

CASES = "harness.pytest_cases"
TRIAL_CASE, CLAIMS_CASE = "test_experiment_trial", "test_experiment_claims"
# What a run may end with. pytest's own further codes say that something could not be done.
PASSED, MISSED, COULD_NOT_RUN = 0, 1, 2
TOO_LITTLE_MEMORY = "too little memory"


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


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of an experiment."""
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


def pytest_configure(config: pytest.Config) -> None:
    """Start with nothing seen, and refuse more than one manifest."""
    session = config.stash[SESSION] = Session()
    atexit.register(_end_starved, session)
    config.pluginmanager.register(_Guard(), "harness-guard")
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
    if not _is_ours(metafunc.function):
        return
    from harness.experiment.trial import list_trials  # noqa: PLC0415 - only for our own cases

    experiment = _select(metafunc.config).experiment
    trials = list(list_trials(experiment))
    if "trial" in metafunc.fixturenames:
        metafunc.parametrize("trial", trials, ids=[trial.id for trial in trials])
    if "cell" in metafunc.fixturenames:
        cells = list(dict.fromkeys((trial.model, trial.variant) for trial in trials))
        metafunc.parametrize("cell", cells, ids=["/".join((experiment.name, *cell)) for cell in cells])


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put claims behind the trials that write their records, and have no case fail by a library's warning."""
    ours = [item for item in items if _is_ours(getattr(item, "function", None))]
    config.stash[SESSION].ours = bool(ours)
    if not ours:
        return
    for item in ours:
        item.add_marker(pytest.mark.filterwarnings("default"))
    items.sort(key=lambda item: item in ours and _name_case(item) == CLAIMS_CASE)


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
        lines += _introduce(session.selected)
    return lines


def _introduce(selected: Selected) -> list[str]:
    from harness.core.text import printable  # noqa: PLC0415 - only for our own cases
    from harness.experiment.trial import list_trials  # noqa: PLC0415

    experiment = selected.experiment
    seeds, trials = ", ".join(map(str, experiment.seeds)), len(list(list_trials(experiment)))
    lines = [
        f"experiment {experiment.name}: {selected.reason}",
        f"{experiment.title}: {trials} trials, seeds {seeds}",
    ]
    if experiment.published is not None and experiment.published.not_comparable:
        lines.append(f"{experiment.published.not_comparable}: not comparable with the published values cell by cell")
    return [printable(line) for line in lines]


@pytest.fixture(scope="session")
def harness_selected(pytestconfig: pytest.Config) -> Selected:
    """The experiment as the user wants it run, with its lock."""
    return _select(pytestconfig)


@pytest.fixture(scope="session")
def harness_engine(harness_selected: Selected, request: pytest.FixtureRequest) -> Iterator[Engine]:
    """What runs the trials, all of which it is given at once."""
    from harness.engines.choice import open_engine  # noqa: PLC0415 - only for our own cases
    from harness.pipeline.selection import choose_data_dir  # noqa: PLC0415

    pytestconfig = request.config
    config = _read_config(pytestconfig)
    data_dir = choose_data_dir(config.data_dir, harness_selected.experiment, os.environ)
    run, stream = dataclasses.replace(config, data_dir=data_dir), _Terminal(pytestconfig)
    try:
        engine = open_engine(_read_engine(pytestconfig), harness_selected, run, stream)
        engine.submit([trial for item in request.session.items if (trial := _find_trial(item)) is not None])
    except (HarnessError, MemoryError, ImportError, OSError) as error:
        # No trial can be made, and each would say so again.
        pytest.exit(_explain(error) or f"{type(error).__name__}: {error}", returncode=COULD_NOT_RUN)
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

    folder = _read_config(pytestconfig).results / "records" / harness_selected.experiment.name
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
    if call.excinfo is None or not _is_ours(getattr(item, "function", None)):
        return (yield)
    error, session = call.excinfo.value, item.config.stash[SESSION]
    explained = _explain(error)
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
    unclear = session.exitstatus not in {PASSED, MISSED} or (session.exitstatus == MISSED and not ours.missed)
    if ours.failures or unclear:
        session.exitstatus = COULD_NOT_RUN


class _Guard:
    """Stands around what other plugins do at the end: their errors are no missed threshold.

    A cache that cannot be written and a handle that a library leaks are such errors where warnings are made errors.
    """

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None]:
        """End with 2 where something fails after the last case."""
        ours = session.config.stash[SESSION]
        ours.session = session
        try:
            yield
        except Exception as error:  # noqa: BLE001 - of any plugin, and raised again where no case is ours
            _take_for_unrun(ours, error)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_unconfigure(self, config: pytest.Config) -> Generator[None]:
        """Likewise for what fails when all is said, when pytest would end with 1."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - of any plugin, and raised again where no case is ours
            _take_for_unrun(config.stash[SESSION], error)


def _take_for_unrun(ours: Session, error: Exception) -> None:
    if not ours.ours or ours.session is None:
        raise error
    from harness.core.text import printable  # noqa: PLC0415 - only for our own cases

    # One line: where GitHub listens again, no line of it may begin a command.
    print(printable(f"could not run: {type(error).__name__}: {error}"), file=sys.stderr)
    ours.session.exitstatus = COULD_NOT_RUN


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


def _end_starved(session: Session) -> None:
    """End Python here where memory ended before: libraries crash as they are taken down without any (signal 11)."""
    if session.starved:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(COULD_NOT_RUN)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Show what came out."""
    session = config.stash[SESSION]
    if session.report is not None:
        from harness.report.terminal import render_terminal  # noqa: PLC0415 - only where trials ran

        report, results = session.report, _read_config(config).results
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


def _is_ours(function: object) -> bool:
    return getattr(function, "__module__", None) == CASES


def _name_case(item: pytest.Item) -> str:
    return str(getattr(item, "originalname", item.name))


def _select(config: pytest.Config) -> Selected:
    """Choose the experiment once per session; a bad one ends it with exit code 2, before anything runs."""
    session = config.stash[SESSION]
    if session.selected is None:
        from harness.pipeline.selection import select_experiment  # noqa: PLC0415 - only for our own cases
        from harness.sources.hub_client import check_variables  # noqa: PLC0415 - likewise

        wanted = _read_config(config)
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


def _read_config(config: pytest.Config) -> RunConfig:
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


def _read_engine(config: pytest.Config) -> EngineConfig:
    from harness.engines.engine import EngineConfig  # noqa: PLC0415 - only for our own cases

    names = ("address", "parallel", "gpus_per_trial", "cpus_per_trial")
    return EngineConfig(
        config.getoption("harness_engine"), **{name: config.getoption(f"harness_{name}") for name in names}
    )


def _find_trial(item: pytest.Item) -> Trial | None:
    from harness.experiment.trial import Trial  # noqa: PLC0415 - only for our own cases

    if not isinstance(item, pytest.Function) or not _is_ours(item.function) or _name_case(item) != TRIAL_CASE:
        return None
    trial = item.callspec.params["trial"]
    return trial if isinstance(trial, Trial) else None


def _explain(error: BaseException) -> str | None:
    """Return what is said of an error that needs no traceback, or None."""
    from harness.core.text import printable  # noqa: PLC0415 - only for our own cases

    if isinstance(error, HarnessError):
        return printable(f"{type(error).__name__}: {error}", keep="\n")
    short = isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
    if short or (isinstance(error, ImportError) and "failed to map segment" in str(error)):
        return f"{TOO_LITTLE_MEMORY}: {type(error).__name__}: {printable(str(error)) or 'no more could be had'}"
    return None


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
            rendered = write_tables(_read_config(config).results, memo=open_memo())
            session.failures += rendered.problems.values()
            session.unjudged = set(rendered.problems)
        session.report = build_report(records)
    except HarnessError as error:
        if str(error) not in session.failures:
            session.failures.append(str(error))


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
