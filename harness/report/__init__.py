"""One document, many renderers, and the experiment's own report.

A new column goes into its table's module: values and verdicts into ``verdict_tables``, time, memory and cost into
``run_tables``, what models were asked into ``model_tables``, test sets into ``set_tables``. A new warning goes into
``findings``, a new sentence at the top into ``conclusions``, a new picture into ``figures`` (what is drawn) and
``svg`` (how).

A new renderer goes beside ``markdown``, ``html``, ``terminal``, ``junit`` and ``github``, and is called where the
file is written: ``results_folder``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.core.door import open_door

if TYPE_CHECKING:
    from harness.report.document import Finding as Finding
    from harness.report.document import Report as Report
    from harness.report.document import Section as Section
    from harness.report.document import Table as Table
    from harness.report.experiment import build_report as build_report
    from harness.report.html import render_html as render_html
    from harness.report.markdown import render_markdown as render_markdown
    from harness.report.results_folder import write_tables as write_tables

__getattr__, __dir__ = open_door(
    __name__,
    {
        "harness.report.document": "Report Section Table Finding",
        "harness.report.experiment": "build_report",
        "harness.report.results_folder": "write_tables",
        "harness.report.markdown": "render_markdown",
        "harness.report.html": "render_html",
    },
)
