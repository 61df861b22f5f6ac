"""Attention of rows to themselves and to one shared prefix, which is never copied for them.

The two parts are computed apart and merged by their log-sum-exp, which gives exactly the softmax
over both: for outputs o and log normalisers l, o = (e^l1 o1 + e^l2 o2) / (e^l1 + e^l2). Source: the
merging step of FlashAttention and of cascade inference (Ye et al., "FlashInfer", 2024).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from instructclf.engine.kernels import attend_with_normaliser

AttentionFunction = Callable[..., tuple[Tensor, Tensor | None]]

KEYS_AND_VALUES = "shared_prefix"
"""The keyword through which a forward pass hands the prefix to every layer."""


def with_shared_prefix(plain: AttentionFunction) -> AttentionFunction:
    """Extend an attention function by a prefix that all rows share.

    Parameters
    ----------
    plain : callable
        The attention function to use where there is no prefix.

    Returns
    -------
    callable
        An attention function with the same parameters, and one more: for each layer, the keys and
        values of the prefix, Tensors of shape (1, n_heads, n_prefix, width).
    """

    def attend(
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        **options: Any,
    ) -> tuple[Tensor, Tensor | None]:
        prefix = options.pop(KEYS_AND_VALUES, None)
        if prefix is None:
            return plain(module, query, key, value, attention_mask, **options)
        keys, values = prefix[module.layer_idx]
        scaling = options.get("scaling") or query.shape[-1] ** -0.5
        far, far_normaliser = _attend_to_prefix(query, keys, values, scaling)
        n_repeats = query.shape[1] // key.shape[1]
        near, near_normaliser = attend_with_normaliser(
            query,
            key.repeat_interleave(n_repeats, dim=1),
            value.repeat_interleave(n_repeats, dim=1),
            attention_mask,
            scaling,
            is_causal=attention_mask is None,
        )
        share = torch.sigmoid(far_normaliser - near_normaliser).unsqueeze(-1).to(near.dtype)
        return torch.lerp(near, far, share).transpose(1, 2).contiguous(), None

    return attend


def _attend_to_prefix(
    query: Tensor, keys: Tensor, values: Tensor, scaling: float
) -> tuple[Tensor, Tensor]:
    """Let all rows attend to the whole prefix as if they were one long row.

    Query heads that share a key head are laid end to end as well, so that no key is repeated.
    """
    n_rows, n_heads, length, width = query.shape
    n_key_heads = keys.shape[1]
    folded = query.view(n_rows, n_key_heads, -1, length, width).permute(1, 2, 0, 3, 4)
    shape = folded.shape[:-1]
    output, normaliser = attend_with_normaliser(
        folded.reshape(1, n_key_heads, -1, width), keys, values, None, scaling, is_causal=False
    )
    output = output.reshape(*shape, -1).permute(2, 0, 1, 3, 4)
    normaliser = normaliser.reshape(shape).permute(2, 0, 1, 3)
    return (
        output.reshape(n_rows, n_heads, length, -1),
        normaliser.reshape(n_rows, n_heads, length),
    )
