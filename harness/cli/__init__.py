"""The command line: one module a group of commands, no domain logic.

A new command goes into its group's module: ``run``; ``data`` (init, export); ``sources`` (lock, fetch, publish);
``gate`` (gate, accept); ``evidence`` (verify, bundle, rerun, doctor, store); ``main`` (report) joins the groups and
turns errors into exit codes. A group of its own is a new module that ``main`` adds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.core.door import open_door

if TYPE_CHECKING:
    from harness.cli.main import main as main
    from harness.cli.main import make_parser as make_parser

__getattr__, __dir__ = open_door(
    __name__,
    {
        "harness.cli.main": "main make_parser",
    },
)
