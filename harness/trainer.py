"""The trainer is SentenceTransformerTrainer with our recipe, a NaN check and callbacks: the heavy half of training."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.base.model import BaseModel
from sentence_transformers.sentence_transformer.evaluation import SentenceEvaluator
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from sentence_transformers.sentence_transformer.training_args import BatchSamplers
from torch.utils.tensorboard import SummaryWriter
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations.integration_utils import TensorBoardCallback

from harness.errors import TrainingError
from harness.experiment import Training
from harness.grouping import GroupedMultipleNegativesRankingLoss, Precision

SHOWN_TEXTS = 3
SHOWN_CHARACTERS = 60


def make_arguments(
    recipe: Training, *, seed: int, device: str, precision: str, output: Path
) -> SentenceTransformerTrainingArguments:
    """Spell the recipe in the trainer's arguments; what is not set here is the trainer's default."""
    cuda = device.startswith("cuda")
    return SentenceTransformerTrainingArguments(
        output_dir=str(output),
        num_train_epochs=recipe.epochs,
        per_device_train_batch_size=recipe.batch_size,
        learning_rate=recipe.learning_rate,
        # A float below 1 is the ratio; this version of the trainer has no separate warmup_ratio.
        warmup_steps=recipe.warmup_ratio,
        fp16=precision == "fp16",
        bf16=precision == "bf16",
        use_cpu=not cuda,
        batch_sampler=BatchSamplers(recipe.batch_sampler),
        seed=seed,
        data_seed=seed,
        save_strategy="steps",
        save_steps=recipe.checkpoint_steps,
        save_total_limit=recipe.checkpoints_kept,
        eval_strategy="steps" if recipe.evaluation_steps else "no",
        eval_steps=recipe.evaluation_steps or None,
        logging_steps=1,
        # The filter would put the running mean in place of a NaN and hide it.
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=cuda,
    )


def make_callbacks(
    log_folder: Path, *, progress: Callable[[int, int, float, float], None] | None, saved: Callable[[], None]
) -> list[TrainerCallback]:
    """Return the callbacks: TensorBoard events into a folder, progress, and a notice of every checkpoint."""
    writer = SummaryWriter(log_dir=str(log_folder))  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return [TensorBoardCallback(writer), _Watch(progress, saved)]


class RecipeTrainer(SentenceTransformerTrainer):
    """The trainer with the recipe's loss, which stops where the loss is not finite."""

    def __init__(
        self,
        *,
        model: SentenceTransformer,
        recipe: Training,
        precision: Precision,
        evaluate_model: Callable[[SentenceTransformer], Mapping[str, float]] | None,
        **settings: Any,
    ) -> None:
        """Bind model, loss and evaluator; ``settings`` go to SentenceTransformerTrainer."""
        if recipe.embedding == "padded":
            loss: torch.nn.Module = MultipleNegativesRankingLoss(model, scale=recipe.scale)
        else:
            loss = GroupedMultipleNegativesRankingLoss(model, scale=recipe.scale, precision=precision)
        evaluator = _Evaluator(evaluate_model) if evaluate_model and recipe.evaluation_steps else None
        super().__init__(model=model, loss=loss, evaluator=evaluator, **settings)

    def compute_loss(  # type: ignore[override]  # the two base classes disagree on the model's type
        self, model: BaseModel, inputs: dict[str, Any], *rest: Any, **more: Any
    ) -> Any:
        """Compute the loss of a batch.

        Raises:
            TrainingError: it is not finite; names the step and the first texts of the batch.
        """
        batch = {name: value for name, value in inputs.items() if name.endswith("input_ids")}
        loss = super().compute_loss(model, inputs, *rest, **more)
        value = loss[0] if isinstance(loss, tuple) else loss
        if not torch.isfinite(value):
            texts = [
                repr(self.model.tokenizer.decode(row, skip_special_tokens=True)[:SHOWN_CHARACTERS])
                for ids in batch.values()
                for row in ids[:SHOWN_TEXTS]
            ]
            step, shown = self.state.global_step + 1, ", ".join(texts)
            raise TrainingError(f"step {step}: the loss is {value.item()}; the batch begins with {shown}")
        return loss


class _Evaluator(SentenceEvaluator):
    """Hands the model so far to our own evaluation."""

    def __init__(self, evaluate: Callable[[SentenceTransformer], Mapping[str, float]]) -> None:
        super().__init__()
        self.evaluate = evaluate

    def __call__(
        self, model: BaseModel, output_path: str | None = None, epoch: int = -1, steps: int = -1
    ) -> dict[str, float]:
        del output_path, epoch, steps
        if not isinstance(model, SentenceTransformer):
            raise TrainingError(f"expected a SentenceTransformer to evaluate, found {type(model).__name__}")
        return dict(self.evaluate(model))


class _Watch(TrainerCallback):
    """Tells of steps and checkpoints."""

    def __init__(self, progress: Callable[[int, int, float, float], None] | None, saved: Callable[[], None]) -> None:
        self.progress = progress
        self.saved = saved
        self.first_step = 0
        self.started = 0.0

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Remember where this attempt starts."""
        del args, control
        self.first_step, self.started = state.global_step, time.perf_counter()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Report the step just logged."""
        del args, control
        if self.progress is not None and logs and "loss" in logs:
            done = max(1, state.global_step - self.first_step)
            left = (time.perf_counter() - self.started) / done * (state.max_steps - state.global_step)
            self.progress(state.global_step, state.max_steps, logs["loss"], left)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Tell that a checkpoint is on the disk."""
        del args, state, control
        self.saved()
