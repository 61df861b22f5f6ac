"""Linear layers with a low-rank update that costs little more than the layer's own product.

Two ways to compute it are equal up to rounding. The first adds the update to the layer's output,
with one fused multiply-add: to add, scale and convert separately would pass over the output four
times. The second adds the update to a copy of the weight. Its extra cost, ``rank`` multiply-adds
for each element of the weight, does not depend on the number of tokens, so it is faster for many.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from instructclf.engine.running.arithmetic import product, product_dtype

_TOKENS_PER_RANK = 16
"""From so many tokens times the rank on, adding the update to the weight is the faster way."""
_EXACT = (torch.float32, torch.float64)
"""In half precision, adding a small update to a large weight would round the update away."""


def linear_with_update(layer: nn.Linear, x: Tensor, a: Tensor, b: Tensor, scaling: float) -> Tensor:
    """Return ``x (W + scaling B A)ᵀ + bias``, computed as the layer computes its product.

    ``W``, which other views share, does not change. Inputs have shape (..., n_in), ``A`` (rank,
    n_in), ``B`` (n_out, rank) and outputs (..., n_out). Factors may be more precise than the layer.
    """
    dtype = product_dtype(x, layer.weight)
    a, b = a.to(dtype), b.to(dtype)
    rows = x.reshape(-1, x.shape[-1]).to(dtype)
    is_many = len(rows) >= _TOKENS_PER_RANK * len(a)
    # Training would keep the sum for the backward pass, and compute a gradient of its size.
    if is_many and layer.weight.dtype in _EXACT and not torch.is_grad_enabled():
        output = product(rows, torch.addmm(layer.weight, b, a, alpha=scaling), layer.bias)
    else:
        # In-place addition to a reshaped view would copy the whole gradient in the backward pass.
        # So the layer runs on flat rows, and its output gets its shape after the addition.
        output = layer(rows).addmm_(rows @ a.t(), b.t(), alpha=scaling)
    return output.to(x.dtype).view(*x.shape[:-1], -1)


def fuse_update(layer: Any) -> None:
    """Let a LoRA layer of PEFT add its update in one step, if it has no dropout, bias or DoRA.

    It has one adapter, around an ordinary linear layer.
    """
    (name,) = layer.active_adapters
    drops = not isinstance(layer.lora_dropout[name], nn.Identity)
    if not drops and layer.lora_B[name].bias is None and name not in layer.lora_magnitude_vector:
        layer.forward = partial(_forward_fused, layer)


def _forward_fused(layer: Any, x: Tensor) -> Tensor:
    (name,) = layer.active_adapters
    a, b = layer.lora_A[name].weight, layer.lora_B[name].weight
    return linear_with_update(layer.base_layer, x, a, b, layer.scaling[name])
