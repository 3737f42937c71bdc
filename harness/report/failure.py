"""The report where nothing could be reported: every renderer still writes its file, which says why."""

from __future__ import annotations

from harness.errors import HarnessError
from harness.report.document import Case, Finding, Report


def build_failure_report(name: str, title: str, cause: Exception) -> Report:
    """Say that something could not be judged, as a report with one error and one failed case.

    Args:
        name: of the report that should have been made.
        title: the first line.
        cause: what went wrong. Of one that nobody foresaw the class is named, since its words alone say little.
    """
    said = str(cause) if isinstance(cause, HarnessError) else f"{type(cause).__name__}: {cause}"
    return Report(
        name=name,
        title=title,
        findings=(Finding("error", "could not be judged", said),),
        cases=(Case("report", "could be judged", 0.0, failure=said),),
    )
