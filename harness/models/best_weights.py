"""The weights of the step that scored best on a dev part so far: kept whole beside checkpoints, also through a kill."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.core.files import hash_file, write_atomically
from harness.core.schema import Digest, Frozen, Natural, Number, decode_json, read_text
from harness.errors import StoreError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

NOTE_LIMIT_BYTES = 2**12


class Scored(Frozen):
    """A step whose weights are kept, what it scored, and the hash of the file that holds them."""

    step: Natural
    value: Number
    sha256: Digest


class BestWeights:
    """The steps that each scored higher than all before them, with their weights; nothing of them is pruned by count.

    Training that goes on from a checkpoint draws a later best anew. So those after that checkpoint are forgotten then,
    and the best one up to it must still be there: it is kept as long as a checkpoint is that could be gone on from.
    """

    def __init__(self, folder: Path) -> None:
        """Take the folder that weights are kept in; it need not be there."""
        self.folder = folder

    def consider(self, model: SentenceTransformer, *, step: int, value: float) -> None:
        """Keep the weights of a step if it scored higher than all before; of equal scores the earliest stays.

        Raises:
            StoreError: the disk refuses.
        """
        best = self.find_best()
        if best is not None and value <= best.value:
            return
        from safetensors.torch import save  # noqa: PLC0415 - heavy

        weights: Mapping[str, Any] = {name: weight.contiguous().clone() for name, weight in model.state_dict().items()}
        path = self._weights(step)
        try:
            write_atomically(path, save(dict(weights)))
            note = Scored(step=step, value=value, sha256=hash_file(path))
            write_atomically(path.with_suffix(".json"), note.model_dump_json().encode())
        except OSError as cause:
            raise StoreError(f"{path}: cannot be written: {cause.strerror or cause}") from cause

    def find_best(self) -> Scored | None:
        """Return the best step so far, if there is any.

        Raises:
            StoreError: a note is broken.
        """
        return max(self._list(), key=lambda one: one.step, default=None)

    def forget_after(self, step: int) -> None:
        """Forget what was kept after a step, from which training goes on."""
        for one in self._list():
            if one.step > step:
                self._remove(one)

    def prune(self, step: int) -> None:
        """Forget what no checkpoint from a step on would go back to."""
        for one in [one for one in self._list() if one.step <= step][:-1]:
            self._remove(one)

    def restore(self, model: SentenceTransformer, best: Scored) -> None:
        """Give a model the weights of a step.

        Raises:
            StoreError: they are not as they were written.
        """
        from safetensors.torch import load_file  # noqa: PLC0415 - heavy

        path = self._weights(best.step)
        if not path.is_file() or hash_file(path) != best.sha256:
            raise StoreError(f"{path}: the best weights are not as they were written: remove {self.folder.parent}")
        model.load_state_dict(load_file(path, device=str(model.device)))

    def _list(self) -> list[Scored]:
        """Return what is kept, by step, and so by score."""
        texts = {
            path: read_text(path, limit_bytes=NOTE_LIMIT_BYTES, error=StoreError) for path in self.folder.glob("*.json")
        }
        found = [decode_json(Scored, text, place=str(path), error=StoreError) for path, text in texts.items()]
        return sorted(found, key=lambda one: one.step)

    def _weights(self, step: int) -> Path:
        return self.folder / f"step-{step}.safetensors"

    def _remove(self, one: Scored) -> None:
        # The note first: weights without one are nothing.
        self._weights(one.step).with_suffix(".json").unlink(missing_ok=True)
        self._weights(one.step).unlink(missing_ok=True)
