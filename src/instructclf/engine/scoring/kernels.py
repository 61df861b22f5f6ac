"""Attention with its log normaliser, by the fastest kernel of a device.

torch has kernels that return the log normaliser as private operators only, because its public
function keeps the normaliser to itself. If one of them is missing or has changed, calling it raises
an error or gives different scores, and ``strategies`` then does not use ``PrefixAttention``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from instructclf.engine.scoring.blocked_attention import attend_in_blocks

_ALIGNMENT = 16
"""The memory-efficient CUDA kernel reads masks in pieces of so many elements."""


def attend_with_normaliser(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scaling: float,
    *,
    is_causal: bool,
    softcap: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Return attention, and the log of the sum by which its weights were divided.

    Their shapes are (n_rows, n_heads, length, width) and (n_rows, n_heads, length). The second one
    is in float32 or more. ``mask`` is added to the scores, and excludes ``is_causal``. Scores are
    limited to ``softcap`` first, if there is one: ``softcap * tanh(score / softcap)``.
    """
    if softcap is not None or query.shape[-1] != value.shape[-1]:  # no kernel takes these
        mask = _causal_mask(query, key) if is_causal else mask
        scores = query @ key.mT * scaling
        return _attend_with_scores(scores, value, mask, softcap)
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
    # The kernel returns normalisers for a number of queries that it has rounded up.
    return output, log_normaliser[..., : query.shape[2]]


def attend_to_shared_keys(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float, **options: Any
) -> tuple[Tensor, Tensor]:
    """Return what `attend_with_normaliser` returns for one row of very many queries.

    All tensors have one row, and the mask has one head; it hides keys and does nothing else.
    """
    if query.device.type != "cpu":
        return attend_with_normaliser(query, key, value, mask, scaling, is_causal=False, **options)
    hidden = None if mask is None else mask[0, 0]
    found = attend_in_blocks(query[0], key[0], value[0], hidden, scaling, **options)
    return found[0].unsqueeze(0), found[1].unsqueeze(0)


def additive_mask(is_hidden: Tensor, dtype: torch.dtype) -> Tensor:
    """Turn a boolean mask, true for what is hidden, into one that is added to scores."""
    mask = torch.zeros(is_hidden.shape, dtype=dtype, device=is_hidden.device)
    return mask.masked_fill(is_hidden, torch.finfo(dtype).min)


def _attend_with_scores(
    scores: Tensor, value: Tensor, mask: Tensor | None, softcap: float | None
) -> tuple[Tensor, Tensor]:
    """Return the softmax of all scores times the values, and its normaliser, in float32 or more."""
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    if softcap is not None:
        scores = (scores / softcap).tanh_().mul_(softcap)
    if mask is not None:
        scores = scores + mask
    normaliser = scores.logsumexp(dim=-1)
    weights = scores.sub(normaliser.unsqueeze(-1)).exp_()
    return weights.to(value.dtype) @ value, normaliser


def _causal_mask(query: Tensor, key: Tensor) -> Tensor:
    shape = query.shape[2], key.shape[2]
    is_later = torch.ones(shape, dtype=torch.bool, device=query.device).triu(1)
    return additive_mask(is_later, query.dtype)


def _operator(name: str) -> Any:
    return getattr(torch.ops.aten, name)


def _aligned(mask: Tensor) -> Tensor:
    """Store a mask so that each of its lines begins at an address from which the kernel reads."""
    n_keys = mask.shape[-1]
    n_spare = -n_keys % _ALIGNMENT
    return pad(mask, (0, n_spare))[..., :n_keys] if n_spare else mask.contiguous()
