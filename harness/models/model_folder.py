"""A model folder is checked before any of it is loaded: JSON that parses, whole safetensors, known modules, no code."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, TypeVar

from pydantic import Field, field_validator

from harness.core.schema import decode, read_text
from harness.core.text import clip
from harness.errors import SourceError
from harness.experiment.model import Similarity
from harness.models.device import describe_failure
from harness.models.module_settings import KINDS, Read, find_wrong_size, has_vocabulary
from harness.models.tokenizer_limits import check_growth
from harness.sources.fetch import is_unwanted

# Formats that run code of the file's author when they are loaded.
PICKLED_SUFFIXES = frozenset({".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth"})
# The library's modules that turn text into an embedding. Their configuration names no code, save what is checked here.
MODULES = frozenset({
    "Asym", "BoW", "CNN", "Dense", "Dropout", "LSTM", "LayerNorm", "Normalize", "Pooling", "Router", "StaticEmbedding",
    "Transformer", "WeightedLayerPooling", "WordEmbeddings", "WordWeights",
})  # fmt: skip
# As the library has spelt its modules over time: models.Pooling, models.Pooling.Pooling, base.modules.dense.Dense.
SPELLING = re.compile(
    r"sentence_transformers\.(?:models|base\.modules|sentence_transformer\.modules)\.(?:\w+\.)?(?P<name>[A-Za-z]+)"
)
TOKENIZER = re.compile(
    r"sentence_transformers\.(?:models|sentence_transformer\.modules)\.tokenizer\.(?:\w+\.)?"
    r"(?:WhitespaceTokenizer|PhraseTokenizer|TransformersTokenizerWrapper)"
)
ACTIVATION = re.compile(r"torch\.nn\.(?:modules\.(?:activation|linear)\.)?[A-Z][A-Za-z0-9]*")
# What else the library makes, by the marks that such a folder bears, and what to do instead.
OTHER_KINDS = {
    "CrossEncoder": "it scores a query and a passage together, so it has no embeddings to search",
    "SparseEncoder": "its embeddings are sparse, and the search here is of dense ones",
    "MultiVectorEncoder": "it has one embedding per token, and the search here is of one per text",
}
OTHER_MODULES = (
    ("sentence_transformers.sparse_encoder.", "SparseEncoder"),
    ("sentence_transformers.cross_encoder.", "CrossEncoder"),
    ("sentence_transformers.multi_vector_encoder.", "MultiVectorEncoder"),
    ("pylate.", "MultiVectorEncoder"),
)
ROUTERS = frozenset({"Asym", "Router"})
# Keyword arguments for transformers in a Transformer's own file, under their old and new names.
OPTIONS = ("model_args", "model_kwargs", "tokenizer_args", "processor_kwargs", "config_args", "config_kwargs")
# Where a Transformer's tokenizer comes from, if not from its own folder.
TOKENIZER_PLACE = "tokenizer_name_or_path"
CLASSIFIER = "ForSequenceClassification"
MODULES_FILE = "modules.json"
MODEL_FILE = "config_sentence_transformers.json"
CONFIG_FILE = "config.json"
TOKENIZER_FILE = "tokenizer_config.json"
TRANSFORMER_FILE = re.compile(r"sentence_[a-z-]+_config\.json")
# A vocabulary of 256,000 tokens takes 35 MB.
JSON_LIMIT_BYTES = 256 * 2**20
SHOWN_CHARACTERS = 300
# Of a module's folder inside the model's; file systems end a name at 255.
PATH_CHARACTERS = 200


class ModuleEntry(Read):
    """A line of modules.json: the module's class, and its folder inside the model's."""

    name: str
    path: str
    type: str


class _Modules(Read):
    modules: tuple[ModuleEntry, ...]

    @field_validator("modules")
    @classmethod
    def _named_once(cls, modules: tuple[ModuleEntry, ...]) -> tuple[ModuleEntry, ...]:
        names = [module.name for module in modules]
        if len(set(names)) != len(names):
            raise ValueError(f"a module's name is listed twice among {names}")
        return modules


class _Router(Read):
    types: dict[str, str]
    structure: dict[str, tuple[str, ...]]


class ModelSettings(Read):
    """What config_sentence_transformers.json says of a model."""

    prompts: Annotated[dict[str, str | None], Field(default_factory=dict)]
    default_prompt_name: str | None = None
    similarity_fn_name: Similarity | None = None
    truncate_dim: Annotated[int, Field(ge=1)] | None = None


@dataclass(frozen=True)
class ModelFolder:
    """A folder that passed the checks: its modules, empty where the library falls back on its default ones."""

    path: Path
    modules: tuple[ModuleEntry, ...]
    settings: ModelSettings


def check_model_folder(folder: Path) -> ModelFolder:
    """Check all that can be checked of a model folder without loading it; nothing in it is run.

    Args:
        folder: a complete Sentence Transformers folder, or one of transformers alone.

    Returns:
        What it declares.

    Raises:
        SourceError: naming the file and what is wrong with it: no folder, pickled weights, no or damaged safetensors,
            JSON that does not parse or has other types than it should, a module that is not one of the library's, an
            adapter, or a model of another kind than one embedding per text.
    """
    if not folder.is_dir():
        raise SourceError(f"{folder}: expected a model folder, found none")
    files = list(_list_files(folder))
    names = [path.relative_to(folder).as_posix() for path in files]
    special = [name for name, path in zip(names, files, strict=True) if path.exists() and not path.is_file()]
    if special:
        raise SourceError(f"{folder}: expected regular files, found pipes, devices or sockets: {', '.join(special)}")
    pickled = [name for name in names if PurePosixPath(name).suffix.lower() in PICKLED_SUFFIXES]
    if pickled:
        raise SourceError(
            f"{folder}: expected safetensors only, found files that may hold pickles: {', '.join(pickled)}"
        )
    weights = [path for path in files if path.suffix == ".safetensors"]
    contents = {name: _parse(path) for name, path in zip(names, files, strict=True) if path.suffix == ".json"}
    _refuse_other_kinds(folder, contents)
    settings = _read(ModelSettings, contents.get(MODEL_FILE, {}), folder / MODEL_FILE)
    modules = _check_modules(folder, contents)
    if not weights and not all(module.type.endswith(".BoW") for module in modules):
        raise SourceError(f"{folder}: expected weights as safetensors, found {len(files)} other files")
    check_growth(folder, contents)
    for name, content in contents.items():
        if name.endswith(".safetensors.index.json"):
            _check_shards(folder / name, content)
    shapes = {path.relative_to(folder).as_posix(): _read_sizes(path) for path in weights}
    for name, place in _list_places(folder, modules, contents):
        if name == "Transformer":
            _check_transformer(folder, place, names, contents, shapes)
        elif name in KINDS:
            _check_settings(name, folder, place, contents, shapes)
    return ModelFolder(folder, modules, settings)


def _list_files(folder: Path) -> Iterator[Path]:
    """Yield all files, those in linked folders too, since a loader follows links."""
    seen: set[str] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        # A link to a folder above would otherwise never end.
        folders[:] = sorted(name for name in folders if os.path.realpath(Path(place, name)) not in seen)
        seen.update(os.path.realpath(Path(place, name)) for name in folders)
        yield from (Path(place, name) for name in sorted(names))


def _parse(path: Path) -> Any:
    # Room for the whole limit would be set aside otherwise.
    limit = min(JSON_LIMIT_BYTES, path.stat().st_size) if path.is_file() else 0
    text = read_text(path, limit_bytes=limit, error=SourceError)
    try:
        return json.loads(text)
    except RecursionError as cause:
        raise SourceError(f"{path}: cannot be read: nested too deeply") from cause
    except ValueError as cause:  # a number of too many digits is a plain ValueError
        raise SourceError(f"{path}: not valid JSON: {clip(str(cause), SHOWN_CHARACTERS)}") from cause


ReadType = TypeVar("ReadType", bound=Read)


def _read(kind: type[ReadType], content: Any, path: Path) -> ReadType:
    place = str(path)
    try:
        return decode(kind, _expect_object(content, path), place=place, error=SourceError)
    except SourceError as cause:
        # One line, however many keys are wrong.
        first, *others = str(cause).splitlines()
        raise SourceError("; ".join([first, *(line.removeprefix(f"{place}: ") for line in others)])) from cause


def _expect_object(content: Any, path: Path) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise SourceError(f"{path}: expected a JSON object, found {show_value(content)}")
    return content


def show_value(value: Any) -> str:
    """Quote a stranger's value, cut where it is long."""
    return "a list" if isinstance(value, list) else clip(repr(value), SHOWN_CHARACTERS)


