"""nox installs for `reproduce` once, and again when anything that says what is installed has changed."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def loaded() -> ModuleType:
    """This repository's noxfile, loaded once: nox keeps a list of its sessions."""
    pytest.importorskip("nox")
    spec = importlib.util.spec_from_file_location("noxfile_under_test", ROOT / "noxfile.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def noxfile(loaded: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The noxfile at work in a folder of its own."""
    for name in ("constraints.txt", "pyproject.toml", "noxfile.py"):
        (tmp_path / name).write_text(name, encoding="utf-8")
    (tmp_path / "env").mkdir()
    (tmp_path / "requirements").mkdir()
    monkeypatch.chdir(tmp_path)
    return loaded


class Session:
    """Counts what a session of nox is asked to install."""

    def __init__(self, fails: str = "") -> None:
        self.virtualenv = SimpleNamespace(location="env")
        self.installed: list[str] = []
        self.fails = fails

    def install(self, *what: str) -> None:
        """Note what is asked for, or fail as pip does."""
        if self.fails in what:
            raise RuntimeError(self.fails)
        self.installed += what

    def log(self, said: str) -> None:
        """What is said is for people."""


def install(noxfile: ModuleType, session: Session) -> bool:
    noxfile._install_once(session)
    return bool(session.installed)


@pytest.mark.parametrize("changed", ["constraints.txt", "pyproject.toml", "noxfile.py", "requirements/run.txt"])
def test_pip_is_asked_again_only_where_what_is_installed_changed(noxfile: ModuleType, changed: str) -> None:
    assert [install(noxfile, Session()) for _ in range(3)] == [True, False, False]
    Path(changed).write_text("another", encoding="utf-8")
    assert [install(noxfile, Session()) for _ in range(2)] == [True, False]


def test_an_install_that_broke_off_is_done_again(noxfile: ModuleType) -> None:
    with pytest.raises(RuntimeError):
        install(noxfile, Session(fails="."))
    assert install(noxfile, Session())
