"""A first manifest for data and a model of one's own: every choice spelled out, each with a short comment."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.experiment.data import NAME, PART_NAMES, FolderSource, HubSource, PartName
from harness.experiment.model import Similarity

SHARES = {"train": 0.8, "test": 0.2}
SALT = "1"
RECIPE, HARD = "plain", "hard"
# Losses for pairs of a query and a passage: arguments, and what to know of them.
LOSSES = {
    "MultipleNegativesRankingLoss": ("scale = 20.0", "The batch's other passages are the negatives."),
    "CachedMultipleNegativesRankingLoss": (
        "scale = 20.0, mini_batch_size = 32",
        "The batch's other passages are the negatives; embedded 32 at a time, so that a large batch fits the memory.",
    ),
}
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class OwnData:
    """A user's data as the manifest will have them.

    Attributes:
        source: where they are.
        format: ``table`` or ``beir``.
        splits: part -> the source's own name of it; None where parts are drawn by hash, or the layout says them.
        columns: ``query``, ``passage`` and perhaps ``id`` -> the table's name of it.
        config: of a hub data set that has several.
    """

    source: HubSource | FolderSource
    format: str
    splits: Mapping[PartName, str] | None
    columns: Mapping[str, str]
    config: str | None = None

    def list_parts(self, layout: Sequence[PartName]) -> tuple[PartName, ...]:
        """Return the parts that there will be; ``layout`` are those that BEIR's files show."""
        if self.format == "beir":
            return tuple(layout)
        drawn: tuple[PartName, ...] = ("train", "test")
        return drawn if self.splits is None else tuple(part for part in PART_NAMES if part in self.splits)


@dataclass(frozen=True)
class OwnModel:
    """The model, and what its own settings say."""

    name: str
    source: HubSource | FolderSource
    similarity: Similarity
    prompts: Mapping[str, str]


