"""Linear layers with a low-rank update, with as little beside the layer's own product as can be.

Two ways, equal up to rounding. Many tokens go through a weight that has taken up the update for
this one product: that costs ``rank`` more per weight, whatever the number of tokens. Otherwise the
update is added to the layer's output by one fused multiply-add, where adding, scaling and
converting one after the other would pass over the output four times.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

_TOKENS_PER_RANK = 16
"""From so many tokens on, times the rank, taking up the update costs less than adding it."""
_EXACT = (torch.float32, torch.float64)
"""In half precision a weight would round a small update away."""


def linear_with_update(layer: nn.Linear, x: Tensor, a: Tensor, b: Tensor, scaling: float) -> Tensor:
    """Return ``x (W + scaling B A)ᵀ + bias``, computed in the precision of the layer.

    Parameters
    ----------
    layer : torch.nn.Linear
        The layer, whose weight is shared and stays as it is.
    x : Tensor of shape (..., n_in)
        The layer's input.
    a : Tensor of shape (rank, n_in)
        The first factor. Kept in float32, it is converted for the product alone.
    b : Tensor of shape (n_out, rank)
        The second factor.
    scaling : float
        What the update is multiplied by.

    Returns
    -------
    Tensor of shape (..., n_out)
        The output.
    """
    dtype = layer.weight.dtype
    a, b = a.to(dtype), b.to(dtype)
    rows = x.reshape(-1, x.shape[-1])
    is_many = len(rows) >= _TOKENS_PER_RANK * len(a)
    if is_many and dtype in _EXACT and not torch.is_grad_enabled():
        output = linear(rows, torch.addmm(layer.weight, b, a, alpha=scaling), layer.bias)
    else:
        # Adding to a view instead would copy the whole gradient in the backward pass.
        output = layer(rows).addmm_(rows @ a.t(), b.t(), alpha=scaling)
    return output.view(*x.shape[:-1], -1)


def fuse_update(layer: Any) -> None:
    """Let a LoRA layer of PEFT add its update in one step, if it does no more than that.

    Parameters
    ----------
    layer : peft.tuners.lora.layer.Linear
        A layer with one adapter around a plain linear layer, without a variant of LoRA.
    """
    (name,) = layer.active_adapters
    drops = not isinstance(layer.lora_dropout[name], nn.Identity)
    if not drops and layer.lora_B[name].bias is None and name not in layer.lora_magnitude_vector:
        layer.forward = partial(_forward_fused, layer)


def _forward_fused(layer: Any, x: Tensor) -> Tensor:
    (name,) = layer.active_adapters
    a, b = layer.lora_A[name].weight, layer.lora_B[name].weight
    return linear_with_update(layer.base_layer, x, a, b, layer.scaling[name])
