"""One document, many renderers, and the experiment's own report.

A new column goes into the table's module (``verdict_tables``, ``run_tables``, ``model_tables``, ``set_tables``), a
new picture into ``figures`` (what is drawn) and ``svg`` (how), a new warning into ``findings``, a new renderer
beside ``markdown`` and ``html``.
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
