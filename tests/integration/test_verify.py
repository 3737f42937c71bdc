"""Verification passes on whole evidence and names the place of everything that was falsified."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.core.memo import Memo
from harness.errors import SourceError
from harness.evidence.verify import verify_records, verify_results
from harness.experiment.lock import LockedSource
from harness.records.run import Run, read_run
from harness.records.trec import Limits
from harness.report.results_folder import write_tables
from tests.support.evidence import edit_record, find, make_evidence, rewrite
from tests.support.records import DIGEST, MODEL, first_result

ROUNDS = 200
RECORD = f"records/hpo/{MODEL}.finetuned.seed=1.json"
RUN = f"runs/hpo/{MODEL}.finetuned.seed=1.run.gz"
QRELS = "runs/hpo/qrels.gz"
LOCK = LockedSource(files={"model.safetensors": DIGEST}, complete=True)


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with whole results, and the manifest and lock that they are of."""
    folder = make_evidence(tmp_path_factory.mktemp("honest"))
    write_tables(folder / "results", rounds=ROUNDS)
    return folder


@pytest.fixture
def evidence(honest: Path, tmp_path: Path) -> Path:
    shutil.copytree(honest, tmp_path / "copy")
    return tmp_path / "copy"


def verify(evidence: Path, *, tables: bool = False) -> tuple[str, ...]:
    """Verify the records and, which takes longer, the tables."""
    results, experiments = evidence / "results", evidence / "experiments"
    if tables:
        return verify_results(results, experiments=experiments, rounds=ROUNDS).problems
    return verify_records(results, experiments=experiments).problems


def test_whole_evidence_is_verified(evidence: Path) -> None:
    found = verify_results(evidence / "results", experiments=evidence / "experiments", rounds=ROUNDS)
    assert found.problems == ()
    assert (found.records, found.files) == (4, 6)
    assert found.values == 4 * 30 * 15


