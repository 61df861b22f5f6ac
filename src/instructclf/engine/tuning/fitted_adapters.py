"""Weights of trained adapters: put on a model, written, read, merged and averaged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load
from torch import Tensor

from instructclf.engine.models.quantization import dequantised
from instructclf.engine.models.views import shared_view
from instructclf.engine.tuning.adapters import WEIGHTS_FILE, Adapter, AdapterSettings


@dataclass(frozen=True, eq=False)
class FittedAdapter:
    """The weights of a trained adapter, without the model that they belong to.

    Parameters
    ----------
    settings : AdapterSettings
        The kind of adapter and its shape.
    weights : dict of str to Tensor
        What `Adapter.state` returned.
    """

    settings: AdapterSettings
    weights: dict[str, Tensor]

    def apply(self, view: Any) -> Any:
        """Put the adapter on a view of the base model, and return the model to score with."""
        return self._attach(view).model

    def write(self, view: Any, folder: Path, base_name: str) -> None:
        """Write weights and configuration into a folder, for ``PeftModel.from_pretrained``.

        The folder has to exist. The adapter is put on the view.
        """
        self._attach(view).write(folder, base_name)

    def merge_into(self, model: Any) -> Any:
        """Return a view of a model with the adapter's updates added to copies of its weights.

        It has no adapter, and the precision of the model. Weights in 4 bits are unpacked.

        Raises
        ------
        ModelLoadingError
            If it answers otherwise than the model with the adapter.
        """
        return self._attach(dequantised(shared_view(model), type(model).__name__)).merge()

    def _attach(self, view: Any) -> Adapter:
        adapter = Adapter(view, self.settings)
        adapter.load(self.weights)
        return adapter


def read_fitted_adapter(folder: Path, settings: AdapterSettings) -> FittedAdapter | None:
    """Read the adapter that `FittedAdapter.write` wrote. Return ``None`` if a folder has none."""
    path = folder / WEIGHTS_FILE
    if not path.is_file():
        return None
    # A file that is mapped into memory, as load_file does, cannot be replaced on Windows.
    return FittedAdapter(settings, load(path.read_bytes()))


def average_adapters(adapters: Sequence[FittedAdapter]) -> FittedAdapter:
    """Return the adapter whose updates are the exact mean of those of several LoRA adapters.

    The mean of the products ``B_i A_i`` is a single product: the ``B_i`` side by side, divided by
    their number, times the ``A_i`` stacked. The mean of the ``B_i`` times the mean of the ``A_i``
    would be another matrix.
    Rank and alpha of the result are the sums of those given, whose other settings are equal.

    Raises
    ------
    ValueError
        If adapters are not LoRA, or have weights other than those of two-factor updates.
    """
    settings = adapters[0].settings.of_average(len(adapters))
    averaged = {}
    for name in adapters[0].weights:
        parts = [adapter.weights[name] for adapter in adapters]
        if "lora_A" in name or "lora_embedding_A" in name:
            averaged[name] = torch.cat(parts, dim=0)
        elif "lora_B" in name or "lora_embedding_B" in name:
            averaged[name] = torch.cat(parts, dim=1) / len(parts)
        else:
            msg = (
                f"The adapter weight {name!r} is not a factor of a LoRA update, so it has no exact "
                "mean. Use training_options=TrainingOptions(seed_average='log_proba')."
            )
            raise ValueError(msg)
    return FittedAdapter(settings, averaged)
