"""Attention on a CPU with its log normaliser, by matrix products that the processor is fast at."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from instructclf.engine.running.arithmetic import has_matrix_units, product

_SCORES_PER_BLOCK = 2**19
"""For each thread: 2 MB of float32, about the size of a core's cache."""


def takes_tiles(keys: Tensor) -> bool:
    """Say whether a CPU multiplies keys of this data type in the tiles of its matrix units."""
    is_half = keys.device.type == "cpu" and keys.dtype == torch.bfloat16
    return is_half and has_matrix_units()


def reads_in_tiles(keys: Tensor, values: Tensor, softcap: float | None) -> bool:
    """Say whether attention to keys and values like these is computed in tiles."""
    return softcap is None and keys.shape[-1] == values.shape[-1] and takes_tiles(keys)


def attend_in_tiles(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scaling: float,
    *,
    is_causal: bool,
) -> tuple[Tensor, Tensor]:
    """Attend with products of bfloat16, whose sums stay in float32 up to the output.

    On a processor with AMX, torch's fused attention takes a third of the time that blocks with
    products of float32 take. Without a mask, heads that share keys become one head with more
    queries, which takes a few queries a fifth of the time.
    """
    n_rows, n_heads, length, width = query.shape
    rows = query.to(key.dtype)
    if mask is None and not is_causal:
        rows = rows.reshape(n_rows, key.shape[1], -1, width)
    elif mask is not None:
        mask = mask.float()  # the kernel loses the normaliser of a query that sees nothing in half
    fused: Any = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu  # noqa: SLF001
    output, log_normaliser = fused(
        rows, *repeat_heads(key, value, rows), 0.0, is_causal, attn_mask=mask, scale=scaling
    )
    shape = n_rows, n_heads, length
    return output.to(query.dtype).reshape(*shape, width), log_normaliser.reshape(shape)


def attend_in_blocks(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scaling: float,
    *,
    softcap: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the attention of each head's queries to all its keys, and its log normaliser.

    torch's fused attention for CPUs computes small products, in MKL, which uses half the width of
    AMD's vector units. Where thousands of queries read the same keys, larger products in oneDNN
    take half its time on a processor with units of 512 bits (Zen 5), and a tenth more than it where
    these have 256. Blocks of queries are small enough for their scores to stay in the processor's
    cache.

    Queries have shape (n_heads, n_queries, width), keys and values (n_key_heads, n_keys, width).
    The mask of shape (n_queries, n_keys) is 0 for what a query sees, and the least number for what
    it does not see. Results have shape (n_heads, n_queries, width) and (n_heads, n_queries). Scores
    and the normaliser are in float32 or more, and products with values in the arithmetic of the
    values.
    """
    precise = torch.promote_types(query.dtype, torch.float32)
    n_repeats = query.shape[0] // key.shape[0]
    n_scores = key.shape[1] * n_repeats  # of a query in all heads that share a key head
    size = max(1, torch.get_num_threads() * _SCORES_PER_BLOCK // n_scores)
    # Stored as models read them, with all heads of a query side by side.
    outputs = query.new_empty(query.shape[1], query.shape[0], value.shape[2]).transpose(0, 1)
    normalisers = query.new_empty(query.shape[:2], dtype=precise)
    # Powers of two take a quarter of the time of powers of e.
    scaled = key.to(precise) * (scaling * math.log2(math.e))
    for head, keys in enumerate(scaled):
        heads = slice(head * n_repeats, (head + 1) * n_repeats)
        for start in range(0, query.shape[1], size):
            block = slice(start, start + size)
            rows = query[heads, block].to(precise)
            of_each_head = rows.shape[:2]
            scores = product(rows.flatten(0, 1), keys)
            if softcap is not None:
                limit = softcap * math.log2(math.e)
                scores.div_(limit).tanh_().mul_(limit)
            if mask is not None:
                scores.unflatten(0, of_each_head).add_(mask[block])
            largest = scores.amax(dim=1, keepdim=True)
            weights = scores.sub_(largest).exp2_()
            total = weights.sum(dim=1, keepdim=True)
            weighted = product(weights, value[head].t())
            outputs[heads, block] = (weighted / total).unflatten(0, of_each_head)
            found = largest * math.log(2) + total.log()
            normalisers[heads, block] = found.view(of_each_head)
    return outputs, normalisers


def repeat_heads(key: Tensor, value: Tensor, query: Tensor) -> tuple[Tensor, Tensor]:
    """Repeat heads of keys and values for kernels that take as many of them as of queries."""
    n_repeats = query.shape[1] // key.shape[1]
    if n_repeats == 1:
        return key, value
    return key.repeat_interleave(n_repeats, dim=1), value.repeat_interleave(n_repeats, dim=1)
