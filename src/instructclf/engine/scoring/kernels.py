"""Attention with its log normaliser, by the fastest kernel of a device.

torch has kernels that return the log normaliser as private operators only, because its public
function keeps the normaliser to itself. If one of them is missing or has changed, calling it raises
an error or gives different scores, and ``strategies`` then does not use ``PrefixAttention``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from instructclf.engine.running.cpu_attention import (
    attend_in_blocks,
    attend_in_tiles,
    reads_in_tiles,
    repeat_heads,
)

_ALIGNMENT = 16
"""The memory-efficient CUDA kernel reads masks in pieces of so many elements."""
_LONG_ROW = 12_288
"""From so many numbers in the queries of a head on, blocks take less time than torch's fused
attention on a CPU: half of it from 250 queries on. Below 50 they take several times as long."""
_N_BYTES_READ = 16
"""CUDA kernels read heads in pieces of so many bytes."""
_AMPERE = (8, 0)
"""The first compute capability with bfloat16 and with flash attention."""
_WIDEST_FLASH = 256
"""The widest head that flash attention takes."""


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
    is in float32 or more. Each head of keys and values serves ``n_heads / n_key_heads`` heads of
    queries that follow each other. ``mask`` is added to the scores, and excludes ``is_causal``.
    Scores are limited to ``softcap`` first, if there is one: ``softcap * tanh(score / softcap)``.
    """
    if softcap is not None or query.shape[-1] != value.shape[-1]:  # no kernel takes these
        key, value = repeat_heads(key, value, query)
        mask = causal_mask(query, key) if is_causal else mask
        scores = query @ key.mT * scaling
        return _attend_with_scores(scores, value, mask, softcap)
    if reads_in_tiles(key, value, softcap):
        return attend_in_tiles(query, key, value, mask, scaling, is_causal=is_causal)
    if query.device.type == "cpu" and query.shape[2] * query.shape[3] >= _LONG_ROW:
        return _attend_row_by_row(query, key, value, mask, scaling, is_causal=is_causal)
    if query.device.type != "cuda":
        return _operator("_scaled_dot_product_flash_attention_for_cpu")(
            query, *repeat_heads(key, value, query), 0.0, is_causal, attn_mask=mask, scale=scaling
        )
    return _attend_on_cuda(query, key, value, mask, scaling, is_causal=is_causal)


def _attend_row_by_row(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scaling: float,
    *,
    is_causal: bool,
) -> tuple[Tensor, Tensor]:
    """Attend in blocks, one row after the other."""
    hidden = causal_mask(query, key)[None, None] if is_causal else mask
    masks = [None] * len(query) if hidden is None else hidden[:, 0].expand(len(query), -1, -1)
    key, value = key.contiguous(), value.contiguous()  # products with others are very slow
    found = [attend_in_blocks(*row, scaling) for row in zip(query, key, value, masks, strict=True)]
    outputs, normalisers = (torch.stack(each) for each in zip(*found, strict=True))
    return outputs, normalisers


def _attend_on_cuda(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scaling: float,
    *,
    is_causal: bool,
) -> tuple[Tensor, Tensor]:
    """Call the kernel that a CUDA device has for these numbers, at the width that it reads."""
    if query.dtype == torch.float64:
        key, value = repeat_heads(key, value, query)
        mask = causal_mask(query, key) if is_causal else mask
        return _attend_with_scores(query @ key.mT * scaling, value, mask, None)
    if query.dtype == torch.bfloat16 and not _is_new(query.device):
        wide = query.float(), key.float(), value.float(), None if mask is None else mask.float()
        output, log_normaliser = _attend_on_cuda(*wide, scaling, is_causal=is_causal)
        return output.to(query.dtype), log_normaliser
    width = query.shape[-1]
    query, key, value = (with_whole_lines(heads) for heads in (query, key, value))
    if mask is None and has_flash_attention(query, value):
        flash = _operator("_scaled_dot_product_flash_attention")
        output, log_normaliser, *_ = flash(query, key, value, 0.0, is_causal, scale=scaling)
        return output[..., :width], log_normaliser
    efficient = _operator("_scaled_dot_product_efficient_attention")
    key, value = repeat_heads(key, value, query)
    bias = None if mask is None else with_aligned_lines(mask).expand(-1, query.shape[1], -1, -1)
    output, log_normaliser, *_ = efficient(
        query, key, value, bias, compute_log_sumexp=True, is_causal=is_causal, scale=scaling
    )
    # The kernel returns normalisers for a number of queries that it has rounded up.
    return output[..., :width], log_normaliser[..., : query.shape[2]]


def has_efficient_attention(query: Tensor, value: Tensor) -> bool:
    """Say whether the memory-efficient kernel takes heads like these, once their width is whole."""
    kinds = {torch.float32, torch.float16}
    if query.device.type == "cuda" and _is_new(query.device):
        kinds.add(torch.bfloat16)
    is_alike = query.shape[-1] == value.shape[-1]
    return query.device.type == "cuda" and is_alike and query.dtype in kinds


