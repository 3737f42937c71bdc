"""Runs a recipe in another environment, by files only: it is never imported, and knows nothing of the harness.

    python stack_runner.py JOB_FOLDER

Written for the interfaces that Sentence Transformers has had since 3.0 (torch 2.1, May 2024), so that one script runs
in the published stack and in today's. The job folder holds ``job.json``; what is made lies beside it, see `main`.
"""

from __future__ import annotations

import hashlib
import json
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import fields
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.losses import MultipleNegativesRankingLoss  # type: ignore[import-not-found]  # moved
from sentence_transformers.training_args import BatchSamplers  # type: ignore[import-not-found]  # likewise
from transformers import PrinterCallback

PACKAGES = ("torch", "sentence-transformers", "transformers", "tokenizers", "datasets", "accelerate", "numpy")
# So many texts are followed layer by layer.
TRACED_TEXTS = 32


def main(folder: Path) -> None:
    """Do one job: embed with the model as it is, then train and embed once per seed.

    ``job.json`` holds ``model`` (a folder), ``texts`` (queries, then passages), ``columns`` (name -> texts, in the
    order in which the loss gets them), ``arguments`` (of the trainer), ``batch_sampler``, ``scale`` (of the loss),
    ``batch_size`` (of embedding) and ``trainings``, each with ``seed``, ``place`` (a folder's name) and ``rows`` (of
    each batch; null: as the sampler draws them).

    Written are ``environment.json``; ``untrained/`` with ``embeddings.npy`` (float32, a row a text), ``tokens.json``
    (a hash a text), ``layers.npy`` (layers by traced texts by dimensions, means over tokens) and ``probe.json`` (loss
    and norm of the gradient of the first batch of rows in file order, without dropout); per training its place with
    ``embeddings.npy`` and ``training.json`` (``loss``, ``batches``, ``rows``, ``seconds``, ``weights_sha256``). What
    is there is not done again.
    """
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    write(folder / "environment.json", describe_environment())
    untrained = folder / "untrained"
    if not (untrained / "probe.json").is_file():
        untrained.mkdir(exist_ok=True)
        model = load(job)
        write(untrained / "tokens.json", [digest_tokens(model, text) for text in job["texts"]])
        np.save(untrained / "layers.npy", trace_layers(model, job["texts"][:TRACED_TEXTS]))
        save_embeddings(model, job, untrained)
        write(untrained / "probe.json", probe(model, job))
    for training in job["trainings"]:
        place = folder / training["place"]
        if (place / "training.json").is_file():
            continue
        place.mkdir(exist_ok=True)
        torch.manual_seed(training["seed"])
        model = load(job)
        log = train(model, job, training)
        save_embeddings(model, job, place)
        write(place / "training.json", log)


def load(job: dict[str, Any]) -> SentenceTransformer:
    """Load the model in fp32 on the CPU, as both stacks do by default."""
    return SentenceTransformer(job["model"], device="cpu")


def describe_environment() -> dict[str, Any]:
    """Name Python, packages and threads."""
    return {
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "threads": torch.get_num_threads(),
    }


def tokenize(model: SentenceTransformer, texts: list[str]) -> dict[str, Any]:
    """Cut texts into tokens as the model does; later versions call it otherwise."""
    named = getattr(model, "preprocess", None) or model.tokenize
    return dict(named(texts))


def digest_tokens(model: SentenceTransformer, text: str) -> str:
    """Hash the token ids that a text becomes, as long as the model reads it."""
    ids = tokenize(model, [text])["input_ids"][0].tolist()
    return hashlib.sha256(json.dumps(ids).encode()).hexdigest()[:16]


def trace_layers(model: SentenceTransformer, texts: list[str]) -> np.ndarray:
    """Return the mean over tokens of each layer's output, the embedding layer first, for each text by itself."""
    first: Any = model[0]
    transformer = first.auto_model.eval()
    traced = []
    with torch.no_grad():
        for text in texts:
            found = tokenize(model, [text])
            inputs = {name: found[name] for name in ("input_ids", "attention_mask")}
            layers = transformer(**inputs, output_hidden_states=True).hidden_states
            traced.append(torch.stack([layer[0].mean(dim=0) for layer in layers]))
    return torch.stack(traced, dim=1).numpy()


def save_embeddings(model: SentenceTransformer, job: dict[str, Any], place: Path) -> None:
    """Encode all texts in fp32."""
    embeddings = model.encode(job["texts"], batch_size=job["batch_size"], convert_to_numpy=True)
    np.save(place / "embeddings.npy", embeddings.astype(np.float32))


