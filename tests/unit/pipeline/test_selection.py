"""What a user asks for becomes one experiment with its lock, or an error that says what could be asked for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from harness.errors import LockError, ManifestError
from harness.experiment.lock import Lock, LockedSource, digest_sources, format_lock, list_sources
from harness.pipeline import selection
from harness.pipeline.selection import (
    RunConfig,
    choose_data_dir,
    choose_experiment,
    find_manifest,
    locate_experiments,
    parse_seeds,
    select_experiment,
)
from harness.records.environment import Gpu
from harness.sources.hub import is_hub_reachable
from tests.support.manifests import change, parse, write_manifest

GPU = Gpu(name="NVIDIA A10G", driver="1", memory_bytes=1)


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ("1", [5]),
        ("2", [5, 0]),
        ("4", [5, 0, 1, 2]),
        ("0,", [0]),
        ("7,5", [7, 5]),
        (" 3 , 4 ", [3, 4]),
    ],
)
def test_seeds_are_a_count_of_the_declared_and_further_ones_or_a_list(text: str, seeds: list[int]) -> None:
    assert parse_seeds(text, (5, 0)) == seeds


@pytest.mark.parametrize("text", ["", ",", "x", "1.5", "-1", "1,-1", "1_0", "0x1", "٣", "1 2"])
def test_what_is_neither_count_nor_list_is_refused(text: str) -> None:
    with pytest.raises(ManifestError) as caught:
        parse_seeds(text, (0,))
    assert str(caught.value) == f"seeds are {text!r}; expected a count (3) or a list with a comma (0,5)"


@pytest.mark.parametrize("text", ["0", "1001", "9999999999"])
def test_a_count_that_nobody_could_train_is_refused(text: str) -> None:
    with pytest.raises(ManifestError, match=f"seeds are '{text}', a count; expected 1 to 1000, or a list with a comma"):
        parse_seeds(text, (0,))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_manifest(tmp_path)
    sources = {str(name): LockedSource(files={"a.json": "0" * 64}, complete=True) for name in list_sources(parse())}
    lock = Lock(schema_version=2, experiment="tiny", sources_digest=digest_sources(parse()), sources=sources)
    (tmp_path / "tiny.lock").write_text(format_lock(lock), encoding="utf-8")
    return tmp_path


def wish(**changes: Any) -> RunConfig:
    return RunConfig(Path("store"), Path("results"), experiment="tiny", **changes)


def test_an_experiment_is_found_by_name_or_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_manifest("tiny", folder) == folder / "tiny.toml"
    assert find_manifest(str(folder / "tiny.toml"), folder / "elsewhere") == folder / "tiny.toml"
    monkeypatch.chdir(folder)
    assert find_manifest("tiny.toml", folder / "elsewhere") == Path("tiny.toml")
    assert find_manifest("tiny", folder / "elsewhere") == Path("tiny.toml")


def test_manifests_are_found_by_name_from_any_folder_of_their_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, inner = tmp_path / "project", tmp_path / "project" / "src" / "inner"
    there = project / "benchmarks" / "experiments"
    there.mkdir(parents=True)
    inner.mkdir(parents=True)
    assert [locate_experiments(folder) for folder in (project, inner, there)] == [there] * 3
    monkeypatch.chdir(project)
    assert locate_experiments(Path()) == Path("benchmarks/experiments"), "as people type it"
    (inner / "pyproject.toml").touch()
    assert locate_experiments(inner) == inner / "benchmarks" / "experiments", "beyond another project"


@pytest.mark.parametrize("name", ["tinny", "tiny.lock", "."])
def test_what_is_no_experiment_is_answered_with_those_there_are(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(ManifestError) as caught:
        find_manifest(name, folder)
    assert str(caught.value).startswith(f"no experiment {name!r}: ")
    assert str(caught.value).endswith("(there: tiny)")


def test_models_and_seeds_narrow_the_experiment_but_not_its_lock(folder: Path) -> None:
    selected = select_experiment(wish(models=" small , ", seeds="3,"), folder)
    assert [model.name for model in selected.experiment.models] == ["small"]
    assert selected.experiment.seeds == (3,)
    assert set(selected.lock.sources) == {"data:tiny", "model:small", "model:other"}
    assert (selected.base, selected.reason) == (folder, "as asked")


@pytest.mark.parametrize("models", ["", ",", "small,small", "none"])
def test_models_that_cannot_be_meant_are_refused(folder: Path, models: str) -> None:
    with pytest.raises(ManifestError, match="tiny: "):
        select_experiment(wish(models=models), folder)


def test_an_experiment_without_a_lock_is_refused(folder: Path) -> None:
    (folder / "tiny.lock").unlink()
    with pytest.raises(LockError, match="no such lock; make it with: harness lock"):
        select_experiment(wish(), folder)


@pytest.mark.parametrize(
    ("gpus", "reachable", "name", "reason"),
    [
        ((), True, "hpo", "no GPU"),
        ((GPU,), False, "hpo", "the hub that 'bioasq' needs cannot be reached"),
        ((GPU,), True, "bioasq", "a GPU and a reachable hub"),
    ],
)
def test_the_experiment_is_chosen_by_what_the_machine_can_do(
    monkeypatch: pytest.MonkeyPatch, *, gpus: tuple[Gpu, ...], reachable: bool, name: str, reason: str
) -> None:
    monkeypatch.setattr(selection, "list_gpus", lambda: gpus)
    monkeypatch.setattr(selection, "is_hub_reachable", lambda: reachable)
    chosen, why = choose_experiment()
    assert chosen == name
    assert reason in why


class Failing(BaseHTTPRequestHandler):
    """A hub that answers, if only that it has failed."""

    def do_HEAD(self) -> None:
        """Fail."""
        self.send_error(503)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def failing_hub() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Failing) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_hub_that_answers_anything_is_reachable(failing_hub: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", failing_hub)
    assert is_hub_reachable()


def test_a_hub_that_leads_elsewhere_is_reachable_and_is_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Leading(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            asked.append(self.path)
            self.send_response(302)
            self.send_header("Location", "/elsewhere")
            self.end_headers()

        do_GET = do_HEAD  # noqa: N815 - named by http.server

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with ThreadingHTTPServer(("127.0.0.1", 0), Leading) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        assert is_hub_reachable()
        server.shutdown()
        thread.join()
    assert asked == ["/api/models?limit=1"]


def test_no_hub_is_reachable_where_the_user_wants_to_be_offline(
    failing_hub: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", failing_hub)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert not is_hub_reachable()


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9", "nonsense", "http://host:port", "http://[::1"])
def test_a_hub_that_does_not_answer_is_not_reachable(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    assert not is_hub_reachable()


def test_the_folder_given_goes_before_the_environments() -> None:
    environ = {"HARNESS_DATA_DIR": "/from/environment"}
    assert choose_data_dir("/given", parse(), environ) == Path("/given")
    assert choose_data_dir(None, parse(), environ) == Path("/from/environment")
    assert choose_data_dir(None, parse(), {}) is None


def test_the_environments_folder_is_only_for_data_that_come_from_a_folder() -> None:
    source = {"kind": "wheels", "packages": ["a==1"], "path": "a"}
    experiment = parse(change("data.tiny.source", source))
    assert choose_data_dir(None, experiment, {"HARNESS_DATA_DIR": "/from/environment"}) is None
    assert choose_data_dir("/given", experiment, {}) == Path("/given")
