"""Each way to falsify evidence and hash it anew is found by verification, or listed as attested only."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.core.memo import Memo
from harness.evidence.verify import Verification, verify_records, verify_results
from harness.records.measures import evaluate_run
from harness.records.plan import locate_plan, note_trials
from harness.records.record import Artifact, read_record, write_record
from harness.records.run import Run, read_run, write_run
from harness.records.trec import read_qrels, write_qrels
from harness.report.results_folder import write_tables
from tests.support.evidence import edit_record, find, make_evidence, rewrite
from tests.support.records import change_result, first_result

ROUNDS = 200
ALL = ("baseline", "seed=0", "seed=1", "seed=2")


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results, manifest and lock, all of which belong together."""
    return make_evidence(tmp_path_factory.mktemp("honest"))


@pytest.fixture
def evidence(honest: Path, tmp_path: Path) -> Path:
    shutil.copytree(honest, tmp_path / "copy")
    return tmp_path / "copy"


def check(evidence: Path) -> Verification:
    return verify_records(evidence / "results", experiments=evidence / "experiments")


def edit_all(evidence: Path, change: Callable[[dict[str, Any]], None]) -> None:
    for name in ALL:
        edit_record(evidence, change, f"records/hpo/*{name}.json")


def set_digest(evidence: Path) -> None:
    """Give every record the digest of the experiment that it now holds, as its harness would have written it."""
    for name in ALL:
        path = find(evidence, f"records/hpo/*{name}.json")
        record = read_record(path)
        write_record(record.replace(experiment_digest=record.experiment.digest), evidence / "results")


def put_first(run: Run) -> Run:
    """Rank each query's own passage first, which makes every value perfect."""
    lists = tuple(
        (query, *(one for one in ranked if one != query))[: len(ranked)]
        for query, ranked in zip(run.query_ids, run.passage_ids, strict=True)
    )
    return Run(run.query_ids, lists, run.scores)


def test_runs_that_are_all_falsified_and_hashed_anew_rest_on_attested_rows_only(evidence: Path) -> None:
    """From files alone nobody can tell: `--rerun baseline` can, of the untrained ones; see test_rerun."""
    results = evidence / "results"
    qrels = read_qrels(results / "runs" / "hpo" / "qrels.gz")
    for name in ALL:
        record = read_record(find(evidence, f"records/hpo/*{name}.json"))
        path = results / record.run.path
        better = put_first(read_run(path))
        write_run(better, path, tag=name)
        values = evaluate_run(better, qrels, record.experiment.evaluation.measures)
        forged = change_result(
            record,
            run=Artifact(path=record.run.path, sha256=hashlib.sha256(path.read_bytes()).hexdigest()),
            values={measure: float(found.mean()) for measure, found in values.items()},
            per_query={measure: tuple(found.tolist()) for measure, found in values.items()},
        )
        write_record(forged, results)
    found = check(evidence)
    assert found.problems == ()
    attested = "\n".join(found.attested)
    assert re.search(r"untrained values, .*`--rerun baseline`", attested)
    assert re.search(r"trained .*3 trainings", attested)


def test_dropped_queries_are_found_by_the_rows_that_the_manifest_says(evidence: Path) -> None:
    results = evidence / "results"
    qrels = {query: judged for query, judged in read_qrels(results / "runs/hpo/qrels.gz").items() if query != "q7"}
    write_qrels(qrels, results / "runs/hpo/qrels.gz")
    judged = hashlib.sha256((results / "runs/hpo/qrels.gz").read_bytes()).hexdigest()
    for name in ALL:
        run = find(evidence, f"runs/hpo/*{name}.run.gz")
        ranked = rewrite(run, lambda lines: [line for line in lines if not line.startswith("q7 ")])

        def change(record: dict[str, Any], ranked: str = ranked) -> None:
            result = first_result(record)
            place = result["query_ids"].index("q7")
            del result["query_ids"][place]
            for measure, values in result["per_query"].items():
                del values[place]
                result["values"][measure] = sum(values) / len(values)
            result["data"]["queries"] = 29
            result["run"]["sha256"], result["qrels"]["sha256"] = ranked, judged

        edit_record(evidence, change, f"records/hpo/*{name}.json")
    assert "data.queries: reads 29, the manifest says 30 rows of test" in "\n".join(check(evidence).problems)


def drop_seed(evidence: Path) -> None:
    find(evidence, "records/hpo/*seed=1.json").unlink()
    find(evidence, "runs/hpo/*seed=1.run.gz").unlink()


def test_a_deleted_seed_is_found_by_the_manifests_list(evidence: Path) -> None:
    drop_seed(evidence)
    problems = "\n".join(check(evidence).problems)
    assert "hpo/all-MiniLM-L6-v2/finetuned/seed1: there is no record of this trial, which the manifest" in problems


