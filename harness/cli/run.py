"""The command `run`: pytest with this package's plugin on a manifest."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from harness.cli.say import say
from harness.errors import COULD_NOT_RUN, DIFFERS, PASSED, HarnessError, StackError

if TYPE_CHECKING:
    from harness.experiment.manifest import Experiment

Number = TypeVar("Number", int, float)

# Short names here, the plugin's long ones there: in pytest they share the command line with other plugins.
OPTIONS = {
    "models": ("A,B", "only these models of the experiment"),
    "seeds": ("N|A,B", "a count (3) or a list with a comma (0,5)"),
    "device": ("DEVICE", "auto, cpu or cuda:N (default: a GPU where there is one)"),
    "precision": ("P", "of training: fp16, bf16 or fp32 (default: the manifest's)"),
    "store": ("DIR", "where stage outputs are kept (default: .store in pytest's rootdir)"),
    "results": ("DIR", "where records and tables go (default: results in pytest's rootdir)"),
    "data-dir": ("DIR", "folder in place of the manifest's data folder"),
    "report-to": ("A,B", "trackers beside TensorBoard, as wandb or trackio"),
    "engine": ("local|ray", "where trials run: one by one here (default), or on a Ray cluster"),
    "address": ("auto|HOST:PORT", "of a running Ray cluster (default: one is started on this machine)"),
    "parallel": ("N", "most trials at a time (default: as many as the cluster has room for)"),
    "gpus-per-trial": ("F", "of the cluster, as 1 or 0.5 (default: 1 where there are GPUs)"),
    "cpus-per-trial": ("N", "of the cluster, and threads of a trial (default: torch's own number)"),
}
# What a stack does not have a choice of: it runs on the CPU in fp32, and is no pytest session.
NOT_IN_A_STACK = ("device", "precision", "report_to")
# Below 16 pytest and its plugins fail as they load, each in its own way.
LEAST_OPEN_FILES = 32
# pytest would rewrite a plugin's assertions, of which this one has none, before anything imports it; where a project
# makes warnings errors, its regret that this comes too late here would end the run.
IMPORTED = "ignore:Module already imported:pytest.PytestAssertRewriteWarning"


def add_run_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the command."""
    run = commands.add_parser(
        "run",
        help="run an experiment's trials and judge its claims: 0 all met, 1 one missed, 2 could not run",
        usage="harness run [NAME|PATH] [options] [-- options of pytest]",
    )
    run.add_argument("experiment", nargs="?", metavar="NAME|PATH", help="default: by what this machine can do")
    run.add_argument("--experiment", dest="named", metavar="NAME|PATH", help="the same, as an option")
    for name, (metavar, said) in OPTIONS.items():
        run.add_argument(f"--{name}", metavar=metavar, help=said)
    run.add_argument(
        "--stack",
        metavar="NAME",
        help="instead run it with the packages that the manifest pins as [stacks.NAME] and with today's, and compare",
    )
    run.add_argument(
        "--dry-run", action="store_true", help="run nothing: list sources, trials, and what they would take"
    )
    run.set_defaults(run=run_experiment)


def run_experiment(options: argparse.Namespace) -> int:
    """Run pytest on the manifest; ``further`` of the options are handed on to it. A stack is compared instead."""
    if options.dry_run:
        return _describe(options)
    if options.stack is not None:
        return _run_stack(options)
    _check_open_files()
    import pytest  # noqa: PLC0415 - most commands need none

    from harness.pipeline.selection import choose_experiment, find_manifest, locate_experiments  # noqa: PLC0415 - likewise

    name = options.named or options.experiment
    if name is None:
        name, reason = choose_experiment()
        print(f"experiment {name}: {reason}", flush=True)
    code = pytest.main([str(find_manifest(name, locate_experiments(Path()))), *_spell(options), *options.further])
    # pytest has further codes for what could not be done.
    return int(code) if code in {PASSED, DIFFERS} else COULD_NOT_RUN


def _check_open_files() -> None:
    import resource  # noqa: PLC0415 - Unix has it, and only this needs it

    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if most != resource.RLIM_INFINITY and most < LEAST_OPEN_FILES:
        raise HarnessError(f"{most} files may be open at a time, a run needs {LEAST_OPEN_FILES}: ulimit -n")


