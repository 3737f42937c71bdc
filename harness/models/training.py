"""Training runs the manifest's recipe on SentenceTransformerTrainer, seeded, resumable, and stops at a NaN."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.core.files import hash_file, write_atomically
from harness.core.schema import digest_json
from harness.errors import TrainingError
from harness.experiment.recipe import Recipe, Select
from harness.models.best_weights import BestWeights
from harness.models.checkpoints import SealedCheckpoint, find_checkpoint, prune_checkpoints, seal_checkpoint
from harness.models.device import (
    Precision,
    full_precision,
    memory_errors,
    native_bf16,
    seed_everything,
    synchronize,
)
from harness.models.encoder import apply_length
from harness.models.encoding import OWN_ENCODING, Encoding
from harness.models.failures import advise_on_memory, model_errors
from harness.models.loading import load_model
from harness.models.lora import ADAPTER_FOLDER, add_adapter, merge_adapter, save_adapter
from harness.records.record import AdapterLog, LossPoint, SelectionLog, TrainingLog

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

# Step, number of steps, loss and seconds left.
StepProgress = Callable[[int, int, float, float], None]
EvaluateModel = Callable[["SentenceTransformer"], Mapping[str, float]]

MODEL_FOLDER = "model"
LOG_FOLDER = "tensorboard"
LOG_FILE = "training.json"
WEIGHTS_FILE = "model.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """A trained model: its folder, what training logged, and the seconds it took over all attempts."""

    folder: Path
    log: TrainingLog
    seconds: float


def choose_precision(recipe: Recipe, device: str, wanted: str | None = None) -> Precision:
    """Say in which precision training runs on a device: as the manifest states, or as the user insists.

    On a CPU bf16 needs native bf16 instructions; without them it would be slower than fp32 and is not used.

    Raises:
        TrainingError: an unknown precision, or fp16 on a CPU.
    """
    cuda = device.startswith("cuda")
    precision = wanted or (recipe.precision.cuda if cuda else recipe.precision.cpu)
    if precision not in {"fp16", "bf16", "fp32"}:
        raise TrainingError(f"precision is {precision!r}, expected fp16, bf16 or fp32")
    if precision == "fp16" and not cuda:
        raise TrainingError(f"precision fp16 needs a GPU; the device is {device!r}")
    if precision == "bf16" and not native_bf16(device):
        return "fp32"
    return precision  # type: ignore[return-value]  # one of the three, as checked above


def train_model(
    base: Path,
    columns: Mapping[str, Sequence[str] | Sequence[float]],
    recipe: Recipe,
    *,
    seed: int,
    device: str,
    precision: Precision,
    target: Path,
    scratch: Path,
    encoding: Encoding = OWN_ENCODING,
    progress: StepProgress | None = None,
    evaluate: EvaluateModel | None = None,
    trackers: Sequence[str] = (),
    guide: Path | None = None,
) -> Checkpoint:
    """Fine-tune a model and save it below ``target``.

    Args:
        base: folder of the model to start from.
        columns: name -> texts, scores or labels, all of one length, in the order in which the loss gets them; the order
            of rows matters, since the sampler draws from it by the seed.
        recipe: the manifest's recipe.
        seed: decides dropout and batches.
        device: ``cpu`` or ``cuda:0``.
        precision: of the training arithmetic; weights stay fp32.
        target: an empty folder for the model, its log and its TensorBoard events.
        scratch: folder for checkpoints; training goes on from one that a killed process left there.
        encoding: prompts by role and the length read, as in evaluation; the other settings play no part.
        progress: told after every step.
        trackers: those of the trainer that are told beside TensorBoard, as ``wandb``.
        guide: folder of the model that guides the loss, where it wants one.
        evaluate: asked every ``eval_steps`` for the values of the model so far; where the recipe selects, they choose
            the step that is kept, and the last step is asked for too.

    Raises:
        SourceError: a model cannot be loaded.
        TrainingError: nothing can be learned of the rows, the loss is not finite, the model fails at a text, or memory
            does not suffice (names step and batch).
        StoreError: the disk takes no checkpoint or model.
    """
    from datasets import Dataset  # noqa: PLC0415 - heavy
    from transformers import PrinterCallback  # noqa: PLC0415 - heavy

    from harness.models.trainer import (  # noqa: PLC0415 - heavy
        RecipeTrainer,
        deterministic_algorithms,
        list_inputs,
        make_arguments,
        make_callbacks,
        storage_errors,
    )
    from harness.models.unpadded import Unpadding  # noqa: PLC0415 - imports torch

    seed_everything(seed)
    model = load_model(base, device=device)
    apply_length(model, encoding, place=str(base))
    if recipe.lora is not None:
        add_adapter(model, recipe.lora)
    table = Dataset.from_dict({name: list(texts) for name, texts in columns.items()})
    checkpoints = scratch / "checkpoints"
    newest = find_checkpoint(checkpoints)
    clock = _Clock(newest)
    resumes = _count_resumes(scratch / "resumes", resumed=newest is not None)

    best = BestWeights(scratch / "best")
    best.forget_after(0 if newest is None else newest.step)

    def keep(written: Path, batches: tuple[str, ...]) -> None:
        target = checkpoints / written.name
        seal_checkpoint(written, target, seconds=clock.read(), batches=batches)
        oldest = prune_checkpoints(checkpoints, recipe.arguments.save_total_limit)
        best.prune(oldest)

    unpadding = Unpadding(model, recipe, device=device, precision=precision)

    def evaluate_so_far(sofar: SentenceTransformer) -> Mapping[str, float]:
        values = {} if evaluate is None else unpadding.evaluate(evaluate, sofar)
        if recipe.select is not None:
            best.consider(sofar, step=trainer.state.global_step, value=values[recipe.select.measure])
        return values

    # A loss may not take such a model, or such a guide.
    with model_errors(model, "be trained by this loss", place=str(base), error=TrainingError):
        trainer = RecipeTrainer(
            model=model,
            args=make_arguments(
                recipe,
                seed=seed,
                device=device,
                precision=precision,
                output=scratch / "trainer",
                trackers=trackers,
                inputs=list_inputs(model, recipe.texts, encoding),
            ),
            train_dataset=table,
            recipe=recipe,
            precision=precision,
            evaluate_model=None if evaluate is None else evaluate_so_far,
            keep=keep,
            guide=None if guide is None else load_model(guide, device=device),
            batches=() if newest is None else newest.seal.batches,
            callbacks=make_callbacks(scratch / LOG_FOLDER, progress=progress),
        )
    trainer.remove_callback(PrinterCallback)
    rows = trainer.count_rows()
    if recipe.loss.kind.in_batch and not recipe.negatives_per_row and rows.batches_of_one == rows.batches:
        raise TrainingError(
            f"each of {rows.batches} batches has one row, so that no passage is a negative: nothing can be learned; "
            "are all texts of a column the same?"
        )
    clock.start()
    training = f"training in batches of {recipe.arguments.per_device_train_batch_size} rows"
    with (
        deterministic_algorithms(device) as nondeterministic,
        full_precision(),
        unpadding.on(),
        memory_errors(training, advice=advise_on_memory(recipe), error=TrainingError),
        model_errors(model, "be trained", place=str(base), error=TrainingError),
    ):
        trainer.train(resume_from_checkpoint=None if newest is None else str(newest.folder))
        selected = None
        if recipe.select is not None:
            if trainer.state.global_step % (recipe.arguments.eval_steps or 1):
                evaluate_so_far(model)
            selected = _restore_best(model, best, recipe.select)
    synchronize(device)
    seconds = clock.read()
    with storage_errors(target):
        adapter = _save_model(model, recipe, target)
        _copy_events(scratch / LOG_FOLDER, target / LOG_FOLDER)
    log = TrainingLog(
        precision=precision,
        steps=trainer.state.global_step,
        rows=rows,
        loss=tuple(_list_loss(trainer.state.log_history)),
        resumes=resumes,
        batches=trainer.batches,
        nondeterministic=tuple(nondeterministic),
        weights_sha256=_hash_weights(target / MODEL_FOLDER),
        adapter=adapter,
        selected=selected,
        attention=unpadding.attention,
    )
    write_atomically(target / LOG_FILE, log.model_dump_json(indent=1).encode())
    return Checkpoint(target / MODEL_FOLDER, log, seconds)


def _save_model(model: SentenceTransformer, recipe: Recipe, target: Path) -> AdapterLog | None:
    """Save the model and, where it has one, its adapter by itself; it is merged into the model."""
    adapter = None if recipe.lora is None else save_adapter(model, target / ADAPTER_FOLDER)
    if adapter is not None:
        merge_adapter(model)
    model.save_pretrained(str(target / MODEL_FOLDER), create_model_card=False, safe_serialization=True)
    return adapter


def _restore_best(model: SentenceTransformer, best: BestWeights, select: Select) -> SelectionLog:
    """Give the model the weights of the best step, which the last one was compared with."""
    found = best.find_best()
    if found is None:
        raise TrainingError("select: no step was evaluated")
    best.restore(model, found)
    return SelectionLog(on=select.on, measure=select.measure, step=found.step, value=found.value)


class _Clock:
    """Counts training seconds over all attempts; what an attempt did after its last checkpoint is not kept."""

    def __init__(self, newest: SealedCheckpoint | None) -> None:
        self.before = 0.0 if newest is None else newest.seal.seconds
        self.started = 0.0

    def start(self) -> None:
        self.started = time.perf_counter()

    def read(self) -> float:
        return self.before + time.perf_counter() - self.started


def _count_resumes(path: Path, *, resumed: bool) -> int:
    """Count this start if it goes on from a checkpoint; kept apart from checkpoints, since one can serve twice."""
    before = int(path.read_text(encoding="utf-8")) if path.is_file() else 0
    if resumed:
        write_atomically(path, f"{before + 1}".encode())
    return before + resumed


def _hash_weights(folder: Path) -> str:
    """Return the hash of the weights' one file, or that of the list of their hashes where they lie in several."""
    files = {path.relative_to(folder).as_posix(): hash_file(path) for path in sorted(folder.rglob("*.safetensors"))}
    return files.get(WEIGHTS_FILE) or digest_json(files)


def _copy_events(source: Path, target: Path) -> None:
    """Copy TensorBoard's files under names that do not say the machine's."""
    target.mkdir()
    for number, path in enumerate(sorted(source.glob("events.out.tfevents.*"))):
        shutil.copyfile(path, target / f"events.out.tfevents.{number}")


def _list_loss(history: Sequence[Mapping[str, Any]]) -> list[LossPoint]:
    return [
        LossPoint(step=entry["step"], loss=entry["loss"], learning_rate=entry["learning_rate"])
        for entry in history
        if "loss" in entry
    ]
