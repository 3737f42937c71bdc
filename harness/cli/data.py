"""The commands on a user's own data: init and export."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from harness.cli.say import say
from harness.errors import PASSED

STORE = Path(".store")
# Those of harness.pipeline.scaffold, named here so that help comes at once.
LOSSES = ("MultipleNegativesRankingLoss", "CachedMultipleNegativesRankingLoss")


def add_data_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the commands. What a command needs is imported when it runs, so that help comes at once."""
    init = commands.add_parser("init", help="write a first manifest and its lock for data and a model of one's own")
    init.add_argument("data", help="a table (CSV, TSV, JSON lines, JSON, Parquet), a folder, or OWNER/NAME on the hub")
    init.add_argument("--model", required=True, metavar="MODEL", help="OWNER/NAME[@COMMIT] on the hub, or a folder")
    init.add_argument("--query", metavar="COLUMN", help="default: a column of a usual name, such as question")
    init.add_argument("--passage", metavar="COLUMN", help="default: likewise, such as answer")
    init.add_argument("--id", metavar="COLUMN", help="names rows; without it equal texts are one query or passage")
    init.add_argument("--config", metavar="NAME", help="of a hub data set that has several")
    init.add_argument("--loss", default=LOSSES[0], choices=LOSSES, help=f"to train by; default: {LOSSES[0]}")
    init.add_argument(
        "--negatives", type=int, metavar="N", help="also train with N mined negatives a row, and compare both recipes"
    )
    init.add_argument("--name", help="of the experiment and its files; default: that of the data")
    init.add_argument("--store", type=Path, default=STORE, help="default: .store")
    init.set_defaults(run=_init)

    export = commands.add_parser("export", help="write an experiment's test sets in BEIR layout, for others to rank")
    export.add_argument("experiment", help="name or manifest")
    export.add_argument("target", type=Path, metavar="DIR", help="gets a folder per data set; made if absent")
    export.add_argument("--store", type=Path, default=STORE, help="default: .store")
    export.add_argument("--data-dir", type=Path, help="folder in place of the manifest's data folder")
    export.set_defaults(run=_export)


def _init(options: argparse.Namespace) -> int:
    from harness.pipeline.init_experiment import Brought, init_experiment  # noqa: PLC0415 - see add_data_commands

    asked = ("data", "model", "name", "query", "passage", "id", "config", "loss", "negatives")
    brought = Brought(**{name: getattr(options, name) for name in asked})
    made = init_experiment(brought, Path(), store=options.store)
    for line in made.decisions:
        say(f"  {line}")
    say(f"wrote {made.manifest} and {made.lock}; next: harness run {made.manifest}")
    return PASSED


def _export(options: argparse.Namespace) -> int:
    from harness.experiment.lock import SourceName, list_sources  # noqa: PLC0415
    from harness.pipeline.beir_layout import write_beir  # noqa: PLC0415
    from harness.pipeline.selection import RunConfig, choose_data_dir, locate_experiments, select_experiment  # noqa: PLC0415
    from harness.pipeline.stages import prepare  # noqa: PLC0415
    from harness.pipeline.store import Store  # noqa: PLC0415
    from harness.sources.fetch import Fetcher  # noqa: PLC0415 - see add_data_commands

    selected = select_experiment(
        RunConfig(options.store, Path("results"), experiment=options.experiment), locate_experiments(Path())
    )
    experiment = selected.experiment
    data_dir = choose_data_dir(options.data_dir, experiment, os.environ)
    fetcher = Fetcher(base=selected.base, cache=options.store / "sources", override=data_dir)
    for name in dict.fromkeys(test_set.data for test_set in experiment.evaluation.test_sets):
        source = SourceName.of("data", name)
        fetched = fetcher.fetch(source, list_sources(experiment)[source], selected.lock.sources[source])
        prepared = prepare(experiment.data[name], fetched.resolved, fetched.folder, store=Store(options.store))
        parts = {
            one.part: prepared.data.select(one.part) for one in experiment.evaluation.test_sets if one.data == name
        }
        for path in write_beir(options.target / name, parts):
            say(path)
    return PASSED
