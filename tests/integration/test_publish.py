"""What is pushed is what the records say, in one commit or none, whatever the Hub does meanwhile."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.core.files import hash_file
from harness.errors import PublishError, RecordError
from harness.evidence.publish import Publication, drop_texts, gather
from harness.experiment.manifest import Experiment, read_experiment
from harness.pipeline.store import Cost, Store
from harness.records.record import Artifact, Record, TrainingLog, write_record
from tests.support.hub_child import CANARY, run_child, write_files
from tests.support.hub_server import Fault, Faults, HubRepository, HubServer, hub_environment
from tests.support.records import MANIFESTS, MODEL, make_cost, make_record, spread

VALUES = {0: 0.91, 1: 0.88, 2: 0.895, 3: 0.89}
MEDIAN = 3  # of four the lower of the two in the middle


def make_event(content: bytes) -> bytes:
    return struct.pack("<QI", len(content), 1) + content + b"\2\2\2\2"


LOSS, ARGUMENTS = make_event(b"train/loss 0.25"), make_event(b'args/text_summary "output_dir": "/home/somebody"')
EVENTS = make_event(b"brain.Event:2") + ARGUMENTS + LOSS


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Results and store of four trained seeds and a baseline."""
    store, experiment = Store(tmp_path / "store"), read_experiment(write_manifest(tmp_path))
    write_record(make_stored(tmp_path, experiment, variant="baseline"), tmp_path)
    for seed, value in VALUES.items():
        write_record(make_trained(tmp_path, store, experiment, seed, value), tmp_path)
    return tmp_path


def write_manifest(folder: Path, *, quotable: bool = True, epochs: int = 1) -> Path:
    """Write the published manifest, with other seeds and as asked, and a lock that nobody reads."""
    text = (MANIFESTS / "bioasq.toml").read_text(encoding="utf-8")
    text = re.sub(r"(?m)^seeds = .*$", f"seeds = {list(VALUES)}", text)
    text = re.sub(r"(?m)^num_train_epochs = .*$", f"num_train_epochs = {epochs}", text)
    text = text if quotable else re.sub(r'(?s)attribution = """.*?"""', "", text)
    write_files(folder, {"manifest/bioasq.toml": text.encode(), "manifest/bioasq.lock": b"{}"})
    return folder / "manifest" / "bioasq.toml"


def make_stored(results: Path, experiment: Experiment, value: float = 0.8, **changes: Any) -> Record:
    """Make a record whose run, qrels and texts lie where it says."""
    name = f"{changes.get('seed')}"
    files = {kind: f"runs/bioasq/{kind if kind != 'run' else f'run-{name}'}.gz" for kind in ("run", "qrels", "texts")}
    write_files(results, {path: kind.encode() for kind, path in files.items()})
    found = {kind: Artifact(path=path, sha256=hash_file(results / path)) for kind, path in files.items()}
    per_query = dict.fromkeys(experiment.evaluation.measures, spread(value))
    parts: dict[str, Any] = {**found, **changes}
    return make_record(per_query, experiment=experiment, **parts)


def make_trained(results: Path, store: Store, experiment: Experiment, seed: int, value: float) -> Record:
    def make(target: Path, _: Path) -> Cost:
        files = {"model/model.safetensors": b"weights %d" % seed, "model/config.json": b"{}"}
        write_files(target, {**files, "tensorboard/events.out.tfevents.0": EVENTS, "training.json": b"{}"})
        return Cost(1.0, 1, None)

    output = store.get_or_make("train", {"seed": seed}, make)
    entry = output.entry
    log = TrainingLog(
        precision="fp32", steps=10, loss=(), resumes=0, weights_sha256=entry.files["model/model.safetensors"]
    )
    cost = make_cost(1.0).replace(key=entry.key, output_digest=entry.digest)
    return make_stored(results, experiment, value, seed=seed, training=log, stages={"train": cost})


def gather_here(place: Path, *, quotable: bool = True, epochs: int = 1, **options: Any) -> Publication:
    manifest = write_manifest(place, quotable=quotable, epochs=epochs)
    options = {"repository": "tester/tuned", **options}
    return gather(manifest, results=place, store=place / "store", **options)


def read_text(files: Mapping[str, Path | bytes], name: str) -> str:
    content = files[name]
    return (content if isinstance(content, bytes) else content.read_bytes()).decode()


