"""The two ends of a trial that runs elsewhere, without a cluster between them: what travels is checked on both."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.engines.driver import DamagedError, Driver, Room, count_threads
from harness.engines.job import RECORD_FILE, STORE_VARIABLE, Files, Outcome, digest_contents
from harness.engines.worker import run_job
from harness.errors import DataError, HarnessError, ThresholdMissed
from harness.experiment.trial import Trial, list_trials
from harness.pipeline.selection import RunConfig, select_experiment
from harness.records.record import Execution, read_record
from tests.support.tiny_trials import Place, make_place, summarise

ALONE = Execution(engine="ray", attempts=1, trials_on_machine=1, gpus_per_trial=0.0)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A tiny experiment, whose model and data are folders."""
    return make_place(tmp_path_factory.mktemp("tiny"))


def make_driver(place: Place, seeds: str | None = None) -> Driver:
    """Return the driver of the experiment."""
    config = RunConfig(place.store, place.results, experiment=str(place.manifest), seeds=seeds)
    selected = select_experiment(config, place.manifest.parent)
    return Driver(selected, config, Room("cpu", 0, count_threads()))


def find_baseline(driver: Driver) -> Trial:
    """Return the first trial."""
    return next(iter(list_trials(driver.experiment)))


@dataclasses.dataclass(frozen=True)
class Sent:
    """What a worker was told, and gave back."""

    driver: Driver
    trial: Trial
    told: str
    outcome: Outcome
    lines: list[str]


@pytest.fixture(scope="module")
def sent(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Sent:
    """A baseline that ran in a worker with a store of its own."""
    driver = make_driver(place.at(tmp_path_factory.mktemp("driver")))
    trial, lines = find_baseline(driver), list[str]()
    told = driver.make_job(trial)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(STORE_VARIABLE, str(tmp_path_factory.mktemp("node") / "store"))
        outcome = run_job(told, ask=driver.read, tell=lambda text, _: lines.append(text))
    assert outcome.error is None, outcome.error
    return Sent(driver, trial, told, outcome, lines)


def test_what_comes_back_is_filed_as_if_it_had_run_here(place: Place, sent: Sent, tmp_path: Path) -> None:
    here = place.at(tmp_path / "here")
    assert here.run() == 0
    there = place.at(tmp_path / "there")
    driver = make_driver(there)
    record = driver.receive(sent.trial, sent.outcome, ALONE)
    filed = read_record(there.results / record.place)
    assert filed == record
    assert record.execution == ALONE
    assert summarise([record]) == summarise(here.read()[:1])
    for artifact in record.artifacts:
        assert (there.results / artifact.path).read_bytes() == (here.results / artifact.path).read_bytes()
    assert not (there.store / "baseline").exists()
    assert any(line.startswith("baseline: ") for line in sent.lines)


def test_what_came_back_before_is_found_by_another_driver_also_with_other_seeds(
    place: Place, sent: Sent, tmp_path: Path
) -> None:
    there = place.at(tmp_path)
    assert make_driver(there).find_done(sent.trial) is None
    make_driver(there).receive(sent.trial, sent.outcome, ALONE)
    (there.results / "records" / "tiny" / "small.baseline.json").unlink()
    driver = make_driver(there, seeds="5,")
    found = driver.find_done(sent.trial)
    assert found is not None
    assert (found.experiment.seeds, found.experiment_digest) == ((5,), driver.experiment.digest)
    assert {cost.cached for cost in found.stages.values()} == {True}
    assert read_record(there.results / found.place) == found
    (trained,) = (trial for trial in list_trials(driver.experiment) if trial.seed == 5)
    assert driver.find_done(trained) is None


def damage_file(outcome: Outcome) -> Outcome:
    """Change a file on the way."""
    name = next(name for name in outcome.files if name.endswith(".run.gz"))
    return dataclasses.replace(outcome, files={**outcome.files, name: b"other"})


def forge_sum(outcome: Outcome) -> Outcome:
    """Change a file and its digest."""
    damaged = damage_file(outcome)
    return dataclasses.replace(damaged, sums=digest_contents(damaged.files))


def lose_file(outcome: Outcome) -> Outcome:
    """Leave a file out, and its digest."""
    files = {name: content for name, content in outcome.files.items() if not name.endswith(".run.gz")}
    return dataclasses.replace(outcome, files=files, sums=digest_contents(files))


@pytest.mark.parametrize("damage", [damage_file, forge_sum, lose_file])
def test_what_is_damaged_on_the_way_is_not_filed(
    place: Place, sent: Sent, tmp_path: Path, damage: Callable[[Outcome], Outcome]
) -> None:
    there = place.at(tmp_path)
    with pytest.raises(DamagedError, match="tiny/small/baseline"):
        make_driver(there).receive(sent.trial, damage(sent.outcome), ALONE)
    assert not (there.results / "records").exists()


def test_the_record_of_another_trial_is_refused(place: Place, sent: Sent, tmp_path: Path) -> None:
    other = sent.trial.replace(variant="finetuned", seed=0)
    with pytest.raises(HarnessError, match="asked for tiny/small/finetuned/seed0, was given tiny/small/baseline"):
        make_driver(place.at(tmp_path)).receive(other, sent.outcome, ALONE)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("DataError", DataError), ("ThresholdMissed", ThresholdMissed), ("Foreign", HarnessError), ("exit", HarnessError)],
)
def test_an_error_is_raised_as_it_was_there(sent: Sent, kind: str, expected: type[HarnessError]) -> None:
    failed = dataclasses.replace(sent.outcome, error=(kind, "what was wrong"))
    with pytest.raises(expected, match="what was wrong") as raised:
        sent.driver.receive(sent.trial, failed, ALONE)
    assert type(raised.value) is expected


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"packages": {"torch": "0.1"}}, r"torch is [0-9.+a-z]+, the driver's 0\.1"),
        ({"harness_version": "0.0.1"}, r"retrieval-harness is .*, the driver's 0\.0\.1"),
        ({"threads": 99}, r"torch has \d+ threads, expected 99 \(OMP_NUM_THREADS\)"),
    ],
)
def test_a_node_that_would_compute_otherwise_is_refused(sent: Sent, changes: dict[str, object], said: str) -> None:
    outcome = run_job(json.dumps({**json.loads(sent.told), **changes}), ask=sent.driver.read, tell=lambda *_: None)
    assert outcome.error is not None
    kind, words = outcome.error
    assert kind == "HarnessError"
    with pytest.raises(HarnessError, match=said):
        raise HarnessError(words)


@pytest.mark.parametrize("part", ["carried", "prepared"])
def test_what_reaches_a_node_damaged_is_refused_and_not_kept(
    sent: Sent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    monkeypatch.setenv(STORE_VARIABLE, str(tmp_path / "store"))

    def ask(name: str) -> Files:
        files = sent.driver.read(name)
        if (name == "carried") is not (part == "carried"):
            return files
        first = next(iter(files))
        return {**files, first: files[first] + b" "}

    outcome = run_job(sent.told, ask=ask, tell=lambda *_: None)
    assert outcome.error is not None
    assert outcome.error[0] == "StoreError"
    assert "did not arrive as" in outcome.error[1]
    again = run_job(sent.told, ask=sent.driver.read, tell=lambda *_: None)
    assert again.error is None
    assert json.loads(again.files[RECORD_FILE])["trial"]["variant"] == "baseline"
