"""The doctor tells what is missing on a machine, and never a secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import ManifestError
from harness.pipeline import doctor
from harness.pipeline.doctor import (
    Health,
    Inspection,
    check_experiment,
    check_packages,
    check_store,
    check_token,
    examine,
)
from harness.pipeline.store import Cost, Store
from tests.support.evidence import make_results
from tests.support.records import MANIFESTS, read_manifest


def make_output(target: Path, scratch: Path) -> Cost:
    del scratch
    (target / "file").write_bytes(bytes(2**20))
    return Cost(1.0, 1, None)


def test_pinned_package_of_another_version_that_changes_values_is_bad(tmp_path: Path) -> None:
    import numpy as np

    pins = tmp_path / "constraints.txt"
    pins.write_text(f"# pins\nnumpy=={np.__version__}\n", encoding="utf-8")
    assert check_packages(pins).health is Health.GOOD
    pins.write_text("numpy==1.0\n", encoding="utf-8")
    assert check_packages(pins) == Inspection(
        "packages", Health.BAD, f"numpy {np.__version__} (pinned: 1.0); values may differ"
    )


def test_pinned_package_that_changes_no_value_is_only_noted(tmp_path: Path) -> None:
    pins = tmp_path / "constraints.txt"
    pins.write_text("pytest==1.0\nno-such-package==2.0\n", encoding="utf-8")
    found = check_packages(pins)
    assert found.health is Health.NOTE
    assert found.text.startswith("pytest ")
    assert "no-such-package" not in found.text


def test_build_of_the_pinned_version_is_the_pinned_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pins = tmp_path / "constraints.txt"
    pins.write_text("torch==2.13.0\n", encoding="utf-8")
    monkeypatch.setattr("importlib.metadata.version", lambda name: "2.13.0+cpu" if name == "torch" else "0")
    assert check_packages(pins).health is Health.GOOD


def test_missing_constraints_are_noted(tmp_path: Path) -> None:
    missing = tmp_path / "none.txt"
    text = f"not compared with pinned versions: there is no file {missing}; --constraints names one"
    assert check_packages(missing) == Inspection("packages", Health.NOTE, text)


def test_constraints_that_are_no_text_are_noted(tmp_path: Path) -> None:
    (tmp_path / "constraints.txt").write_bytes(b"torch==\xff")
    found = check_packages(tmp_path / "constraints.txt")
    assert found.health is Health.NOTE
    assert "not UTF-8 text" in found.text


def test_token_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_canary_of_the_doctor")
    found = check_token()
    assert found == Inspection("token", Health.GOOD, "present")


def test_missing_token_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    assert check_token().health is Health.NOTE


def test_store_is_weighed_and_a_broken_entry_found(tmp_path: Path) -> None:
    assert check_store(tmp_path / "none").health is Health.NOTE
    store = Store(tmp_path / "store")
    output = store.get_or_make("train", {"seed": 1}, make_output)
    found = check_store(store.root)
    assert found.health is Health.GOOD
    assert ": 1 outputs, " in found.text
    (output.folder / "entry.json").write_text("{", encoding="utf-8")
    found = check_store(store.root)
    assert found.health is Health.BAD
    assert "1 outputs are broken" in found.text


def test_experiment_on_the_hub_needs_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    manifest = MANIFESTS / "bioasq.toml"
    found = check_experiment(manifest, store=tmp_path, results=tmp_path, reachable=False)
    assert found.health is Health.BAD
    assert "enelpol/rag-mini-bioasq is on the hub, which cannot be reached" in found.text
    found = check_experiment(manifest, store=tmp_path, results=tmp_path, reachable=True)
    assert found.health is Health.GOOD
    assert "needs at least 5.1 GiB of disk" in found.text
    assert "(not counting data:bioasq, model:bge-base-en-v1.5, whose size the lock does not say)" in found.text
    assert "needs more than 1.6 GiB of memory" in found.text


def test_experiment_on_a_missing_folder_says_how_to_name_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HARNESS_DATA_DIR", str(tmp_path / "absent"))
    found = check_experiment(MANIFESTS / "bioasq-rebuilt.toml", store=tmp_path, results=tmp_path, reachable=False)
    assert found.health is Health.BAD
    assert "HARNESS_DATA_DIR" in found.text


def test_a_table_is_found_beside_its_manifest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HARNESS_DATA_DIR", raising=False)
    example = MANIFESTS.parents[1] / "examples" / "other-repository"
    found = check_experiment(example / "faq.toml", store=tmp_path, results=tmp_path, reachable=False)
    assert found.health is Health.GOOD, found.text


def test_memory_is_held_against_what_the_records_took(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_results(tmp_path / "results", read_manifest("bioasq"), seeds=(0,))
    manifest = MANIFESTS / "bioasq.toml"
    found = check_experiment(manifest, store=tmp_path, results=tmp_path / "results", reachable=True)
    assert "it took 1.0 GiB of memory" in found.text
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"total": 2**29}))
    found = check_experiment(manifest, store=tmp_path, results=tmp_path / "results", reachable=True)
    assert found.health is Health.BAD
    assert "it took 1.0 GiB of memory, here are 0.5 GiB" in found.text


def test_disk_is_held_against_what_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = MANIFESTS / "hpo-small.toml"
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 2**30}))
    found = check_experiment(manifest, store=tmp_path / "store", results=tmp_path, reachable=False)
    assert found.health is Health.GOOD
    assert "needs 0.4 GiB of disk, 0.2 GiB of it for good, 1.0 GiB are free" in found.text
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 2**28}))
    found = check_experiment(manifest, store=tmp_path / "store", results=tmp_path, reachable=False)
    assert found.health is Health.BAD
    assert found.text.startswith("cannot run: too little disk; needs 0.4 GiB of disk")


def test_manifest_without_lock_cannot_run(tmp_path: Path) -> None:
    (tmp_path / "hpo.toml").write_bytes((MANIFESTS / "hpo.toml").read_bytes())
    found = check_experiment(tmp_path / "hpo.toml", store=tmp_path, results=tmp_path, reachable=True)
    assert found.health is Health.BAD
    assert "no such lock" in found.text


def test_only_manifests_are_taken_for_experiments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "is_offline", lambda: True)
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\n[tool.ruff]\n', encoding="utf-8")
    (tmp_path / "policy.toml").write_text("[quality]\nlevel = 0.95\n", encoding="utf-8")
    (tmp_path / "half.toml").write_text("[data", encoding="utf-8")
    (tmp_path / "mine.toml").write_text("[evaluation]\n", encoding="utf-8")
    places = {"constraints": tmp_path / "none", "store": tmp_path / "store", "results": tmp_path}
    found = [one.what for one in examine(experiments=tmp_path, **places) if one.what.startswith("experiment")]
    assert found == ["experiment half", "experiment mine"]
    with pytest.raises(ManifestError, match="nosuch: no such folder of manifests"):
        list(examine(experiments=tmp_path / "nosuch", **places))


def test_everything_is_looked_at_without_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "is_offline", lambda: True)
    findings = list(
        examine(experiments=MANIFESTS, constraints=tmp_path / "none", store=tmp_path / "store", results=tmp_path)
    )
    names = [finding.what for finding in findings]
    assert names[:8] == ["Python", "packages", "GPU", "hub", "token", "disk", "memory", "store"]
    manifests = {f"experiment {path.stem}" for path in MANIFESTS.glob("*.toml")}
    assert {"experiment bioasq", "experiment hpo-layperson"} <= manifests <= set(names)
    assert Inspection("hub", Health.NOTE, "HF_HUB_OFFLINE is set") in findings