def _check_modules(folder: Path, contents: Mapping[str, Any]) -> tuple[ModuleEntry, ...]:
    """Read modules.json and the routers' own lists, and refuse every class that is not allowed."""
    path = folder / MODULES_FILE
    content = contents.get(MODULES_FILE)
    if content is None:
        if CONFIG_FILE not in contents:
            raise SourceError(f"{folder}: expected {MODULES_FILE} or {CONFIG_FILE}, found neither")
        _check_configuration("Transformer", folder, PurePosixPath(), contents)
        return ()
    if not isinstance(content, list):
        raise SourceError(f"{path}: expected a list of modules, found {show_value(content)}")
    if not content:
        raise SourceError(f"{path}: expected one or more modules, found none")
    modules = _read(_Modules, {"modules": content}, path).modules
    for module in modules:
        place = _check_place(module.path, path)
        name = _check_class(module.type, path)
        if name in ROUTERS:
            _check_router(folder, place, contents)
        else:
            _check_configuration(name, folder, place, contents)
    return modules


def _check_router(folder: Path, place: PurePosixPath, contents: Mapping[str, Any]) -> None:
    """Check the modules that a router names; a router inside another is not one that the library makes."""
    path, router = _read_router(folder, place, contents)
    for identity, reference in router.types.items():
        inner = _check_class(reference, path)
        if inner in ROUTERS:
            raise SourceError(f"{path}: {show_value(identity)} is a Router inside a Router")
        _check_configuration(inner, folder, place / _check_place(identity, path), contents)
    unknown = sorted({part for parts in router.structure.values() for part in parts} - set(router.types))
    if unknown:
        raise SourceError(f"{path}: the structure names {show_value(unknown[0])}, which is not among the types")