def test_a_seed_deleted_from_the_records_lists_too_is_found(evidence: Path) -> None:
    drop_seed(evidence)
    for name in ("baseline", "seed=0", "seed=2"):
        edit_record(
            evidence, lambda record: record["experiment"].__setitem__("seeds", [0, 2]), f"records/hpo/*{name}.json"
        )
        record = read_record(find(evidence, f"records/hpo/*{name}.json"))
        write_record(record.replace(experiment_digest=record.experiment.digest), evidence / "results")
    problems = "\n".join(check(evidence).problems)
    assert "seed1: there is no record of this trial, which the manifest" in problems


def test_a_seeds_file_copied_over_anothers_is_found(evidence: Path, tmp_path: Path) -> None:
    """The copy gets the other seed's number and place, and a run that differs in its tag alone."""
    memo = Memo(tmp_path / "memo")
    assert verify_records(evidence / "results", experiments=evidence / "experiments", memo=memo).problems == ()
    source = find(evidence, "records/hpo/*seed=0.json")
    record = json.loads(source.read_text(encoding="utf-8"))
    record["trial"]["seed"] = 1
    run = find(evidence, "runs/hpo/*seed=1.run.gz")
    shutil.copy(find(evidence, "runs/hpo/*seed=0.run.gz"), run)
    first_result(record)["run"] = {
        "path": f"runs/hpo/{run.name}",
        "sha256": rewrite(run, lambda lines: [line.replace(" harness", " other") for line in lines]),
    }
    find(evidence, "records/hpo/*seed=1.json").write_text(json.dumps(record), encoding="utf-8")
    # Also where the other seed was found whole before, and is not read again.
    again = verify_records(evidence / "results", experiments=evidence / "experiments", memo=memo)
    for problems in ("\n".join(check(evidence).problems), "\n".join(again.problems)):
        assert re.search(r"seed1: has the weights of .*seed0", problems)
        assert re.search(r"seed1: has the run of .*seed0", problems)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (
            lambda experiment: experiment["published"].__setitem__("training_seconds", 1.0),
            "experiment.published: is not",
        ),
        (lambda experiment: experiment.__setitem__("title", "another"), "experiment.title: is not"),
        (
            lambda experiment: experiment.__setitem__("prices_usd_per_hour", {"some CPU": 0.01}),
            "experiment.prices_usd_per_hour: is not",
        ),
        (lambda experiment: experiment.__setitem__("summary", "another"), "experiment.summary: is not"),
        (lambda experiment: experiment.__setitem__("attribution", None), "experiment.attribution: is not"),
    ],
)
def test_any_part_of_the_manifest_changed_in_the_records_is_found(
    evidence: Path, change: Callable[[dict[str, Any]], None], named: str
) -> None:
    """``not_comparable`` could be taken away, and the published time be changed."""

    def forge(record: dict[str, Any]) -> None:
        experiment = record["experiment"]
        experiment["published"] = {"title": "A", "date": "2026"}
        change(experiment)
        price = experiment["prices_usd_per_hour"].get("some CPU")
        if price is not None and "train" in record["stages"]:
            record["training_cost_usd"] = price * record["stages"]["train"]["seconds"] / 3600

    edit_all(evidence, forge)
    set_digest(evidence)
    assert named in "\n".join(check(evidence).problems)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda record: record.__setitem__("device_name", "NVIDIA H100"), "device_name: reads 'NVIDIA H100', the"),
        (
            lambda record: record.__setitem__("device", "cuda:0"),
            "device_name: reads 'some CPU', the machine's GPUs are",
        ),
        (
            lambda record: record["training"].__setitem__("steps", 64),
            "training.steps: reads 64, rows and batch give 63",
        ),
        (lambda record: record["training"]["loss"].pop(), "training.loss: ends at step 62, steps are 63"),
        (
            lambda record: record["stages"]["train"].__setitem__("commit", "f" * 40),
            f"stages.train.commit: reads {'f' * 40}, the environment's is {'0' * 40}",
        ),
    ],
)
def test_what_a_record_says_of_machine_and_training_must_go_together(
    evidence: Path, change: Callable[[dict[str, Any]], None], named: str
) -> None:
    edit_record(evidence, change)
    assert named in "\n".join(check(evidence).problems)


