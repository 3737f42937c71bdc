"""A bundle has the same bytes for the same evidence, and unpacking one from a stranger harms nobody."""

from __future__ import annotations

import hashlib
import shutil
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.errors import RecordError, SourceError
from harness.evidence import bundle as bundles
from harness.evidence.bundle import check_environments, unpack_bundle, write_bundle
from harness.report.results_folder import write_tables
from tests.support.evidence import make_results
from tests.support.records import MANIFESTS, MODEL, read_manifest

CONSTRAINTS = MANIFESTS.parents[1] / "constraints.txt"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evidence") / "results"
    make_results(folder, read_manifest("bioasq"), seeds=(0,))
    return folder


def pack(results: Path, target: Path) -> Path:
    write_bundle(results, MANIFESTS, CONSTRAINTS, target)
    return target


def test_same_evidence_gives_the_same_bytes(results: Path, tmp_path: Path) -> None:
    first = pack(results, tmp_path / "first.zip")
    shutil.copytree(results, tmp_path / "results")
    for path in (tmp_path / "results").rglob("*"):
        path.touch()
        if path.is_file():
            path.chmod(0o600)
    (tmp_path / "results" / ".hidden").touch()
    second = pack(tmp_path / "results", tmp_path / "second.zip")
    assert first.read_bytes() == second.read_bytes()


def test_bundle_holds_all_evidence(results: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(pack(results, tmp_path / "evidence.zip")) as archive:
        names = set(archive.namelist())
    assert names >= {
        "SHA256SUMS",
        "constraints.txt",
        "environments.json",
        "experiments/bioasq.toml",
        "experiments/bioasq.lock",
        f"results/records/bioasq/{MODEL}.baseline.json",
        f"results/records/bioasq/{MODEL}.finetuned.seed=0.json",
        f"results/runs/bioasq/{MODEL}.finetuned.seed=0.run.gz",
        "results/runs/bioasq/qrels.gz",
        "results/runs/bioasq/texts.json.gz",
    }


def test_bundle_is_unpacked_and_matches_its_list(results: Path, tmp_path: Path) -> None:
    pack(results, tmp_path / "evidence.zip")
    assert unpack_bundle(tmp_path / "evidence.zip", tmp_path / "out") == []
    assert check_environments(tmp_path / "out") == []
    for path in results.rglob("*.gz"):
        copy = tmp_path / "out" / "results" / path.relative_to(results)
        assert copy.read_bytes() == path.read_bytes()


def rezip(source: Path, target: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    with zipfile.ZipFile(source) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    change(contents)
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return target


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda files: files.update({"constraints.txt": b"torch==1"}), "constraints.txt: has another SHA-256"),
        (lambda files: files.update({"results/more.md": b"x"}), "results/more.md: is not listed"),
        (lambda files: files.pop("results/runs/bioasq/qrels.gz"), "results/runs/bioasq/qrels.gz: is listed"),
    ],
)
def test_changed_bundle_is_named(
    results: Path, tmp_path: Path, change: Callable[[dict[str, bytes]], None], named: str
) -> None:
    pack(results, tmp_path / "evidence.zip")
    rezip(tmp_path / "evidence.zip", tmp_path / "changed.zip", change)
    (problem,) = unpack_bundle(tmp_path / "changed.zip", tmp_path / "out")
    assert problem.startswith(named)