def _read_router(folder: Path, place: PurePosixPath, contents: Mapping[str, Any]) -> tuple[Path, _Router]:
    names = [(place / name).as_posix() for name in ("router_config.json", CONFIG_FILE)]
    name = next((name for name in names if name in contents), None)
    if name is None:
        raise SourceError(f"{folder / names[0]}: expected the routes of a Router, found no such file")
    return folder / name, _read(_Router, contents[name], folder / name)


def _check_place(path: str, file: Path) -> PurePosixPath:
    place = PurePosixPath(path)
    if place.is_absolute() or ".." in place.parts or "\\" in path or "\0" in path or len(path) > PATH_CHARACTERS:
        raise SourceError(f"{file}: expected a path inside the model's folder, found {show_value(path)}")
    if is_unwanted((place / CONFIG_FILE).as_posix()):
        raise SourceError(f"{file}: names the folder {show_value(path)}, whose files are not taken and so not locked")
    return place


def _check_class(reference: str, path: Path) -> str:
    for beginning, kind in OTHER_MODULES:
        if reference.startswith(beginning):
            raise _refuse_kind(path, kind, f"its module {clip(reference, SHOWN_CHARACTERS)!r} says so")
    match = SPELLING.fullmatch(reference)
    if match is None or match["name"] not in MODULES:
        raise SourceError(
            f"{path}: module class {clip(reference, SHOWN_CHARACTERS)!r} is not one of Sentence Transformers' own for "
            f"text ({', '.join(sorted(MODULES))}); code of a model is not run"
        )
    return match["name"]


def _refuse_other_kinds(folder: Path, contents: Mapping[str, Any]) -> None:
    """Refuse what the library would load by making something else of it, without a word."""
    kind = _expect_object(contents.get(MODEL_FILE, {}), folder / MODEL_FILE).get("model_type", "SentenceTransformer")
    if isinstance(kind, str) and kind in OTHER_KINDS:
        raise _refuse_kind(folder / MODEL_FILE, kind, "its model_type says so")
    if kind != "SentenceTransformer":
        raise SourceError(f"{folder / MODEL_FILE}: model_type is {show_value(kind)}, expected 'SentenceTransformer'")
    if MODULES_FILE not in contents and CONFIG_FILE in contents:
        architectures = _expect_object(contents[CONFIG_FILE], folder / CONFIG_FILE).get("architectures")
        if isinstance(architectures, list) and any(str(name).endswith(CLASSIFIER) for name in architectures):
            sign = f"its architecture is {show_value(architectures[0])}"
            raise _refuse_kind(folder / CONFIG_FILE, "CrossEncoder", sign)
    if "adapter_config.json" in contents:
        raise SourceError(
            f"{folder / 'adapter_config.json'}: an adapter's base model lies elsewhere; merge the two and save them as "
            "one model"
        )


def _refuse_kind(path: Path, kind: str, sign: str) -> SourceError:
    return SourceError(
        f"{path}: this is a {kind} ({sign}): {OTHER_KINDS[kind]}. Rank with it elsewhere and bring the ranked "
        'lists as a TREC run: kind = "run"'
    )


