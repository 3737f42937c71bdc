"""Whatever is wrong with a model's folder is one line that names the file, and nothing of the folder is run."""

from __future__ import annotations

import ast
import gc
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.errors import SourceError
from harness.sources.fetch import is_wanted
from tests.support.model_kinds import build
from tests.support.tiny_model import build_tiny_model

MANY_DIGITS = "7" * 6000
RUN_FOREIGN = "sentence_transformers.base.model.torch"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("whole"))


def write(name: str, content: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")

    return change


def edit(name: str, **changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        write(name, json.loads((folder / name).read_text()) | changes)(folder)

    return change


def cut(name: str, most: int) -> Callable[[Path], None]:
    return lambda folder: os.truncate(folder / name, most)


def remove(*names: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return change


def name_tokenizer(folder: Path) -> None:
    remove("tokenizer.json")(folder)
    write("tokenizer_config.json", {"tokenizer_class": "BertTokenizer"})(folder)


def list_module(reference: str, path: str = "1_Pooling") -> Callable[[Path], None]:
    first = {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}
    return write("modules.json", [first, {"idx": 1, "name": "1", "path": path, "type": reference}])


def swap_weights(folder: Path) -> None:
    from safetensors.numpy import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    save_file({f"foreign.{name}": tensor for name, tensor in weights.items()}, folder / "model.safetensors")


def drop_weight(folder: Path) -> None:
    from safetensors.numpy import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if name.endswith("attention.self.query.weight"))
    save_file({key: tensor for key, tensor in weights.items() if key != name}, folder / "model.safetensors")


def add_router(inner: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        list_module("sentence_transformers.models.Router", "1_Router")(folder)
        router = {"types": {"a": inner}, "structure": {"query": ["a"]}, "parameters": {}}
        write("1_Router/router_config.json", router)(folder)

    return change


def add_dense(activation: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        list_module("sentence_transformers.models.Dense", "1_Dense")(folder)
        write("1_Dense/config.json", {"in_features": 32, "out_features": 8, "activation_function": activation})(folder)

    return change


def add_shards(name: str) -> Callable[[Path], None]:
    return write("model.safetensors.index.json", {"weight_map": {"embeddings.word_embeddings.weight": name}})


BROKEN: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "safetensors cut in the header": (cut("model.safetensors", 100), "model.safetensors", "not whole safetensors"),
    "safetensors cut in the weights": (cut("model.safetensors", 9000), "model.safetensors", "not whole safetensors"),
    "safetensors empty": (cut("model.safetensors", 0), "model.safetensors", "not whole safetensors"),
    "safetensors that are text": (write("model.safetensors", "hello"), "model.safetensors", "not whole safetensors"),
    "weights of another model": (swap_weights, "", "weights that the model uses are not in its safetensors"),
    "a weight less": (drop_weight, "", "1 weights that the model uses"),
    "a hidden size that the weights lack": (edit("config.json", hidden_size=64), "", "cannot be loaded"),
    **{
        f"{key} of {value}": (edit("config.json", **{key: value}), "config.json", f"{key} is {value}, expected")
        for key in ("num_hidden_layers", "hidden_size", "num_attention_heads", "vocab_size", "max_position_embeddings")
        for value in (-1, 0)
    },
    **{
        f"{key} of {10**12}": (edit("config.json", **{key: 10**12}), "config.json", f"{key} is {10**12}, but")
        for key in ("hidden_size", "num_attention_heads", "intermediate_size", "vocab_size", "max_position_embeddings")
    },
    "layers of a part below 0": (
        edit("config.json", text_config={"num_layers": -3}),
        "config.json",
        "num_layers is -3, expected none below 0",
    ),
    "no tokenizer": (remove("tokenizer.json", "tokenizer_config.json"), "", "expected a tokenizer's words"),
    "a tokenizer of which only the class is named": (name_tokenizer, "", "expected a tokenizer's words"),
    **{
        f"pooling with {key} {str(value)[:20]}": (
            edit("1_Pooling/config.json", **{key: value}),
            "1_Pooling/config.json",
            key,
        )
        for key, value in (
            ("embedding_dimension", 0),
            ("embedding_dimension", 10**12),
            ("embedding_dimension", "../x"),
            ("pooling_mode", ["mean"] * 10_000),
            ("pooling_mode", "/etc/passwd"),
            ("include_prompt", "/etc/passwd"),
        )
    },
    "a vocabulary that the weights lack": (
        edit("config.json", vocab_size=999),
        "",
        "1 weights of another shape than its configuration says: embeddings.word_embeddings.weight",
    ),
    "a pipe": (lambda folder: os.mkfifo(folder / "added_tokens.json"), "added_tokens.json", "pipes"),
    "a pipe that no file is named like": (lambda folder: os.mkfifo(folder / "x"), "", "pipes, devices or sockets: x"),
    "tokenizer cut": (cut("tokenizer.json", 500), "tokenizer.json", "not valid JSON"),
    "tokenizer empty": (write("tokenizer.json", {}), "tokenizer.json", "cannot be loaded"),
    "tokenizer with a foreign model": (
        edit("tokenizer.json", model={"type": "x"}),
        "tokenizer.json",
        "cannot be loaded",
    ),
    "a tokenizer that makes texts longer without end": (
        edit(
            "tokenizer.json",
            normalizer={
                "type": "Sequence",
                "normalizers": [{"type": "Replace", "pattern": {"String": "e"}, "content": "e" * 1000}] * 3,
            },
        ),
        "tokenizer.json",
        "its steps could make a text over 256 times longer",
    ),
    "a chat template that texts are put into": (
        lambda folder: (
            write("chat_template.jinja", "{{ messages }}")(folder),
            edit(
                "sentence_bert_config.json",
                modality_config={
                    "text": {"method": "forward", "method_output_name": "last_hidden_state"},
                    "message": {"method": "forward", "method_output_name": "last_hidden_state", "format": "flat"},
                },
                module_output_name="token_embeddings",
            )(folder),
        )[-1],
        "",
        "the model embeds texts by a chat template",
    ),
    "tokenizer of wrong types": (edit("tokenizer.json", model=[1]), "tokenizer.json", "cannot be loaded"),
    "tokenizer_config a list": (write("tokenizer_config.json", []), "tokenizer_config.json", ""),
    "config cut": (cut("config.json", 50), "config.json", "not valid JSON"),
    "config a list": (write("config.json", []), "config.json", ""),
    "config of an unknown type": (edit("config.json", model_type="foreign"), "config.json", "cannot be loaded"),
    "config with a word for a number": (edit("config.json", hidden_size="x"), "config.json", "cannot be loaded"),
    "config with 6,000 digits": (
        write("config.json", f'{{"hidden_size": {MANY_DIGITS}}}'),
        "config.json",
        "not valid JSON",
    ),
    "config nested deeply": (write("config.json", "[" * 200_000), "config.json", "nested too deeply"),
    "more layers than weights": (
        edit("config.json", num_hidden_layers=10**30),
        "config.json",
        "num_hidden_layers is 1000000000000000000000000000000, but",
    ),
    "config with code": (
        edit("config.json", model_type="mine", auto_map={"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}),
        "config.json",
        "cannot be loaded",
    ),
    "modules cut": (cut("modules.json", 50), "modules.json", "not valid JSON"),
    "modules an object": (write("modules.json", {}), "modules.json", "expected a list"),
    "modules empty": (write("modules.json", []), "modules.json", "found none"),
    "modules of text": (write("modules.json", ["x"]), "modules.json", "found 'x'"),
    "modules without a type": (
        write("modules.json", [{"name": "0", "path": ""}]),
        "modules.json",
        "'modules[0].type' is missing",
    ),
    "modules of many wrong things": (write("modules.json", [{}, 1, {}, "x"]), "modules.json", "; modules[1]: found 1"),
    "a module at a path too long": (
        list_module("sentence_transformers.models.Dense", "1" * 5000),
        "modules.json",
        "inside the model's folder",
    ),
    "modules with a number for a type": (
        write("modules.json", [{"name": "0", "path": "", "type": 7}]),
        "modules.json",
        "found 7",
    ),
    "modules with 6,000 digits": (write("modules.json", MANY_DIGITS), "modules.json", "not valid JSON"),
    "modules with one name twice": (
        write("modules.json", [{"name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}] * 2),
        "modules.json",
        "listed twice",
    ),
    "a module that is torch": (list_module(RUN_FOREIGN), "modules.json", RUN_FOREIGN),
    "a module of Python's": (list_module("os.system"), "modules.json", "os.system"),
    "a module of the folder's": (list_module("evil.Evil"), "modules.json", "evil.Evil"),
    "a module for pictures": (list_module("sentence_transformers.models.CLIPModel"), "modules.json", "CLIPModel"),
    "a module outside the folder": (
        list_module("sentence_transformers.models.Pooling", "../other"),
        "modules.json",
        "inside the model's folder",
    ),
    "a module in a hidden folder": (
        list_module("sentence_transformers.models.Pooling", ".hidden"),
        "modules.json",
        "whose files are not taken and so not locked",
    ),
    "a module in a folder of another format": (
        list_module("sentence_transformers.models.Pooling", "onnx"),
        "modules.json",
        "whose files are not taken and so not locked",
    ),
    "a module whose folder is absent": (
        list_module("sentence_transformers.models.Dense", "9_Dense"),
        "",
        "cannot be loaded",
    ),
    "a router to torch": (add_router(RUN_FOREIGN), "router_config.json", RUN_FOREIGN),
    "a router to a router": (
        add_router("sentence_transformers.models.Router"),
        "router_config.json",
        "inside a Router",
    ),
    "a route to a part of a long name": (
        lambda folder: (
            add_router("sentence_transformers.models.Pooling")(folder),
            edit("1_Router/router_config.json", structure={"query": ["1" * 5000]})(folder),
        )[-1],
        "router_config.json",
        "the structure names",
    ),
    "an activation that is a function": (add_dense("torch.load"), "config.json", "torch.load"),
    "an activation of Python's": (add_dense("os.system"), "config.json", "os.system"),
    "pooling of an unknown mode": (
        edit("1_Pooling/config.json", pooling_mode="median"),
        "1_Pooling/config.json",
        "pooling_mode",
    ),
    "pooling a list": (write("1_Pooling/config.json", []), "1_Pooling/config.json", "expected a JSON object"),
    "sentence_bert_config cut": (cut("sentence_bert_config.json", 10), "sentence_bert_config.json", "not valid JSON"),
    "sentence_bert_config a number": (write("sentence_bert_config.json", "1"), "sentence_bert_config.json", "object"),
    "sentence_bert_config whose tokenizer lies elsewhere": (
        edit("sentence_bert_config.json", tokenizer_name_or_path="../other"),
        "sentence_bert_config.json",
        "tokenizer_name_or_path is '../other'; a tokenizer is read from the model's own folder only",
    ),
    "sentence_bert_config that names a repository": (
        edit("sentence_bert_config.json", model_args={"attn_implementation": "someone/kernel"}),
        "sentence_bert_config.json",
        "someone/kernel",
    ),
    "prompts a list": (
        edit("config_sentence_transformers.json", prompts=[]),
        "config_sentence_transformers.json",
        "prompts",
    ),
    "a prompt that is a number": (
        edit("config_sentence_transformers.json", prompts={"query": 1}),
        "config_sentence_transformers.json",
        "prompts.query",
    ),
    "a default prompt that is not there": (
        edit("config_sentence_transformers.json", default_prompt_name="x"),
        "",
        "Default prompt name",
    ),
    "an unknown similarity": (
        edit("config_sentence_transformers.json", similarity_fn_name="maxsim"),
        "config_sentence_transformers.json",
        "similarity_fn_name",
    ),
    "shards outside the folder": (add_shards("../x.safetensors"), "model.safetensors.index.json", "../x.safetensors"),
    "a shard that is absent": (add_shards("x.safetensors"), "model.safetensors.index.json", "not beside it"),
    "an adapter": (
        write("adapter_config.json", {"base_model_name_or_path": "/x"}),
        "adapter_config.json",
        "merge the two",
    ),
    "a cross-encoder": (
        edit("config_sentence_transformers.json", model_type="CrossEncoder"),
        "config_sentence_transformers.json",
        "kind = ",
    ),
    "a sparse encoder": (
        edit("config_sentence_transformers.json", model_type="SparseEncoder"),
        "config_sentence_transformers.json",
        "kind = ",
    ),
    "a multi-vector encoder": (
        edit("config_sentence_transformers.json", model_type="MultiVectorEncoder"),
        "config_sentence_transformers.json",
        "kind = ",
    ),
    "a sparse encoder's module": (
        list_module("sentence_transformers.sparse_encoder.models.SpladePooling"),
        "modules.json",
        "a SparseEncoder",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_folder_is_one_line_that_names_the_file(
    name: str, whole: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from harness.models.loading import load_model

    change, file, words = BROKEN[name]
    folder = tmp_path / "model"
    shutil.copytree(whole, folder)
    # What would be imported or unpickled leaves a mark.
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil: pass\n")
    change(folder)
    with pytest.raises(SourceError) as caught:
        load_model(folder, device="cpu")
    message = str(caught.value)
    assert message.startswith(f"{folder}")
    assert file in message
    assert words in message
    assert "\n" not in message
    assert len(message) < 1000
    assert not (tmp_path / "ran").exists()
    # Nothing that a library says beside it commands the terminal.
    assert "\x1b" not in message + "".join(capfd.readouterr())


WHAT_MODULES_SAY = [
    ("Dense", "2_Dense/config.json", {"in_features": 60_000, "out_features": 60_000}, "are 792 numbers"),
    ("Dense", "2_Dense/config.json", {"in_features": 10**12}, "in_features x out_features is 24000000000000, but"),
    ("Dense", "2_Dense/config.json", {"out_features": 0}, "out_features: found 0"),
    ("Dense", "2_Dense/config.json", {"bias": "/etc/passwd"}, "bias: found '/etc/passwd'"),
    ("LayerNorm", "2_LayerNorm/config.json", {"dimension": 10**10}, "dimension is 10000000000, but"),
    ("LayerNorm", "2_LayerNorm/config.json", {"dimension": [32, 10**9]}, "dimension: found"),
    ("WeightedLayerPooling", "1_WeightedLayerPooling/config.json", {"num_hidden_layers": 10**9}, "is 1000000000, but"),
    ("WeightedLayerPooling", "1_WeightedLayerPooling/config.json", {"layer_start": -(10**9)}, "layer_start: found"),
    ("LSTM", "1_LSTM/lstm_config.json", {"hidden_dim": 50_000}, "hidden_dim x embedding_dimension x num_layers is"),
    ("LSTM", "1_LSTM/lstm_config.json", {"num_layers": 10**8}, "hidden_dim x embedding_dimension x num_layers is"),
    ("LSTM", "1_LSTM/lstm_config.json", {"dropout": 7}, "dropout: found 7"),
    (
        "CNN",
        "1_CNN/cnn_config.json",
        {"kernel_sizes": [10**12]},
        "in_embedding_dimension x out_channels x kernel_sizes",
    ),
    ("CNN", "1_CNN/cnn_config.json", {"kernel_sizes": [1] * 10**5}, "in_embedding_dimension x out_channels x kernel_s"),
    ("CNN", "wordembedding_config.json", {"max_seq_length": -1}, "max_seq_length: found -1"),
    ("Dropout", "2_Dropout/config.json", {"dropout": -1}, "dropout: found -1"),
    ("BoW", "0_BoW/config.json", {"vocab": "x"}, "vocab: found 'x'"),
    ("WordWeights", "1_WordWeights/config.json", {"word_weights": {"gene": "x"}}, "word_weights.gene: found 'x'"),
    ("Router of transformers", "query_0_Transformer/config.json", {"num_hidden_layers": -1}, "num_hidden_layers is -1"),
]


@pytest.mark.parametrize(("kind", "file", "change", "words"), WHAT_MODULES_SAY)
def test_a_module_is_not_made_larger_than_its_weights(
    kind: str, file: str, change: dict[str, Any], words: str, tmp_path: Path
) -> None:
    from harness.models.model_folder import check_model_folder

    folder = build(tmp_path, kind)
    check_model_folder(folder)
    edit(file, **change)(folder)
    with pytest.raises(SourceError) as caught:
        check_model_folder(folder)
    assert str(caught.value).startswith(f"{folder / file}: ")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_a_tokenizer_of_bytes_needs_no_words() -> None:
    from harness.models.module_settings import has_vocabulary

    assert has_vocabulary(["config.json"], {"tokenizer_class": "ByT5Tokenizer"})
    assert not has_vocabulary(["config.json"], {"tokenizer_class": "BertTokenizer"})
    assert not has_vocabulary(["config.json"], None)


class _Mark:
    """Leaves a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("linked", [False, True], ids=["inside", "in a linked folder"])
@pytest.mark.parametrize("name", ["pytorch_model.bin", "1_Pooling/extra.pt", "optimizer.PKL"])
def test_a_folder_with_pickles_is_refused(whole: Path, tmp_path: Path, name: str, *, linked: bool) -> None:
    from harness.models.loading import load_model

    folder, mark = tmp_path / "model", tmp_path / "ran"
    shutil.copytree(whole, folder)
    place = folder / name
    if linked:
        (tmp_path / "elsewhere").mkdir()
        (folder / "linked").symlink_to(tmp_path / "elsewhere")
        place = tmp_path / "elsewhere" / Path(name).name
    place.write_bytes(pickle.dumps(_Mark(mark)))
    with pytest.raises(SourceError, match=Path(name).name):
        load_model(folder, device="cpu")
    assert not mark.exists()


def test_a_chat_template_that_no_text_is_put_into_is_dropped(whole: Path, tmp_path: Path) -> None:
    """The library would compile it to look for its variables, and with it multiply constants."""
    from harness.models.loading import load_model

    folder = tmp_path / "model"
    shutil.copytree(whole, folder)
    text = {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}
    edit("sentence_bert_config.json", modality_config=text, module_output_name="token_embeddings")(folder)
    write("chat_template.jinja", '{{ "x" * 1000 }}')(folder)
    first: Any = load_model(folder, device="cpu")[0]
    assert first.processor.chat_template is None


def test_a_link_to_a_folder_above_ends_the_search(whole: Path, tmp_path: Path) -> None:
    from harness.models.model_folder import check_model_folder

    folder = tmp_path / "model"
    shutil.copytree(whole, folder)
    for name in ("a", "b", "c"):
        (folder / name).symlink_to(folder)
    assert [module.path for module in check_model_folder(folder).modules] == ["", "1_Pooling", "2_Normalize"]


def test_a_folder_without_safetensors_is_refused(whole: Path, tmp_path: Path) -> None:
    from harness.models.loading import load_model

    folder = tmp_path / "model"
    shutil.copytree(whole, folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(SourceError, match="expected weights as safetensors"):
        load_model(folder, device="cpu")


def test_an_absent_folder_is_refused_without_asking_a_hub(tmp_path: Path) -> None:
    from harness.models.loading import load_model

    with pytest.raises(SourceError, match="found none"):
        load_model(tmp_path / "sentence-transformers/all-MiniLM-L6-v2", device="cpu")


@pytest.mark.parametrize(
    "references",
    [
        ["sentence_transformers.models.Transformer", "sentence_transformers.models.Pooling"],
        ["sentence_transformers.models.Transformer.Transformer", "sentence_transformers.models.Pooling.Pooling"],
        [
            "sentence_transformers.sentence_transformer.modules.Transformer",
            "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
        ],
    ],
)
def test_the_modules_names_of_every_version_are_taken(whole: Path, tmp_path: Path, references: list[str]) -> None:
    from harness.models.loading import load_model

    folder = tmp_path / "model"
    shutil.copytree(whole, folder)
    paths = ["", "1_Pooling"]
    write(
        "modules.json",
        [
            {"idx": index, "name": str(index), "path": path, "type": reference}
            for index, (path, reference) in enumerate(zip(paths, references, strict=True))
        ],
    )(folder)
    assert [type(module).__name__ for module in load_model(folder, device="cpu")] == ["Transformer", "Pooling"]


def test_the_libraries_are_kept_from_the_garbage_collector_once(whole: Path) -> None:
    """A collection went through a million objects of theirs; what is frozen later might be a model."""
    from harness.models.loading import load_model, spare_imports

    gc.unfreeze()
    spare_imports.cache_clear()
    load_model(whole, device="cpu")
    frozen = gc.get_freeze_count()
    assert frozen > 300_000
    model = load_model(whole, device="cpu")
    assert gc.get_freeze_count() <= frozen
    assert model is not None


LIMITED = """
import resource, sys
from pathlib import Path
import torch, sentence_transformers
from harness.errors import HarnessError
from harness.models.loading import load_model

used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**27, -1))
try:
    load_model(Path(sys.argv[1]), device="cpu")
except HarnessError as cause:
    print(cause)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux limits address space")
def test_a_model_that_does_not_fit_into_memory_is_said(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(whole, folder)
    import numpy as np
    from safetensors.numpy import load_file, save_file

    config = json.loads((folder / "config.json").read_text())
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if name.endswith("word_embeddings.weight"))
    save_file(weights | {name: np.zeros((2_000_000, 32), dtype=np.float32)}, folder / "model.safetensors")
    write("config.json", config | {"vocab_size": 2_000_000})(folder)
    done = subprocess.run([sys.executable, "-c", LIMITED, str(folder)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"{folder}: loading the model: too little memory"), done.stdout + done.stderr
    assert done.stdout.count("\n") == 1


def list_vocabularies() -> set[str]:
    """Return the names of all files that a tokenizer of the library may be made from, as its sources say them."""
    import transformers

    found: set[str] = set()
    for path in sorted(Path(next(iter(transformers.__path__))).glob("models/*/tokenization_*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [target.id for target in getattr(node, "targets", ()) if isinstance(target, ast.Name)]
            if names == ["VOCAB_FILES_NAMES"] and isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
                values = (value.value for value in node.value.values if isinstance(value, ast.Constant))
                found |= {value for value in values if isinstance(value, str)}
    return found


def test_every_file_that_a_tokenizer_is_made_from_is_hashed() -> None:
    names = list_vocabularies()
    assert {"vocab.txt", "merges.txt", "tokenizer.json", "spiece.model", "bpe.codes", "source.spm"} <= names
    assert [name for name in sorted(names) if not is_wanted(f"0_Transformer/{name}", "model")] == []
    from harness.models.module_settings import has_vocabulary

    # These lie beside a list of words.
    rest = {"byte_maps.json", "dict.txt", "emoji.json", "entity_vocab.json", "normalizer.json", "target_vocab.json"}
    rest |= {"tokenizer_config.json", "word_pronunciation.json", "word_shape.json"}
    assert {name for name in names if not has_vocabulary([name], None)} <= rest
