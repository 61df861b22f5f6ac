"""Attention of rows to themselves and to one shared prefix, which no row copies.

The two parts are computed separately and merged by their log normalisers, which gives exactly the
softmax over both: for outputs o and log normalisers l, o = (e^l1 o1 + e^l2 o2) / (e^l1 + e^l2).
Source: the merging step of FlashAttention and of cascade inference (Ye et al., "FlashInfer", 2024).

torch has kernels that return the log normaliser as private operators only, because its public
function keeps the normaliser to itself. If one of them is missing or has changed, calling it raises
an error or gives different scores, and ``strategies`` then does not use ``PrefixAttention``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from instructclf.engine.models.loading import install_attention
from instructclf.engine.scoring.outputs import (
    ReadPositions,
    limit_last_feed_forward,
    positions_for_last_layer,
)
from instructclf.engine.scoring.prefixes import PrefixCache
from instructclf.exceptions import ScoringError

AttentionFunction = Callable[..., tuple[Tensor, Tensor | None]]

_ATTENTION = "instructclf"
_KEYS_AND_VALUES = "shared_prefix"
"""The keyword through which a forward pass hands the prefix to every layer."""
_ALIGNMENT = 16
"""The memory-efficient CUDA kernel reads masks in pieces of so many elements."""


class PrefixAttention:
    """The keys and values of a prefix, which all rows read and none copies.

    Parameters
    ----------
    model : torch.nn.Module
        A view of a causal language model, whose attention function this extends.
    ids : list of int
        The prefix, at least one token.

    Raises
    ------
    ScoringError
        If the model's attention cannot be extended, or a layer keeps only a part of the prefix.
    """

    is_in_mask = False
    limits_last_layer = True

    def __init__(self, model: Any, ids: list[int]) -> None:
        self.length = len(ids)
        self._layers = PrefixCache(model, ids).keys_and_values()
        if any(keys.shape[-2] != self.length for keys, _ in self._layers):
            msg = "A layer keeps only the last tokens of a prefix, so rows cannot share all of it."
            raise ScoringError(msg)
        install_attention(model, _ATTENTION, with_shared_prefix)
        limit_last_feed_forward(model)

    def inputs(self, n_rows: int) -> dict[str, Any]:  # noqa: ARG002  (all rows share one prefix)
        """Return the prefix in the form that the attention function expects."""
        return {_KEYS_AND_VALUES: _Layers(self._layers), "use_cache": False}

    def first(self, n_tokens: int) -> PrefixAttention:
        """Return its first tokens as a prefix, over the same keys and values."""
        part = copy.copy(self)
        part.length = n_tokens
        part._layers = [  # noqa: SLF001  (a copy of this object)
            (k[:, :, :n_tokens], v[:, :, :n_tokens]) for k, v in self._layers
        ]
        return part


class _Layers:
    """The keys and values of each layer.

    accelerate moves the tensors of lists and mappings that a module is given to the module's
    device. It leaves other objects alone, so that a prefix is not copied in every forward pass.
    """

    def __init__(self, keys_and_values: list[tuple[Tensor, Tensor]]) -> None:
        self.keys_and_values = keys_and_values


def with_shared_prefix(attention: AttentionFunction) -> AttentionFunction:
    """Extend an attention function by a prefix that all rows share.

    It takes the prefix of each layer as keys and values of shape (1, n_heads, n_prefix, width).
    """

    def attend(
        module: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        **options: Any,
    ) -> tuple[Tensor, Tensor | None]:
        prefix: _Layers | None = options.pop(_KEYS_AND_VALUES, None)
        if prefix is None:
            return attention(module, query, key, value, attention_mask, **options)
        scaling = options.get("scaling") or query.shape[-1] ** -0.5
        layers = prefix.keys_and_values
        inputs = query, key, value, layers[module.layer_idx]
        is_last = module.layer_idx == len(layers) - 1
        positions = positions_for_last_layer() if is_last else None
        # ``_attend_at`` pairs the queries of text i with the keys of row i. In a layout that gives
        # a text several rows, all positions are computed.
        if positions is None or len(positions.rows) < len(query):
            output = _attend(*inputs, mask=attention_mask, scaling=scaling)
            return output.transpose(1, 2).contiguous(), None
        return _attend_at(positions, *inputs, mask=attention_mask, scaling=scaling), None

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
    to_prefix, prefix_normaliser = _attend_to_prefix(query, *prefix, scaling)
    to_row, row_normaliser = attend_with_normaliser(
        query,
        _repeat_heads(key, query.shape[1]),
        _repeat_heads(value, query.shape[1]),
        mask,
        scaling,
        is_causal=mask is None,
    )
    # The prefix's share is e^l1 / (e^l1 + e^l2). As a sigmoid of l1 - l2 it cannot overflow.
    share = torch.sigmoid(prefix_normaliser - row_normaliser).unsqueeze(-1).to(to_row.dtype)
    return torch.lerp(to_row, to_prefix, share)


def _attend_at(
    positions: ReadPositions,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    prefix: tuple[Tensor, Tensor],
    *,
    mask: Tensor | None,
    scaling: float,
) -> Tensor:
    """Attend from some positions only. The output at the others is zero and is never read.

    Its shape is (n_rows, length, n_heads, width).
    """
    at = positions.rows.to(query.device), positions.columns.to(query.device)
    by_position = query.transpose(1, 2)
    if mask is None:
        # Kernels take the i-th query as the i-th position of its row. These queries are not, so
        # the causal mask is written out.
        is_later = torch.arange(query.shape[2], device=query.device) > at[1].unsqueeze(-1)
        mask_at = torch.zeros(is_later.shape, dtype=query.dtype, device=query.device)
        mask_at = mask_at.masked_fill(is_later, torch.finfo(query.dtype).min)
    else:
        mask_at = mask.squeeze(1)[at]
    queries = by_position[at].transpose(1, 2).contiguous()
    found = _attend(queries, key, value, prefix, mask=mask_at.unsqueeze(1), scaling=scaling)
    output = query.new_zeros(by_position.shape)
    return output.index_put(at, found.transpose(1, 2))


def _repeat_heads(heads: Tensor, n_heads: int) -> Tensor:
    n_repeats = n_heads // heads.shape[1]
    return heads if n_repeats == 1 else heads.repeat_interleave(n_repeats, dim=1)


def _attend_to_prefix(
    query: Tensor, keys: Tensor, values: Tensor, scaling: float
) -> tuple[Tensor, Tensor]:
    """Let all rows attend to the whole prefix as if they were one long row.

    Query heads that share a key head are concatenated along that row too, so that no key is
    repeated.
    """
    n_rows, n_heads, length, width = query.shape
    n_key_heads = keys.shape[1]
    folded = query.view(n_rows, n_key_heads, -1, length, width).permute(1, 2, 0, 3, 4)
    shape = folded.shape[:-1]  # (n_key_heads, n_heads / n_key_heads, n_rows, length)
    output, normaliser = attend_with_normaliser(
        folded.reshape(1, n_key_heads, -1, width), keys, values, None, scaling, is_causal=False
    )
    output = output.reshape(*shape, -1).permute(2, 0, 1, 3, 4)
    normaliser = normaliser.reshape(shape).permute(2, 0, 1, 3)
    return (
        output.reshape(n_rows, n_heads, length, -1),
        normaliser.reshape(n_rows, n_heads, length),
    )


def attend_with_normaliser(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scaling: float,
    *,
    is_causal: bool,
) -> tuple[Tensor, Tensor]:
    """Return attention, and the log of the sum by which its weights were divided.

    Their shapes are (n_rows, n_heads, length, width) and (n_rows, n_heads, length). The second one
    is in float32 or more. ``mask`` is added to the scores, and excludes ``is_causal``.
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
    # The kernel returns normalisers for a number of queries that it has rounded up.
    return output, log_normaliser[..., : query.shape[2]]


def _operator(name: str) -> Any:
    return getattr(torch.ops.aten, name)


def _aligned(mask: Tensor) -> Tensor:
    """Store a mask so that each of its lines begins at an address from which the kernel reads."""
    n_keys = mask.shape[-1]
    n_spare = -n_keys % _ALIGNMENT
    return pad(mask, (0, n_spare))[..., :n_keys] if n_spare else mask.contiguous()
