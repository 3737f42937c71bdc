"""The loss without padding must be the plain loss: same values, same gradients, same trained weights."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

import pytest

from harness.experiment.loss import LOSSES, Loss
from harness.experiment.recipe import Embedding
from harness.models.device import Precision
from tests.support.tiny_model import Architecture, build_tiny_model
from tests.support.tiny_training import make_recipe

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

    from harness.models.loss import GroupedLoss

ARCHITECTURES: tuple[Architecture, ...] = get_args(Architecture)

# A bias added to every key shifts all scores of a query alike, so its gradient is nothing but rounding.
WITHOUT_GRADIENT = ("key.bias", ".k.bias")

ANSWERS = [
    "the receptor binds the ligand and the kinase pathway is activated in the cell " * repeats
    for repeats in (1, 2, 4, 1, 3)
] + ["yes", "no evidence was found", "gene"]
QUESTIONS = [f"what is the role of gene {number} in disease" for number in range(7)] + ["heart"]


def load(folder: Path, architecture: Architecture, dropout: float) -> SentenceTransformer:
    from harness.models.loading import load_model

    return load_model(build_tiny_model(folder, architecture=architecture, dropout=dropout), device="cpu").train()


def make_grouped(
    model: SentenceTransformer, precision: Precision = "fp32", loss: dict[str, Any] | None = None
) -> tuple[torch.nn.Module, GroupedLoss]:
    """Return the library's own loss, and the same one over texts without padding."""
    from harness.models.loss import GroupedLoss, make_loss

    chosen = Loss(**(loss or {"name": "MultipleNegativesRankingLoss", "scale": 20.0}))
    columns = ("query", "passage", "negative")[: chosen.kind.least_texts] + (
        (chosen.kind.label,) if chosen.kind.label else ()
    )
    plain, grouped = (
        make_loss(
            model,
            make_recipe(loss=chosen, inputs=columns, embedding=Embedding(cuda="padded", cpu=cpu)),
            precision=precision,
        )
        for cpu in ("padded", "packed")
    )
    assert isinstance(grouped, GroupedLoss)
    assert grouped.packs
    return plain, grouped


