"""What the modules of a model folder say of themselves is bounded by its weights: a library would make all of it."""

from __future__ import annotations

import fnmatch
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from harness.core.schema import Frozen, Unit

Size = Annotated[int, Field(gt=0)]
# Of an embedding, where no weights tell: far beyond any.
Width = Annotated[int, Field(gt=0, le=10**6)]
Mode = Literal["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]
MODES = 6


class Read(Frozen):
    """A file of the library's, of which the harness needs only some keys."""

    model_config = ConfigDict(extra="ignore")


class Settings(Read):
    """A module's own file."""

    def list_sizes(self) -> Iterator[tuple[str, int]]:
        """Yield (keys, how many numbers the module's weights have at least, by these)."""
        yield from ()


class _Pooling(Settings):
    embedding_dimension: Width | None = None
    word_embedding_dimension: Width | None = None
    pooling_mode: Mode | Annotated[tuple[Mode, ...], Field(min_length=1, max_length=MODES)] | None = None
    include_prompt: bool | None = None
    # As older versions of the library say it.
    pooling_mode_cls_token: bool | None = None
    pooling_mode_max_tokens: bool | None = None
    pooling_mode_mean_tokens: bool | None = None
    pooling_mode_mean_sqrt_len_tokens: bool | None = None
    pooling_mode_weightedmean_tokens: bool | None = None
    pooling_mode_lasttoken: bool | None = None


class _Dense(Settings):
    in_features: Size
    out_features: Size
    bias: bool | None = None
    module_input_name: str | None = None
    module_output_name: str | None = None
    use_residual: bool | None = None

    def list_sizes(self) -> Iterator[tuple[str, int]]:
        yield "in_features x out_features", self.in_features * self.out_features


class _LayerNorm(Settings):
    dimension: Size

    def list_sizes(self) -> Iterator[tuple[str, int]]:
        yield "dimension", self.dimension


class _WeightedLayerPooling(Settings):
    embedding_dimension: Width | None = None
    word_embedding_dimension: Width | None = None
    num_hidden_layers: Size = 12
    layer_start: Annotated[int, Field(ge=0)] = 4

    def list_sizes(self) -> Iterator[tuple[str, int]]:
        yield "num_hidden_layers without those before layer_start", self.num_hidden_layers + 1 - self.layer_start


class _Lstm(Settings):
    embedding_dimension: Width | None = None
    word_embedding_dimension: Width | None = None
    hidden_dim: Size
    num_layers: Size = 1
    dropout: Unit = 0.0
    bidirectional: bool = True

    def list_sizes(self) -> Iterator[tuple[str, int]]:
        width = self.embedding_dimension or self.word_embedding_dimension or 1
        yield "hidden_dim x embedding_dimension x num_layers", self.hidden_dim * max(width, self.num_layers)
        yield "hidden_dim x hidden_dim", self.hidden_dim**2


class _Cnn(Settings):
    in_embedding_dimension: Width | None = None
    in_word_embedding_dimension: Width | None = None
    out_channels: Size = 256
    kernel_sizes: tuple[Size, ...] = (1, 3, 5)
    stride_sizes: tuple[Size, ...] | None = None

    def list_sizes(self) -> Iterator[tuple[str, int]]:
        width = self.in_embedding_dimension or self.in_word_embedding_dimension or 1
        yield "in_embedding_dimension x out_channels x kernel_sizes", width * self.out_channels * sum(self.kernel_sizes)


class _Dropout(Settings):
    dropout: Unit | None = None


class _WordEmbeddings(Settings):
    tokenizer_class: str
    update_embeddings: bool | None = None
    max_seq_length: Size | None = None


class _Words(Settings):
    vocab: tuple[str, ...]
    word_weights: dict[str, float] | None = None
    unknown_word_weight: float | None = None
    cumulative_term_frequency: bool | None = None


# Module -> its file, and what that holds.
KINDS: Mapping[str, tuple[str, type[Settings]]] = {
    "BoW": ("config.json", _Words),
    "CNN": ("cnn_config.json", _Cnn),
    "Dense": ("config.json", _Dense),
    "Dropout": ("config.json", _Dropout),
    "LSTM": ("lstm_config.json", _Lstm),
    "LayerNorm": ("config.json", _LayerNorm),
    "Pooling": ("config.json", _Pooling),
    "WeightedLayerPooling": ("config.json", _WeightedLayerPooling),
    "WordEmbeddings": ("wordembedding_config.json", _WordEmbeddings),
    "WordWeights": ("config.json", _Words),
}

# As configurations call the number of layers: num_hidden_layers, num_layers, n_layers, n_layer.
LAYERS = re.compile(r"(?:num|n)_(?:[a-z]+_)*layers?")
# What no transformer has none of, by the names of their families.
SIZES = frozenset({
    "d_ff", "d_kv", "d_model", "dim", "embedding_size", "head_dim", "hidden_dim", "hidden_size", "intermediate_size",
    "max_position_embeddings", "n_embd", "n_head", "n_heads", "n_layer", "n_layers", "n_positions",
    "num_attention_heads", "num_heads", "num_hidden_layers", "num_key_value_heads", "num_layers", "vocab_size",
})  # fmt: skip
# Rotary positions have no weights.
WITHOUT_WEIGHTS = frozenset({"max_position_embeddings", "n_positions"})
MOST_POSITIONS = 2**31

# What a tokenizer is made from, of whatever kind: a list of words or pieces.
VOCABULARIES = (
    "tokenizer.json", "vocab*", "*vocab", "merges.txt", "*.model", "*.spm", "*.codes", "*.tiktoken", "*.tokenizer",
    "tekken.json",
)  # fmt: skip
# Those of bytes have none.
WITHOUT_VOCABULARY = frozenset({"ByT5Tokenizer", "CanineTokenizer", "PerceiverTokenizer"})


def has_vocabulary(names: Iterable[str], said: Any) -> bool:
    """Say whether a tokenizer could know any word.

    Args:
        names: of the files in its folder.
        said: what its tokenizer_config.json holds, if it is there.
    """
    if any(fnmatch.fnmatch(name, pattern) for name in names for pattern in VOCABULARIES):
        return True
    return isinstance(said, dict) and said.get("tokenizer_class") in WITHOUT_VOCABULARY


def find_wrong_size(content: Mapping[str, Any], tensors: int, numbers: int) -> tuple[str, int, str] | None:
    """Return the first (key, value, what was expected) of a transformer's configuration that cannot be.

    Args:
        content: the configuration; those inside it, as of a text model, are looked at likewise.
        tensors: how many weights the model's files hold. A layer has one or more, and layers are built one by one.
        numbers: how many numbers those have in all.
    """
    for key, value in content.items():
        if isinstance(value, dict) and key.endswith("config"):
            found = find_wrong_size(value, tensors, numbers)
            if found is not None:
                return found
        if not isinstance(value, int) or isinstance(value, bool):
            continue
        layers = LAYERS.fullmatch(key) is not None
        if value < 0 and (layers or key in SIZES):
            return key, value, "expected none below 0"
        if value == 0 and key in SIZES:
            return key, value, "expected 1 or more"
        if layers and value > tensors:
            return key, value, f"but the model's files hold {tensors} weights"
        most = MOST_POSITIONS if key in WITHOUT_WEIGHTS else numbers if key in SIZES else math.inf
        if value > most:
            return key, value, f"but the weights in the model's files are {numbers} numbers"
    return None
