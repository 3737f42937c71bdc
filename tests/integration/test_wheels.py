"""A package that is not installed is downloaded as a wheel by the real pip, here from a folder instead of an index."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

from harness.errors import SourceError
from harness.experiment.data import WheelSource
from harness.sources.fetch import Fetcher

FILES = {"pkg/data/a.csv": b"a", "pkg/data/sub/b.json": b"b", "pkg/data2/c.csv": b"c", "pkg/data/code.py": b"no"}


def make_wheel(folder: Path, files: dict[str, bytes], *, name: str = "some_data", version: str) -> Path:
    """Write files as a wheel that pip accepts."""
    info = f"{name}-{version}.dist-info"
    every = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    every[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in (*every, f"{info}/RECORD")).encode()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in every.items():
            archive.writestr(member, content)
    return path


def unpack(package: str, cache: Path) -> dict[str, bytes]:
    source = WheelSource(kind="wheels", packages=(package,), path="pkg/data")
    folder, _ = Fetcher(cache, cache).locate(source, "data")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes packages from, and nothing else."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_DISABLE_PIP_VERSION_CHECK", "1")
    (tmp_path / "index").mkdir()
    return tmp_path / "index"


def test_a_package_that_is_not_installed_is_downloaded(index: Path, tmp_path: Path) -> None:
    make_wheel(index, FILES, version="1.1")
    assert unpack("some-data==1.1", tmp_path / "cache") == {"a.csv": b"a", "sub/b.json": b"b"}


def test_a_package_that_cannot_be_had_is_named_with_what_pip_says(index: Path, tmp_path: Path) -> None:
    del index
    with pytest.raises(SourceError, match=r"wheel some-data==9\.9: cannot be downloaded with pip: .*some-data==9\.9"):
        unpack("some-data==9.9", tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