def test_every_run_is_read_once(evidence: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def count(path: Path, *, limits: Limits) -> Run:
        read.append(path.name)
        return read_run(path, limits=limits)

    monkeypatch.setattr("harness.records.artifacts.read_run", count)
    verify_results(evidence / "results", experiments=evidence / "experiments", rounds=ROUNDS)
    assert sorted(read) == sorted(set(read))
    assert len(set(read)) == 4


def test_what_was_found_whole_before_is_not_read_again_and_all_that_changed_is_named(
    evidence: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memo, experiments, results = Memo(tmp_path / "memo"), evidence / "experiments", evidence / "results"

    def verify_again() -> str:
        again = Memo(tmp_path / "memo")
        found = verify_results(results, experiments=experiments, rounds=ROUNDS, memo=again)
        assert (found.records, found.files, found.values) == (4, 6, 4 * 30 * 15)
        return "\n".join(found.problems)

    assert verify_results(results, experiments=experiments, rounds=ROUNDS, memo=memo).problems == ()
    with monkeypatch.context() as patch:
        patch.setattr("harness.records.artifacts.read_run", lambda *_, **__: pytest.fail("read again"))
        assert verify_again() == ""
    table = results / "hpo.md"
    table.write_text(table.read_text(encoding="utf-8").replace("0", "9", 1), encoding="utf-8")
    assert re.search(r"hpo\.md:\d+: reads ", verify_again())
    edit_record(evidence, lambda record: first_result(record)["per_query"]["mrr@10"].__setitem__(4, 0.125))
    assert re.search(r"seed=1\.json: per_query\['mrr@10'\], query 'q4': reads 0\.125", verify_again())
    # What is wrong is never kept: it is named every time.
    assert re.search(r"seed=1\.json: per_query\['mrr@10'\], query 'q4': reads 0\.125", verify_again())
    rewrite(find(evidence, "runs/hpo/*seed=0.run.gz"), swap_first)
    assert re.search(r"seed=0\.json: .*seed=0\.run\.gz: has the SHA-256", verify_again())


def test_changed_value_is_named(evidence: Path) -> None:
    edit_record(evidence, lambda record: first_result(record)["per_query"]["mrr@10"].__setitem__(4, 0.125))
    problems = "\n".join(verify(evidence))
    assert re.search(r"seed=1\.json: per_query\['mrr@10'\], query 'q4': reads 0\.125, run and qrels give", problems)


def test_changed_mean_is_named(evidence: Path) -> None:
    edit_record(evidence, lambda record: first_result(record)["values"].__setitem__("ndcg@10", 0.99))
    assert re.search(r"seed=1\.json: values\['ndcg@10'\]: reads 0\.99, its queries give", "\n".join(verify(evidence)))


def test_value_and_mean_changed_together_are_named(evidence: Path) -> None:
    def change(record: dict[str, Any]) -> None:
        values = first_result(record)["per_query"]["mrr@10"]
        values[:] = [1.0] * len(values)
        first_result(record)["values"]["mrr@10"] = 1.0

    edit_record(evidence, change)
    problems = "\n".join(verify(evidence))
    assert "per_query['mrr@10'], query" in problems
    assert "values['mrr@10']: reads 1.0" in problems


def swap_first(lines: list[str]) -> list[str]:
    """Swap two passages of the first query, leaving ranks and scores in order."""
    first, second = lines[0].split(), lines[1].split()
    first[2], second[2] = second[2], first[2]
    return [" ".join(first) + "\n", " ".join(second) + "\n", *lines[2:]]


def test_moved_run_line_is_named_by_its_digest(evidence: Path) -> None:
    rewrite(find(evidence, "runs/hpo/*seed=1.run.gz"), swap_first)
    assert re.search(r"seed=1\.json: .*seed=1\.run\.gz: has the SHA-256", "\n".join(verify(evidence)))


def test_moved_run_line_is_named_even_with_its_digest_forged(evidence: Path) -> None:
    digest = rewrite(find(evidence, "runs/hpo/*seed=1.run.gz"), swap_until_hit)
    edit_record(evidence, lambda record: first_result(record)["run"].__setitem__("sha256", digest))
    problems = "\n".join(verify(evidence))
    assert "has the SHA-256" not in problems
    assert re.search(r"seed=1\.json: per_query\['\w+@\d+'\], query 'q\d+': reads", problems)


def swap_until_hit(lines: list[str]) -> list[str]:
    """Push each relevant passage of the first ranks one rank down."""
    rows = [line.split() for line in lines]
    for row, after in itertools.pairwise(rows):
        if row[0] == after[0] == row[2]:
            row[2], after[2] = after[2], row[2]
            break
    return [" ".join(row) + "\n" for row in rows]


def test_run_line_moved_as_a_whole_is_named(evidence: Path) -> None:
    digest = rewrite(find(evidence, "runs/hpo/*seed=1.run.gz"), lambda lines: [lines[1], lines[0], *lines[2:]])
    edit_record(evidence, lambda record: first_result(record)["run"].__setitem__("sha256", digest))
    assert re.search(
        r"cannot be computed again: .*seed=1\.run\.gz, line 1: rank '2', expected 1", "\n".join(verify(evidence))
    )


def test_changed_qrels_are_named(evidence: Path) -> None:
    digest = rewrite(find(evidence, QRELS), lambda lines: [lines[0].replace(" q0 1", " q9 1"), *lines[1:]])
    problems = "\n".join(verify(evidence))
    assert problems.count("qrels.gz: has the SHA-256") == 4
    for pattern in ("seed=0", "seed=1", "seed=2", "baseline"):
        edit_record(
            evidence,
            lambda record: first_result(record)["qrels"].__setitem__("sha256", digest),
            f"records/hpo/*{pattern}.json",
        )
    forged = "\n".join(verify(evidence))
    assert "has the SHA-256" not in forged
    assert re.search(r"baseline\.json: per_query\['\w+@\d+'\], query 'q0': reads", forged)


def test_query_removed_from_run_is_named(evidence: Path) -> None:
    digest = rewrite(
        find(evidence, "runs/hpo/*seed=1.run.gz"), lambda lines: [line for line in lines if not line.startswith("q7 ")]
    )
    edit_record(evidence, lambda record: first_result(record)["run"].__setitem__("sha256", digest))
    assert "1 queries of the qrels are missing in the run: 'q7'" in "\n".join(verify(evidence))


def test_query_removed_everywhere_in_a_record_is_named(evidence: Path) -> None:
    def change(record: dict[str, Any]) -> None:
        place = first_result(record)["query_ids"].index("q7")
        del first_result(record)["query_ids"][place]
        first_result(record)["data"]["queries"] -= 1
        for measure, values in first_result(record)["per_query"].items():
            del values[place]
            first_result(record)["values"][measure] = sum(values) / len(values)

    edit_record(evidence, change)
    assert re.search(r"seed=1\.json: query_ids: not the queries of runs/hpo/qrels\.gz: q7", "\n".join(verify(evidence)))


def test_edited_table_cell_is_named(evidence: Path) -> None:
    table = evidence / "results" / "hpo.md"
    lines = table.read_text(encoding="utf-8").splitlines(keepends=True)
    number = next(index for index, line in enumerate(lines) if "mrr@10" in line.replace("\\", "") and "0." in line)
    lines[number] = re.sub(r"0\.\d", "0.9", lines[number], count=1)
    table.write_text("".join(lines), encoding="utf-8")
    (problem,) = verify(evidence, tables=True)
    assert problem.startswith(f"{table}:{number + 1}: reads")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda record: first_result(record)["run"].__setitem__("sha256", "b" * 64), "the record says bbbb"),
        (
            lambda record: first_result(record)["texts"].__setitem__("sha256", "b" * 64),
            "texts.json.gz: has the SHA-256",
        ),
        (lambda record: record.__setitem__("experiment_digest", "b" * 64), "experiment_digest is not the one"),
        (lambda record: first_result(record)["data"].__setitem__("digest", "b" * 64), "data.digest: is not the digest"),
        (
            lambda record: first_result(record)["data"].__setitem__("queries", 31),
            "data.queries is 31, and query_ids are 30",
        ),
        (
            lambda record: first_result(record)["data"].__setitem__("duplicate_passages", 3),
            "data.duplicate_passages: reads 3",
        ),
        (
            lambda record: first_result(record)["data"].__setitem__("best_reachable_mrr", 0.5),
            "data.best_reachable_mrr: reads 0.5",
        ),
        (lambda record: record.__setitem__("training_cost_usd", 0.01), "training_cost_usd: reads 0.01"),
        (
            lambda record: record["sources"]["model:all-MiniLM-L6-v2"]["files"].__setitem__(
                "model.safetensors", "c" * 64
            ),
            "not the locked",
        ),
        (
            lambda record: record["sources"]["data:hpo"].__setitem__("locked", False),
            "sources.data:hpo.locked: reads False",
        ),
        (
            lambda record: record["experiment"]["verdicts"].__setitem__("margin", 0.2),
            "experiment.verdicts: is not what",
        ),
        (lambda record: record["trial"].__setitem__("seed", 0), "whose place is records/hpo/"),
        (lambda record: record["trial"].__setitem__("seed", 77), "is not among the trials"),
        (lambda record: first_result(record)["values"].__setitem__("mrr@10", "much"), "values.mrr@10: found 'much'"),
    ],
)
def test_altered_record_is_named(evidence: Path, change: Callable[[dict[str, Any]], None], named: str) -> None:
    edit_record(evidence, change)
    assert named in "\n".join(verify(evidence))


def test_bit_that_no_rule_covers_is_named_by_the_list_of_hashes(evidence: Path) -> None:
    edit_record(evidence, lambda record: record.__setitem__("created", "2027-01-01T00:00:00+00:00"))
    assert verify(evidence) == ()
    assert re.search(
        r"SHA256SUMS:\d: reads '\w+  records/hpo/.*seed=1\.json'", "\n".join(verify(evidence, tables=True))
    )


def test_file_that_no_record_names_is_named(evidence: Path) -> None:
    find(evidence, "records/hpo/*seed=1.json").unlink()
    problems = "\n".join(verify(evidence, tables=True))
    assert re.search(r"seed=1\.run\.gz: no record names this file", problems)
    assert "hpo.md" in problems


def test_missing_run_is_named(evidence: Path) -> None:
    find(evidence, "runs/hpo/*seed=1.run.gz").unlink()
    assert re.search(r"seed=1\.json: .*seed=1\.run\.gz: no such file", "\n".join(verify(evidence)))


def test_folder_without_records_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="holds no records"):
        verify_results(tmp_path)


def test_verification_needs_no_torch() -> None:
    modules = "harness.evidence.verify, harness.evidence.bundle, harness.evidence.determinism"
    script = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