def make_name(text: str) -> str:
    """Make a name that the manifest takes, and that can be a file's: what has no place in one becomes a dash."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:64] or "experiment"
    return plain if NAME.fullmatch(plain) else f"x{plain}"[:64]


@dataclass(frozen=True)
class OwnRecipe:
    """How to train: by a loss of `LOSSES`, and by a second recipe with so many mined negatives a row, if any."""

    loss: str = "MultipleNegativesRankingLoss"
    negatives: int | None = None


def format_manifest(
    name: str, data: OwnData, model: OwnModel, parts: Sequence[PartName], own: OwnRecipe = OwnRecipe()
) -> str:
    """Write the manifest.

    Args:
        name: the experiment's, and the data set's.
        data: what is evaluated on, and trained on where there is a part for it.
        model: what is evaluated, and trained.
        parts: those that the data have.
        own: how the model is trained, where there is a part for it.
    """
    trained, tested = "train" in parts, "test" if "test" in parts else parts[-1]
    recipe = [*_list_recipe(name, model, own), ""] if trained else []
    mined = trained and own.negatives is not None
    recipes = f'"{RECIPE}", "{HARD}"' if mined else f'"{RECIPE}"'
    compared = [
        "",
        "# Which is better, by the primary measure; above = 0.0 would end a run with 1 unless a is shown to be.",
        "[[comparisons]]",
        f"a = {_quote(f'{model.name}/{HARD}')}",
        f"b = {_quote(f'{model.name}/{RECIPE}')}",
    ]
    lines = [
        f"# Written by harness init: every choice is here to be changed; what the files are is in {name}.lock.",
        "",
        "schema_version = 2",
        f"name = {_quote(name)}",
        f"title = {_quote(f'{model.name} on {name}')}",
        'summary = "Written by harness init: say here what the data are and what is to be found out."',
        "# With an attribution (whose texts, under which licence) reports quote queries and passages.",
        f"seeds = {list(SEEDS)}  # each trains once; fewer show no spread",
        "",
        *_list_data(name, data),
        "",
        "[[models]]",
        f"name = {_quote(model.name)}",
        f"source = {_format_source(model.source)}",
        f"similarity = {_quote(model.similarity)}  # the model's own",
        _comment_prompts(model.prompts),
        *([f"recipes = [{recipes}]"] if trained else []),
        "",
        "# The baseline that needs no model.",
        "[[models]]",
        'name = "bm25"',
        'kind = "bm25"',
        "",
        *recipe,
        "[evaluation]",
        f'on = ["{name}/{tested}"]  # each query of this part against all passages of the data set',
        'measures = ["ndcg@10", "mrr@10", "accuracy@1", "recall@10", "recall@100", "map@100"]',
        'primary = "ndcg@10"  # the one that decides',
        "top_k = 100  # passages kept of each ranked list",
        "batch_tokens = 2048  # texts embedded at once, counted in tokens: speed and memory only",
        "",
        "[verdicts]",
        "margin = 0.01  # two values within it count as equal, where a published one is given under [[claims]]",
        *(compared if mined else []),
    ]
    return "\n".join(lines) + "\n"


def _list_data(name: str, data: OwnData) -> list[str]:
    lines = [f"[data.{name}]", f"source = {_format_source(data.source)}", f"format = {_quote(data.format)}"]
    if data.config is not None:
        lines.append(f"config = {_quote(data.config)}")
    if data.format == "beir":
        return lines
    if data.splits is None:
        shares = ", ".join(f"{part} = {share}" for part, share in SHARES.items())
        lines.append("# By hash of salt and passage, so that no passage is in two parts; another salt, another split.")
        lines.append(f"parts = {{ {shares}, salt = {_quote(SALT)} }}")
    else:
        lines.append(f"splits = {_format_table({str(part): name for part, name in data.splits.items()})}")
    if "id" not in data.columns:
        lines.append("# Without an id column equal texts are one query or one passage.")
    lines.append(f"columns = {_format_table(data.columns)}")
    return lines


def _list_recipe(name: str, model: OwnModel, own: OwnRecipe) -> list[str]:
    arguments, comment = LOSSES[own.loss]
    return [
        f"[recipes.{RECIPE}]",
        f"data = {_quote(name)}  # its part train",
        'inputs = ["query", "passage"]  # in the order that the loss gets them',
        f"# {comment}",
        f"loss = {{ name = {_quote(own.loss)}, {arguments} }}",
        'precision = { cuda = "bf16", cpu = "bf16" }  # on a CPU without bf16 instructions fp32',
        'embedding = { cuda = "padded", cpu = "packed" }  # the same loss; packed spends nothing on padding',
        "",
        f"[recipes.{RECIPE}.arguments]  # of SentenceTransformerTrainingArguments, by their own names",
        "num_train_epochs = 1",
        "per_device_train_batch_size = 32",
        "learning_rate = 2e-5",
        "warmup_ratio = 0.1",
        'batch_sampler = "no_duplicates"  # no text twice in a batch, where it would be its own negative',
        "save_steps = 100  # a checkpoint to go on from after a kill",
        "save_total_limit = 2",
        *([] if own.negatives is None else _list_hard(model, own.negatives)),
    ]


def _list_hard(model: OwnModel, negatives: int) -> list[str]:
    inputs = ["query", "passage", "negative", *(f"negative_{number}" for number in range(2, negatives + 1))]
    mined = f"model = {_quote(model.name)}, num_negatives = {negatives}, range_min = 10, range_max = {50 + negatives}"
    return [
        "",
        f"[recipes.{HARD}]  # what differs from the base",
        f'base = "{RECIPE}"',
        f"inputs = {json.dumps(inputs)}",
        "# Mined by the untrained model: its ten nearest passages, which may be right answers too, are passed over.",
        f"negatives = {{ {mined} }}",
    ]


def _comment_prompts(prompts: Mapping[str, str]) -> str:
    said = ", ".join(f"{role} {_quote(text)}" for role, text in prompts.items() if text)
    others = 'to set others: prompts = { query = "...", passage = "..." }'
    return f"# Prompts are the model's own, {said or 'which are none'}; {others}"


def _format_source(source: HubSource | FolderSource) -> str:
    return _format_table(source.model_dump(mode="json", exclude_none=True))


def _format_table(table: Mapping[str, str]) -> str:
    return "{ " + ", ".join(f"{key} = {_quote(value)}" for key, value in table.items()) + " }"


def _quote(text: str) -> str:
    # Strings are written alike in JSON and TOML, but for what TOML wants escaped and JSON does not.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
