"""Read a finished model: what ``export.py`` and ``average.py`` write."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from model import Shape, from_llama
from safetensors.torch import load_file

if TYPE_CHECKING:
    from pathlib import Path

    import torch


def read_shape(folder: Path) -> Shape:
    """Return the shape of a finished model."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return Shape(
        vocabulary=config["vocab_size"],
        width=config["hidden_size"],
        hidden=config["intermediate_size"],
        layers=config["num_hidden_layers"],
        context=config["max_position_embeddings"],
    )


def read_state(folder: Path) -> dict[str, torch.Tensor]:
    """Return the weights of a finished model, in float32."""
    found = {k: v.float() for k, v in load_file(folder / "model.safetensors").items()}
    return from_llama(found, read_shape(folder))
