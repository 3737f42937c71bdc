"""Whatever kind a model is of, its values are those of the library's own evaluator, or it is refused by name."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from harness.errors import SourceError
from harness.models.encoder import Encoder, count_truncated, encode_roles, encode_texts, open_encoder
from harness.models.encoding import OWN_ENCODING, Encoding, Role
from harness.models.encoding import Path as Way
from harness.models.search import retrieve
from harness.records.measures import MEASURES, average, evaluate_run
from tests.support.minilm import fetch_minilm
from tests.support.model_kinds import KINDS, WORDS, build

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

# The ways of queries and passages; a kind that is not named goes packed.
PADDED: tuple[Way, Way] = ("padded", "padded")
LIBRARY: tuple[Way, Way] = ("library", "library")
PATHS: dict[str, tuple[Way, Way]] = {
    **dict.fromkeys(("RoBERTa", "Electra", "DistilBERT", "ModernBERT", "T5", "decoder"), PADDED),
    "prompts left out of pooling": PADDED,
    **dict.fromkeys(
        ("Router", "Router of transformers", "StaticEmbedding", "WordWeights", "BoW", "CNN", "LSTM"), LIBRARY
    ),
    "WordWeights on tokens": PADDED,
    "WeightedLayerPooling": PADDED,
}


def make_texts(count: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    texts = [" ".join(draw.choices(WORDS, k=draw.randint(1, 12))) for _ in range(count)]
    # Longer than any of the models reads, beyond ASCII, and one that is there twice.
    return [*texts[:-3], " ".join(WORDS * 3), "Größe 北京 façade gene", texts[0]]


QUERIES = {f"q{number}": text for number, text in enumerate(make_texts(40, 1))}
PASSAGES = {f"p{number}": text for number, text in enumerate(make_texts(150, 2))}
Relevant = dict[str, set[str]]


def draw_relevant(folder: Path, encoding: Encoding, dim: int | None) -> Relevant:
    """Choose relevant passages at random, but none whose score another's is so near that noise decides between them."""
    model = load_library(folder, encoding, dim)
    scores = model.similarity(
        model.encode_query(list(QUERIES.values()), prompt=encoding.query_prompt),
        model.encode_document(list(PASSAGES.values()), prompt=encoding.passage_prompt),
    ).numpy()
    near = 2e-5 * np.abs(scores).max()
    draw = random.Random(3)
    relevant: Relevant = {}
    for query, row in zip(QUERIES, scores, strict=True):
        apart = [
            passage for passage, score in zip(PASSAGES, row, strict=True) if (np.abs(row - score) <= near).sum() == 1
        ]
        relevant[query] = set(draw.sample(apart, min(len(apart), draw.randint(1, 12))))
    return relevant