def test_a_made_up_commit_is_found_where_there_is_a_repository(evidence: Path) -> None:
    git = ("git", "-C", str(evidence), "-c", "user.name=a", "-c", "user.email=a@b")
    assert any("commit" in line for line in check(evidence).attested)
    for command in (("init", "-q"), ("add", "experiments"), ("commit", "-q", "-m", "a")):
        subprocess.run([*git, *command], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    problems = "\n".join(check(evidence).problems)
    assert f"environment.commit: reads {'0' * 40}, which this repository does not have" in problems
    edit_all(evidence, lambda record: record["environment"].__setitem__("commit", head))
    assert check(evidence).problems == ()


def test_time_device_and_what_was_tried_are_listed_as_attested_only(evidence: Path) -> None:
    edit_record(evidence, lambda record: record["stages"]["train"].__setitem__("seconds", 0.5))
    found = check(evidence)
    assert found.problems == ()
    attested = "\n".join(found.attested)
    for row in (r"seconds .* 11 stages", r"device, .*some CPU", r"seeds were tried: no list"):
        assert re.search(row, attested), row


def verify_all(evidence: Path) -> str:
    found = verify_results(evidence / "results", experiments=evidence / "experiments", rounds=ROUNDS)
    return "\n".join(found.problems)


def test_a_changed_reference_and_speed_table_are_found_by_the_list_of_hashes(evidence: Path) -> None:
    results = evidence / "results"
    shutil.copytree(results / "records" / "hpo", results / "reference" / "hpo")
    (results / "speed.md").write_text("| fast |\n", encoding="utf-8")
    write_tables(results, rounds=ROUNDS)
    assert verify_all(evidence) == ""
    with (results / "speed.md").open("a", encoding="utf-8") as stream:
        stream.write("| faster |\n")
    assert re.search(r"SHA256SUMS:\d+: reads '\w+  speed\.md'", verify_all(evidence))
    (results / "speed.md").write_text("| fast |\n", encoding="utf-8")
    path = results / "reference" / "hpo" / find(evidence, "records/hpo/*seed=1.json").name
    path.write_text(path.read_text(encoding="utf-8").replace("2026-01-01", "2026-01-02"), encoding="utf-8")
    assert re.search(r"SHA256SUMS:\d+: reads '\w+  reference/hpo/", verify_all(evidence))


@pytest.mark.parametrize("folder", ["", "golden"])
def test_a_reference_whose_values_are_not_its_queries_is_found_though_hashed_anew(evidence: Path, folder: str) -> None:
    results = evidence / "results"
    shutil.copytree(results / "records" / "hpo", results / "reference" / "hpo")
    shutil.copytree(results / "records" / "hpo", results / "reference" / "hpo" / "golden")
    path = results / "reference" / "hpo" / folder / find(evidence, "records/hpo/*seed=1.json").name
    record = json.loads(path.read_text(encoding="utf-8"))
    first_result(record)["values"]["mrr@10"] = 0.5
    path.write_text(json.dumps(record), encoding="utf-8")
    assert re.search(
        r"reference/hpo/.*seed=1\.json: values\['mrr@10'\]: reads 0\.5", "\n".join(check(evidence).problems)
    )


def plan_all(evidence: Path) -> Path:
    """List the trials as if it had been done before they ran."""
    results = evidence / "results"
    records = [read_record(find(evidence, f"records/hpo/*{name}.json")) for name in ALL]
    note_trials((record.trial for record in records), evidence / "elsewhere")
    shutil.copy(locate_plan(evidence / "elsewhere", "hpo"), locate_plan(results, "hpo"))
    for record in records:
        write_record(record.replace(created="2100-01-01T00:00:00+00:00"), results)
    return locate_plan(results, "hpo")


def test_a_seed_that_was_to_be_run_and_has_no_record_is_found(evidence: Path) -> None:
    """Of twenty seeds that were tried, the three that a manifest names could be the best ones."""
    path = plan_all(evidence)
    assert check(evidence).problems == ()
    assert any("was written before" in line for line in check(evidence).attested)
    line = path.read_text(encoding="utf-8").splitlines()[-1]
    with path.open("a", encoding="utf-8") as stream:
        stream.write(line.replace('"seed":2', '"seed":17') + "\n")
    assert re.search(r"finetuned/seed17: was to be run, .* and has no record", "\n".join(check(evidence).problems))


def test_a_record_that_was_not_to_be_run_or_is_older_than_the_list_is_found(evidence: Path) -> None:
    path = plan_all(evidence)
    edit_record(evidence, lambda record: record.__setitem__("created", "2026-01-01T00:00:00+00:00"))
    assert re.search(r"seed1: the record is of 2026-01-01", "\n".join(check(evidence).problems))
    path.write_text("".join(path.read_text(encoding="utf-8").splitlines(keepends=True)[:-1]), encoding="utf-8")
    assert re.search(r"seed2: is not in the list of trials that were to be run", "\n".join(check(evidence).problems))


def test_a_list_written_afterwards_is_said_to_be(evidence: Path) -> None:
    note_trials((read_record(find(evidence, f"records/hpo/*{name}.json")).trial for name in ALL), evidence / "results")
    found = check(evidence)
    assert found.problems == ()
    assert any("the list of hpo was written afterwards" in line for line in found.attested)