def probe(model: SentenceTransformer, job: dict[str, Any]) -> dict[str, Any]:
    """Return the loss and the gradient's norm of the first rows in file order: no sampler and no dropout takes part."""
    rows = job["arguments"]["per_device_train_batch_size"]
    features = [tokenize(model, texts[:rows]) for texts in job["columns"].values()]
    loss = MultipleNegativesRankingLoss(model.eval(), scale=job["scale"])(features, None)
    loss.backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    norm = torch.stack([gradient.double().norm() for gradient in gradients]).norm()
    model.zero_grad()
    return {"loss": loss.item(), "gradient_norm": norm.item()}


def train(model: SentenceTransformer, job: dict[str, Any], training: dict[str, Any]) -> dict[str, Any]:
    """Train by the library's own trainer and loss; checkpoints are not kept."""
    with tempfile.TemporaryDirectory() as output:
        arguments = SentenceTransformerTrainingArguments(
            output_dir=output,
            seed=training["seed"],
            data_seed=training["seed"],
            use_cpu=True,
            batch_sampler=BatchSamplers(job["batch_sampler"]),
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            **spell(job["arguments"]),
        )
        trainer = Trainer(
            model=model,
            args=arguments,
            train_dataset=Dataset.from_dict(job["columns"]),
            loss=MultipleNegativesRankingLoss(model, scale=job["scale"]),
        )
        trainer.replay = training["rows"]
        trainer.remove_callback(PrinterCallback)
        started = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - started
        model.save(str(Path(output) / "model"), create_model_card=False)
        weights = (Path(output) / "model" / "model.safetensors").read_bytes()
    return {
        "loss": trainer.losses,
        "batches": trainer.batches,
        "rows": trainer.rows[: len(trainer.losses)],
        "seconds": seconds,
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
    }


def spell(arguments: dict[str, Any]) -> dict[str, Any]:
    """Write a ratio of warm-up as this version of the trainer takes it: later ones have no field of that name."""
    known = {field.name for field in fields(SentenceTransformerTrainingArguments)}
    if "warmup_ratio" in arguments and "warmup_ratio" not in known:
        arguments = {**arguments, "warmup_steps": arguments["warmup_ratio"]}
        del arguments["warmup_ratio"]
    return arguments


class Trainer(SentenceTransformerTrainer):
    """The library's trainer, which notes each batch and its loss, and can be given the batches of another training."""

    replay: Any = None

    def __init__(self, *rest: Any, **more: Any) -> None:
        """Start with no steps."""
        super().__init__(*rest, **more)
        self.losses: list[Any] = []
        self.batches: list[Any] = []
        self.rows: list[Any] = []

    def get_batch_sampler(self, *rest: Any, **more: Any) -> Any:
        """Have the library's sampler say what it gives; a class of its own class keeps all that is asked of it."""
        sampler = super().get_batch_sampler(*rest, **more)
        noting = type("Noting", (Noting, type(sampler)), {"rows": self.rows, "replay": self.replay})
        sampler.__class__ = noting
        return sampler

    def compute_loss(self, model: Any, inputs: dict[str, Any], *rest: Any, **more: Any) -> Any:
        """Hash the token ids of the batch, column by column, then go the library's way."""
        digest = hashlib.sha256()
        for name, ids in sorted(inputs.items()):
            if name.endswith("input_ids"):
                digest.update(f"{name} {tuple(ids.shape)}".encode())
                digest.update(ids.cpu().numpy().tobytes())
        self.batches.append(digest.hexdigest()[:16])
        found = super().compute_loss(model, inputs, *rest, **more)
        self.losses.append((found[0] if isinstance(found, tuple) else found).item())
        step = f"step {len(self.losses)} of {self.state.max_steps}"
        print(f"seed {self.args.seed}: {step}, loss {self.losses[-1]:.4f}", flush=True)
        return found


class Noting:
    """Goes before the class of a batch sampler: notes the rows of each batch, or gives those of another training."""

    rows: list[list[int]]
    replay: Any = None

    def __iter__(self) -> Iterator[list[int]]:
        """Give batch after batch."""
        drawn = super().__iter__() if self.replay is None else self.replay  # type: ignore[misc]
        for batch in drawn:
            self.rows.append([int(row) for row in batch])
            yield batch


def write(path: Path, value: object) -> None:
    """Write JSON in one step."""
    scratch = path.with_suffix(".part")
    scratch.write_text(json.dumps(value), encoding="utf-8")
    scratch.replace(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
