"""The reference: replaced as a whole or not at all, never without its history, never with what cannot be gated."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from harness.errors import RecordError
from harness.experiment.manifest import Experiment
from harness.gate import reference as module
from harness.gate.acceptance_report import build_acceptance_report
from harness.gate.compare import GateOutcome
from harness.gate.golden import take_in_golden
from harness.gate.reference import accept, plan_acceptance
from harness.records.history import History, Snapshot, read_history, take_snapshot
from harness.records.record import write_record
from harness.records.untrusted import take_in
from harness.report.terminal import render_terminal
from tests.support.records import MACHINE, MODEL, make_record, read_manifest, spread

MEASURE = "mrr@10"
COMMIT = "1" * 40


@pytest.fixture(scope="module")
def experiment() -> Experiment:
    found = read_manifest("bioasq", seeds=(0, 1, 2), claims=(), thresholds=())
    return found.replace(models=found.models[:1], evaluation=found.evaluation.replace(measures=(MEASURE,)))


def write_candidate(
    root: Path, experiment: Experiment, means: tuple[float, ...], *, created: str = "2026-02-01T00:00:00+00:00"
) -> Path:
    """Write a baseline and as many seeds as there are means; return the folder of the experiment's records."""
    shutil.rmtree(root, ignore_errors=True)
    environment = MACHINE.replace(commit=COMMIT)
    baseline = make_record({MEASURE: spread(0.8)}, experiment=experiment, variant="baseline", created=created)
    write_record(baseline, root)
    for seed, mean in enumerate(means):
        per_query = {MEASURE: spread(mean)}
        record = make_record(per_query, experiment=experiment, seed=seed, created=created, environment=environment)
        write_record(record, root)
    return root / "records" / experiment.name