def load_library(folder: Path, encoding: Encoding, dim: int | None) -> SentenceTransformer:
    """Load a model as a user of the library would."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu", truncate_dim=dim)
    if encoding.similarity is not None:
        model.similarity_fn_name = encoding.similarity
    if encoding.max_seq_length is not None:
        first: Any = model[0]
        # Static embeddings, by which the router embeds queries, have no length to set.
        reader = first.sub_modules["document"][0] if hasattr(first, "sub_modules") else model
        reader.max_seq_length = encoding.max_seq_length
    return model


def ours(encoder: Encoder, relevant: Relevant, dim: int | None = None) -> dict[str, float]:
    embeddings = encode_roles(encoder, list(QUERIES.values()), list(PASSAGES.values()), batch_tokens=300)
    taken = np.ascontiguousarray(embeddings[:, : encoder.dims[0] if dim is None else dim])
    run = retrieve(
        taken[: len(QUERIES)],
        list(QUERIES),
        taken[len(QUERIES) :],
        list(PASSAGES),
        top_k=100,
        device="cpu",
        similarity=encoder.similarity,
    )
    qrels = {query: dict.fromkeys(sorted(found), 1) for query, found in relevant.items()}
    return average(evaluate_run(run, qrels, MEASURES))


def theirs(folder: Path, relevant: Relevant, encoding: Encoding, dim: int | None = None) -> dict[str, float]:
    """What the library says of the model with its own settings, but for those set."""
    from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator

    model = load_library(folder, encoding, None)
    make: Any = InformationRetrievalEvaluator
    evaluator = make(
        QUERIES,
        PASSAGES,
        relevant,
        truncate_dim=dim,
        query_prompt=encoding.query_prompt,
        corpus_prompt=encoding.passage_prompt,
        write_csv=False,
    )
    found = evaluator(model)
    return {name: float(found[f"{model.similarity_fn_name}_{name}"]) for name in MEASURES}


def agree(folder: Path, encoding: Encoding = OWN_ENCODING) -> Encoder:
    """Check that our values are the evaluator's at every dimension, and return the encoder."""
    encoder = open_encoder(folder, device="cpu", encoding=encoding)
    for dim in encoding.truncate_dims or (None,):
        relevant = draw_relevant(folder, encoding, dim)
        values = ours(encoder, relevant, dim)
        assert values == pytest.approx(theirs(folder, relevant, encoding, dim), abs=1e-6, rel=0)
        assert 0 < values["mrr@10"] < 1
    return encoder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Models made so far, by kind."""
    del tmp_path_factory
    return {}


def get_folder(folders: dict[str, Path], factory: pytest.TempPathFactory, kind: str) -> Path:
    if kind not in folders:
        folders[kind] = build(factory.mktemp("kind"), kind)
    return folders[kind]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "CNN"])
def test_values_of_every_kind_are_the_evaluators(
    kind: str, folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    encoder = agree(get_folder(folders, tmp_path_factory, kind))
    assert (encoder.ways["query"].path, encoder.ways["passage"].path) == PATHS.get(kind, ("packed", "packed"))
    roles: tuple[tuple[Role, Any, list[str]], ...] = (
        ("query", encoder.model.encode_query, list(QUERIES.values())),
        ("passage", encoder.model.encode_document, list(PASSAGES.values())),
    )
    for role, encode, texts in roles:
        found = encode_texts(encoder, texts, role=role, batch_tokens=300)[:, : encoder.dims[0]]
        expected = encode(texts)
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("kind", ["MPNet", "RoBERTa", "Router", "StaticEmbedding", "T5"])
def test_settings_are_taken_as_the_evaluator_takes_them(
    kind: str, folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    encoding = Encoding(
        query_prompt="what is the role of ",
        passage_prompt="gene protein ",
        similarity="dot",
        similarity_override=True,
        max_seq_length=None if kind == "StaticEmbedding" else 9,
        truncate_dims=(24, 7),
    )
    encoder = agree(get_folder(folders, tmp_path_factory, kind), encoding)
    assert encoder.prompts == {"query": "what is the role of ", "passage": "gene protein "}
    assert encoder.dims == (24, 7)


def test_an_empty_prompt_takes_the_models_own_away(
    folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = get_folder(folders, tmp_path_factory, "prompts")
    own, bare = agree(folder), agree(folder, Encoding(query_prompt="", passage_prompt=""))
    assert own.prompts == {"query": "what is the role of ", "passage": "no evidence "}
    assert bare.prompts == {"query": "", "passage": ""}
    first, second = (encode_texts(encoder, ["gene"], role="query", batch_tokens=99) for encoder in (own, bare))
    assert np.abs(first - second).max() > 1e-3


@pytest.mark.parametrize(
    ("kind", "notes"),
    [
        ("prompts", ()),
        (
            "a passage prompt",
            ("passages have no prompt, since the library does not take the model's passage ('no evidence ')",),
        ),
        (
            "a default prompt",
            tuple(
                f"{what} have no prompt, since the library does not take the model's x ('list signaling molecules ')"
                for what in ("queries", "passages")
            ),
        ),
    ],
)
def test_a_prompt_that_the_library_passes_over_is_said(
    kind: str, notes: tuple[str, ...], folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert open_encoder(get_folder(folders, tmp_path_factory, kind), device="cpu").notes == notes


def test_a_length_is_refused_where_texts_are_read_whole(
    folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = get_folder(folders, tmp_path_factory, "StaticEmbedding")
    with pytest.raises(SourceError, match="max_seq_length is 9, but the model reads texts whole"):
        open_encoder(folder, device="cpu", encoding=Encoding(max_seq_length=9))


def test_a_model_whose_embeddings_depend_on_their_batch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="with the texts in its batch"):
        open_encoder(build(tmp_path, "CNN"), device="cpu")


@pytest.mark.parametrize(
    ("encoding", "words"),
    [
        (Encoding(similarity="dot"), "similarity is 'dot', while the model's own is 'cosine'"),
        (Encoding(truncate_dims=(33,)), "truncate_dims has 33, expected numbers from 1 to 32"),
        (Encoding(truncate_dims=(0,)), "truncate_dims has 0"),
        (Encoding(truncate_dims=(8, 8)), "lists a number twice"),
        (Encoding(max_seq_length=65), "max_seq_length is 65, expected a number from 1 to 64"),
        (Encoding(max_seq_length=0), "max_seq_length is 0"),
    ],
)
def test_settings_that_do_not_fit_the_model_are_refused(
    encoding: Encoding, words: str, folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = get_folder(folders, tmp_path_factory, "mean pooling")
    with pytest.raises(SourceError) as caught:
        open_encoder(folder, device="cpu", encoding=encoding)
    assert str(caught.value).startswith(str(folder))
    assert words in str(caught.value)


def test_a_path_that_gives_other_embeddings_is_not_taken_and_that_is_said(
    folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.models import embedding_paths
    from harness.models.packed_encoder import embed_packed

    folder = get_folder(folders, tmp_path_factory, "mean pooling")
    monkeypatch.setattr(embedding_paths, "embed_packed", lambda *args, **more: embed_packed(*args, **more) * 1.0001)
    (note,) = open_encoder(folder, device="cpu").notes
    assert note == (
        "texts are not embedded the fastest way: packed embeddings differ by 0.0001 of their length; "
        "padded ones are taken"
    )
    monkeypatch.setattr(embedding_paths, "embed_packed", lambda *_, **__: 1 / 0)
    assert "packed embeddings fail: ZeroDivisionError" in open_encoder(folder, device="cpu").notes[0]


def test_texts_that_are_cut_are_counted_with_their_prompt(
    folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    texts = [" ".join(["gene"] * count) for count in (3, 4, 5, 45, 46, 47)]
    plain = open_encoder(get_folder(folders, tmp_path_factory, "mean pooling"), device="cpu")
    assert [count_truncated(plain, texts, role=role) for role in ("query", "passage")] == [1, 1]
    # "no evidence" is two tokens more, "what is the role of" five.
    prompted = open_encoder(get_folder(folders, tmp_path_factory, "prompts"), device="cpu")
    assert [count_truncated(prompted, texts, role=role) for role in ("query", "passage")] == [3, 3]
    short = open_encoder(get_folder(folders, tmp_path_factory, "lengths by role"), device="cpu")
    assert [count_truncated(short, texts, role=role) for role in ("query", "passage")] == [4, 3]
    router = open_encoder(get_folder(folders, tmp_path_factory, "Router"), device="cpu")
    assert [count_truncated(router, texts, role=role) for role in ("query", "passage")] == [0, 1]


def test_a_module_that_fails_is_named(
    folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(get_folder(folders, tmp_path_factory, "WordWeights"), folder)
    modules = json.loads((folder / "modules.json").read_text())
    # Nothing makes one embedding of those of the words.
    (folder / "modules.json").write_text(json.dumps(modules[:2]))
    with pytest.raises(SourceError, match=r"the model cannot embed texts.*sentence_embedding"):
        open_encoder(folder, device="cpu")
    (folder / "modules.json").write_text(json.dumps([modules[0], modules[2], modules[1] | {"name": "x"}][::-1]))
    with pytest.raises(SourceError, match=r"the model cannot embed texts \(module 0, WordWeights\)|cannot embed texts"):
        open_encoder(folder, device="cpu")


def test_values_of_a_real_model_with_a_query_prompt_are_the_evaluators(tmp_path: Path) -> None:
    folder = fetch_minilm(tmp_path)
    prompt = "Represent this sentence for searching relevant passages: "
    encoder = agree(folder, Encoding(query_prompt=prompt, truncate_dims=(384, 64)))
    assert {way.path for way in encoder.ways.values()} == {"packed"}
    assert encoder.notes == ()