@pytest.mark.parametrize(
    "name",
    ["../escape", "a/../../escape", "/absolute", "a//b", "./here", "C:/windows", "a\\b", "tab\tname", "a/./b"],
)
def test_path_that_leaves_the_folder_is_refused_and_nothing_is_unpacked(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr("SHA256SUMS", "")
        archive.writestr(zipfile.ZipInfo(name), b"evil")
    # What zipfile.ZipInfo repairs itself cannot be tested through it.
    with zipfile.ZipFile(tmp_path / "evil.zip") as archive:
        if name not in archive.namelist():
            pytest.fail(f"the test cannot make a member {name!r}: {archive.namelist()}")
    with pytest.raises(SourceError, match="would leave its folder or is no plain relative path"):
        unpack_bundle(tmp_path / "evil.zip", tmp_path / "out" / "deep")
    assert not (tmp_path / "out").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["evil.zip"]


def test_link_is_refused(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("link")
    info.create_system = 3
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(SourceError, match="is a link"):
        unpack_bundle(tmp_path / "evil.zip", tmp_path / "out")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("second", ["twice", "TWICE"])
def test_name_that_stands_twice_is_refused(tmp_path: Path, second: str) -> None:
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr("twice", "a")
        archive.writestr(second, "b")
    with pytest.raises(SourceError, match="is there twice"):
        unpack_bundle(tmp_path / "evil.zip", tmp_path / "out")


def test_zip_bomb_is_refused_by_what_comes_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles, "MAX_BYTES", 5_000_000)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(20_000_000))
    assert (tmp_path / "bomb.zip").stat().st_size < 100_000
    with pytest.raises(SourceError, match="holds more than 5000000 bytes"):
        unpack_bundle(tmp_path / "bomb.zip", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles, "MAX_FILES", 3)
    with zipfile.ZipFile(tmp_path / "many.zip", "w") as archive:
        for number in range(4):
            archive.writestr(f"f{number}", "")
    with pytest.raises(SourceError, match="holds 4 files, at most 3"):
        unpack_bundle(tmp_path / "many.zip", tmp_path / "out")


@pytest.mark.parametrize("damage", ["cut", "flipped", "text", "empty"])
def test_broken_archive_is_said(results: Path, tmp_path: Path, damage: str) -> None:
    path = pack(results, tmp_path / "evidence.zip")
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[content.index(b"results/records") + 200] ^= 1
    path.write_bytes({"cut": bytes(content[:-30]), "text": b"no zip", "empty": b""}.get(damage, bytes(content)))
    with pytest.raises(SourceError, match="not a whole zip"):
        unpack_bundle(path, tmp_path / "out")