def read(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_the_first_reference_is_the_candidate_s_records_and_a_history(tmp_path: Path, experiment: Experiment) -> None:
    candidate = write_candidate(tmp_path / "new", experiment, (0.88, 0.89))
    (plan,) = plan_acceptance(candidate, tmp_path / "reference")
    assert not (tmp_path / "reference").exists()
    assert plan.changed
    accept(plan)
    folder = tmp_path / "reference" / "bioasq"
    found = read(folder)
    history = read_history(folder)
    assert {name: found[name] for name in found if name != "history.json"} == read(candidate)
    assert [snapshot.commit for snapshot in history.snapshots] == ["0" * 40]
    assert [trial.values[MEASURE] for trial in history.snapshots[0].trials] == [
        record.values[MEASURE] for record in take_in(candidate, side="candidate").records
    ]
    assert [path.name for path in (tmp_path / "reference").iterdir()] == ["bioasq"]


def test_accepting_twice_changes_nothing(tmp_path: Path, experiment: Experiment) -> None:
    candidate = write_candidate(tmp_path / "new", experiment, (0.88, 0.89))
    reference = tmp_path / "reference" / "bioasq"
    accept(plan_acceptance(candidate, reference)[0])
    before = read(reference)
    (plan,) = plan_acceptance(candidate.parent, reference.parent)
    assert not plan.changed
    assert "Nothing changes" in render_terminal(build_acceptance_report(plan))
    assert read(reference) == before


def test_the_first_reference_stays_golden_until_another_is_made_so(tmp_path: Path, experiment: Experiment) -> None:
    reference = tmp_path / "reference" / "bioasq"
    means = ((0.90, 0.91, 0.90), (0.89, 0.90, 0.89), (0.88, 0.89, 0.88))
    first = read(write_candidate(tmp_path / "new", experiment, means[0]))
    accept(plan_acceptance(tmp_path / "new" / "records" / "bioasq", reference)[0])
    assert read(reference / "golden") == first
    second = write_candidate(tmp_path / "new", experiment, means[1])
    accept(plan_acceptance(second, reference)[0])
    assert read(reference / "golden") == first
    assert {record.trial.id for record in take_in_golden(reference.parent).records} == {
        record.trial.id for record in take_in(reference, side="reference").records
    }
    third = write_candidate(tmp_path / "new", experiment, means[2])
    accept(plan_acceptance(third, reference, golden=True)[0])
    assert read(reference / "golden") == read(third)


def test_what_comes_goes_and_changes_is_told(tmp_path: Path, experiment: Experiment) -> None:
    reference = tmp_path / "reference"
    accept(plan_acceptance(write_candidate(tmp_path / "new", experiment, (0.90, 0.91, 0.90)), reference)[0])
    other = write_candidate(tmp_path / "new", experiment, (0.70, 0.71), created="2026-03-01T00:00:00+00:00")
    extra = make_record({MEASURE: spread(0.72)}, experiment=experiment, seed=7)
    write_record(extra, other.parents[1])
    (plan,) = plan_acceptance(other, reference)
    assert [trial.id for trial in plan.added] == [f"bioasq/{MODEL}/finetuned/seed7"]
    assert [trial.id for trial in plan.removed] == [f"bioasq/{MODEL}/finetuned/seed2"]
    assert plan.gate.outcome is GateOutcome.NOT_COMPARABLE  # seed 2 is missing
    text = render_terminal(build_acceptance_report(plan), width=200)
    for part in ("4 trials now, 4 then", "Added: ", "Removed: ", "0.9033 ± 0.0058", "0.7100 ± 0.0100", "-0.1933"):
        assert part in text
    accept(plan)
    snapshots = read_history(reference / "bioasq").snapshots
    assert [snapshot.date for snapshot in snapshots] == ["2026-02-01", "2026-03-01"]
    assert not (reference / "bioasq" / f"{MODEL}.finetuned.seed=2.json").exists()


def test_a_worse_reference_is_a_warning(tmp_path: Path, experiment: Experiment) -> None:
    reference = tmp_path / "reference"
    accept(plan_acceptance(write_candidate(tmp_path / "new", experiment, (0.900, 0.901, 0.902)), reference)[0])
    (plan,) = plan_acceptance(write_candidate(tmp_path / "new", experiment, (0.70, 0.71, 0.72)), reference)
    findings = build_acceptance_report(plan).findings
    assert any(
        finding.title == "perhaps worse than the old reference" and MEASURE in finding.text for finding in findings
    )


def test_what_could_not_be_gated_is_not_accepted(tmp_path: Path, experiment: Experiment) -> None:
    candidate = write_candidate(tmp_path / "new", experiment, (0.88, 0.89))
    path = candidate / f"{MODEL}.finetuned.seed=0.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    data["evaluations"]["bioasq/test"]["values"][MEASURE] = 0.99
    path.write_text(json.dumps(data), encoding="utf-8")
    (candidate / f"{MODEL}.finetuned.seed=1.json").write_text("{}", encoding="utf-8")
    with pytest.raises(RecordError) as caught:
        plan_acceptance(candidate, tmp_path / "reference")
    assert "not the mean over its queries" in str(caught.value)
    assert "seed=1.json" in str(caught.value)


def test_a_broken_reference_can_be_replaced_and_a_broken_history_cannot(tmp_path: Path, experiment: Experiment) -> None:
    candidate = write_candidate(tmp_path / "new", experiment, (0.88, 0.89))
    reference = tmp_path / "reference" / "bioasq"
    accept(plan_acceptance(candidate, reference)[0])
    (reference / f"{MODEL}.baseline.json").write_text("{}", encoding="utf-8")
    (plan,) = plan_acceptance(candidate, reference)
    assert plan.unread
    assert plan.changed
    (reference / "history.json").write_text('{"schema_version": 1, "snapshots": [{}]}', encoding="utf-8")
    with pytest.raises(RecordError, match=r"history\.json"):
        plan_acceptance(candidate, reference)


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_a_folder_with_anything_else_in_it_is_not_replaced(tmp_path: Path, experiment: Experiment, kind: str) -> None:
    candidate = write_candidate(tmp_path / "new", experiment, (0.88, 0.89))
    folder = tmp_path / "bioasq"
    if kind == "link":
        (tmp_path / "elsewhere").mkdir()
        folder.symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    else:
        folder.mkdir()
        other = folder / "thesis.tex"
        other.touch() if kind == "file" else other.mkdir()
    with pytest.raises(RecordError, match=r"thesis\.tex|symbolic link"):
        plan_acceptance(candidate, folder)


@pytest.mark.parametrize("failing", ["write", "swap", None])
def test_the_reference_is_replaced_whole_or_not_at_all(
    tmp_path: Path, experiment: Experiment, monkeypatch: pytest.MonkeyPatch, failing: str | None
) -> None:
    reference = tmp_path / "reference" / "bioasq"
    accept(plan_acceptance(write_candidate(tmp_path / "new", experiment, (0.88, 0.89)), reference)[0])
    before = read(reference)
    (plan,) = plan_acceptance(write_candidate(tmp_path / "new", experiment, (0.90, 0.91)), reference)
    if failing == "write":
        monkeypatch.setattr(module, "_write", _refuse_last(module._write))
    elif failing == "swap":
        monkeypatch.setattr(Path, "rename", _refuse_new(Path.rename, reference))
    if failing:
        with pytest.raises(RecordError, match="No space left"):
            accept(plan)
        assert read(reference) == before
    else:
        accept(plan)
        assert read(reference).keys() == before.keys()
        assert read(reference) != before
    assert [path.name for path in reference.parent.iterdir()] == ["bioasq"]


def test_killed_between_the_two_renames_the_old_reference_is_whole_beside_its_place(
    tmp_path: Path, experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = tmp_path / "reference" / "bioasq"
    accept(plan_acceptance(write_candidate(tmp_path / "new", experiment, (0.88, 0.89)), reference)[0])
    before = read(reference)
    (plan,) = plan_acceptance(write_candidate(tmp_path / "new", experiment, (0.90, 0.91)), reference)
    rename = Path.rename

    def die(path: Path, target: Path) -> Path:
        if target == reference:
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", die)
    with pytest.raises(KeyboardInterrupt):
        accept(plan)
    (left,) = reference.parent.iterdir()
    assert left.name.endswith(module.REPLACED)
    assert read(left) == before


def test_a_history_survives_writing_and_reading(tmp_path: Path, experiment: Experiment) -> None:
    records = [make_record({MEASURE: spread(0.9, 20)}, experiment=experiment, seed=seed) for seed in (0, 1)]
    history = History().extend(take_snapshot(records))
    (tmp_path / "history.json").write_text(history.format(), encoding="utf-8")
    assert read_history(tmp_path) == history
    assert read_history(tmp_path / "none") == History()
    assert Snapshot(commit=None, dirty=None, date="2026-01-01", trials=()).label == "no commit"
    with pytest.raises(RecordError, match="found none"):
        take_snapshot([])


def _refuse_last(write: object) -> object:
    def refuse(path: Path, content: bytes) -> None:
        if path.name == "history.json":
            raise OSError(28, "No space left on device")
        assert callable(write)
        write(path, content)

    return refuse


def _refuse_new(rename: object, target: Path) -> object:
    def refuse(self: Path, other: Path) -> Path:
        assert callable(rename)
        if other == target and not self.name.endswith(".old"):
            raise OSError(28, "No space left on device")
        done: Path = rename(self, other)
        return done

    return refuse
