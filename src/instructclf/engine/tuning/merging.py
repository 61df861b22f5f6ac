"""Several adapters → one; an adapter and its base model → one model."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from instructclf.engine.tuning.adapters import Adapter, LoraSettings, PeftSettings


def merge_adapter(
    model: Any, settings: LoraSettings | PeftSettings, state: dict[str, Tensor]
) -> Any:
    """Return a copy of a model with an adapter's updates added to its weights.

    Parameters
    ----------
    model : torch.nn.Module
        The base model, which stays as it is.
    settings : LoraSettings or PeftSettings
        What the adapter looks like.
    state : dict of str to Tensor
        Its weights.

    Returns
    -------
    torch.nn.Module
        A plain model, in the precision of the base.
    """
    adapter = Adapter(copy.deepcopy(model), settings)
    adapter.load(state)
    return adapter.merge()


def average_adapters(states: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the adapter whose updates are the mean of others' updates, exactly.

    The mean of ``B_i A_i`` is one product of the ``B_i`` side by side, divided by their number, and
    the ``A_i`` one above the other. A mean of the ``A_i`` times a mean of the ``B_i`` would not be.

    Parameters
    ----------
    states : sequence of dict of str to Tensor
        The weights of adapters of one rank, scale and target.

    Returns
    -------
    dict of str to Tensor
        Weights of an adapter whose rank and alpha are the sums of theirs.

    Raises
    ------
    ValueError
        If weights are not those of plain LoRA.
    """
    found = {}
    for name in states[0]:
        parts = [state[name] for state in states]
        if "lora_A" in name or "lora_embedding_A" in name:
            found[name] = torch.cat(parts, dim=0)
        elif "lora_B" in name or "lora_embedding_B" in name:
            found[name] = torch.cat(parts, dim=1) / len(parts)
        else:
            msg = (
                f"The adapter's weight {name!r} belongs to no plain LoRA update, and has no exact "
                "mean. Set seed_average='log_proba'."
            )
            raise ValueError(msg)
    return found