def compute(
    model: SentenceTransformer, loss: Callable[..., torch.Tensor], label: str | None = None, columns: int = 2
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The loss of one batch, and the gradients of all weights that have one."""
    import torch

    labels = (
        None
        if label is None
        else torch.tensor([0.1, 0.9, 0.5, 0.9, 0.0, 1.0, 0.3, 0.7] if label == "score" else [0, 1] * 4)
    )
    texts = [ANSWERS, QUESTIONS, ANSWERS[::-1]][:columns]
    model.zero_grad()
    value = loss([model.preprocess(column) for column in texts], labels)
    torch.autograd.backward(value)
    return value.detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


PACKED: list[dict[str, Any]] = [
    {"name": "MultipleNegativesRankingLoss", "scale": 20.0},
    {
        "name": "MultipleNegativesRankingLoss",
        "scale": 20.0,
        "directions": ("query_to_doc", "doc_to_query"),
        "partition_mode": "per_direction",
    },
    {"name": "TripletLoss", "distance_metric": "EUCLIDEAN", "triplet_margin": 1.0},
    {"name": "CoSENTLoss", "scale": 20.0},
    {"name": "AnglELoss", "scale": 20.0},
    {"name": "CosineSimilarityLoss"},
    {"name": "ContrastiveLoss", "distance_metric": "COSINE_DISTANCE", "margin": 0.5},
    {"name": "OnlineContrastiveLoss", "distance_metric": "MANHATTAN", "margin": 8.0},
    {"name": "MarginMSELoss"},
]


def test_every_loss_that_does_not_run_the_model_itself_is_compared() -> None:
    assert {loss["name"] for loss in PACKED} == {name for name, kind in LOSSES.items() if not kind.own_pass}


@pytest.mark.parametrize(
    ("architecture", "loss", "packs"),
    [
        *(("bert", loss, True) for loss in PACKED),
        ("bert", PACKED[0], False),
        ("bert", PACKED[2], False),
        ("mpnet", PACKED[0], True),
        ("mpnet", PACKED[0], False),
    ],
    ids=lambda value: value["name"] if isinstance(value, dict) else str(value),
)
def test_loss_and_gradients_are_those_of_the_plain_loss(
    tmp_path: Path, architecture: Architecture, loss: dict[str, Any], *, packs: bool
) -> None:
    import torch

    model = load(tmp_path, architecture, dropout=0.0)
    plain, grouped = make_grouped(model, loss=loss)
    grouped.packs = packs
    kind = LOSSES[loss["name"]]
    expected, expected_gradients = compute(model, plain, kind.label, kind.least_texts)
    value, gradients = compute(model, grouped, kind.label, kind.least_texts)

    assert float(expected) > 0
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)
    assert gradients.keys() == expected_gradients.keys()
    assert any(bool(gradient.any()) for gradient in gradients.values())
    for name, gradient in gradients.items():
        if not name.endswith(WITHOUT_GRADIENT):
            wanted = expected_gradients[name]
            torch.testing.assert_close(
                gradient,
                wanted,
                rtol=1e-4,
                atol=1e-5 * float(wanted.abs().max()),
                msg=f"{name}: %s".__mod__,
            )


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_gradients_in_bf16_point_the_same_way(tmp_path: Path, architecture: Architecture) -> None:
    import torch

    model = load(tmp_path, architecture, dropout=0.0)
    gradients = {}
    for precision in ("fp32", "bf16"):
        loss = make_grouped(model, precision)[1]
        own = compute(model, loss)[1]
        assert {gradient.dtype for gradient in own.values()} == {torch.float32}
        gradients[precision] = torch.cat([gradient.flatten() for gradient in own.values()])
    cosine = torch.nn.functional.cosine_similarity(gradients["fp32"], gradients["bf16"], dim=0)
    assert float(cosine) > 0.99


def test_the_trainer_ends_at_the_weights_of_the_plain_loss(tmp_path: Path) -> None:
    import torch

    def train(make_loss: Callable[[SentenceTransformer], torch.nn.Module]) -> dict[str, torch.Tensor]:
        from datasets import Dataset
        from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments

        model = load(tmp_path / "model", "mpnet", dropout=0.0)
        arguments = SentenceTransformerTrainingArguments(
            str(tmp_path / "out"),
            max_steps=2,
            per_device_train_batch_size=4,
            learning_rate=1e-3,
            use_cpu=True,
            seed=3,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
            dataloader_pin_memory=False,
        )
        pairs = Dataset.from_dict({"positive": ANSWERS, "anchor": QUESTIONS})
        SentenceTransformerTrainer(model=model, args=arguments, train_dataset=pairs, loss=make_loss(model)).train()
        return {name: weight.detach() for name, weight in model.named_parameters()}

    plain = train(lambda model: make_grouped(model)[0])
    grouped = train(lambda model: make_grouped(model)[1])
    for name, weight in grouped.items():
        # Adam turns a gradient that is nothing but rounding into steps of full size.
        if not name.endswith(WITHOUT_GRADIENT):
            torch.testing.assert_close(weight, plain[name], rtol=1e-3, atol=2e-5, msg=f"{name}: %s".__mod__)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_dropout_is_reproducible_from_the_seed_and_absent_in_evaluation(
    tmp_path: Path, architecture: Architecture, precision: Any
) -> None:
    import torch

    model = load(tmp_path, architecture, dropout=0.1)
    loss = make_grouped(model, precision)[1]

    def compute_seeded(seed: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        torch.manual_seed(seed)
        return compute(model, loss)

    value, gradients = compute_seeded(1)
    again, same = compute_seeded(1)
    assert torch.equal(value, again)
    assert all(torch.equal(gradient, same[name]) for name, gradient in gradients.items())
    assert all(bool(gradient.isfinite().all()) for gradient in gradients.values())
    assert not torch.equal(value, compute_seeded(2)[0])

    model.eval()
    assert torch.equal(compute_seeded(1)[0], compute_seeded(2)[0])


@pytest.mark.parametrize("keep", [0.9, 0.5, 0.99])
def test_masks_keep_the_stated_share_independently(keep: float) -> None:
    import torch

    from harness.models.packed_attention import draw_mask

    torch.manual_seed(5)
    mask, exact = draw_mask((1001, 999), keep, torch.device("cpu"))
    assert mask.shape == (1001, 999)
    assert exact == pytest.approx(keep, abs=2**-17)
    deviation = (exact * (1 - exact) / mask.numel()) ** 0.5
    flat = mask.flatten().double()
    assert abs(float(flat.mean()) - exact) < 4.5 * deviation
    # Four draws share a word: no lag up to eight may show a correlation.
    centred = (flat - exact) / (exact * (1 - exact)) ** 0.5
    for lag in range(1, 9):
        correlation = float((centred[:-lag] * centred[lag:]).mean())
        assert abs(correlation) < 4.5 * mask.numel() ** -0.5, f"lag {lag}"


def test_masks_of_certain_outcomes_are_constant() -> None:
    import torch

    from harness.models.packed_attention import draw_mask

    assert bool(draw_mask((7, 3), 1.0, torch.device("cpu"))[0].all())
    assert not bool(draw_mask((7, 3), 0.0, torch.device("cpu"))[0].any())


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.9, 1.0])
def test_a_mask_of_integers_is_that_of_bools(keep: float) -> None:
    import torch

    from harness.models.packed_attention import draw_dropped, draw_mask

    cpu = torch.device("cpu")
    torch.manual_seed(3)
    mask, exact = draw_mask((101, 7), keep, cpu)
    torch.manual_seed(3)
    dropped, same = draw_dropped((101, 7), keep, cpu)
    assert same == exact
    assert torch.equal(dropped, torch.where(mask, 0, -1).to(torch.int16))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_dropout_on_the_residual_is_the_product_with_its_mask(dtype: str) -> None:
    import torch

    from harness.models.packed_attention import draw_mask
    from harness.models.packed_encoder import _DropoutAdd

    torch.manual_seed(4)
    residual, upstream = torch.randn(2, 300, 7).unbind(0)
    update = torch.randn(300, 7).to(getattr(torch, dtype)).requires_grad_()
    torch.manual_seed(5)
    total = cast("Any", _DropoutAdd).apply(residual, update, 0.1)
    torch.autograd.backward(total, upstream)
    torch.manual_seed(5)
    mask, keep = draw_mask((300, 7), 0.9, torch.device("cpu"))
    assert torch.equal(total, torch.add(residual, update.detach() * mask, alpha=1 / keep))
    assert update.grad is not None
    assert torch.equal(update.grad, (upstream * (1 / keep)).to(update.dtype) * mask)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_attention_and_its_gradients_are_those_of_autograd(dropout: float) -> None:
    import torch

    from harness.models.packed_attention import BlockAttention, draw_mask, plan_blocks

    cpu = torch.device("cpu")
    lengths, heads, size, filling = [3, 3, 5, 17, 64], 2, 4, 6
    blocks = plan_blocks(lengths, cpu)
    torch.manual_seed(0)
    qkv = torch.randn(sum(lengths) + filling, 3 * heads * size, requires_grad=True)
    bias = torch.randn(heads, 64, 64, requires_grad=True)
    upstream = torch.randn(sum(lengths) + filling, heads * size)

    def attend_by_definition() -> torch.Tensor:
        rows = []
        texts = iter(lengths)
        start = 0
        for block in blocks:
            shape = (block.texts, heads, block.length, block.length)
            mask, keep = draw_mask(shape, 1 - dropout, cpu) if dropout else (torch.ones(shape), 1.0)
            for own_mask, length in zip(mask, itertools.islice(texts, block.texts), strict=True):
                query, key, value = qkv[start : start + length].view(length, 3, heads, size).permute(1, 2, 0, 3)
                scores = query @ key.transpose(1, 2) * size**-0.5 + bias[:, :length, :length]
                mixed = (scores.softmax(-1) * own_mask[:, :length, :length] / keep) @ value
                rows.append(mixed.transpose(0, 1).reshape(length, -1))
                start += length
        return torch.cat([*rows, torch.zeros(filling, heads * size)])

    def attend_in_blocks() -> torch.Tensor:
        mixed: torch.Tensor = cast("Any", BlockAttention).apply(qkv, bias, blocks, heads, dropout)
        return mixed

    results = []
    for attend in (attend_in_blocks, attend_by_definition):
        torch.manual_seed(1)
        qkv.grad = bias.grad = None
        mixed = attend()
        torch.autograd.backward(mixed, upstream)
        results.append((mixed.detach(), qkv.grad, bias.grad))
    for own, wanted in zip(*results, strict=True):
        torch.testing.assert_close(own, wanted, rtol=1e-4, atol=1e-5)


def test_dropout_on_the_residual_keeps_expectation_and_masks_the_gradient() -> None:
    import torch

    from harness.models.packed_encoder import _DropoutAdd

    torch.manual_seed(0)
    residual = torch.full((400, 500), 2.0)
    update = torch.ones(400, 500, dtype=torch.bfloat16, requires_grad=True)
    total: torch.Tensor = cast("Any", _DropoutAdd).apply(residual, update, 0.1)
    torch.autograd.backward(total.sum())
    assert total.dtype == torch.float32
    assert float(total.detach().mean()) == pytest.approx(3.0, abs=0.005)
    assert update.grad is not None
    assert torch.equal(update.grad != 0, total.detach() != 2.0)


def test_cuts_are_the_cheapest_there_are() -> None:
    from harness.models.packed_attention import cut_by_length

    seed = random.randrange(2**32)
    print(f"seed {seed}")
    generator = random.Random(seed)
    for _ in range(30):
        lengths = sorted(generator.randint(1, 40) for _ in range(generator.randint(1, 8)))
        overhead, power = generator.choice([0, 10, 300]), generator.choice([1, 2])

        def cost(cuts: list[tuple[int, int]]) -> int:
            return sum((last - first) * lengths[last - 1] ** power + overhead for first, last in cuts)  # noqa: B023

        inner = range(1, len(lengths))
        every = [
            list(itertools.pairwise([0, *stops, len(lengths)]))
            for count in range(len(lengths))
            for stops in itertools.combinations(inner, count)
        ]
        cuts = cut_by_length(lengths, overhead=overhead, power=power)
        assert [first for first, _ in cuts] == [0, *(last for _, last in cuts[:-1])]
        assert cuts[-1][1] == len(lengths)
        assert cost(cuts) == min(cost(other) for other in every), f"{lengths} {overhead} {power}"
