"""The trainer is SentenceTransformerTrainer with our recipe, a NaN check and callbacks: the heavy half of training."""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.base.model import BaseModel
from sentence_transformers.sentence_transformer.evaluation import SentenceEvaluator
from sentence_transformers.sentence_transformer.training_args import BatchSamplers
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.tensorboard import SummaryWriter
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations.integration_utils import TensorBoardCallback, get_available_reporting_integrations

from harness.errors import StoreError, TrainingError
from harness.experiment.recipe import Recipe
from harness.models.device import Precision, memory_errors
from harness.models.encoder import minds_task
from harness.models.encoding import TASKS, Encoding, Role, resolve_prompt
from harness.models.failures import advise_on_memory
from harness.models.loss import make_loss
from harness.records.record import RowsUsed

# Is given the folder that the trainer wrote and the digests of all batches so far.
KeepCheckpoint = Callable[[Path, tuple[str, ...]], None]

# As torch says it; where it says it otherwise (of attention, of cuBLAS), its first sentence is taken.
NO_ALGORITHM = " does not have a deterministic implementation"
# transformers asks it at every call.
FLASH_SWITCH = "FLASH_ATTENTION_DETERMINISTIC"
SHOWN_TEXTS = 3
SHOWN_CHARACTERS = 60


def check_trackers(trackers: Sequence[str]) -> list[str]:
    """Return the trackers beside TensorBoard, whose own callback is there always.

    Raises:
        TrainingError: one is not one of the trainer's, or not installed.
    """
    untyped: Any = get_available_reporting_integrations
    available = untyped()
    for name in trackers:
        if name not in available:
            raise TrainingError(f"tracker {name!r}: not known or not installed; here are: {', '.join(available)}")
    return [name for name in trackers if name != "tensorboard"]


@dataclass(frozen=True)
class Inputs:
    """What the trainer must know of each column: the prompt before its texts, and the task where the model minds it."""

    prompts: Mapping[str, str]
    tasks: Mapping[str, str]


PLAIN_INPUTS = Inputs({}, {})


def list_inputs(model: SentenceTransformer, columns: Sequence[str], encoding: Encoding) -> Inputs:
    """Return prompts and tasks by column of texts, those of evaluation; negatives are passages."""
    own = {name: prompt or "" for name, prompt in model.prompts.items()}
    roles: dict[str, Role] = {name: "query" if name == "query" else "passage" for name in columns}
    prompts = {name: resolve_prompt(role, encoding, own, model.default_prompt_name) for name, role in roles.items()}
    return Inputs(
        {name: prompt for name, prompt in prompts.items() if prompt},
        {name: TASKS[role] for name, role in roles.items()} if minds_task(model) else {},
    )


def make_arguments(
    recipe: Recipe,
    *,
    seed: int,
    device: str,
    precision: str,
    output: Path,
    trackers: Sequence[str] = (),
    inputs: Inputs = PLAIN_INPUTS,
) -> SentenceTransformerTrainingArguments:
    """Spell the recipe in the trainer's arguments; what is not set here is the trainer's default.

    Raises:
        TrainingError: a tracker is not one of the trainer's, or not installed.
    """
    cuda = device.startswith("cuda")
    chosen = recipe.arguments
    further = check_trackers(trackers)
    passed = chosen.model_dump(exclude={"warmup_ratio", "warmup_steps", "batch_sampler"}, exclude_none=True)
    arguments = SentenceTransformerTrainingArguments(
        **passed,
        output_dir=str(output),
        # A float below 1 is the ratio; this version of the trainer has no separate warmup_ratio.
        warmup_steps=chosen.warmup_steps or chosen.warmup_ratio or 0,
        fp16=precision == "fp16",
        bf16=precision == "bf16",
        use_cpu=not cuda,
        batch_sampler=BatchSamplers(chosen.batch_sampler),
        seed=seed,
        data_seed=seed,
        save_strategy="steps",
        eval_strategy="steps" if chosen.eval_steps else "no",
        logging_steps=1,
        # The filter would put the running mean in place of a NaN and hide it.
        logging_nan_inf_filter=False,
        report_to=further or "none",
        disable_tqdm=True,
        dataloader_pin_memory=cuda,
        prompts=dict(inputs.prompts) or None,
        router_mapping=dict(inputs.tasks) or None,
    )
    if cuda:
        _keep_to_one_gpu(arguments, device)
    return arguments