def _describe(options: argparse.Namespace) -> int:
    """Say what the run would do; also where the manifest has no lock, or sources without a commit.

    Raises:
        HarnessError: an option that the run itself would refuse, or ``--stack``, which is another command.
    """
    if options.stack is not None:
        raise StackError("--stack does not go with --dry-run: it runs other trainings than those that are described")
    from harness.experiment.manifest import read_experiment  # noqa: PLC0415 - most commands need none
    from harness.pipeline.dry_run import describe_run  # noqa: PLC0415
    from harness.pipeline.selection import choose_experiment, find_manifest, locate_experiments, narrow_as_typed  # noqa: PLC0415

    name = options.named or options.experiment or choose_experiment()[0]
    manifest = find_manifest(name, locate_experiments(Path()))
    experiment = narrow_as_typed(read_experiment(manifest), models=options.models, seeds=options.seeds)
    store = Path(options.store or ".store")
    _check_as_run(options, experiment, manifest, store)
    for line in describe_run(experiment, manifest, store=store, results=Path(options.results or "results")):
        say(line)
    return 0


def _check_as_run(options: argparse.Namespace, experiment: Experiment, manifest: Path, store: Path) -> None:
    """Hold the options against the same checks as the run; the plugin reads the numbers as these types.

    Raises:
        HarnessError: the run would refuse one.
    """
    from harness.engines.engine import EngineConfig  # noqa: PLC0415 - most commands need none

    EngineConfig(
        options.engine or "local",
        address=options.address,
        parallel=_read_number("parallel", options.parallel, int),
        gpus_per_trial=_read_number("gpus-per-trial", options.gpus_per_trial, float),
        cpus_per_trial=_read_number("cpus-per-trial", options.cpus_per_trial, int),
    ).check()
    if options.data_dir:
        from harness.sources.fetch import Fetcher  # noqa: PLC0415 - likewise

        fetcher = Fetcher(base=manifest.parent, cache=store / "sources", override=Path(options.data_dir))
        fetcher.locate(experiment.data[experiment.primary_set.data].source, "data")
    if options.device is not None or options.precision is not None:
        from harness.models.device import pick_device  # noqa: PLC0415 - loads torch, which only these options need
        from harness.models.training import choose_precision  # noqa: PLC0415 - likewise

        device = pick_device(options.device or "auto")
        for recipe in experiment.recipes.values():
            choose_precision(recipe, device, options.precision)


def _read_number(name: str, text: str | None, kind: Callable[[str], Number]) -> Number | None:
    try:
        return None if text is None else kind(text)
    except ValueError as cause:
        raise HarnessError(f"--{name} is {text!r}, expected a number") from cause


def _run_stack(options: argparse.Namespace) -> int:
    """Run the experiment in a published stack and with today's packages, and write the tables again.

    Raises:
        StackError: an option makes no sense there; else see `run_stack`.
    """
    refused = [f"--{name.replace('_', '-')}" for name in NOT_IN_A_STACK if getattr(options, name) is not None]
    if refused or options.further:
        raise StackError(f"--stack does not go with {', '.join([*refused, *options.further])}: CPU and fp32 only")
    from harness.pipeline.selection import RunConfig, locate_experiments  # noqa: PLC0415 - most commands need none
    from harness.pipeline.stack import run_stack  # noqa: PLC0415 - likewise
    from harness.report.results_folder import write_tables  # noqa: PLC0415 - likewise

    config = RunConfig(
        store=Path(options.store or ".store"),
        results=Path(options.results or "results"),
        experiment=options.named or options.experiment,
        models=options.models,
        seeds=options.seeds,
        data_dir=None if options.data_dir is None else Path(options.data_dir),
    )
    for path in run_stack(config, options.stack, locate_experiments(Path()), lambda line: print(line, flush=True)):
        print(path)
    write_tables(config.results)
    return 0


def _spell(options: argparse.Namespace) -> Sequence[str]:
    given = {name: getattr(options, name.replace("-", "_")) for name in OPTIONS}
    chosen = [f"--harness-{name}={value}" for name, value in given.items() if value is not None]
    # One round a trial: pytest-benchmark's other columns would repeat the mean.
    return [*chosen, "-W", IMPORTED, "--benchmark-columns=mean", "--benchmark-disable-gc"]
