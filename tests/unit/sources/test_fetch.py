"""Files come from the hub, wheels or a folder; what is not the locked file is refused before anybody reads it."""

from __future__ import annotations

import hashlib
import os
import zipfile
from pathlib import Path

import pytest

from harness.errors import SourceError
from harness.experiment.data import FolderSource, HubSource, WheelSource
from harness.experiment.lock import LockedSource, Role, SourceName
from harness.sources.fetch import Fetched, Fetcher, check_files, hash_files, is_wanted
from harness.sources.locking import make_lock
from tests.support.manifests import parse, write_data

HUB = HubSource(kind="hub", repository="user/data", revision="a" * 40)
DATA = SourceName.of("data", "tiny")
FOLDER = FolderSource(kind="folder", path="data")


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def lock(folder: Path, **changes: str) -> LockedSource:
    return LockedSource(files={**hash_files(folder, "data"), **changes}, complete=True)


def fetch(tmp_path: Path, locked: LockedSource, override: Path | None = None) -> Fetched:
    return Fetcher(tmp_path, tmp_path / "cache", override).fetch(DATA, FOLDER, locked)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_data(tmp_path / "data")


def test_locked_files_are_taken_and_told_by_path_and_hash(data: Path, tmp_path: Path) -> None:
    fetched = fetch(tmp_path, lock(data))
    assert fetched.folder == data
    assert set(fetched.resolved.files) == {"train.jsonl", "test.jsonl"}
    assert fetched.resolved.files["test.jsonl"] == digest((data / "test.jsonl").read_bytes())
    assert (fetched.resolved.origin, fetched.resolved.locked) == ("folder data", True)


def test_one_flipped_bit_is_found_and_both_hashes_are_named(data: Path, tmp_path: Path) -> None:
    locked = lock(data)
    content = bytearray((data / "train.jsonl").read_bytes())
    content[10] ^= 1
    (data / "train.jsonl").write_bytes(content)
    with pytest.raises(SourceError) as caught:
        fetch(tmp_path, locked)
    said = str(caught.value)
    assert said.startswith(f"folder data ({data}): not the files that were locked:")
    assert f"train.jsonl: SHA-256 is {digest(bytes(content))}, the lock says {locked.files['train.jsonl']}" in said


def test_missing_and_further_files_are_named(data: Path, tmp_path: Path) -> None:
    locked = lock(data)
    (data / "train.jsonl").unlink()
    (data / "new.csv").write_text("a", encoding="utf-8")
    with pytest.raises(SourceError, match=r"train\.jsonl: is missing\n  new\.csv: is not in the lock"):
        fetch(tmp_path, locked)


def test_a_link_counts_as_the_file_it_leads_to(data: Path, tmp_path: Path) -> None:
    locked = lock(data)
    moved = tmp_path / "elsewhere.jsonl"
    (data / "train.jsonl").rename(moved)
    (data / "train.jsonl").symlink_to(moved)
    assert fetch(tmp_path, locked).resolved.files == locked.files
    moved.write_text("changed", encoding="utf-8")
    with pytest.raises(SourceError, match=r"train\.jsonl: SHA-256 is"):
        fetch(tmp_path, locked)


def test_a_link_that_leads_nowhere_is_a_missing_file(data: Path, tmp_path: Path) -> None:
    locked = lock(data)
    (data / "train.jsonl").unlink()
    (data / "train.jsonl").symlink_to(tmp_path / "nowhere")
    with pytest.raises(SourceError, match=r"train\.jsonl: is missing"):
        fetch(tmp_path, locked)


@pytest.mark.parametrize("role", ["data", "model"])
def test_a_linked_folder_is_refused_since_its_files_would_be_read_unhashed(
    data: Path, tmp_path: Path, role: Role
) -> None:
    (data / "config.json").write_text("{}", encoding="utf-8")
    write_data(tmp_path / "elsewhere")
    (data / "more").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    with pytest.raises(SourceError, match=r"more: is a link to a folder, whose files would be read unhashed"):
        hash_files(data, role)


@pytest.mark.parametrize("role", ["data", "model"])
@pytest.mark.parametrize("name", ["train.csv", "merges.txt", "no-ending"])
def test_a_pipe_is_refused_since_whoever_opens_it_would_wait_for_ever(data: Path, name: str, role: Role) -> None:
    (data / "config.json").write_text("{}", encoding="utf-8")
    os.mkfifo(data / name)
    with pytest.raises(SourceError, match=f"{name}: is no regular file, but a pipe, device or socket"):
        hash_files(data, role)


