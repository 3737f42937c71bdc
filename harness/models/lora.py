"""LoRA by peft: low-rank adapters are trained beside frozen weights, saved by themselves, and merged into the model."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.core.files import hash_file
from harness.errors import TrainingError
from harness.experiment.recipe import Lora
from harness.records.record import AdapterLog

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

ADAPTER_FOLDER = "adapter"
ADAPTER_WEIGHTS, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"


def find_peft() -> str:
    """Return the version of peft.

    Raises:
        TrainingError: it is not installed.
    """
    if importlib.util.find_spec("peft") is None:
        raise TrainingError("a recipe with lora needs peft, the extra 'lora': pip install 'retrieval-harness[lora]'")
    return importlib.metadata.version("peft")


def add_adapter(model: SentenceTransformer, lora: Lora) -> None:
    """Put a new adapter into the model's transformer, whose own weights are frozen; random numbers decide its weights.

    Raises:
        TrainingError: peft is not installed, or the model has no such modules.
    """
    find_peft()
    from peft import LoraConfig  # noqa: PLC0415 - heavy, and an extra

    try:
        model.add_adapter(
            LoraConfig(**{**lora.model_dump(exclude_none=True), "target_modules": [*lora.target_modules]})
        )
    except ValueError as cause:
        raise TrainingError(f"lora: {str(cause).splitlines()[0]}") from cause


def save_adapter(model: SentenceTransformer, target: Path) -> AdapterLog:
    """Save the adapter alone as peft does, without the names of this machine's folders."""
    network: Any = model.transformers_model
    network.save_pretrained(str(target))
    path = target / ADAPTER_CONFIG
    said = json.loads(path.read_text(encoding="utf-8"))
    # The base is named by the record; the order of a set of names is no fact.
    said |= {"base_model_name_or_path": None, "target_modules": sorted(said["target_modules"])}
    path.write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
    return AdapterLog(
        peft=find_peft(),
        trained=sum(weight.numel() for weight in model.parameters() if weight.requires_grad),
        weights_sha256=hash_file(target / ADAPTER_WEIGHTS),
    )


def merge_adapter(model: SentenceTransformer) -> None:
    """Add the adapter to the weights that it stands beside, so that the model is an ordinary one again."""
    from peft.tuners.tuners_utils import BaseTunerLayer  # noqa: PLC0415 - heavy, and an extra

    network: Any = model.transformers_model
    for parent in list(network.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, BaseTunerLayer):
                layer.merge(safe_merge=True)
                setattr(parent, name, layer.get_base_layer())
    # How transformers knows that it saves an adapter alone.
    network._hf_peft_config_loaded = False  # noqa: SLF001 - merging has no public way back
