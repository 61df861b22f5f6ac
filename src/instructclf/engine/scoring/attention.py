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

from instructclf.engine.scoring.kernels import attend_with_normaliser
from instructclf.engine.scoring.outputs import Places, places_to_narrow

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
        scaling = options.get("scaling") or query.shape[-1] ** -0.5
        own = prefix[module.layer_idx]
        places = places_to_narrow() if module.layer_idx == len(prefix) - 1 else None
        if places is None or len(places.rows) < len(query):  # a text has several rows
            output = _attend(query, key, value, own, mask=attention_mask, scaling=scaling)
            return output.transpose(1, 2).contiguous(), None
        output = _attend_at(places, query, key, value, own, mask=attention_mask, scaling=scaling)
        return output, None

    return attend


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    prefix: tuple[Tensor, Tensor],
    *,
    mask: Tensor | None,
    scaling: float,
) -> Tensor:
    """Attend to the prefix and to each row itself, and merge the two."""
    far, far_normaliser = _attend_to_prefix(query, *prefix, scaling)
    near, near_normaliser = attend_with_normaliser(
        query,
        _repeat_heads(key, query.shape[1]),
        _repeat_heads(value, query.shape[1]),
        mask,
        scaling,
        is_causal=mask is None,
    )
    share = torch.sigmoid(far_normaliser - near_normaliser).unsqueeze(-1).to(near.dtype)
    return torch.lerp(near, far, share)


def _attend_at(
    places: Places,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    prefix: tuple[Tensor, Tensor],
    *,
    mask: Tensor | None,
    scaling: float,
) -> Tensor:
    """Attend from some places only. Elsewhere the output is zero, and nobody reads it.

    Returns
    -------
    Tensor of shape (n_rows, length, n_heads, width)
        The outputs.
    """
    at_places = places.rows.to(query.device), places.columns.to(query.device)
    by_position = query.transpose(1, 2)
    if mask is None:
        later = torch.arange(query.shape[2], device=query.device) > at_places[1].unsqueeze(-1)
        own_mask = torch.zeros(later.shape, dtype=query.dtype, device=query.device)
        own_mask = own_mask.masked_fill(later, torch.finfo(query.dtype).min)
    else:
        own_mask = mask.squeeze(1)[at_places]
    queries = by_position[at_places].transpose(1, 2).contiguous()
    found = _attend(queries, key, value, prefix, mask=own_mask.unsqueeze(1), scaling=scaling)
    output = query.new_zeros(by_position.shape)
    return output.index_put(at_places, found.transpose(1, 2))


def _repeat_heads(heads: Tensor, n_heads: int) -> Tensor:
    n_repeats = n_heads // heads.shape[1]
    return heads if n_repeats == 1 else heads.repeat_interleave(n_repeats, dim=1)


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
