"""The gate's report: what every renderer shows of it, also where names are a stranger's and too many."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from harness.experiment.manifest import Experiment
from harness.gate.compare import GateReport, compare
from harness.gate.policy import Policy, Quality
from harness.gate.report import build_gate_report
from harness.records.artifacts import format_texts
from harness.records.record import Artifact, Record
from harness.report.document import Paragraph, Report, Table
from harness.report.github import COMMENT_LIMIT_CHARACTERS, MOST_ANNOTATIONS, render_annotations, render_comment
from harness.report.html import render_html
from harness.report.junit import render_junit
from harness.report.markdown import render_markdown
from harness.report.terminal import render_terminal
from tests.support.records import MACHINE, MODEL, change_result, make_cost, make_record, read_manifest, spread

MEASURE = "mrr@10"
GOOD = (0.888, 0.892, 0.896)
BAD = (0.70, 0.71, 0.72)


@pytest.fixture(scope="module")
def experiment() -> Experiment:
    found = read_manifest("bioasq", seeds=(0, 1, 2), claims=(), thresholds=())
    measures = ("accuracy@1", MEASURE)
    return found.replace(models=found.models[:1], evaluation=found.evaluation.replace(measures=measures))


def make_trials(experiment: Experiment, means: tuple[float, ...], rounds: int = 1, **changes: Any) -> list[Record]:
    def values(mean: float) -> dict[str, tuple[float, ...]]:
        found = spread(mean)
        return {"accuracy@1": tuple(value * 0.9 for value in found), MEASURE: found}

    records = [make_record(values(0.83), experiment=experiment, variant="baseline")]
    for seed, mean in enumerate(means * rounds):
        records.append(make_record(values(mean), experiment=experiment, seed=seed, **changes))
    return records


def report(
    before: Sequence[Record], after: Sequence[Record], policy: Policy | None = None, *, unread: Sequence[str] = ()
) -> tuple[GateReport, Report]:
    result = compare(before, after, policy or Policy(), unread=unread)
    return result, build_gate_report(result, before, after)


@pytest.mark.parametrize("given", ["results", "records of the experiment"])
def test_queries_that_fell_are_named_by_their_texts_where_these_lie_beside(
    experiment: Experiment, tmp_path: Path, given: str
) -> None:
    before, after = make_trials(experiment, GOOD), make_trials(experiment, BAD)
    texts = format_texts({query: f"what is {query} *bold*?" for query in after[0].query_ids}, {})
    assert texts is not None
    artifact = Artifact(path="runs/bioasq/texts.json.gz", sha256=hashlib.sha256(texts).hexdigest())
    (tmp_path / artifact.path).parent.mkdir(parents=True)
    (tmp_path / artifact.path).write_bytes(texts)
    folder = tmp_path if given == "results" else tmp_path / "records" / "bioasq"
    after = [change_result(record, texts=artifact) for record in after]
    result = compare(before, after, Policy())
    (table,) = list_fallen(build_gate_report(result, before, after, [folder]))
    assert table.columns == ("query", "id", "reference", "candidate", "change")
    assert all(cells[0] == f"what is {cells[1]} *bold*?" for cells in table.rows)
    assert table.spare == ("id",)
    # Without the texts, the ids that there are.
    (bare,) = list_fallen(build_gate_report(result, before, after, [tmp_path / "a" / "b" / "c"]))
    assert bare.columns == ("query", "reference", "candidate", "change")
    assert [cells[0] for cells in bare.rows] == [cells[1] for cells in table.rows]


def test_texts_that_are_not_the_records_are_not_shown_and_no_verdict(experiment: Experiment, tmp_path: Path) -> None:
    before, after = make_trials(experiment, GOOD), make_trials(experiment, BAD)
    (tmp_path / "texts.json.gz").write_bytes(b"others")
    after = [change_result(record, texts=Artifact(path="texts.json.gz", sha256="b" * 64)) for record in after]
    shown = build_gate_report(compare(before, after, Policy()), before, after, [tmp_path])
    assert list_fallen(shown)[0].columns == ("query", "reference", "candidate", "change")
    (section,) = (section for section in shown.sections if section.heading == "Query by query")
    (note,) = (block.text for block in section.blocks if isinstance(block, Paragraph))
    assert re.match("The texts of these queries are not shown: .*texts.json.gz: has the SHA-256 .* says bbbb", note)


def list_fallen(shown: Report) -> list[Table]:
    (section,) = (section for section in shown.sections if section.heading == "Query by query")
    return [block for block in section.blocks if isinstance(block, Table)]


def test_a_pass_says_so_and_what_was_compared(experiment: Experiment) -> None:
    trials = make_trials(experiment, GOOD)
    _, shown = report(trials, trials)
    assert shown.title == "Gate passed: no worse than the reference (bioasq)"
    assert shown.name == "gate-bioasq"
    assert shown.findings == ()
    text = render_terminal(shown, width=200)
    for part in ("all-mpnet-base-v2/finetuned", "0.8920 ± 0.0040", "+0.0000", "same", "Simulated for these seeds"):
        assert part in text
    assert "seeds 0, 1, 2" in shown.lead[0]
    assert "commit 00000000" in shown.lead[0]


def test_what_is_suspect_says_which_seeds_to_run(experiment: Experiment) -> None:
    result, shown = report(make_trials(experiment, GOOD), make_trials(experiment, BAD))
    assert result.outcome.exit_code == 3
    (finding,) = shown.findings
    assert (finding.level, finding.title) == ("warning", "suspect")
    assert "suspect: run seeds 3,4,5 of bioasq" in render_terminal(shown, width=200)


def test_a_regression_names_the_primary_measure(experiment: Experiment) -> None:
    result, shown = report(make_trials(experiment, GOOD), make_trials(experiment, BAD, 2))
    assert result.outcome.exit_code == 1
    (finding,) = shown.findings
    assert finding.level == "error"
    assert finding.cell == f"bioasq/{MODEL}/finetuned"
    assert finding.text.startswith("mrr@10 0.8920 to 0.7100 (-0.1820), with 6 seeds chance explains it with p = ")
    (picture,) = shown.pictures
    assert picture.name == f"changes-{MODEL}-finetuned-mrr-10"
    markdown = render_markdown(shown, pictures=None)
    assert "the 10 queries that fell most of" in markdown


def test_a_slower_candidate_is_shown_with_both_times(experiment: Experiment) -> None:
    slow = {"prepare": make_cost(1.0), "train": make_cost(200.0), "evaluate": make_cost(20.0)}
    candidate = make_trials(experiment, GOOD, stages=slow)
    result, shown = report(make_trials(experiment, GOOD), candidate)
    assert result.outcome.exit_code == 0
    assert any("training time" in finding.text for finding in shown.findings)
    text = render_terminal(shown, width=200)
    assert "1 min 40 s" in text
    assert "3 min 20 s" in text
    assert "+100%" in text


def test_costs_of_another_machine_are_said_to_be_left_out_once(experiment: Experiment) -> None:
    elsewhere = MACHINE.replace(cpu="another CPU")
    result, shown = report(make_trials(experiment, GOOD), make_trials(experiment, GOOD, environment=elsewhere))
    assert result.outcome.exit_code == 0
    text = render_markdown(shown, brief=True)
    assert text.count("measured on different machines") == 1
    assert "training time" in text


def test_every_problem_is_named_however_many(experiment: Experiment) -> None:
    trials = make_trials(experiment, GOOD)
    unread = [f"candidate: broken-{number}.json: not valid JSON" for number in range(40)]
    result, shown = report(trials, trials[:-1], unread=unread)
    assert result.outcome.exit_code == 2
    for text in (render_terminal(shown), render_comment(shown).replace("\\", ""), render_junit(shown)):
        for number in range(40):
            assert f"broken-{number}.json" in text
        assert f"bioasq/{MODEL}/finetuned/seed2: missing" in " ".join(text.split())
    errors = [line for line in render_annotations(shown.findings) if line.startswith("::error")]
    assert len(errors) == MOST_ANNOTATIONS


def test_nothing_to_compare_is_a_report_too() -> None:
    result, shown = report([], [])
    assert result.outcome.exit_code == 2
    assert shown.name == "gate"
    assert "Reference: no records." in shown.lead
    assert "no record that could be compared with" in render_terminal(shown)


def test_a_test_report_has_a_case_for_every_value_and_fails_the_worse_ones(experiment: Experiment) -> None:
    result, shown = report(make_trials(experiment, GOOD), make_trials(experiment, BAD, 2))
    root = ET.fromstring(render_junit(shown))  # noqa: S314 - our own
    cases = {case.attrib["name"]: case for case in root.iter("testcase")}
    assert len(cases) == 1 + len(result.quality) + len(result.costs)
    failed = [name for name, case in cases.items() if case.find("failure") is not None]
    assert failed == [f"bioasq/{MODEL}/finetuned/{MEASURE}"]
    properties = {item.attrib["name"]: item.attrib["value"] for item in cases[failed[0]].iter("property")}
    assert float(properties["candidate"]) < float(properties["reference"])
    assert properties["status"] == "regression"


def test_a_stranger_s_words_are_shown_as_words(experiment: Experiment) -> None:
    hostile = "\x1b[2J @everyone <script>alert(1)</script> | [x](http://evil) ![y](//z)\n::error::owned\n# Title"
    trials = make_trials(experiment, GOOD)
    strange = make_trials(experiment, GOOD, device_name=hostile)
    _, shown = report(trials, strange, unread=[f"candidate: {hostile}: not a plain file"])
    terminal, comment = render_terminal(shown), render_comment(shown)
    page, junit = render_html(shown, {}), render_junit(shown)
    assert "\x1b" not in terminal + comment + page + junit
    assert "<script" not in page + junit
    assert "@everyone" not in comment
    markup = re.sub(r"\\.", "", comment)  # what a backslash stands before is a letter like any other
    assert "<script" not in markup
    assert "](" not in markup
    assert not [line for line in comment.splitlines() if line.startswith(("# Title", "::"))]
    for line in render_annotations(shown.findings):
        assert "\n" not in line
        assert line.startswith(("::error title=", "::notice title="))


def test_a_comment_says_the_outcome_however_long_the_names(experiment: Experiment) -> None:
    trials = make_trials(experiment, GOOD)
    unread = [f"candidate: {'@' * 400}{number}" for number in range(3000)]
    _, shown = report(trials, trials, unread=unread)
    comment = render_comment(shown)
    assert len(comment) <= COMMENT_LIMIT_CHARACTERS
    assert "Gate cannot tell" in comment
    assert "too long for this place" in comment


def test_the_policy_that_was_used_is_shown(experiment: Experiment) -> None:
    trials = make_trials(experiment, GOOD)
    _, shown = report(trials, trials, Policy(quality=Quality(level=0.99, smallest_drop=0.002, primary=("accuracy@1",))))
    text = render_markdown(shown, pictures=None)
    assert "by more than 0.002" in text
    assert "p of at most 0.01" in text
    assert "accuracy@1" in render_terminal(shown)
    assert MEASURE not in render_terminal(shown)
