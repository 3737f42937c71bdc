"""Small models of every kind that Sentence Transformers makes, by the library's own parts, saved to a folder."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.tiny_model import VOCABULARY_SOURCE, build_tokenizer

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

WIDTH = 32
LENGTH = 48
WORDS = sorted(set(" ".join(VOCABULARY_SOURCE).split()))

Modules = list[Any]


def build(folder: Path, name: str) -> Path:
    """Save the model of that name and return its folder.

    Args:
        folder: for the model and what it is made of.
        name: one of `KINDS`.
    """
    import torch
    from sentence_transformers import SentenceTransformer

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        modules, settings = KINDS[name](folder / "parts")
        model = SentenceTransformer(modules=modules, device="cpu", **settings)
        _spread_weights(model)
    model.save(str(folder / "model"), create_model_card=False)
    return folder / "model"


def _spread_weights(model: SentenceTransformer) -> None:
    """Enlarge weights, so that texts differ by more than a randomly initialised model lets them."""
    import torch

    for name, weight in model.named_parameters():
        if weight.ndim > 1 and not re.search(r"embedding|emb_layer", name, re.IGNORECASE):
            torch.nn.init.normal_(weight, std=0.2)


def _transformer(folder: Path, kind: str = "bert", **settings: Any) -> Any:
    """Save a transformer with random weights, and load it as a module."""
    from sentence_transformers.sentence_transformer.modules import Transformer

    side = "left" if kind == "qwen3" else "right"
    tokenizer = build_tokenizer("mpnet" if kind == "mpnet" else "bert", LENGTH, padding_side=side)
    if kind == "qwen3":
        tokenizer.eos_token = "[SEP]"  # noqa: S105 - a token of text
    folder.mkdir(parents=True, exist_ok=True)
    _network(kind, len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    module = Transformer(str(folder), max_seq_length=LENGTH)
    if kind == "qwen3" and module.tokenizer.padding_side != "left":
        raise ValueError("expected a decoder with padding on the left")
    for key, value in settings.items():
        setattr(module, key, value)
    return module


def _network(kind: str, size: int) -> Any:
    import transformers

    common = {"vocab_size": size, "hidden_size": WIDTH, "num_hidden_layers": 2, "pad_token_id": 1}
    # Without dropout, so that a training's loss is that of the embeddings.
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    heads = {"num_attention_heads": 4, "intermediate_size": 64}
    made: dict[str, tuple[str, dict[str, Any]]] = {
        "bert": ("Bert", {**common, **heads, **still, "max_position_embeddings": 64}),
        "mpnet": ("MPNet", {**common, **heads, **still, "max_position_embeddings": 64}),
        "roberta": ("Roberta", {**common, **heads, **still, "max_position_embeddings": 64, "type_vocab_size": 1}),
        "electra": ("Electra", {**common, **heads, **still, "embedding_size": 16, "max_position_embeddings": 64}),
        "distilbert": (
            "DistilBert",
            {
                "vocab_size": size,
                "dim": WIDTH,
                "n_layers": 2,
                "n_heads": 4,
                "hidden_dim": 64,
                "pad_token_id": 1,
                "dropout": 0.0,
                "attention_dropout": 0.0,
            },
        ),
        "modernbert": (
            "ModernBert",
            {
                **common,
                **heads,
                "max_position_embeddings": 64,
                "local_attention": 8,
                "global_attn_every_n_layers": 2,
                **{f"{token}_token_id": 2 for token in ("eos", "bos", "cls", "sep")},
            },
        ),
        "qwen3": (
            "Qwen3",
            {**common, **heads, "num_key_value_heads": 2, "head_dim": 8, "eos_token_id": 2, "bos_token_id": 0},
        ),
    }
    if kind == "t5":
        config = transformers.T5Config(
            vocab_size=size, d_model=WIDTH, d_kv=8, d_ff=64, num_layers=2, num_heads=4, dropout_rate=0.0, pad_token_id=1
        )
        return transformers.T5EncoderModel(config)
    name, options = made[kind]
    config = getattr(transformers, f"{name}Config")(**options)
    return getattr(transformers, f"{name}Model")(config)


def _modules() -> Any:
    from sentence_transformers.sentence_transformer import modules

    return modules


def _static(width: int = WIDTH) -> Any:
    tokenizer = build_tokenizer("bert", LENGTH).backend_tokenizer
    return _modules().StaticEmbedding(tokenizer, embedding_dim=width)


def _word_embeddings(**_: Any) -> Any:
    import torch
    from sentence_transformers.sentence_transformer.modules.tokenizer import WhitespaceTokenizer

    tokenizer = WhitespaceTokenizer(WORDS, stop_words={"the"}, do_lower_case=True)
    return _modules().WordEmbeddings(tokenizer, torch.randn(len(WORDS), WIDTH))


def _pooled(mode: str | tuple[str, ...], kind: str = "bert", **settings: Any) -> Callable[[Path], tuple[Modules, Any]]:
    width = WIDTH * (1 if isinstance(mode, str) else len(mode))
    del width
    return lambda folder: ([_transformer(folder, kind), _modules().Pooling(WIDTH, pooling_mode=mode)], settings)


def _then(*make: Callable[[], Any], kind: str = "bert", **settings: Any) -> Callable[[Path], tuple[Modules, Any]]:
    """A transformer with mean pooling and further modules."""

    def build_modules(folder: Path) -> tuple[Modules, Any]:
        parts = [_transformer(folder, kind), _modules().Pooling(WIDTH, pooling_mode="mean")]
        return [*parts, *(one() for one in make)], settings

    return build_modules


def _normalize() -> Any:
    return _modules().Normalize()


def _dense() -> Any:
    return _modules().Dense(WIDTH, 24)


def _excluded(folder: Path) -> tuple[Modules, Any]:
    pooling = _modules().Pooling(WIDTH, pooling_mode="mean", include_prompt=False)
    return [_transformer(folder), pooling], {"prompts": {"query": "what is the role of ", "document": "gene "}}


def _token_dense(folder: Path) -> tuple[Modules, Any]:
    dense = _modules().Dense(WIDTH, 24, module_input_name="token_embeddings")
    return [_transformer(folder), dense, _modules().Pooling(24, pooling_mode="weightedmean")], {}


def _router(folder: Path) -> tuple[Modules, Any]:
    found = _modules()
    document = [_transformer(folder), found.Pooling(WIDTH, pooling_mode="mean")]
    router = found.Router.for_query_document(query_modules=[_static()], document_modules=document)
    return [router, found.Normalize()], {}


def _two_transformers(folder: Path) -> tuple[Modules, Any]:
    found = _modules()
    query, document = (
        [_transformer(folder / name), found.Pooling(WIDTH, pooling_mode="cls")] for name in ("query", "document")
    )
    return [found.Router.for_query_document(query_modules=query, document_modules=document)], {}


def _lengths(folder: Path) -> tuple[Modules, Any]:
    return [_transformer(folder, query_length=6, document_length=20), _modules().Pooling(WIDTH)], {}


def _layers(folder: Path) -> tuple[Modules, Any]:
    found = _modules()
    transformer = _transformer(folder)
    transformer.model.config.output_hidden_states = True
    weighted = found.WeightedLayerPooling(WIDTH, num_hidden_layers=2, layer_start=1)
    return [transformer, weighted, found.Pooling(WIDTH)], {}


def _weighted_words(folder: Path) -> tuple[Modules, Any]:
    del folder
    found = _modules()
    weights = {word: 0.5 + len(word) for word in WORDS}
    return [_word_embeddings(), found.WordWeights(WORDS, weights), found.Pooling(WIDTH)], {}


def _weighted_tokens(folder: Path) -> tuple[Modules, Any]:
    found = _modules()
    transformer = _transformer(folder)
    vocabulary = transformer.tokenizer.get_vocab()
    words = sorted(vocabulary, key=vocabulary.__getitem__)
    weights = {word: 1.0 + index % 5 for index, word in enumerate(words)}
    return [transformer, found.WordWeights(words, weights), found.Pooling(WIDTH)], {}


def _across_tokens(name: str) -> Callable[[Path], tuple[Modules, Any]]:
    def build_modules(folder: Path) -> tuple[Modules, Any]:
        del folder
        found = _modules()
        if name == "CNN":
            middle = found.CNN(WIDTH, out_channels=16, kernel_sizes=[1, 3])
            return [_word_embeddings(), middle, found.Pooling(middle.get_embedding_dimension())], {}
        middle = found.LSTM(WIDTH, hidden_dim=16)
        return [_word_embeddings(), middle, found.Pooling(middle.get_embedding_dimension())], {}

    return build_modules


# How each is made, and by which of our ways texts are expected to go through it.
KINDS: dict[str, Callable[[Path], tuple[Modules, Any]]] = {
    **{
        f"{mode} pooling": _pooled(mode)
        for mode in ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
    },
    "two poolings": _pooled(("cls", "mean")),
    "MPNet": _then(_normalize, kind="mpnet"),
    "Normalize": _then(_normalize),
    "Dense": _then(_dense, _normalize),
    "Dense on tokens": _token_dense,
    "LayerNorm": _then(lambda: _modules().LayerNorm(WIDTH)),
    "Dropout": _then(lambda: _modules().Dropout(0.5)),
    "dot": _pooled("mean", similarity_fn_name="dot"),
    "euclidean": _pooled("mean", similarity_fn_name="euclidean"),
    "manhattan": _pooled("mean", similarity_fn_name="manhattan"),
    "prompts": _pooled("mean", prompts={"query": "what is the role of ", "document": "no evidence "}),
    "a passage prompt": _pooled("mean", prompts={"query": "what is the role of ", "passage": "no evidence "}),
    "a default prompt": _pooled("mean", prompts={"x": "list signaling molecules "}, default_prompt_name="x"),
    "prompts left out of pooling": _excluded,
    "truncate_dim": _then(_normalize, truncate_dim=8, similarity_fn_name="dot"),
    "lengths by role": _lengths,
    "RoBERTa": _pooled("cls", "roberta"),
    "Electra": _pooled("mean", "electra"),
    "DistilBERT": _pooled("mean", "distilbert"),
    "ModernBERT": _pooled("mean", "modernbert"),
    "T5": _then(_dense, _normalize, kind="t5"),
    "decoder": _pooled("lasttoken", "qwen3", prompts={"query": "list protein : "}),
    "Router": _router,
    "Router of transformers": _two_transformers,
    "StaticEmbedding": lambda _: ([_static()], {}),
    "WordWeights": _weighted_words,
    "WordWeights on tokens": _weighted_tokens,
    "WeightedLayerPooling": _layers,
    "BoW": lambda _: ([_modules().BoW(WORDS)], {}),
    "CNN": _across_tokens("CNN"),
    "LSTM": _across_tokens("LSTM"),
}
