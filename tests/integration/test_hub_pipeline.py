"""The published experiment from a Hub and back to it: lock, run, run again offline, carry away, publish.

The Hub is ours and serves tiny models and few rows, under the published ids and at the pinned commits. The manifest is
the committed one, save for the numbers of rows and the threshold, which tiny models cannot meet.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]  # its stubs are no dependency of ours

from harness.core.files import hash_file
from harness.experiment.data import HubSource
from harness.experiment.lock import list_sources, read_lock
from harness.experiment.manifest import Experiment, read_experiment
from harness.records.record import Record, read_records
from harness.report.experiment import build_report
from tests.support.hub_child import CANARY, write_files
from tests.support.hub_server import HubRepository, HubServer, hub_environment
from tests.support.tiny_model import Architecture, build_tiny_model
from tests.support.tiny_training import make_rows

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "benchmarks" / "experiments" / "bioasq.toml"
TRAIN_ROWS, TEST_ROWS, SEEDS = 48, 16, (0, 1, 2)
MOVED = "b" * 40
REPOSITORY = "tester/all-mpnet-base-v2-bioasq"
WORK_SECONDS = 900
COMMAND = "import sys; from harness.cli.main import main; sys.exit(main(sys.argv[1:]))"
# Of its own, and so without a route, even to this machine.
NAMESPACE = ("unshare", "--map-root-user", "--net")
# In a network namespace without a route. torch is imported once; each run is a fork of this process.
AIR_GAPPED = """
import gc, json, os, socket, sys
from pathlib import Path
import datasets, sentence_transformers, pytest
from huggingface_hub import constants
try:
    socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=5).close()
    sys.exit("there is a route")
except OSError:
    pass
gc.freeze()  # else each fork's collections would copy all that was imported
for options, environment in json.loads(sys.argv[2]):
    pid = os.fork()
    if not pid:
        os.environ.update(environment)
        constants.HF_HUB_OFFLINE = "HF_HUB_OFFLINE" in environment
        constants.HF_HUB_CACHE = os.environ["HF_HOME"] + "/hub"
        os._exit(int(pytest.main(options)))
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code:
        sys.exit(code)
"""


@dataclasses.dataclass(frozen=True)
class World:
    """A Hub, a manifest for it with its lock, and the results of one online run."""

    server: HubServer
    folder: Path
    manifest: Path
    environment: dict[str, str]
    said: dict[str, str]

    @property
    def experiment(self) -> Experiment:
        """The manifest, parsed."""
        return read_experiment(self.manifest)

    def read(self, results: str = "results") -> tuple[Record, ...]:
        """Read the records of a run."""
        return read_records(self.folder / results / "records" / "bioasq")

    def harness(self, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the command line in a process of its own."""
        return run([sys.executable, "-c", COMMAND, *map(str, arguments)], self.environment | environment)


