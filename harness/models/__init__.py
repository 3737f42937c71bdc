"""All that knows torch: load, embed, search, train.

A new loss is named in `harness.experiment.recipe` and made in ``trainer`` (the library's own) or ``loss`` (where
batches are cut anew). A new kind of model goes into ``model_folder`` (what may be loaded at all), ``loading``, and
``embedding_paths`` (the three ways to embed: packed, padded, the library's). ``encoding`` holds the settings,
``encoder`` applies them. No other room imports torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.core.door import open_door

if TYPE_CHECKING:
    from harness.models.bm25 import rank_bm25 as rank_bm25
    from harness.models.device import pick_device as pick_device
    from harness.models.encoder import open_encoder as open_encoder
    from harness.models.loading import load_model as load_model
    from harness.models.search import retrieve as retrieve
    from harness.models.training import train_model as train_model

__getattr__, __dir__ = open_door(
    __name__,
    {
        "harness.models.loading": "load_model",
        "harness.models.encoder": "open_encoder",
        "harness.models.search": "retrieve",
        "harness.models.training": "train_model",
        "harness.models.device": "pick_device",
        "harness.models.bm25": "rank_bm25",
    },
)
