"""Attention together with its log normaliser, by the kernel of each device.

torch has these kernels as private operators, since the public function keeps the normaliser to
itself. Where one is missing or changed, calling it raises or gives other scores, and the run-time
self-test passes over the strategy that needs it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

_ALIGNMENT = 16
"""Elements: the memory-efficient CUDA kernel reads masks in pieces of so many."""


def attend_with_normaliser(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scaling: float,
    *,
    is_causal: bool,
) -> tuple[Tensor, Tensor]:
    """Return attention, and the logarithm of the sum that its weights were divided by.

    Parameters
    ----------
    query : Tensor of shape (n_rows, n_heads, length, width)
        The queries.
    key, value : Tensor of shape (n_rows, n_heads, n_keys, width)
        The keys and values, of as many heads.
    mask : Tensor of shape (n_rows or 1, 1, length, n_keys) or None
        Added to the scores.
    scaling : float
        What scores are multiplied by.
    is_causal : bool
        Whether later keys are hidden. Not together with a mask.

    Returns
    -------
    output : Tensor of shape (n_rows, n_heads, length, width)
        Weighted means of the values.
    log_normaliser : Tensor of shape (n_rows, n_heads, length)
        Log-sum-exp of the scores, in float32 or more.
    """
    if query.device.type != "cuda":
        return _operator("_scaled_dot_product_flash_attention_for_cpu")(
            query, key, value, 0.0, is_causal, attn_mask=mask, scale=scaling
        )
    if mask is None and query.dtype in {torch.bfloat16, torch.float16}:
        flash = _operator("_scaled_dot_product_flash_attention")
        output, log_normaliser, *_ = flash(query, key, value, 0.0, is_causal, scale=scaling)
        return output, log_normaliser
    efficient = _operator("_scaled_dot_product_efficient_attention")
    bias = None if mask is None else _aligned(mask).expand(-1, query.shape[1], -1, -1)
    output, log_normaliser, *_ = efficient(
        query, key, value, bias, compute_log_sumexp=True, is_causal=is_causal, scale=scaling
    )
    # The kernel rounds the number of its rows up.
    return output, log_normaliser[..., : query.shape[2]]


def _operator(name: str) -> Any:
    return getattr(torch.ops.aten, name)


def _aligned(mask: Tensor) -> Tensor:
    """Lay a mask out so that each of its lines begins where the kernel may read."""
    n_keys = mask.shape[-1]
    spare = -n_keys % _ALIGNMENT
    return pad(mask, (0, spare))[..., :n_keys] if spare else mask.contiguous()