def test_a_name_that_no_lock_can_say_is_refused_as_it_is_locked(data: Path) -> None:
    Path(os.fsdecode(os.fsencode(data) + b"/\xff.jsonl")).write_text("{}\n", encoding="utf-8")
    with pytest.raises(SourceError, match="the name is not UTF-8, and a lock could not say it; rename the file"):
        hash_files(data, "data")


def test_a_socket_in_a_folder_that_nobody_reads_is_passed_over(data: Path) -> None:
    (data / ".git").mkdir()
    os.mkfifo(data / ".git" / "daemon")
    assert set(hash_files(data, "data")) == {"train.jsonl", "test.jsonl"}


def test_a_linked_folder_that_nobody_reads_is_passed_over(data: Path, tmp_path: Path) -> None:
    (data / ".git").symlink_to(tmp_path, target_is_directory=True)
    assert set(hash_files(data, "data")) == {"train.jsonl", "test.jsonl"}


def test_files_of_no_known_hash_are_taken_with_a_warning_and_the_record_says_so(data: Path, tmp_path: Path) -> None:
    del data
    locked = LockedSource(files={}, complete=False, note="never reached")
    with pytest.warns(UserWarning, match=r"2 files have no SHA-256 in the lock \(never reached\); records will say so"):
        assert fetch(tmp_path, locked).resolved.locked is False


def test_a_known_hash_is_checked_even_where_the_lock_is_not_complete(data: Path) -> None:
    files = hash_files(data, "data")
    locked = LockedSource(files={"train.jsonl": "0" * 64}, complete=False)
    with (
        pytest.warns(UserWarning, match="1 files have no SHA-256"),
        pytest.raises(SourceError, match="the lock says 000"),
    ):
        check_files(files, locked, place="here")


def test_another_folder_can_stand_in_for_the_manifests(data: Path, tmp_path: Path) -> None:
    locked = lock(data)
    data.rename(tmp_path / "moved")
    assert fetch(tmp_path, locked, override=tmp_path / "moved").folder == tmp_path / "moved"


def test_an_absent_data_folder_is_answered_with_the_ways_to_name_one(tmp_path: Path) -> None:
    with pytest.raises(
        SourceError, match=r"data: no such data folder; name one with --data-dir or .* HARNESS_DATA_DIR"
    ):
        Fetcher(tmp_path, tmp_path).locate(FOLDER, "data")


@pytest.mark.parametrize("name", ["faq.csv", "faq.tsv.gz", "faq.parquet"])
def test_data_may_be_one_file_and_no_other_in_its_folder_is_looked_at(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"content")
    (tmp_path / "other.csv").write_bytes(b"other")
    locked = LockedSource(files={name: digest(b"content")}, complete=True)
    source = FolderSource(kind="folder", path=name)
    fetched = Fetcher(tmp_path, tmp_path / "cache").fetch(DATA, source, locked)
    assert (fetched.folder, fetched.resolved.files) == (tmp_path, locked.files)


def test_an_absent_model_folder_is_called_one(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"data: no such model folder$"):
        Fetcher(tmp_path, tmp_path).locate(FOLDER, "model")


@pytest.mark.parametrize("source", [HUB, WheelSource(kind="wheels", packages=("a==1",), path="a")])
def test_no_folder_stands_in_for_what_is_none(source: HubSource | WheelSource, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=f"the manifest's data comes from {source.kind}, so no folder can stand in"):
        Fetcher(tmp_path, tmp_path, override=tmp_path).locate(source, "data")


def test_a_folder_without_a_file_that_is_wanted_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.doc").write_text("a", encoding="utf-8")
    with pytest.raises(SourceError, match=r"holds no file of the kinds README\.md, \*\.obo, \*\.jsonl"):
        hash_files(tmp_path, "data")


@pytest.mark.parametrize(
    "name",
    ["pytorch_model.bin", "model.pt", "a.pkl", "model.py", "onnx/model.safetensors", ".cache/a.json", "a/.b.json"],
)
def test_nothing_that_could_run_code_is_taken_of_a_model(name: str) -> None:
    assert not is_wanted(name, "model")