def run(command: Sequence[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command in the checkout; it must not say the token."""
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=WORK_SECONDS, check=False
    )
    assert CANARY not in done.stdout + done.stderr
    return done


def list_options(folder: Path, manifest: Path, name: str, *, models: str = "", seeds: str = "3") -> list[str]:
    """List pytest's options for a run with a store and results of its own."""
    places = {
        "--harness-experiment": manifest,
        "--harness-store": folder / f"store-{name}",
        "--harness-results": folder / name,
    }
    options = {**places, "--harness-seeds": seeds, **({"--harness-models": models} if models else {})}
    # A fork of a process that has imported much finds modules that pytest would have rewritten.
    quiet = ["-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
    return ["benchmarks/test_reproduce.py", *quiet, *(str(part) for option in options.items() for part in option)]


def write_rows(folder: Path, experiment: Experiment) -> Path:
    """Write a data set in the published layout: a card that names a config and its splits, and a file for each."""
    rows = [
        {
            "question": f"{row.query} {number}?",
            "answer": f"{row.passage} {number}",
            "id": number,
            "relevant": [number],
        }
        for number, row in enumerate(make_rows(TRAIN_ROWS + TEST_ROWS))
    ]
    rows[0]["id"], rows[TRAIN_ROWS]["id"] = (
        int(str(experiment.data["bioasq"].expected_first_id("train"))),
        int(str(experiment.data["bioasq"].expected_first_id("test"))),
    )
    splits = {"train": rows[:TRAIN_ROWS], "test": rows[TRAIN_ROWS:]}
    card = f"---\nconfigs:\n- config_name: {experiment.data['bioasq'].config}\n  data_files:\n"
    card += "".join(f"  - split: {split}\n    path: qa/{split}.jsonl\n" for split in splits) + "---\n"
    files = {f"qa/{split}.jsonl": "".join(json.dumps(row) + "\n" for row in some) for split, some in splits.items()}
    return write_files(folder, {name: text.encode() for name, text in {"README.md": card, **files}.items()})


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("world")
    experiment = read_experiment(PUBLISHED)
    text = PUBLISHED.read_text(encoding="utf-8")
    # The seeds that are run, since a declared trial without a record does not verify.
    changes = {
        "seeds = [0, 1, 2, 3, 4]": f"seeds = {list(SEEDS)}",
        "train_rows = 4012": f"train_rows = {TRAIN_ROWS}",
        "test_rows = 707": f"test_rows = {TEST_ROWS}",
    }
    for old, new in {**changes, "above = 0.88": "above = 0.0"}.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    manifest = folder / "experiments" / "bioasq.toml"
    write_files(folder, {"experiments/bioasq.toml": text.encode()})
    served = []
    for number, (name, source) in enumerate(list_sources(experiment).items()):
        assert isinstance(source, HubSource)
        if name == "data:bioasq":
            files = write_rows(folder / "data", experiment)
            served.append(HubRepository("dataset", source.repository, source.revision, files))
        else:
            architecture: Architecture = "mpnet" if "mpnet" in name else "bert"
            files = build_tiny_model(folder / f"model-{number}", seed=number, architecture=architecture)
            # Neither is taken: pickled weights could run code, and the other is for another library.
            write_files(files, {"pytorch_model.bin": b"\x80", "onnx/model.onnx": b"\0"})
            served.append(HubRepository("model", source.repository, source.revision, files))
    with HubServer(served, token=CANARY) as server:
        environment = hub_environment(server, folder / "cache", token=CANARY) | {"TOKENIZERS_PARALLELISM": "false"}
        made = World(server, folder, manifest, environment, {})
        locked = made.harness("lock", manifest, "--store", folder / "store-results")
        assert locked.returncode == 0, locked.stderr
        options = list_options(folder, manifest, "results")
        done = run([sys.executable, "-m", "pytest", *options], environment)
        assert done.returncode == 0, done.stdout + done.stderr
        yield dataclasses.replace(made, said={"lock": locked.stdout, "run": done.stdout + done.stderr})


def test_the_published_ids_are_taken_at_the_pinned_commits_and_every_file_is_checked(world: World) -> None:
    pinned = [source for source in list_sources(read_experiment(PUBLISHED)).values() if isinstance(source, HubSource)]
    assert list(list_sources(world.experiment).values()) == pinned
    lock = read_lock(world.manifest.with_suffix(".lock"), world.experiment)
    assert all(source.complete for source in lock.sources.values())
    assert set(lock.sources["data:bioasq"].files) == {"README.md", "qa/test.jsonl", "qa/train.jsonl"}
    for record in world.read():
        name = f"model:{record.trial.model}"
        assert record.sources[f"model:{record.trial.model}"].files == lock.sources[name].files
        assert record.sources["data:bioasq"].files == lock.sources["data:bioasq"].files
        assert record.sources[f"model:{record.trial.model}"].locked
        assert record.sources["data:bioasq"].origin == f"hub {pinned[0].repository} @ {pinned[0].revision}"
    assert len(world.read()) == 2 + len(SEEDS)


def test_nothing_unwanted_is_fetched_and_nothing_twice(world: World) -> None:
    asked = [
        request.path for request in world.server.requests if request.method == "GET" and "/api/" not in request.path
    ]
    assert not [path for path in asked if path.endswith((".bin", ".onnx"))]
    assert len(asked) == len(set(asked)), "what `harness lock` fetched is what the run read"


def test_offline_and_from_a_parcel_the_same_values_come_without_any_network(world: World) -> None:
    if subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system allows no network namespace")
    seen, parcel = len(world.server.requests), world.folder / "parcel"
    # Packed offline from what the one online run left in the cache.
    packed = world.harness(
        "fetch", world.manifest, "--to", parcel, "--store", world.folder / "store-parcel", HF_HUB_OFFLINE="1"
    )
    assert packed.returncode == 0, packed.stderr
    assert (parcel / "bioasq.lock").read_bytes() == world.manifest.with_suffix(".lock").read_bytes()
    assert world.server.requests[seen:] == ()
    few = {"models": "all-mpnet-base-v2", "seeds": "1,"}
    runs = [
        (list_options(world.folder, world.manifest, "offline", **few), {"HF_HUB_OFFLINE": "1"}),
        (
            list_options(world.folder, parcel / "bioasq.toml", "parcelled", **few),
            {"HF_HOME": str(world.folder / "nothing")},
        ),
    ]
    port = world.server.url.rpartition(":")[2]
    done = run([*NAMESPACE, sys.executable, "-c", AIR_GAPPED, port, json.dumps(runs)], world.environment)
    assert done.returncode == 0, done.stdout + done.stderr
    expected = {record.trial.id: (record.values, record.sources, record.run.sha256) for record in world.read()}
    for name in ("offline", "parcelled"):
        found = {record.trial.id: (record.values, record.sources, record.run.sha256) for record in world.read(name)}
        assert set(found) == {"bioasq/all-mpnet-base-v2/baseline", "bioasq/all-mpnet-base-v2/finetuned/seed1"}
        assert found == {trial: expected[trial] for trial in found}
    assert not (world.folder / "nothing").exists()


def test_a_broken_file_of_a_parcel_is_refused(world: World) -> None:
    parcel = world.folder / "broken"
    packed = world.harness("fetch", world.manifest, "--to", parcel, "--store", world.folder / "store-broken")
    assert packed.returncode == 0, packed.stderr
    (path,) = parcel.glob("sources/data-*/qa/train.jsonl")
    path.write_bytes(path.read_bytes().replace(b"gene", b"gone"))
    manifest = parcel / "bioasq.toml"
    checked = world.harness("fetch", manifest, "--to", world.folder / "again", HF_HUB_OFFLINE="1")
    assert checked.returncode == 2
    assert "qa/train.jsonl: SHA-256 is" in checked.stderr
    mended = world.harness("fetch", world.manifest, "--to", parcel, "--store", world.folder / "store-broken")
    assert mended.returncode == 0, mended.stderr
    assert b"gone" not in path.read_bytes()


def test_files_gone_bad_in_the_cache_are_taken_anew_before_they_are_pinned(world: World) -> None:
    lock = read_lock(world.manifest.with_suffix(".lock"), world.experiment)
    for name in ("qa/train.jsonl", "model.safetensors"):  # one that git holds, and one of LFS
        path = next((world.folder / "cache").glob(f"hub/*/snapshots/*/{name}")).resolve()
        path.write_bytes(b"x" + path.read_bytes()[1:])
    locked = world.harness("lock", world.manifest, "--store", world.folder / "store-results")
    assert (locked.returncode, locked.stdout) == (0, f"{world.manifest.with_suffix('.lock')}: nothing changed\n")
    for name in ("qa/train.jsonl", "model.safetensors"):
        known = {source.files.get(name) for source in lock.sources.values()}
        assert {hash_file(path) for path in (world.folder / "cache").glob(f"hub/*/snapshots/*/{name}")} <= known


def test_lock_check_tells_whether_the_hub_has_moved_and_fails_where_that_matters(world: World) -> None:
    store = ("--store", world.folder / "store-results")
    (name, source) = next(
        (name, source) for name, source in list_sources(world.experiment).items() if name == "data:bioasq"
    )
    assert isinstance(source, HubSource)
    same = world.harness("lock", world.manifest, "--check", *store)
    assert (same.returncode, same.stdout) == (0, f"{world.manifest.with_suffix('.lock')}: nothing changed\n")
    harmless = shutil.copytree(world.folder / "data", world.folder / "data-harmless")
    write_files(harmless, {"notes.md": b"thanks"})
    world.server.move(source.repository, MOVED, harmless, kind="dataset")
    moved = world.harness("lock", world.manifest, "--check", *store)
    assert moved.returncode == 0, moved.stdout
    assert f"{name}: main of {source.repository} is at {MOVED}, pinned is {source.revision}; no file" in moved.stdout
    changed = shutil.copytree(world.folder / "data", world.folder / "data-changed")
    write_files(changed, {"qa/test.jsonl": b"{}\n"})
    world.server.move(source.repository, "c" * 40, changed, kind="dataset")
    moved = world.harness("lock", world.manifest, "--check", *store)
    assert moved.returncode == 1
    assert "changed there: qa/test.jsonl" in moved.stdout


def test_a_lock_is_not_overwritten_with_other_bits_of_the_same_commit(world: World) -> None:
    copy = world.folder / "forged" / "bioasq.toml"
    shutil.copytree(world.manifest.parent, copy.parent)
    lock = copy.with_suffix(".lock")
    forged = re.sub(r'("model\.safetensors": )"[0-9a-f]{64}"', rf'\1"{"0" * 64}"', lock.read_text(encoding="utf-8"))
    lock.write_text(forged, encoding="utf-8")
    options = (copy, "--store", world.folder / "store-forged")
    checked, written = world.harness("lock", *options, "--check"), world.harness("lock", *options)
    assert (checked.returncode, written.returncode) == (1, 2)
    assert f"model.safetensors: {'0' * 64} -> " in checked.stdout
    assert "the same commit or version gives other bits" in written.stderr
    assert lock.read_text(encoding="utf-8") == forged


def publish(world: World, *options: str) -> subprocess.CompletedProcess[str]:
    places = ("--results", world.folder / "results", "--store", world.folder / "store-results")
    return world.harness("publish", world.manifest, "--repo", REPOSITORY, *places, *options)


def test_the_trained_model_is_published_once_with_card_logs_and_evidence(world: World) -> None:
    seen = len(world.server.requests)
    dry = publish(world, "--private", "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert world.server.requests[seen:] == (), "a dry run asks nobody"
    first, second = publish(world, "--private"), publish(world, "--private")
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert "pushed in one commit" in first.stdout
    assert "holds all of this already" in second.stdout
    commits = world.server.commits(REPOSITORY)
    assert [commit.message for commit in commits][1:] == ["bioasq: model, card, training logs and evidence"]
    assert world.server.is_private(REPOSITORY)
    files = world.server.files(REPOSITORY)
    listed = {line.split()[-1] for line in dry.stdout.splitlines() if line.startswith("  ")}
    assert listed == set(files) - {".gitattributes"}
    tuned = sorted(
        (record for record in world.read() if record.trial.variant == "finetuned"),
        key=lambda record: record.values["mrr@10"],
    )
    median = tuned[1]
    assert median.training is not None
    assert f"seed {median.trial.seed}, the median one of seeds 0, 1, 2 by mrr@10" in first.stdout
    weights = next(world.folder.glob(f"store-results/train/{median.stages['train'].key}/model/model.safetensors"))
    assert files["model.safetensors"] == weights.read_bytes()
    assert {f"logs/seed={seed}/events.out.tfevents.0" for seed in SEEDS} <= set(files)
    evidence = {f"evidence/{record.place}" for record in world.read()} | {
        f"evidence/{r.run.path}" for r in world.read()
    }
    assert evidence <= set(files)
    card = files["README.md"].decode()
    head = yaml.safe_load(card.split("---\n")[1])
    assert head["base_model"] == "sentence-transformers/all-mpnet-base-v2"
    assert head["datasets"] == ["enelpol/rag-mini-bioasq"]
    (result,) = head["model-index"][0]["results"]
    assert result["source"]["url"].endswith(f"/{REPOSITORY}/tree/main/evidence")
    (judged,) = build_report(world.read()).conclusions[:1]
    assert " ".join(judged.split()) in " ".join(card.replace("\\", "").split())
    assert result["dataset"]["revision"] == "8a845907dc1cff31d42fa6f7bb9c6eef5f3ae6f6"
    values = {metric["name"]: metric["value"] for metric in result["metrics"] if metric["type"] == "cosine_mrr@10"}
    mean = sum(record.values["mrr@10"] for record in tuned) / 3
    assert values[f"mrr@10 (seed {median.trial.seed}, these weights)"] == median.values["mrr@10"]
    assert [value for name, value in values.items() if name.startswith("mrr@10 (mean of 3 seeds, 95 % interval ")] == [
        pytest.approx(mean)
    ]
    write_files(world.folder / "pulled", files)
    pulled = world.folder / "pulled" / "evidence"
    assert world.harness("report", pulled).returncode == 0
    verified = world.harness("verify", pulled, "--experiments", pulled / "experiments")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    # A short name of a machine stands in compressed bytes by chance.
    host = os.uname().nodename
    for place in (str(world.folder), str(ROOT), *([host] if len(host) > 4 else [])):
        assert not [name for name, content in files.items() if place.encode() in content], place


def test_the_token_is_nowhere_in_what_was_written(world: World) -> None:
    assert any(request.sent_token for request in world.server.requests)
    written = [path for path in world.folder.rglob("*") if path.is_file()]
    assert len(written) > 100
    assert not [path for path in written if CANARY.encode() in path.read_bytes()]
    assert not [name for name, content in world.server.files(REPOSITORY).items() if CANARY.encode() in content]