def _keep_to_one_gpu(arguments: SentenceTransformerTrainingArguments, device: str) -> None:
    """Have the trainer take the device asked for: by itself it takes all GPUs that it sees, and a batch for each.

    The number is set as transformers' own trainer sets it where a model is spread over GPUs; the device is a property
    that is found once and kept.
    """
    arguments._n_gpu = 1  # noqa: SLF001 - see above
    if torch.device(device).index is not None:
        vars(arguments)["_setup_devices"] = torch.device(device)
        torch.cuda.set_device(device)


def make_callbacks(
    log_folder: Path, *, progress: Callable[[int, int, float, float], None] | None
) -> list[TrainerCallback]:
    """Return the callbacks: TensorBoard events into a folder, and progress."""
    untyped: Any = TensorBoardCallback
    return [untyped(SummaryWriter(log_dir=str(log_folder))), _Watch(progress)]


class RecipeTrainer(SentenceTransformerTrainer):
    """The trainer with the recipe's loss, which stops where the loss is not finite."""

    def __init__(
        self,
        *,
        model: SentenceTransformer,
        recipe: Recipe,
        precision: Precision,
        evaluate_model: Callable[[SentenceTransformer], Mapping[str, float]] | None,
        keep: KeepCheckpoint,
        batches: tuple[str, ...],
        guide: SentenceTransformer | None = None,
        **settings: Any,
    ) -> None:
        """Bind model, loss and evaluator; ``settings`` go to SentenceTransformerTrainer.

        ``keep`` is handed each checkpoint's folder to put in its place, ``batches`` are the digests of the batches
        before the checkpoint that training goes on from.
        """
        self.batches = batches
        self._advice = advise_on_memory(recipe)
        self._keep = keep
        self._writing: Path | None = None
        loss = make_loss(model, recipe, precision=precision, guide=guide)
        evaluator = _Evaluator(evaluate_model) if evaluate_model and recipe.arguments.eval_steps else None
        super().__init__(model=model, loss=loss, evaluator=evaluator, **settings)

    def count_rows(self) -> RowsUsed:
        """Count the rows that the sampler puts into batches: those of repeated texts wait for another one.

        Raises:
            TrainingError: there is no batch.
        """
        table: Any = self.train_dataset
        collator: Any = self.data_collator
        size, drop_last, seed = self.args.train_batch_size, self.args.dataloader_drop_last, self.args.seed
        generator = torch.Generator().manual_seed(seed)
        sampler: Any = self.get_batch_sampler(
            table, size, drop_last, collator.valid_label_columns, generator=generator, seed=seed
        )
        # As many batches as the rows would fill are an epoch for the trainer, however small the sampler makes them.
        sizes = [len(batch) for batch in itertools.islice(sampler, len(sampler))]
        if not sizes:
            raise TrainingError(f"{len(table)} rows make no batch of {size}: there is nothing to train on")
        return RowsUsed(given=len(table), used=sum(sizes), batches=len(sizes), batches_of_one=sizes.count(1))

    def training_step(self, model: Any, inputs: dict[str, Any], *rest: Any, **more: Any) -> torch.Tensor:
        """Compute loss and gradients of a batch.

        Raises:
            TrainingError: memory does not suffice; names the step and the batch.
        """
        size = " and ".join(_list_sizes(inputs)) or f"{self.args.per_device_train_batch_size} rows"
        with memory_errors(f"step {self.state.global_step + 1}, {size}", advice=self._advice, error=TrainingError):
            gradients: torch.Tensor = super().training_step(model, inputs, *rest, **more)
        return gradients

    def compute_loss(  # type: ignore[override]  # the two base classes disagree on the model's type
        self, model: BaseModel, inputs: dict[str, Any], *rest: Any, **more: Any
    ) -> Any:
        """Compute the loss of a batch.

        Raises:
            TrainingError: it is not finite; names the step and the first texts of the batch.
        """
        batch = {name: value for name, value in sorted(inputs.items()) if name.endswith("input_ids")}
        self.batches += (_digest_batch(batch),)
        loss = super().compute_loss(model, inputs, *rest, **more)
        value = loss[0] if isinstance(loss, tuple) else loss
        if not torch.isfinite(value):
            texts = [
                repr(self.model.tokenizer.decode(row.tolist(), skip_special_tokens=True)[:SHOWN_CHARACTERS])
                for ids in batch.values()
                # Static embeddings have the tokens of all texts in one row.
                for row in (ids[:SHOWN_TEXTS] if ids.ndim > 1 else ids[None])
            ]
            step, shown = self.state.global_step + 1, ", ".join(texts)
            raise TrainingError(f"step {step}: the loss is {value.item()}; the batch begins with {shown}")
        return loss

    def evaluate(self, *rest: Any, **more: Any) -> dict[str, float]:
        """Evaluate without a trace: the loader of an evaluation draws a seed, and dropout would go on from there."""
        device = self.args.device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            return super().evaluate(*rest, **more)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Have the checkpoint written beside the others, and put among them once it is whole.

        Raises:
            StoreError: the disk does not take it.
        """
        writing = Path(str(self.args.output_dir)) / "writing"
        with storage_errors(writing):
            shutil.rmtree(writing, ignore_errors=True)
            self._writing = writing
            try:
                super()._save_checkpoint(model, trial)
            finally:
                self._writing = None
            self._keep(writing / f"checkpoint-{self.state.global_step}", self.batches)

    def _get_output_dir(self, trial: Any) -> str:
        return str(super()._get_output_dir(trial) if self._writing is None else self._writing)


@contextmanager
def storage_errors(place: Path) -> Iterator[None]:
    """Turn what the writers of tensors say of a disk into an error that names the place.

    Raises:
        StoreError: the disk refuses.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as cause:
        # torch's zip writer raises a bare RuntimeError where the disk is full.
        raise StoreError(f"{place}: cannot be written: {cause}") from cause