@pytest.mark.parametrize("name", ["model.safetensors", "1_Pooling/config.json", "vocab.txt", "sentencepiece.bpe.model"])
def test_what_a_model_needs_is_taken(name: str) -> None:
    assert is_wanted(name, "model")


def test_a_template_that_changes_what_a_tokenizer_makes_of_texts_is_held_against_the_lock(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "additional_chat_templates").mkdir(parents=True)
    (folder / "config.json").write_text("{}", encoding="utf-8")
    source, name = FolderSource(kind="folder", path="model"), SourceName.of("model", "tiny")
    locked = LockedSource(files=hash_files(folder, "model"), complete=True)
    for template in ("chat_template.jinja", "additional_chat_templates/other.jinja"):
        (folder / template).write_text("{{ messages }}", encoding="utf-8")
        with pytest.raises(SourceError, match=f"{template}: is not in the lock"):
            Fetcher(tmp_path, tmp_path / "cache").fetch(name, source, locked)
        (folder / template).unlink()
    Fetcher(tmp_path, tmp_path / "cache").fetch(name, source, locked)


def test_a_new_lock_has_every_file_of_every_source(data: Path, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}", encoding="utf-8")
    made = make_lock(parse(), Fetcher(tmp_path, tmp_path))
    assert set(made.sources) == {"data:tiny", "model:small", "model:other"}
    assert made.sources["data:tiny"].files == hash_files(data, "data")
    assert all(source.complete for source in made.sources.values())


def test_the_folder_for_the_data_is_not_taken_for_the_models_when_locking(data: Path, tmp_path: Path) -> None:
    data.rename(tmp_path / "moved")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}", encoding="utf-8")
    made = make_lock(parse(), Fetcher(tmp_path, tmp_path, override=tmp_path / "moved"))
    assert set(made.sources["data:tiny"].files) == {"train.jsonl", "test.jsonl"}
    assert set(made.sources["model:small"].files) == {"config.json"}


# Wheels.


def install(folder: Path, files: dict[str, bytes], *, name: str = "some_data", version: str = "1.0") -> None:
    """Lay out files as pip would have installed them."""
    info = f"{name}-{version}.dist-info"
    every = {**files, f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode()}
    for path, content in every.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    record = "".join(f"{path},,\n" for path in (*every, f"{info}/RECORD"))
    (folder / info / "RECORD").write_text(record, encoding="utf-8")


def wheels(path: str, *packages: str, join: str | None = None) -> WheelSource:
    return WheelSource(kind="wheels", packages=packages or ("some-data==1.0",), path=path, join=join)


def unpack(source: WheelSource, cache: Path) -> dict[str, bytes]:
    folder, origin = Fetcher(cache, cache).locate(source, "data")
    assert origin == f"wheels {' '.join(source.packages)}"
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


FILES = {"pkg/data/a.csv": b"a", "pkg/data/sub/b.json": b"b", "pkg/data2/c.csv": b"c", "pkg/data/code.py": b"no"}


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    install(tmp_path / "site", FILES)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return tmp_path / "cache"


@pytest.mark.parametrize("path", ["pkg/data", "pkg/data/"])
def test_the_wanted_files_below_a_folder_are_taken_from_where_the_package_is_installed(
    installed: Path, path: str
) -> None:
    assert unpack(wheels(path), installed) == {"a.csv": b"a", "sub/b.json": b"b"}


def test_one_file_of_a_package_can_be_named(installed: Path) -> None:
    assert unpack(wheels("pkg/data/a.csv"), installed) == {"a.csv": b"a"}


def test_a_package_without_the_files_is_refused_and_nothing_stays(installed: Path) -> None:
    with pytest.raises(SourceError, match=r"wheels some-data==1\.0: nothing wanted below 'pkg/none'"):
        unpack(wheels("pkg/none"), installed)
    assert list(installed.iterdir()) == []


def test_what_was_unpacked_is_not_unpacked_again_but_hashed_again(installed: Path, tmp_path: Path) -> None:
    source = wheels("pkg/data")
    locked = LockedSource(files={"a.csv": digest(b"a"), "sub/b.json": digest(b"b")}, complete=True)
    fetched = Fetcher(tmp_path, installed).fetch(DATA, source, locked)
    (fetched.folder / "a.csv").write_bytes(b"broken")
    with pytest.raises(SourceError, match="delete that folder to have the files fetched again") as caught:
        Fetcher(tmp_path, installed).fetch(DATA, source, locked)
    assert str(fetched.folder) in str(caught.value)


