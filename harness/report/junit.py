"""JUnit XML shows a report to the tools that read test results: a case per trial, claim and threshold."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from harness.core.text import clip, printable
from harness.report.document import Report

SHOWN_CHARACTERS = 2000


def render_junit(report: Report) -> str:
    """Write a report's cases as JUnit XML, their values as properties; the same report gives the same bytes.

    A case that failed has a ``failure``; warnings and notices stand in the suite's ``system-out``.
    """
    failed = sum(case.failure is not None for case in report.cases)
    seconds = sum(case.seconds for case in report.cases)
    counts = {"tests": str(len(report.cases)), "failures": str(failed), "errors": "0", "time": f"{seconds:.3f}"}
    root = ET.Element("testsuites", counts)
    suite = ET.SubElement(root, "testsuite", {"name": _plain(report.name), **counts})
    notes = [("title", report.title), *([("mark", report.mark)] if report.mark else [])]
    _add_properties(suite, notes)
    for case in report.cases:
        attributes = {"classname": f"{report.name}.{case.group}", "name": case.name, "time": f"{case.seconds:.3f}"}
        element = ET.SubElement(suite, "testcase", {name: _plain(text) for name, text in attributes.items()})
        _add_properties(element, case.properties)
        if case.failure is not None:
            failure = ET.SubElement(element, "failure", {"message": _plain(case.failure), "type": _plain(case.group)})
            failure.text = _plain(case.failure)
    remarks = [f"{finding.level}: {finding.title}: {finding.sentence}" for finding in report.findings]
    if remarks:
        ET.SubElement(suite, "system-out").text = "\n".join(_plain(remark) for remark in remarks)
    ET.indent(root)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _add_properties(parent: ET.Element, properties: tuple[tuple[str, str], ...] | list[tuple[str, str]]) -> None:
    if properties:
        holder = ET.SubElement(parent, "properties")
        for name, value in properties:
            ET.SubElement(holder, "property", {"name": _plain(name), "value": _plain(value)})


def _plain(text: str) -> str:
    """Leave out what XML 1.0 cannot hold, which ElementTree would write all the same, and bound the length."""
    return printable(clip(text, SHOWN_CHARACTERS))
