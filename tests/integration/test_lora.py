"""Adapters are trained beside frozen weights, go on after a kill, and are merged into the model that is evaluated."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import pytest

from harness.errors import TrainingError
from harness.experiment.recipe import Lora
from harness.models.encoder import encode_texts, open_encoder
from harness.records.record import TrainingLog
from tests.support.children import run_in_child
from tests.support.tiny_model import build_tiny_model
from tests.support.tiny_training import make_recipe, train_tiny

pytest.importorskip("peft", reason="peft is not installed: it is the extra 'lora'")
pytestmark = pytest.mark.filterwarnings("default")

LORA = Lora(r=4, lora_alpha=8.0, target_modules=("query", "value"))
TEXTS = ["what is gene 3", "protein and cell receptor"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="module")
def trained(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    train_tiny(base, folder / "done", folder / "scratch", make_recipe(lora=LORA), None)
    return folder / "done"


def read_log(folder: Path) -> TrainingLog:
    return TrainingLog.model_validate_json((folder / "training.json").read_text(encoding="utf-8"))


def test_the_merged_model_embeds_as_base_and_adapter_do(base: Path, trained: Path) -> None:
    from sentence_transformers import SentenceTransformer

    both = SentenceTransformer(str(base), device="cpu")
    both.load_adapter(str(trained / "adapter"))
    expected = both.encode(TEXTS)
    merged = encode_texts(open_encoder(trained / "model", device="cpu"), TEXTS, role="query", batch_tokens=512)
    np.testing.assert_allclose(merged, expected, atol=1e-6)
    assert np.abs(merged - SentenceTransformer(str(base), device="cpu").encode(TEXTS)).max() > 1e-4


def test_only_the_named_layers_differ_from_the_base(base: Path, trained: Path) -> None:
    from safetensors.numpy import load_file

    before, after = (load_file(folder / "model.safetensors") for folder in (base, trained / "model"))
    assert before.keys() == after.keys()
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {name for name in before if name.endswith(("query.weight", "value.weight"))}


def test_the_log_has_the_digests_of_both_and_no_file_names_this_machine(base: Path, trained: Path) -> None:
    from harness.core.files import hash_file

    log = read_log(trained)
    assert log.adapter is not None
    assert log.adapter.weights_sha256 == hash_file(trained / "adapter" / "adapter_model.safetensors")
    assert log.weights_sha256 == hash_file(trained / "model" / "model.safetensors")
    # Of each of two layers of two transformers' layers: a matrix of 4 by 32, and one of 32 by 4.
    assert log.adapter.trained == 2 * 2 * 2 * 4 * 32
    for path in (trained / "adapter").iterdir():
        assert str(base).encode() not in path.read_bytes(), path.name


def test_a_killed_training_of_an_adapter_ends_in_the_same_bits(base: Path, tmp_path: Path, trained: Path) -> None:
    recipe = make_recipe(lora=LORA)
    killed = run_in_child(train_tiny, base, tmp_path / "a", tmp_path / "scratch", recipe, 7)
    assert killed == -signal.SIGKILL
    assert run_in_child(train_tiny, base, tmp_path / "b", tmp_path / "scratch", recipe, None) == 0
    again, whole = read_log(tmp_path / "b"), read_log(trained)
    assert again.resumes == 1
    assert again.adapter == whole.adapter
    assert (again.loss, again.weights_sha256) == (whole.loss, whole.weights_sha256)


def test_layers_that_the_model_does_not_have_are_told(base: Path, tmp_path: Path) -> None:
    lora = LORA.replace(target_modules=("q_proj",))
    with pytest.raises(TrainingError, match=r"lora: .*q_proj"):
        train_tiny(base, tmp_path / "a", tmp_path / "scratch", make_recipe(lora=lora), None)
