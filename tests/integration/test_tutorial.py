"""What the tutorial shows for data of the ordinary kinds is typed as it stands, and ends in a run that verifies.

The Hub is ours and serves a tiny model and few rows under the names that are typed. Each block starts in a folder that
has its data and nothing else.
"""

from __future__ import annotations

import csv
import dataclasses
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.experiment.data import HubSource
from harness.experiment.manifest import read_experiment
from harness.records.record import Record, read_records
from harness.records.run import read_run
from harness.records.trec import read_qrels
from tests.support.docs import ROOT, list_commands
from tests.support.hub_server import HubRepository, HubServer, hub_environment
from tests.support.manifests import write_rows
from tests.support.tiny_model import build_tiny_model

PAGE = ROOT / "docs" / "tutorial.md"
HEADING = "## Other data, each in three lines"
COMMAND = "import sys; from harness.cli.main import main; sys.exit(main(sys.argv[1:]))"
MODEL, MODEL_COMMIT = "sentence-transformers/all-MiniLM-L6-v2", "1" * 40
DATA, DATA_COMMIT = "philschmid/finanical-rag-embedding-dataset", "2" * 40
SECONDS = 300
# What the issue allows `harness init`; of a processor, since others may be at work on this machine.
INIT_SECONDS = 20


def write_faq(folder: Path) -> None:
    """Write 60 questions with 12 answers."""
    rows = [(f"what is {number}, and why?", f'gene {number // 5}, "so to say"') for number in range(60)]
    with (folder / "faq.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([("question", "answer"), *rows])


def write_beir(folder: Path) -> None:
    """Write queries with several relevant passages and grades, as BEIR's loader wants them."""
    place = folder / "nfcorpus"
    passages = [{"_id": f"MED-{n}", "title": f"gene {n}", "text": f"acts on pathway {n % 7}"} for n in range(30)]
    write_rows(place / "corpus.jsonl", [{**one, "metadata": {}} for one in passages])
    queries = [{"_id": f"PLAIN-{n}", "text": f"which gene acts on pathway {n}?", "metadata": {}} for n in range(24)]
    write_rows(place / "queries.jsonl", queries)
    (place / "qrels").mkdir()
    for part, some in {"train": range(16), "test": range(16, 24)}.items():
        judged = [f"PLAIN-{n}\tMED-{(n * 3 + k) % 30}\t{k % 3}\n" for n in some for k in range(1, 6)]
        text = "query-id\tcorpus-id\tscore\n" + "".join(judged)
        (place / "qrels" / f"{part}.tsv").write_text(text, encoding="utf-8")


def write_triplets(folder: Path) -> None:
    """Write triplets as the hub's data sets have them."""
    import pyarrow as pa
    from pyarrow import parquet

    rows = [{"anchor": f"what is {n}?", "positive": f"gene {n}", "negative": f"gene {(n + 1) % 40}"} for n in range(40)]
    parquet.write_table(pa.Table.from_pylist(rows), folder / "triplets.parquet")


def write_nothing(_: Path) -> None:
    """Write nothing: the data are on the Hub."""


BLOCKS: dict[str, Callable[[Path], None]] = {
    "faq": write_faq,
    "nfcorpus": write_beir,
    "triplets": write_triplets,
    "finanical-rag-embedding-dataset": write_nothing,
}


@dataclasses.dataclass(frozen=True)
class Typed:
    """A block that was typed: its folder, what each command said, and what `harness init` took of a processor."""

    folder: Path
    said: Mapping[str, str]
    init_seconds: float

    def read(self) -> dict[str, Record]:
        """Return the records by their stems."""
        (records,) = (self.folder / "results" / "records").iterdir()
        return {record.trial.stem: record for record in read_records(records)}


def list_blocks() -> dict[str, list[list[str]]]:
    """Return the commands below the heading by the experiment's name: a block begins with `harness init`."""
    below = PAGE.read_text(encoding="utf-8").partition(f"{HEADING}\n")[2].partition("\n## ")[0]
    blocks: list[list[list[str]]] = []
    for shown in list_commands(PAGE):
        if shown.command not in below:
            continue
        if shown.arguments[1] == "init":
            blocks.append([])
        if blocks:
            blocks[-1].append(shown.arguments)
    return {block[1][2].removesuffix(".toml"): block for block in blocks}


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a user who reaches our Hub."""
    folder = tmp_path_factory.mktemp("hub")
    questions = [{"question": f"what is {n}?", "context": f"the report of {n // 2}"} for n in range(60)]
    write_rows(folder / "data" / "data" / "train-00000-of-00001.jsonl", questions)
    served = [
        HubRepository("model", MODEL, MODEL_COMMIT, build_tiny_model(folder / "model")),
        HubRepository("dataset", DATA, DATA_COMMIT, folder / "data"),
    ]
    with HubServer(served) as server:
        yield hub_environment(server, folder / "cache") | {
            "PYTHONPATH": str(ROOT),
            "TOKENIZERS_PARALLELISM": "false",
        }


@pytest.fixture(scope="module", params=list(BLOCKS))
def typed(
    request: pytest.FixtureRequest, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Typed:
    folder = tmp_path_factory.mktemp(request.param)
    BLOCKS[request.param](folder)
    said, seconds = {}, 0.0
    for _, *arguments in list_blocks()[request.param]:
        before = _measure_children()
        done = subprocess.run(
            [sys.executable, "-c", COMMAND, *arguments],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        said[arguments[0]] = done.stdout
        seconds = _measure_children() - before if arguments[0] == "init" else seconds
    return Typed(folder, said, seconds)


def _measure_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_every_block_is_three_lines_and_is_typed_here() -> None:
    found = {name: [arguments[1] for arguments in block] for name, block in list_blocks().items()}
    assert found == {name: ["init", "run", "verify"] for name in BLOCKS}


def test_the_three_lines_end_in_a_run_that_verifies(typed: Typed) -> None:
    stems = {"bm25.baseline", "all-MiniLM-L6-v2.baseline"}
    stems |= {f"all-MiniLM-L6-v2.plain.seed={seed}" for seed in range(3)}
    assert set(typed.read()) == stems
    assert "5 records" in typed.said["verify"]
    assert "all match" in typed.said["verify"]
    (name,) = {record.trial.experiment for record in typed.read().values()}
    assert f"next: harness run {name}.toml" in typed.said["init"]
    assert (typed.folder / "results" / f"{name}.html").is_file()
    (source,) = (model.source for model in read_experiment(typed.folder / f"{name}.toml").models if model.source)
    assert source == HubSource(kind="hub", repository=MODEL, revision=MODEL_COMMIT)


def test_init_takes_less_than_it_may(typed: Typed) -> None:
    assert 0 < typed.init_seconds < INIT_SECONDS


def test_equal_answers_are_one_passage(typed: Typed) -> None:
    record = next(iter(typed.read().values()))
    passages = {"faq": 12, "nfcorpus": 30, "triplets": 40, "finanical-rag-embedding-dataset": 30}
    assert record.data.passages == passages[record.trial.experiment]
    assert record.data.duplicate_passages == 0


def test_values_are_trec_evals_on_the_run_and_the_judgements(typed: Typed) -> None:
    """With BEIR's grades too; of the other data each query has one relevant passage."""
    import pytrec_eval

    names = {"ndcg@10": "ndcg_cut_10", "recall@10": "recall_10", "map@100": "map_cut_100", "accuracy@1": "success_1"}
    graded = False
    for record in typed.read().values():
        qrels = read_qrels(typed.folder / "results" / record.qrels.path)
        run = read_run(typed.folder / "results" / record.run.path)
        graded |= any(grade > 1 for judged in qrels.values() for grade in judged.values())
        scores: dict[str, dict[str, float]] = {
            query: dict(zip(passages, numbers, strict=True))
            for query, passages, numbers in zip(run.query_ids, run.passage_ids, run.scores, strict=True)
        }
        evaluator: Any = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut", "recall", "map_cut", "success"})
        theirs = evaluator.evaluate(scores)
        for name, trec in names.items():
            expected = [theirs[query][trec] for query in record.query_ids]
            assert list(record.per_query[name]) == pytest.approx(expected, abs=1e-9), (record.trial.id, name)
    assert graded == (record.trial.experiment == "nfcorpus")


def test_a_data_set_of_the_hub_is_pinned(environment: dict[str, str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, "init", f"{DATA}@{DATA_COMMIT}", "--model", MODEL, "--name", "again"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    data = read_experiment(tmp_path / "again.toml").data["again"]
    assert data.source == HubSource(kind="hub", repository=DATA, revision=DATA_COMMIT)
    assert "columns: query = question, passage = context" in done.stdout
