"""Truncated and bit-flipped files of every kind are named or made again; nothing is silently wrong."""

from __future__ import annotations

import functools
import os
import random
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from harness.core.files import SUMS_FILE, hash_tree, render_sums
from harness.errors import HarnessError
from harness.evidence.bundle import unpack_bundle, write_bundle
from harness.evidence.recompute import ROUNDING
from harness.evidence.verify import verify_records
from harness.experiment.lock import LockedSource, read_lock
from harness.experiment.manifest import read_experiment
from harness.models.checkpoints import find_checkpoint, seal_checkpoint
from harness.pipeline.store import ENTRY_FILE, Cost, Store
from harness.records.record import read_record
from harness.records.run import Run, write_run
from harness.sources.fetch import check_files
from tests.fault.conftest import Faults
from tests.support.evidence import make_results
from tests.support.records import MANIFESTS, MODEL, read_manifest

# One seed in CI; HARNESS_SEED tries others.
SEED = int(os.environ.get("HARNESS_SEED", "1"))
TIMES = 40
CONSTRAINTS = MANIFESTS.parents[1] / "constraints.txt"

Damage = Callable[[Path, random.Random], None]


def flip_bit(path: Path, generator: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
    path.write_bytes(content)


def truncate(path: Path, generator: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: generator.randrange(len(content))])


DAMAGES: dict[str, Damage] = {"flipped bit": flip_bit, "truncated file": truncate}


