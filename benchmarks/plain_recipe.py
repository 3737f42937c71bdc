"""The plain recipe: what a competent user would write instead of using the harness. Speed is measured against it.

    python benchmarks/plain_recipe.py MODEL_FOLDER DATA_FOLDER --seed 0 [--pairs 128] [--passages 400]

It loads, evaluates with InformationRetrievalEvaluator, once more with prompts before queries and passages, trains with
SentenceTransformerTrainer and evaluates again:
padded batches, the library's defaults, fp32 on a CPU and fp16 on a GPU. ``--pairs`` and ``--passages`` cut it down for
a measurement.
Prints one JSON object: seconds per part, values, peak memory in bytes.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from sentence_transformers.sentence_transformer.training_args import BatchSamplers
from transformers import TrainerCallback

# E5's, which most models with prompts resemble: https://huggingface.co/intfloat/e5-base-v2
QUERY_PROMPT, PASSAGE_PROMPT = "query: ", "passage: "


class StepSeconds(TrainerCallback):
    """Note when each step ends."""

    def __init__(self) -> None:
        """Start with no steps."""
        self.marks: list[float] = []

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Start the clock."""
        self.marks.append(time.perf_counter())

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Read the clock."""
        self.marks.append(time.perf_counter())


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path, help="folder with train.jsonl and test.jsonl: id, anchor, positive")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pairs", type=int, help="train only on the first so many pairs")
    parser.add_argument("--passages", type=int, help="evaluate only on the first so many passages")
    options = parser.parse_args(arguments)

    train, test = read_rows(options.data / "train.jsonl"), read_rows(options.data / "test.jsonl")
    model = SentenceTransformer(str(options.model))
    evaluator = make_evaluator(train, test, options.passages)
    started = time.perf_counter()
    before = evaluator(model)
    evaluate_seconds = time.perf_counter() - started
    prompted = make_evaluator(train, test, options.passages, prompts=(QUERY_PROMPT, PASSAGE_PROMPT))
    started = time.perf_counter()
    with_prompts = prompted(model)
    prompted_seconds = time.perf_counter() - started
    step_seconds = train_plainly(model, train[: options.pairs], seed=options.seed)
    after = evaluator(model)
    print(
        json.dumps(
            {
                "evaluate_seconds": evaluate_seconds,
                "evaluate_prompted_seconds": prompted_seconds,
                "step_seconds": step_seconds,
                "values_before": {name.removeprefix("cosine_"): value for name, value in before.items()},
                "values_prompted": {name.removeprefix("cosine_"): value for name, value in with_prompts.items()},
                "values_after": {name.removeprefix("cosine_"): value for name, value in after.items()},
                "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            }
        )
    )


def read_rows(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def make_evaluator(
    train: Sequence[dict[str, str]],
    test: Sequence[dict[str, str]],
    passages: int | None,
    *,
    prompts: tuple[str | None, str | None] = (None, None),
) -> InformationRetrievalEvaluator:
    corpus: dict[str, Any] = {row["id"]: row["positive"] for row in (*test, *train)[:passages]}
    queries: dict[str, Any] = {row["id"]: row["anchor"] for row in test if row["id"] in corpus}
    relevant = {name: {name} for name in queries}
    before_query, before_passage = prompts
    return InformationRetrievalEvaluator(
        queries, corpus, relevant, write_csv=False, query_prompt=before_query, corpus_prompt=before_passage
    )


def train_plainly(
    model: SentenceTransformer,
    rows: Sequence[dict[str, str]],
    *,
    seed: int,
    precision: str | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> list[float]:
    clock, gpu = StepSeconds(), model.device.type == "cuda"
    precision = precision or ("fp16" if gpu else "fp32")
    with tempfile.TemporaryDirectory() as folder:
        trainer = SentenceTransformerTrainer(
            model=model,
            args=SentenceTransformerTrainingArguments(
                output_dir=folder,
                num_train_epochs=1,
                per_device_train_batch_size=32,
                learning_rate=2e-5,
                warmup_steps=0.1,
                fp16=precision == "fp16",
                bf16=precision == "bf16",
                use_cpu=not gpu,
                batch_sampler=BatchSamplers.NO_DUPLICATES,
                seed=seed,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
            ),
            train_dataset=Dataset.from_list([{"positive": row["positive"], "anchor": row["anchor"]} for row in rows]),
            loss=MultipleNegativesRankingLoss(model),
            callbacks=[clock, *callbacks],
        )
        trainer.train()
    return [after - before for before, after in zip(clock.marks, clock.marks[1:], strict=False)]


if __name__ == "__main__":
    main()
