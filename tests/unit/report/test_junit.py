"""JUnit XML is well-formed whatever records say, and counts what it holds."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from harness.report.junit import render_junit
from tests.support.reports import HARM, make_report


def test_cases_carry_values_as_properties_and_failures_are_counted() -> None:
    root = ET.fromstring(render_junit(make_report("words")))  # noqa: S314 - our own text
    suite = root[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("time")) == ("2", "1", "2.000")
    first, second = suite.findall("testcase")
    assert first.find("properties/property[@name='words']") is not None
    failure = first.find("failure")
    assert failure is not None
    assert failure.get("message") == "words"
    assert second.find("failure") is None
    assert (second.get("classname"), second.get("time")) == ("demo.trial", "0.500")


def test_hostile_text_stays_text_and_the_xml_well_formed() -> None:
    root = ET.fromstring(render_junit(make_report(HARM + "\ufffe\ud800")))  # noqa: S314
    assert {element.tag for element in root.iter()} == {
        *("testsuites", "testsuite", "testcase", "properties", "property", "failure", "system-out")
    }
    failure = root.find(".//failure")
    assert failure is not None
    assert "<script>alert(1)</script>" in (failure.text or "")


def test_findings_stand_in_the_output() -> None:
    root = ET.fromstring(render_junit(make_report("words")))  # noqa: S314
    output = root.findtext(".//system-out")
    assert output is not None
    assert output.splitlines() == ["error: words: words: words", "warning: words: words", "notice: words: words"]