def test_the_median_seed_goes_unless_another_is_chosen_and_the_card_says_which(place: Path) -> None:
    files = gather_here(place).files
    assert read_text(files, "model.safetensors") == f"weights {MEDIAN}"
    said = f"{MODEL}, seed {MEDIAN}, the median one of seeds 0, 1, 2, 3 by mrr@10"
    assert said in read_text(files, "README.md").replace("\\", "").replace("&#8203;", "")
    files = gather_here(place, seed=0).files
    assert read_text(files, "model.safetensors") == "weights 0"
    assert "seed 0, chosen by hand" in read_text(files, "README.md")


def test_the_same_records_give_the_same_bytes(place: Path) -> None:
    first, second = (
        {name: hash(read_text(publication.files, name)) for name in publication.files}
        for publication in (gather_here(place), gather_here(place))
    )
    assert first == second


def test_logs_of_all_seeds_go_without_texts_that_name_this_machines_paths(place: Path) -> None:
    files = gather_here(place).files
    logs = {name: content for name, content in files.items() if name.startswith("logs/")}
    assert set(logs) == {f"logs/seed={seed}/events.out.tfevents.0" for seed in VALUES}
    assert set(logs.values()) == {make_event(b"brain.Event:2") + LOSS}


def test_a_last_event_that_was_cut_off_is_left_out() -> None:
    assert drop_texts(EVENTS + LOSS[:-3]) == make_event(b"brain.Event:2") + LOSS
    assert drop_texts(EVENTS + LOSS[:5]) == make_event(b"brain.Event:2") + LOSS


def test_texts_go_only_where_the_manifest_says_that_they_may_be_quoted(place: Path) -> None:
    assert "evidence/runs/bioasq/texts.gz" in gather_here(place).files
    silent = read_experiment(write_manifest(place, quotable=False))
    for path in (place / "records" / "bioasq").iterdir():
        path.unlink()
    write_record(make_trained(place, Store(place / "store"), silent, 0, 0.9), place)
    files = gather_here(place, quotable=False).files
    assert "evidence/runs/bioasq/texts.gz" not in files
    assert "evidence/runs/bioasq/qrels.gz" in files


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"seed": 9}, "no record of seed 9; there: 0, 1, 2, 3"),
        ({"model": "bge-base-en-v1.5"}, f"no records of 'bge-base-en-v1.5'; fine-tuned and recorded: {MODEL}"),
        ({"repository": "tuned"}, "the repository is 'tuned', expected USER/NAME"),
    ],
)
def test_what_is_not_there_is_said_with_what_is(place: Path, options: dict[str, Any], expected: str) -> None:
    with pytest.raises(PublishError, match=expected):
        gather_here(place, **options)


def test_weights_that_are_not_the_recorded_ones_are_refused(place: Path) -> None:
    (weights,) = [path for path in place.rglob("model.safetensors") if path.read_bytes() == b"weights 3"]
    weights.write_bytes(b"weights 4")
    with pytest.raises(PublishError, match=r"is broken: model/model\.safetensors has another SHA-256"):
        gather_here(place)


def test_evidence_that_is_not_the_recorded_one_is_refused(place: Path) -> None:
    write_files(place, {"runs/bioasq/run-1.gz": b"better"})
    with pytest.raises(PublishError, match=r"run-1\.gz: not the file that .*seed1 was recorded with"):
        gather_here(place)


def test_records_of_another_recipe_are_refused(place: Path) -> None:
    with pytest.raises(RecordError, match=r"recorded under another recipe than the manifest's"):
        gather_here(place, epochs=2)