def _check_configuration(name: str, folder: Path, place: PurePosixPath, contents: Mapping[str, Any]) -> None:
    """Check what in a module's configuration would load another file, import something, or be ignored in silence."""
    for file in (path for path in contents if PurePosixPath(path).parent == place):
        path, content = folder / file, contents[file]
        kind = PurePosixPath(file).name
        if name == "Transformer" and TRANSFORMER_FILE.fullmatch(kind):
            _check_options(_expect_object(content, path), path)
        if name == "Dense" and kind == CONFIG_FILE:
            _check_reference(_expect_object(content, path), "activation_function", ACTIVATION, path)
        if name == "WordEmbeddings" and kind == "wordembedding_config.json":
            _check_reference(_expect_object(content, path), "tokenizer_class", TOKENIZER, path)


def _check_options(content: Mapping[str, Any], path: Path) -> None:
    if content.get(TOKENIZER_PLACE) is not None:
        raise SourceError(
            f"{path}: {TOKENIZER_PLACE} is {show_value(content[TOKENIZER_PLACE])}; a tokenizer is read from the "
            "model's own folder only, as no other is locked"
        )
    for key in OPTIONS:
        for option, value in _expect_object(content.get(key, {}), path).items():
            if isinstance(value, list | dict) or (isinstance(value, str) and re.search(r"[/\\]", value)):
                raise SourceError(
                    f"{path}: {key}.{clip(option, SHOWN_CHARACTERS)}: found {show_value(value)}; expected one word, "
                    "number or boolean that names no other file or repository"
                )


def _check_reference(content: Mapping[str, Any], key: str, pattern: re.Pattern[str], path: Path) -> None:
    value = content.get(key)
    if value is not None and not (isinstance(value, str) and pattern.fullmatch(value)):
        raise SourceError(f"{path}: {key} is {show_value(value)}, expected one that matches {pattern.pattern}")


def _check_shards(path: Path, content: Any) -> None:
    shards = _expect_object(_expect_object(content, path).get("weight_map"), path).values()
    for shard in set(map(str, shards)):
        if "/" in shard or "\\" in shard or not (path.parent / shard).is_file():
            raise SourceError(f"{path}: names the file {show_value(shard)}, which is not beside it")


def _read_sizes(path: Path) -> list[int]:
    """Read the header, which says how long the file must be, and return how many numbers each weight has."""
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415 - the numpy half, but still 50 ms

    try:
        with safe_open(path, framework="numpy") as tensors:
            sizes = [math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys()]  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError, ValueError, RuntimeError) as cause:
        raise SourceError(f"{path}: not whole safetensors: {describe_failure(cause)}") from cause
    if not sizes:
        raise SourceError(f"{path}: holds no weights")
    return sizes


def _list_places(
    folder: Path, modules: Sequence[ModuleEntry], contents: Mapping[str, Any]
) -> Iterator[tuple[str, PurePosixPath]]:
    """Yield (class, folder) of each module, those of a router among them."""
    if not modules:
        yield "Transformer", PurePosixPath()
    for module in modules:
        name, place = _check_class(module.type, folder / MODULES_FILE), PurePosixPath(module.path)
        if name in ROUTERS:
            path, router = _read_router(folder, place, contents)
            yield from ((_check_class(inner, path), place / part) for part, inner in router.types.items())
        else:
            yield name, place


def _check_transformer(
    folder: Path,
    place: PurePosixPath,
    names: Sequence[str],
    contents: Mapping[str, Any],
    sizes: Mapping[str, Sequence[int]],
) -> None:
    """Refuse sizes that its weights cannot have, and a tokenizer that would know no word."""
    config = (place / CONFIG_FILE).as_posix()
    if isinstance(contents.get(config), dict):
        every = [size for own in sizes.values() for size in own]
        wrong = find_wrong_size(contents[config], len(every), sum(every))
        if wrong is not None:
            key, value, why = wrong
            raise SourceError(f"{folder / config}: {clip(key, SHOWN_CHARACTERS)} is {show_value(value)}, {why}")
    own = [PurePosixPath(name).name for name in names if PurePosixPath(name).parent == place]
    if not has_vocabulary(own, contents.get((place / TOKENIZER_FILE).as_posix())):
        raise SourceError(f"{folder / place}: expected a tokenizer's words (tokenizer.json, vocab.txt or the like)")


def _check_settings(
    name: str, folder: Path, place: PurePosixPath, contents: Mapping[str, Any], sizes: Mapping[str, Sequence[int]]
) -> None:
    """Refuse a module's file of wrong types, or of sizes that the weights beside it cannot have."""
    file, kind = KINDS[name]
    path = (place / file).as_posix()
    if path not in contents:
        return  # which the library says
    held = sum(sum(own) for weights, own in sizes.items() if PurePosixPath(weights).parent == place)
    for keys, size in _read(kind, contents[path], folder / path).list_sizes():
        if size > held:
            raise SourceError(
                f"{folder / path}: {keys} is {show_value(size)}, but the weights beside it are {held} numbers"
            )
