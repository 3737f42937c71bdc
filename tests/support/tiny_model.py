"""Builds a complete Sentence Transformers folder in about a second, for tests without a hub or downloads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

Architecture = Literal["bert", "mpnet"]

VOCABULARY_SOURCE = (
    "what is the role of gene protein cell receptor in cancer and disease",
    "does treatment with drug reduce risk of heart attack for patients",
    "yes there are reported data indicating that histone methylation changes expression",
    "list signaling molecules ligands that interact with the kinase pathway",
    "no evidence was found between the vaccine and the syndrome in children",
)


def build_tiny_model(
    folder: Path,
    *,
    seed: int = 0,
    architecture: Architecture = "bert",
    dropout: float = 0.1,
    hidden_size: int = 32,
    layers: int = 2,
    max_length: int = 64,
    heads: int = 4,
    inner_size: int | None = None,
    vocabulary_size: int | None = None,
) -> Path:
    """Write a randomly initialised model (safetensors, tokenizer, mean pooling, normalisation) to `folder`.

    Args:
        folder: where the model goes; it is made, with its parents, if it is absent.
        seed: of the random weights. The caller's random state is left as it was.
        architecture: `bert` or `mpnet`, as all-MiniLM-L6-v2 and all-mpnet-base-v2 have.
        dropout: the probability of both the hidden and the attention dropout.
        hidden_size: length of the embeddings; a multiple of the heads.
        layers: how many transformer layers.
        max_length: tokens, of which two are special, at which texts are cut.
        heads: of attention.
        inner_size: of the layers' inner part; None for twice the hidden size.
        vocabulary_size: how many tokens there are, the further ones being the words w0, w1, ...; None for no further.

    Returns:
        `folder`.
    """
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    raw = folder / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    tokenizer = build_tokenizer(architecture, max_length, size=vocabulary_size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _build_network(
            architecture,
            vocab_size=len(tokenizer),
            hidden_size=hidden_size,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=inner_size or 2 * hidden_size,
            # MPNet counts positions from its padding index on, hence two more.
            max_position_embeddings=max_length + 2,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
        )
    network.save_pretrained(raw)
    tokenizer.save_pretrained(raw)
    transformer = Transformer(str(raw), max_seq_length=max_length)
    model = SentenceTransformer(
        modules=[transformer, Pooling(hidden_size, pooling_mode="mean"), Normalize()], device="cpu"
    )
    model.save(str(folder), create_model_card=False)
    for path in raw.iterdir():
        path.unlink()
    raw.rmdir()
    return folder


def put_beyond_embeddings(model: Path, word: str) -> None:
    """Give a word of a model's vocabulary an id that the model has no embedding for."""
    path = model / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["model"]["vocab"][word] = 10_000
    path.write_text(json.dumps(content), encoding="utf-8")


def build_tokenizer(
    architecture: Architecture, max_length: int, *, padding_side: str = "right", size: int | None = None
) -> Any:
    """Build a WordPiece tokenizer of whole words and single characters, filled up with w0, w1, ... to a size.

    It is not trained, since a trainer settles ties differently each time, and models must be equal when seeds are.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    # The padding token is the second one, since MPNet's positions are built on padding index 1.
    first, pad, last = ("[CLS]", "[PAD]", "[SEP]") if architecture == "bert" else ("<s>", "<pad>", "</s>")
    unknown, mask = ("[UNK]", "[MASK]") if architecture == "bert" else ("<unk>", "<mask>")
    characters = "abcdefghijklmnopqrstuvwxyz0123456789?.,-"
    words = sorted(set(" ".join(VOCABULARY_SOURCE).split()))
    pieces = [first, pad, last, unknown, mask, *characters, *(f"##{one}" for one in characters), *words]
    pieces = list(dict.fromkeys(pieces))
    pieces += [f"w{number}" for number in range((size or 0) - len(pieces))]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=unknown))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}", special_tokens=[(first, 0), (last, 2)]
    )
    fast_tokenizer: Any = PreTrainedTokenizerFast
    return fast_tokenizer(
        tokenizer_object=tokenizer,
        cls_token=first,
        pad_token=pad,
        sep_token=last,
        unk_token=unknown,
        mask_token=mask,
        padding_side=padding_side,
        model_max_length=max_length,
        model_input_names=["input_ids", "attention_mask"],
    )


def _build_network(architecture: Architecture, **options: Any) -> Any:
    """Initialise the transformer with random weights."""
    from transformers import BertConfig, BertModel, MPNetConfig, MPNetModel

    if architecture == "bert":
        return BertModel(BertConfig(pad_token_id=1, **options))
    return MPNetModel(MPNetConfig(pad_token_id=1, **options))