def has_flash_attention(query: Tensor, value: Tensor) -> bool:
    """Say whether flash attention takes heads like these, once `with_whole_lines` has padded them.

    It takes no mask but the causal one.
    """
    is_half, width = query.dtype.itemsize == 2, query.shape[-1]
    fits = width == value.shape[-1] and width <= _WIDEST_FLASH
    return query.device.type == "cuda" and is_half and fits and _is_new(query.device)


def _is_new(device: torch.device) -> bool:
    return torch.cuda.get_device_capability(device) >= _AMPERE


def attend_to_shared_keys(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float, **options: Any
) -> tuple[Tensor, Tensor]:
    """Return what `attend_with_normaliser` returns for one row of very many queries.

    All tensors have one row, and the mask has one head; it hides keys and does nothing else.
    """
    softcap = options.get("softcap")
    if query.device.type != "cpu" or reads_in_tiles(key, value, softcap):
        return attend_with_normaliser(query, key, value, mask, scaling, is_causal=False, **options)
    hidden = None if mask is None else mask[0, 0]
    found = attend_in_blocks(query[0], key[0], value[0], hidden, scaling, **options)
    return found[0].unsqueeze(0), found[1].unsqueeze(0)


def join_rows(values: Tensor) -> Tensor:
    """Turn (n_rows, n_heads, length, ...) into (1, n_heads, n_rows * length, ...).

    Models store the heads of a token side by side, and this copies nothing of what is stored so.
    """
    return values.transpose(1, 2).flatten(0, 1).transpose(0, 1).unsqueeze(0)


def split_rows(joined: Tensor, n_rows: int) -> Tensor:
    """Undo `join_rows`."""
    return joined.squeeze(0).unflatten(1, (n_rows, -1)).transpose(0, 1)


def merge_parts(parts: Sequence[tuple[Tensor, Tensor]], sinks: Tensor | None) -> Tensor:
    """Merge attention to one or two parts: outputs, and the normalisers of their weights.

    ``sinks`` has a score for each head that takes a share of attention and has no value.
    Source: "gpt-oss-120b & gpt-oss-20b Model Card" (OpenAI, 2025), section 2.2.
    """
    (output, normaliser), *rest = parts
    for other, other_normaliser in rest:
        output = merge_two(output, normaliser, other, other_normaliser)
    if sinks is None:
        return output
    whole = torch.stack([normaliser for _, normaliser in parts]).logsumexp(dim=0)
    share = torch.sigmoid(whole - sinks.to(whole).view(1, -1, 1))
    return output * share.unsqueeze(-1).to(output.dtype)


def merge_two(
    output: Tensor, normaliser: Tensor, other: Tensor, other_normaliser: Tensor
) -> Tensor:
    """Merge attention to two sets of keys, without gradients."""
    # The other's share is e^l2 / (e^l1 + e^l2). As a sigmoid of l2 - l1 it cannot overflow.
    difference = (other_normaliser - normaliser).unsqueeze(-1)
    share = torch.sigmoid(difference, out=output.new_empty(difference.shape))
    return torch.lerp(output, other, share)


def additive_mask(is_hidden: Tensor, dtype: torch.dtype) -> Tensor:
    """Turn a boolean mask, true for what is hidden, into one that is added to scores."""
    mask = torch.zeros(is_hidden.shape, dtype=dtype, device=is_hidden.device)
    return mask.masked_fill_(is_hidden, torch.finfo(dtype).min)


def to_additive(mask: Tensor | None, query: Tensor) -> Tensor:
    """Return a mask of rows with themselves that is added to their scores.

    It may be boolean, true for what is visible, and ``None`` is causal.
    """
    if mask is None:
        return causal_mask(query, query)[None, None]
    return additive_mask(~mask, query.dtype) if mask.dtype == torch.bool else mask


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


def causal_mask(query: Tensor, key: Tensor) -> Tensor:
    """Return an additive mask of shape (n_queries, n_keys) that hides what comes later."""
    shape = query.shape[2], key.shape[2]
    is_later = torch.ones(shape, dtype=torch.bool, device=query.device).triu(1)
    return additive_mask(is_later, query.dtype)


def _operator(name: str) -> Any:
    return getattr(torch.ops.aten, name)


def with_aligned_lines(mask: Tensor) -> Tensor:
    """Store a mask so that each of its lines begins at an address from which kernels read.

    A mask that is already stored so is returned as it is.
    """
    lines = zip(mask.shape[:-1], mask.stride()[:-1], strict=True)
    is_aligned = all(size == 1 or stride % _ALIGNMENT == 0 for size, stride in lines)
    if is_aligned and mask.stride(-1) == 1 and mask.data_ptr() % _N_BYTES_READ == 0:
        return mask
    n_keys = mask.shape[-1]
    return pad(mask, (0, -n_keys % _ALIGNMENT))[..., :n_keys]


def with_whole_lines(heads: Tensor) -> Tensor:
    """Pad heads with zeros, which change no score, to a width that kernels read in whole pieces."""
    n_spare = -heads.shape[-1] % (_N_BYTES_READ // heads.itemsize)
    return pad(heads, (0, n_spare)) if n_spare else heads
