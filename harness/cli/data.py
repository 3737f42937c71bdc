"""The commands on a user's own data: export."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

PASSED = 0
EXPERIMENTS, STORE = Path("benchmarks/experiments"), Path(".store")


def add_data_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the commands. What a command needs is imported when it runs, so that help comes at once."""
    export = commands.add_parser("export", help="write an experiment's test sets in BEIR layout, for others to rank")
    export.add_argument("experiment", help="name or manifest")
    export.add_argument("target", type=Path, metavar="DIR", help="gets a folder per data set; made if absent")
    export.add_argument("--store", type=Path, default=STORE, help="default: .store")
    export.add_argument("--data-dir", type=Path, help="folder in place of the manifest's data folder")
    export.set_defaults(run=_export)


def _export(options: argparse.Namespace) -> int:
    from harness.experiment.lock import SourceName, list_sources  # noqa: PLC0415
    from harness.pipeline.beir_layout import write_beir  # noqa: PLC0415
    from harness.pipeline.selection import choose_data_dir, select_experiment  # noqa: PLC0415
    from harness.pipeline.stages import prepare  # noqa: PLC0415
    from harness.pipeline.store import Store  # noqa: PLC0415
    from harness.sources.fetch import Fetcher  # noqa: PLC0415 - see add_data_commands

    selected = select_experiment(options.experiment, EXPERIMENTS)
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
            print(path)
    return PASSED