def test_any_flipped_bit_of_an_archive_is_said_or_changes_nothing(tmp_path: Path) -> None:
    files = {"ünits.json": b"{}", "SHA256SUMS": f"{hashlib.sha256(b'{}').hexdigest()}  ünits.json\n".encode()}
    with zipfile.ZipFile(tmp_path / "whole.zip", "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    whole = (tmp_path / "whole.zip").read_bytes()
    refused = 0
    for place in range(len(whole) * 8):
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        path, folder = tmp_path / "evidence.zip", tmp_path / "out"
        path.write_bytes(damaged)
        try:
            problems = unpack_bundle(path, folder)
        except SourceError as error:
            assert str(path) in str(error) or str(folder) in str(error)  # noqa: PT017 - either outcome is fine
            refused += 1
        else:
            assert problems or {found.name: found.read_bytes() for found in folder.iterdir()} == files
        shutil.rmtree(folder, ignore_errors=True)
    assert refused > len(whole)


def test_zip_that_is_no_bundle_is_said(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("file", "x")
    with pytest.raises(SourceError, match="has no SHA256SUMS"):
        unpack_bundle(tmp_path / "other.zip", tmp_path / "out")


@pytest.mark.parametrize("name", ["::add-mask::x", "\x1b[31mred", "../up", "", "a" * 2**22])
def test_listed_name_that_no_member_can_have_is_refused_and_not_printed(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    pack(results, tmp_path / "evidence.zip")
    line = f"{'0' * 64}  {name}\n".encode()
    changed = rezip(
        tmp_path / "evidence.zip",
        tmp_path / "changed.zip",
        lambda files: files.update({"SHA256SUMS": files["SHA256SUMS"] + line}),
    )
    assert main(["verify", str(changed)]) == 2
    said = "".join(capsys.readouterr())
    assert "SHA256SUMS" in said
    assert len(said) < 2000
    assert "::add-mask::" not in said
    assert "\x1b" not in said


def test_list_of_too_many_files_is_refused(results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack(results, tmp_path / "evidence.zip")
    lines = "".join(f"{'0' * 64}  n{number}\n" for number in range(50)).encode()
    changed = rezip(
        tmp_path / "evidence.zip", tmp_path / "changed.zip", lambda files: files.update({"SHA256SUMS": lines})
    )
    monkeypatch.setattr(bundles, "MAX_FILES", 49)
    with pytest.raises(SourceError, match="lists 50 files, at most 49 are read"):
        unpack_bundle(changed, tmp_path / "out")


def test_broken_record_in_a_bundle_keeps_nothing_else_from_being_checked(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pack(results, tmp_path / "evidence.zip")
    changed = rezip(
        tmp_path / "evidence.zip",
        tmp_path / "changed.zip",
        lambda files: files.update({"results/records/another/a.json": b"{}", "constraints.txt": b"torch==1"}),
    )
    assert main(["verify", str(changed)]) == 1
    said = capsys.readouterr().out
    assert "results/records/another/a.json: schema_version None" in said
    assert "constraints.txt: has another SHA-256" in said
    assert "environments.json: cannot be held against the records" in said


STRAYS = (
    "notes.txt",
    "experiments/other.toml",
    "results/evil.html",
    "results/notes.txt",
    "results/more/a.json",
    "results/records/bioasq/a.txt",
    "results/pictures/a.png",
)


def test_a_stray_file_is_named_though_it_is_listed(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def add(files: dict[str, bytes]) -> None:
        for name in STRAYS:
            files[name] = b"x"
            files["SHA256SUMS"] += f"{hashlib.sha256(b'x').hexdigest()}  {name}\n".encode()

    pack(results, tmp_path / "evidence.zip")
    assert main(["verify", str(rezip(tmp_path / "evidence.zip", tmp_path / "changed.zip", add))]) == 1
    said = capsys.readouterr().out
    assert all(f"{name}: is no evidence: neither record, table" in said for name in STRAYS)
    assert said.count("is no evidence") == len(STRAYS)


def test_what_no_check_looks_at_is_not_packed(results: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(results, tmp_path / "results")
    (copy / "aside").mkdir()
    (copy / "aside" / "notes.json").write_text("{}", encoding="utf-8")
    assert write_bundle(copy, MANIFESTS, CONSTRAINTS, tmp_path / "a.zip") == write_bundle(
        results, MANIFESTS, CONSTRAINTS, tmp_path / "b.zip"
    )


def test_results_without_records_are_said(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="holds no records to bundle"):
        write_bundle(tmp_path, MANIFESTS, CONSTRAINTS, tmp_path / "evidence.zip")


def test_missing_lock_is_said(results: Path, tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"bioasq\.(toml|lock): No such file"):
        write_bundle(results, tmp_path, CONSTRAINTS, tmp_path / "evidence.zip")


def test_command_verifies_a_bundle_and_tells_its_places(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(results, tmp_path / "results")
    write_tables(tmp_path / "results")
    target = tmp_path / "evidence.zip"
    packed = ["--experiments", str(MANIFESTS), "--constraints", str(CONSTRAINTS), "--to", str(target)]
    assert main(["bundle", str(tmp_path / "results"), *packed]) == 0
    capsys.readouterr()
    # The made-up evidence does not say of its data what is in it, which verification finds inside the bundle too.
    assert main(["verify", str(target)]) == 1
    said = capsys.readouterr().out
    assert "results/records/bioasq/all-mpnet-base-v2.baseline.json: data.passages: reads 10" in said
    assert "evidence.zip: 2 records, 1200 values per query and 4 files checked" in said
    assert "harness-bundle-" not in said