@pytest.fixture(params=DAMAGES)
def damage(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def generator() -> random.Random:
    print(f"HARNESS_SEED={SEED}")
    return random.Random(SEED)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evidence") / "results"
    make_results(folder, read_manifest("hpo"), seeds=(0,))
    (folder / SUMS_FILE).write_text(render_sums(folder), encoding="utf-8")
    return folder


def make_output(target: Path, scratch: Path) -> Cost:
    del scratch
    save_file({"layer": np.arange(500, dtype=np.float32)}, target / "model.safetensors")
    np.save(target / "embeddings.npy", np.ones((20, 8), np.float32))
    write_run(Run(("q",), (("a", "b"),), ((0.5, 0.25),)), target / "run.gz")
    return Cost(1.0, 1, None)


@pytest.mark.parametrize(
    ("kind", "file"),
    [
        ("weights", "model.safetensors"),
        ("embeddings", "embeddings.npy"),
        ("run in the store", "run.gz"),
        ("entry of the store", "entry.json"),
    ],
)
def test_damaged_output_is_made_again(
    tmp_path: Path, generator: random.Random, *, faults: Faults, damage: str, kind: str, file: str
) -> None:
    store = Store(tmp_path)
    whole = hash_tree(store.get_or_make("train", {"seed": 1}, make_output).folder, skip={ENTRY_FILE})
    for _ in range(TIMES):
        output = store.get_or_make("train", {"seed": 1}, make_output)
        DAMAGES[damage](output.folder / file, generator)
        with faults.commit(f"{damage}: {kind}"), warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            again = store.get_or_make("train", {"seed": 1}, make_output)
            assert hash_tree(again.folder, skip={ENTRY_FILE}) == whole
            assert not again.cached
            assert len(warned) == 1


def test_damaged_checkpoint_gives_way_to_the_one_before(
    tmp_path: Path, generator: random.Random, faults: Faults, damage: str
) -> None:
    for number in range(TIMES):
        folder = tmp_path / f"{number}"
        for step in (2, 4):
            written = folder / "writing"
            written.mkdir(parents=True)
            for name in ("model.safetensors", "optimizer.pt", "trainer_state.json", "rng_state.pth"):
                (written / name).write_bytes(random.Random(step).randbytes(500))
            seal_checkpoint(written, folder / f"checkpoint-{step}", seconds=1.0, batches=("b",) * step)
        file = generator.choice(sorted((folder / "checkpoint-4").iterdir()))
        DAMAGES[damage](file, generator)
        with faults.commit(f"{damage}: checkpoint"), warnings.catch_warnings(record=True):
            warnings.simplefilter("always")
            found = find_checkpoint(folder)
            assert found is not None
            assert found.folder.name == "checkpoint-2"


@pytest.mark.parametrize(
    ("kind", "file"),
    [
        ("record", f"records/hpo/{MODEL}.finetuned.seed=0.json"),
        ("run", f"runs/hpo/{MODEL}.finetuned.seed=0.run.gz"),
        ("qrels", "runs/hpo/qrels.gz"),
        ("texts", "runs/hpo/texts.json.gz"),
    ],
)
def test_damaged_evidence_is_named(
    results: Path, tmp_path: Path, generator: random.Random, *, faults: Faults, damage: str, kind: str, file: str
) -> None:
    before = set(verify_records(results).problems)
    listed = (results / SUMS_FILE).read_text(encoding="utf-8")
    for number in range(TIMES):
        copy = tmp_path / f"{number}"
        shutil.copytree(results, copy)
        DAMAGES[damage](copy / file, generator)
        with faults.commit(f"{damage}: {kind}"):
            assert render_sums(copy) != listed
            problems = {problem.replace(str(copy), str(results)) for problem in verify_records(copy).problems}
            # A bit of a record that no rule covers, such as one of its date, is named by the list of hashes alone.
            assert problems - before or (kind == "record" and _agree(copy / file, results / file))
        shutil.rmtree(copy)


def _agree(path: Path, honest: Path) -> bool:
    """Tell whether two records say the same of all that values and verdicts rest on, up to a value's last digit."""
    found, expected = read_record(path), read_record(honest)
    parts = ("trial", "experiment", "query_ids", "run", "qrels", "texts", "data")
    near = functools.partial(pytest.approx, rel=0, abs=ROUNDING)
    return (
        all(getattr(found, part) == getattr(expected, part) for part in parts)
        and found.values == near(expected.values)
        and all(found.per_query[measure] == near(values) for measure, values in expected.per_query.items())
    )


def test_last_digit_of_a_value_is_named_by_the_list_of_hashes_alone(results: Path, tmp_path: Path) -> None:
    """The libraries of two machines may round it otherwise, so no rule can hold it against the run."""
    copy = shutil.copytree(results, tmp_path / "results")
    path, honest = (folder / f"records/hpo/{MODEL}.finetuned.seed=0.json" for folder in (copy, results))
    path.write_text(path.read_text(encoding="utf-8").replace("0.3333333333333333", "0.3333333333333332", 1), "utf-8")
    assert len(verify_records(copy).problems) == len(verify_records(results).problems)
    assert _agree(path, honest)
    assert render_sums(copy) != (results / SUMS_FILE).read_text(encoding="utf-8")


def test_damaged_manifest_is_refused_or_does_not_fit_its_lock_and_records(
    tmp_path: Path, generator: random.Random, faults: Faults, damage: str
) -> None:
    honest = read_manifest("hpo")
    for suffix in (".toml", ".lock"):
        shutil.copy(MANIFESTS / f"hpo{suffix}", tmp_path)
    manifest = tmp_path / "hpo.toml"
    for _ in range(TIMES):
        shutil.copy(MANIFESTS / "hpo.toml", tmp_path)
        DAMAGES[damage](manifest, generator)
        with faults.commit(f"{damage}: manifest"):
            try:
                experiment = read_experiment(manifest)
                read_lock(manifest.with_suffix(".lock"), experiment)
            except HarnessError:
                continue
            # What is still a manifest is another one, which honest records do not pass for, or says the same but for
            # its stacks, which no record holds.
            assert experiment.replace(stacks=honest.stacks) == honest or experiment.digest != honest.digest


def test_damaged_lock_is_refused_or_refuses_the_files(
    tmp_path: Path, generator: random.Random, faults: Faults, damage: str
) -> None:
    experiment, path = read_manifest("hpo"), tmp_path / "hpo.lock"
    honest = read_lock(MANIFESTS / "hpo.lock", experiment)
    for _ in range(TIMES):
        shutil.copy(MANIFESTS / "hpo.lock", path)
        DAMAGES[damage](path, generator)
        with faults.commit(f"{damage}: lock"):
            try:
                lock = read_lock(path, experiment)
                for name, locked in honest.sources.items():
                    check_files(locked.files, lock.sources[name], place=name)
            except HarnessError:
                continue
            assert {name: _strip(locked) for name, locked in lock.sources.items()} == {
                name: _strip(locked) for name, locked in honest.sources.items()
            }


def _strip(locked: LockedSource) -> dict[str, object]:
    # What is no hash only tells people something.
    return locked.model_dump(exclude={"note", "sizes"})


def test_damaged_bundle_is_named_or_gives_the_same_files(
    results: Path, tmp_path: Path, generator: random.Random, faults: Faults, damage: str
) -> None:
    honest = tmp_path / "honest.zip"
    sums = write_bundle(results, MANIFESTS, CONSTRAINTS, honest)
    for number in range(TIMES):
        path, folder = tmp_path / "evidence.zip", tmp_path / f"{number}"
        shutil.copy(honest, path)
        DAMAGES[damage](path, generator)
        with faults.commit(f"{damage}: bundle"):
            try:
                problems = unpack_bundle(path, folder)
            except HarnessError:
                continue
            found = hash_tree(folder)
            found.pop(SUMS_FILE)
            assert problems or found == sums
        shutil.rmtree(folder, ignore_errors=True)