PUSH = """
from harness.evidence.publish import Publication, push
sleep, slept = time.sleep, []
time.sleep = lambda seconds: slept.append(seconds) or sleep(seconds / 20)
def act(case):
    slept.clear()
    files = {name: text.encode() for name, text in case["files"].items()}
    publication = Publication(f"tester/{case['repository']}", "bioasq", "The weights are those of seed 1.", files)
    return {**outcome(lambda: push(publication, private=case["private"])), "slept": sum(slept)}
print(json.dumps([act(case) for case in json.loads(sys.argv[1])]))
"""
CARD = "---\nlicense: mit\n---\n# Tuned\n"
FILES = {"README.md": CARD, "model.safetensors": "weights", "evidence/records/a.json": "{}", "logs/a": "log"}
FAULTS = (
    Fault("/api/models/tester/busy/commit/main", status=429, retry_after=1),
    Fault("/api/models/tester/down/commit/main", status=503),
    Fault("/api/models/tester/lost/commit/main", cut_after=0),
    Fault("/api/models/tester/refused/commit/main", status=403, times=None),
    Fault("/api/models/tester/patience/commit/main", status=429, retry_after=3600, times=None),
    Fault("/api/models/tester/gone/commit/main", status=500, times=None),
)
CASES: dict[str, dict[str, Any]] = {
    "twice": {"repository": "twice"},
    "twice again": {"repository": "twice"},
    "stale": {"repository": "twice", "files": {"README.md": CARD, "model.safetensors": "weights", "logs/b": "log"}},
    "public": {"repository": "public", "private": True},
    "token": {"repository": "token", "files": {**FILES, "evidence/records/a.json": f'"{CANARY}"'}},
    "card": {"repository": "card", "files": {"README.md": "---\nmodel-index:\n- name: x\n---\n"}},
    **{name: {"repository": name} for name in ("busy", "down", "lost", "refused", "patience", "gone")},
}
Pushed = tuple[HubServer, dict[str, dict[str, Any]]]


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pushed]:
    """One client that pushes to repositories which each fail in their own way."""
    folder = tmp_path_factory.mktemp("pushed")
    public = HubRepository("model", "tester/public", "a" * 40, write_files(folder / "public", {"x": b"x"}))
    cases = [{"files": FILES, "private": False, **case} for case in CASES.values()]
    with HubServer([public], token=CANARY, faults=Faults(FAULTS)) as server:
        environment = hub_environment(server, folder / "cache", token=CANARY)
        yield server, dict(zip(CASES, run_child(environment, PUSH, json.dumps(cases)), strict=True))


def list_messages(server: HubServer, name: str) -> list[str]:
    return [commit.message for commit in server.commits(f"tester/{name}")][1:]


def test_a_push_is_one_commit_and_the_same_again_is_none(pushed: Pushed) -> None:
    server, found = pushed
    assert found["twice"]["value"].endswith("pushed in one commit")
    assert found["twice again"]["value"].endswith("holds all of this already")
    assert len(list_messages(server, "twice")) == 2, "the second is that of the changed files"
    commit = server.commits("tester/twice")[1]
    assert set(commit.changed) == set(FILES)
    assert commit.description == "The weights are those of seed 1."


def test_evidence_and_logs_that_are_no_longer_true_are_deleted_in_the_same_commit(pushed: Pushed) -> None:
    server, _ = pushed
    assert server.commits("tester/twice")[-1].changed == ("evidence/records/a.json", "logs/a", "logs/b")
    assert set(server.files("tester/twice")) == {".gitattributes", "README.md", "logs/b", "model.safetensors"}


@pytest.mark.parametrize("name", ["busy", "down", "lost"])
def test_a_passing_fault_is_healed_with_exactly_one_commit(pushed: Pushed, name: str) -> None:
    server, found = pushed
    assert "value" in found[name], found[name]
    assert list_messages(server, name) == ["bioasq: model, card, training logs and evidence"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("public", "hub tester/public: is public already; name another one, or make it private first"),
        ("token", "evidence/records/a.json: holds the hub's token; nothing was pushed"),
        ("card", "hub tester/card: Invalid metadata in README.md"),
        ("refused", "hub tester/refused: HTTP 403: the hub refuses"),
        ("patience", "hub tester/patience: HTTP 429: the hub asks to wait 3600 s"),
        ("gone", "hub tester/gone: HTTP 500: the hub failed (3 tries)"),
    ],
)
def test_what_cannot_be_pushed_is_said_in_a_line_and_nothing_was(pushed: Pushed, name: str, expected: str) -> None:
    server, found = pushed
    assert found[name].get("error") == "PublishError", found[name]
    assert found[name]["text"].startswith(expected)
    assert list_messages(server, name) == []
    assert found[name]["slept"] <= 5


def test_without_a_token_the_way_to_log_in_is_named(pushed: Pushed, tmp_path: Path) -> None:
    case = {"repository": "nobodys", "files": FILES, "private": False}
    (found,) = run_child(hub_environment(pushed[0], tmp_path), PUSH, json.dumps([case]))
    assert "HTTP 401" in found["text"]
    assert "set HF_TOKEN, or run: hf auth login" in found["text"]
