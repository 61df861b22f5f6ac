"""Linear layers with a low-rank update that costs little more than the layers' own products.

Two ways to compute it are equal up to rounding. The first adds the update to a layer's output, with
one fused multiply-add: to add, scale and convert separately would pass over the output four times.
The second adds the update to a copy of the weight. Its extra cost, ``rank`` multiply-adds for each
element of the weight, does not depend on the number of tokens, so it is faster for many.

In half precision, where the sum would round the update away, both products can become one: that of
a longer input with a longer weight. What computes more than a product, such as a product and an
activation at once, takes an updated layer so.

Layers that read the same input, as those of queries, keys and values do, multiply it by their first
factors in one product.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from instructclf.engine.running.arithmetic import is_plain_product, product, product_dtype

_TOKENS_PER_RANK = 16
"""From so many tokens times the rank on, adding the update to the weight is the faster way."""
_EXACT = (torch.float32, torch.float64)
"""In half precision, adding a small update to a large weight would round the update away."""


def outputs_with_updates(
    layers: Sequence[nn.Linear],
    x: Tensor,
    a: Tensor,
    b: Sequence[Tensor],
    scalings: Sequence[float],
) -> list[Tensor]:
    """Return ``x (W + scaling B A)ᵀ + bias`` of layers, computed as they compute their products.

    ``W``, which other views share, does not change. The input has shape (..., n_in), ``A`` of all
    layers one below the other (n_layers * rank, n_in), each ``B`` (n_out, rank) and each output
    (..., n_out). Factors may be more precise than the layers.
    """
    dtype = product_dtype(x, layers[0].weight)
    a, b = a.to(dtype), [factor.to(dtype) for factor in b]
    rows = x.reshape(-1, x.shape[-1]).to(dtype)
    if torch.is_grad_enabled() and all(map(is_plain_product, layers)):
        outputs: Any = _Products.apply(rows, layers, scalings, a, *b)
    else:
        outputs = _add_updates(layers, rows, a, b, scalings)
    return [output.to(x.dtype).view(*x.shape[:-1], -1) for output in outputs]


def as_one_product(
    layer: nn.Linear, rows: Tensor, a: Tensor, b: Tensor, scaling: float
) -> tuple[Tensor, Tensor]:
    """Return an input and a weight whose product is that of a layer with its update.

    They are in the data type of the rows, of shape (n_tokens, n_in). The layer's bias is left out.
    Gradients do not reach the factors.
    """
    weight, a, b = (each.to(rows.dtype) for each in (layer.weight, a, b))
    if rows.dtype in _EXACT:
        return rows, torch.addmm(weight, b, a, alpha=scaling)
    down = product(rows, a)
    return torch.cat([rows, down], dim=1), torch.cat([weight, b * scaling], dim=1)


def _add_updates(
    layers: Sequence[nn.Linear],
    rows: Tensor,
    a: Tensor,
    b: Sequence[Tensor],
    scalings: Sequence[float],
) -> list[Tensor]:
    is_many = len(rows) * len(layers) >= _TOKENS_PER_RANK * len(a)
    # Training would keep the sum for the backward pass, and compute a gradient of its size.
    if is_many and layers[0].weight.dtype in _EXACT and not torch.is_grad_enabled():
        first = a.chunk(len(layers))
        return [
            product(rows, torch.addmm(layer.weight, *factors, alpha=scaling), layer.bias)
            for layer, *factors, scaling in zip(layers, b, first, scalings, strict=True)
        ]
    down = (rows @ a.t()).chunk(len(layers), dim=1)
    # In-place addition to a reshaped view would copy the whole gradient in the backward pass. So
    # layers run on flat rows, and outputs get their shape after the addition.
    return [
        layer(rows).addmm_(part, factor.t(), alpha=scaling)
        for layer, part, factor, scaling in zip(layers, down, b, scalings, strict=True)
    ]


class _Products(torch.autograd.Function):
    """What `_add_updates` computes, with a backward pass that sums up products as it goes."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, ...]:
        rows, layers, scalings, a, *b = inputs
        down = rows @ a.t()
        ctx.layers, ctx.scalings = layers, scalings
        ctx.save_for_backward(rows, down, a, *b)
        parts = down.chunk(len(layers), dim=1)
        return tuple(
            layer(rows).addmm_(part, factor.t(), alpha=scaling)
            for layer, part, factor, scaling in zip(layers, parts, b, scalings, strict=True)
        )

    @staticmethod
    def backward(ctx: Any, *received: Tensor) -> tuple[Tensor | None, ...]:
        """With outputs Y = X Wᵀ + s X Aᵀ Bᵀ, Z = X Aᵀ: dB = s dYᵀ Z, dZ = s dY B, dA = dZᵀ X."""
        rows, down, a, *b = ctx.saved_tensors
        n_layers = len(ctx.layers)
        to_down = torch.empty_like(down)
        parts = zip(down.chunk(n_layers, dim=1), to_down.chunk(n_layers, dim=1), strict=True)
        to_b = []
        for (part, to_part), factor, sent, scaling in zip(
            parts, b, received, ctx.scalings, strict=True
        ):
            torch.addmm(to_part, sent, factor, beta=0, alpha=scaling, out=to_part)
            empty = torch.empty_like(factor)
            to_b.append(torch.addmm(empty, sent.t(), part, beta=0, alpha=scaling, out=empty))
        to_rows = None
        if ctx.needs_input_grad[0]:
            to_rows = _sum_of_products(received, [layer.weight for layer in ctx.layers])
            to_rows.addmm_(to_down, a)
        return to_rows, None, None, to_down.t() @ rows, *to_b


def _sum_of_products(rows: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
    total = product(rows[0], weights[0].t())
    for each, weight in zip(rows[1:], weights[1:], strict=True):
        if each.device.type == "cpu":
            total += product(each, weight.t())
        else:  # adds up within the product
            total.addmm_(each, weight)
    return total