def test_a_disk_that_refuses_is_named(installed: Path) -> None:
    installed.write_text("a file where a folder should be", encoding="utf-8")
    with pytest.raises(SourceError, match="cache: wheels cannot be unpacked: "):
        unpack(wheels("pkg/data"), installed)


def install_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: list[bytes]) -> WheelSource:
    for number, part in enumerate(parts):
        install(tmp_path / f"site{number}", {f"pkg{number}/all.zip.{number:03}": part}, name=f"part_{number}")
        monkeypatch.syspath_prepend(str(tmp_path / f"site{number}"))
    return wheels("inner", *(f"part-{number}==1.0" for number in range(len(parts))), join="all.zip")


def make_zip(tmp_path: Path, files: dict[str, bytes]) -> bytes:
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return (tmp_path / "all.zip").read_bytes()


def test_a_zip_cut_into_the_parts_of_several_packages_is_joined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = make_zip(tmp_path, {"inner/a.csv": b"a" * 1000, "other/b.csv": b"b"})
    source = install_parts(tmp_path, monkeypatch, [whole[:50], whole[50:90], whole[90:]])
    assert unpack(source, tmp_path / "cache") == {"a.csv": b"a" * 1000}


def test_a_zip_of_which_a_part_is_missing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = make_zip(tmp_path, {"inner/a.csv": b"a" * 1000})
    source = install_parts(tmp_path, monkeypatch, [whole[:50]])
    with pytest.raises(SourceError, match=r"all\.zip: not a whole zip"):
        unpack(source, tmp_path / "cache")


@pytest.mark.parametrize("name", ["inner/../../evil.csv", "inner/a/../../../evil.csv", "inner/{0}/evil.csv"])
def test_a_member_that_would_leave_its_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    files = {"inner/a.csv": b"a", name.format(tmp_path): b"evil"}
    source = install_parts(tmp_path, monkeypatch, [make_zip(tmp_path, files)])
    with pytest.raises(SourceError, match="would leave its folder"):
        unpack(source, tmp_path / "cache")
    assert not list(tmp_path.rglob("evil.csv"))
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_list_of_installed_files_that_names_others_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret.json").write_text("{}", encoding="utf-8")
    install(tmp_path / "site", {"pkg/a.json": b"a"})
    record = tmp_path / "site" / "some_data-1.0.dist-info" / "RECORD"
    record.write_text(f"pkg/a.json,,\npkg/../../secret.json,,\n{tmp_path}/secret.json,,\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert unpack(wheels("pkg"), tmp_path / "cache") == {"a.json": b"a"}


# What a lock knows, unpacking keeps to.


def test_a_member_larger_than_the_lock_says_is_refused_before_anything_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = install_parts(tmp_path, monkeypatch, [make_zip(tmp_path, {"inner/a.csv": b"a", "inner/b.csv": bytes(99)})])
    files = {"a.csv": digest(b"a"), "b.csv": digest(bytes(9))}
    locked = LockedSource(files=files, complete=True, sizes={"a.csv": 1, "b.csv": 9})
    with pytest.raises(SourceError, match=r"all\.zip: member 'b\.csv' has 99 bytes or more, the lock says 9"):
        Fetcher(tmp_path, tmp_path / "cache").fetch(DATA, source, locked)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_member_that_the_lock_does_not_know_is_refused_before_anything_is_unpacked(installed: Path) -> None:
    locked = LockedSource(files={"a.csv": digest(b"a")}, complete=True)
    with pytest.raises(SourceError, match=r"package some-data==1\.0: member 'sub/b\.json' is not in the lock"):
        Fetcher(installed, installed).fetch(DATA, wheels("pkg/data"), locked)
    assert list(installed.iterdir()) == []


def test_what_no_lock_bounds_is_bounded_by_a_limit(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.sources.wheels.MOST_BYTES", 1)
    with pytest.raises(SourceError, match="holds more than 1 bytes, the most that is unpacked"):
        unpack(wheels("pkg/data"), installed)