@contextmanager
def deterministic_algorithms(device: str) -> Iterator[list[str]]:
    """Have torch take algorithms that give the same bits every time.

    Where it only warns of operators that have none, its fused attention on GPUs sums gradients in any order, so that
    attention is computed by plain products there (torch's attention_backward.cu).

    Yields:
        A list that the operators without such an algorithm on this device are added to, when they are first used.
    """
    operators: list[str] = []
    show = warnings.showwarning

    def note(message: Warning | str, *rest: Any, **more: Any) -> None:
        operator = str(message).partition(NO_ALGORITHM)[0].partition(". ")[0]
        if "determinis" in str(message) and operator not in operators:
            operators.append(operator)
        show(message, *rest, **more)

    enabled = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    settings: Any = torch.utils.deterministic
    filled = settings.fill_uninitialized_memory
    flash = os.environ.get(FLASH_SWITCH)
    os.environ[FLASH_SWITCH] = "1"
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Filling finds reads of memory that nobody wrote, at the price of writing all of it twice.
    settings.fill_uninitialized_memory = False
    warnings.showwarning = note
    plain = sdpa_kernel(SDPBackend.MATH) if device.startswith("cuda") else nullcontext()
    try:
        with plain:
            yield operators
    finally:
        warnings.showwarning = show
        del os.environ[FLASH_SWITCH]
        if flash is not None:
            os.environ[FLASH_SWITCH] = flash
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
        settings.fill_uninitialized_memory = filled


def _list_sizes(inputs: Mapping[str, Any]) -> Iterator[str]:
    """Say of each column how many texts it has and how long they are; static embeddings have all tokens in one row."""
    for name, ids in inputs.items():
        column = name.removesuffix("input_ids")
        if column == name or ids.ndim == 1:
            continue
        ends = inputs.get(f"{column}cu_seq_lens_q")
        # Unpadded, the texts of a column are one row.
        count, longest = ids.shape if ends is None else (len(ends) - 1, int(ends.diff().max()))
        yield f"{count} texts of up to {longest} tokens"


def _digest_batch(batch: Mapping[str, torch.Tensor]) -> str:
    """Return a short hash of the token ids of a batch, column by column."""
    digest = hashlib.sha256()
    for name, ids in batch.items():
        digest.update(f"{name} {tuple(ids.shape)}".encode())
        digest.update(ids.cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


class _Evaluator(SentenceEvaluator):
    """Hands the model so far to our own evaluation."""

    def __init__(self, evaluate: Callable[[SentenceTransformer], Mapping[str, float]]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # the library leaves it untyped
        self.evaluate = evaluate

    def __call__(
        self, model: BaseModel, output_path: str | None = None, epoch: int = -1, steps: int = -1
    ) -> dict[str, float]:
        del output_path, epoch, steps
        if not isinstance(model, SentenceTransformer):
            raise TrainingError(f"expected a SentenceTransformer to evaluate, found {type(model).__name__}")
        return dict(self.evaluate(model))


class _Watch(TrainerCallback):
    """Tells of steps."""

    def __init__(self, progress: Callable[[int, int, float, float], None] | None) -> None:
        self.progress = progress
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
