"""Results hold plain files of plain names: links are named and not followed, and so are names that are not UTF-8."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.core.files import LINK
from harness.errors import RecordError
from harness.evidence.bundle import write_bundle
from harness.experiment.trial import Trial
from harness.records.plan import note_trials
from harness.report.results_folder import write_tables
from tests.support.evidence import find, make_evidence

MODEL = "all-MiniLM-L6-v2"
HIDDEN = "s3cret"
RECORD = f"records/hpo/{MODEL}.finetuned.seed=1.json"
TRIAL = Trial(experiment="hpo", model=MODEL, variant="finetuned", seed=1)
READ = [RECORD, "records/hpo", "records", "runs/hpo/qrels.gz", "runs/hpo/texts.json.gz", "runs/hpo", "runs"]
REFERENCES = ["reference/hpo", "reference/hpo/golden", "reference"]
STACKS = ["stacks/hpo/x.json", "stacks/hpo", "stacks"]


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_evidence(tmp_path_factory.mktemp("honest"))
    write_tables(folder / "results")
    return folder


@pytest.fixture
def evidence(honest: Path, tmp_path: Path) -> Path:
    """Whole evidence with a list of trials, a reference, and what might be a comparison of stacks."""
    evidence = shutil.copytree(honest, tmp_path / "copy")
    results = evidence / "results"
    note_trials([TRIAL], results)
    shutil.copytree(results / "records" / "hpo", results / "reference" / "hpo" / "golden")
    (results / "stacks" / "hpo").mkdir(parents=True)
    (results / "stacks" / "hpo" / "x.json").write_text(f'"{HIDDEN}"', encoding="utf-8")
    return evidence


def replace_by_link(evidence: Path, place: str) -> Path:
    """Move a file or folder of the results elsewhere and leave a link in its place."""
    path = evidence / "results" / place
    elsewhere = evidence / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere, target_is_directory=elsewhere.is_dir())
    return path


def verify(evidence: Path) -> int:
    return main(["verify", str(evidence / "results"), "--experiments", str(evidence / "experiments")])


@pytest.mark.parametrize(
    "place", [*READ, *REFERENCES, *STACKS, "runs/hpo/planned.jsonl", f"runs/hpo/{MODEL}.baseline.run.gz"]
)
def test_verify_names_a_link(evidence: Path, place: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = replace_by_link(evidence, place)
    assert verify(evidence) in {1, 2}
    said = capsys.readouterr()
    assert f"{path}: {LINK}" in said.out + said.err
    assert HIDDEN not in said.out + said.err or place not in STACKS


@pytest.mark.parametrize("place", [*READ, "reference/hpo", "reference", *STACKS])
def test_report_names_a_link(evidence: Path, place: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = replace_by_link(evidence, place)
    assert main(["report", str(evidence / "results")]) == 2
    assert f"{path}: {LINK}" in capsys.readouterr().err
    for page in (evidence / "results").glob("*.md") if place in STACKS else ():
        assert HIDDEN not in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("lead", ["empty", "nowhere"])
@pytest.mark.parametrize("kind", ["records", "stacks"])
def test_a_link_beside_healthy_experiments_is_not_passed_over(
    evidence: Path, kind: str, lead: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(evidence / "results" / "stacks" / "hpo")
    (evidence / "empty").mkdir()
    link = evidence / "results" / kind / "other"
    link.symlink_to(evidence / lead, target_is_directory=True)
    assert main(["report", str(evidence / "results")]) == 2
    assert f"{link}: {LINK}" in capsys.readouterr().err
    assert verify(evidence) == 1
    assert f"{link}: {LINK}" in capsys.readouterr().out


@pytest.mark.parametrize("place", [RECORD, "records/hpo", "runs/hpo/planned.jsonl"])
def test_bundle_and_run_refuse_a_link(evidence: Path, place: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = replace_by_link(evidence, place)
    options = ["--experiments", str(evidence / "experiments"), "--to", str(evidence / "evidence.zip")]
    assert main(["bundle", str(evidence / "results"), *options]) == 2
    assert f"{path}: {LINK}" in capsys.readouterr().err
    assert not (evidence / "evidence.zip").exists()


def test_compare_names_a_linked_record(evidence: Path, capsys: pytest.CaptureFixture[str]) -> None:
    replace_by_link(evidence, RECORD)
    folder = str(evidence / "results" / "records" / "hpo")
    assert main(["compare", folder, folder]) == 2
    assert f"{Path(RECORD).name}: {LINK}" in capsys.readouterr().err


@pytest.mark.parametrize(
    "place", ["reference/hpo", "reference/hpo/golden", f"reference/hpo/golden/{Path(RECORD).name}"]
)
def test_the_gate_names_a_link_in_its_reference(evidence: Path, place: str, capsys: pytest.CaptureFixture[str]) -> None:
    replace_by_link(evidence, place)
    results = evidence / "results"
    assert main(["gate", "--candidate", str(results / "records"), "--reference", str(results / "reference")]) == 2
    said = capsys.readouterr()
    assert LINK in " ".join((said.out + said.err).split())


@pytest.mark.parametrize("place", ["records/hpo", "runs/hpo", "runs/hpo/planned.jsonl"])
def test_nothing_is_written_through_a_link(evidence: Path, place: str) -> None:
    path = replace_by_link(evidence, place)
    before = {found: found.stat().st_mtime_ns for found in (evidence / "elsewhere").rglob("*")}
    other = Trial(experiment="hpo", model=MODEL, variant="finetuned", seed=7)
    with pytest.raises(RecordError, match=f"{path}: {LINK}"):
        note_trials([other], evidence / "results")
    assert {found: found.stat().st_mtime_ns for found in (evidence / "elsewhere").rglob("*")} == before


def test_pictures_are_neither_written_nor_removed_through_a_link(
    evidence: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    link = evidence / "results" / "pictures"
    shutil.rmtree(link, ignore_errors=True)
    (evidence / "own").mkdir()
    (evidence / "own" / "mine.svg").write_text("<svg/>", encoding="utf-8")
    link.symlink_to(evidence / "own", target_is_directory=True)
    assert main(["report", str(evidence / "results")]) == 2
    assert f"{link}: {LINK}" in capsys.readouterr().err
    assert [path.name for path in (evidence / "own").iterdir()] == ["mine.svg"]


def test_a_table_that_is_a_link_is_not_shown(evidence: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(evidence / "results" / "stacks")
    (evidence / "secret").write_text(HIDDEN, encoding="utf-8")
    table = find(evidence, "hpo.md")
    table.unlink()
    table.symlink_to(evidence / "secret")
    assert main(["report", str(evidence / "results"), "--check"]) == 1
    said = capsys.readouterr().out
    assert f"{table}: {LINK}" in said
    assert HIDDEN not in said


@pytest.mark.parametrize("place", ["runs/hpo/a\udcff.txt", "records/hpo/a\udcff.json", "stacks/hpo/a\udcff.json"])
def test_a_name_that_is_not_utf_8_is_named_and_stops_nobody(
    evidence: Path, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    results = evidence / "results"
    shutil.rmtree(results / "stacks")
    (results / place).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(results / RECORD, results / place)
    assert main(["report", str(results)]) == (0 if place.startswith("runs") else 2)
    assert (results / "SHA256SUMS").read_text(encoding="utf-8").count(RECORD) == 1
    capsys.readouterr()
    assert verify(evidence) == 1
    shown = place.replace("\udcff", "?")
    named = f"{results / shown}: its name is not UTF-8"
    assert named in capsys.readouterr().out
    target = evidence / "bundle.zip"
    with pytest.raises(RecordError, match="its name is not UTF-8"):
        write_bundle(results, evidence / "experiments", evidence / "constraints.txt", target)
    assert not target.exists()
