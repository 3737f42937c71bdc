"""The list of trials is written before they run, only ever grows, and says what was listed afterwards."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from harness.errors import RecordError
from harness.experiment.trial import list_trials
from harness.records.plan import PLAN_FILE, locate_plan, note_trials, read_plan
from harness.records.record import write_record
from tests.support.manifests import parse
from tests.support.records import make_record

TRIALS = list(list_trials(parse()))


def test_trials_are_listed_once_in_their_order(tmp_path: Path) -> None:
    note_trials(TRIALS[:2], tmp_path)
    first = locate_plan(tmp_path, "tiny").read_bytes()
    note_trials(TRIALS, tmp_path)
    note_trials(TRIALS, tmp_path)
    assert locate_plan(tmp_path, "tiny").read_bytes().startswith(first)
    plan = read_plan(tmp_path / "runs" / "tiny" / PLAN_FILE)
    assert [planned.trial for planned in plan] == TRIALS
    assert not any(planned.afterwards for planned in plan)


def test_a_trial_that_has_a_record_is_listed_as_afterwards(tmp_path: Path) -> None:
    write_record(make_record({"mrr@10": (1.0,)}, experiment=parse(), model="small", seed=0), tmp_path)
    note_trials(TRIALS, tmp_path)
    late = [planned.trial.id for planned in read_plan(locate_plan(tmp_path, "tiny")) if planned.afterwards]
    assert late == [trial.id for trial in TRIALS if (trial.model, trial.seed) == ("small", 0)]


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    note_trials(TRIALS, tmp_path)
    path = locate_plan(tmp_path, "tiny")
    with path.open("a", encoding="utf-8") as stream:
        stream.write('{"trial": 1}\n')
    with pytest.raises(RecordError, match=rf"planned\.jsonl:{len(TRIALS) + 1}: trial: found 1"):
        read_plan(path)


def test_a_full_disk_leaves_no_half_a_line(tmp_path: Path) -> None:
    """What was left of it would have broken the plan for every later run."""
    note_trials(TRIALS[:1], tmp_path)
    path = locate_plan(tmp_path, "tiny")
    before = path.read_bytes()
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, usual[1]))
    try:
        with pytest.raises(RecordError, match=r"planned\.jsonl: cannot be written"):
            note_trials(TRIALS, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    assert path.read_bytes() == before
    note_trials(TRIALS, tmp_path)
    assert [planned.trial for planned in read_plan(path)] == TRIALS


def test_no_plan_is_an_empty_one(tmp_path: Path) -> None:
    assert read_plan(locate_plan(tmp_path, "tiny")) == ()
