"""Attention of many queries to the same keys on a CPU, as matrix products over blocks of queries.

torch's fused attention for CPUs computes small products, each with its own keys. When thousands of
queries read the same keys, larger products reach several times its speed. Blocks are small enough
for their scores to stay in the processor's cache.

Scores are computed in float32 at least, whatever the precision of queries and keys. Their products
with values take the arithmetic of the values.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from instructclf.engine.running.products import product

_SCORES_PER_BLOCK = 2**19
"""For each thread: 2 MB of float32, about the size of a core's cache."""


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

    Inputs have shape (n_heads, n_queries or n_keys, width). The mask of shape (n_queries, n_keys)
    is 0 for what a query sees, and the least number for what it does not see. Results have shape
    (n_heads, n_queries, width) and (n_heads, n_queries). The normaliser is in float32 or more.
    """
    precise = torch.promote_types(query.dtype, torch.float32)
    size = max(1, torch.get_num_threads() * _SCORES_PER_BLOCK // key.shape[1])
    outputs = query.new_empty(*query.shape[:2], value.shape[2])
    normalisers = query.new_empty(query.shape[:2], dtype=precise)
    # Powers of two take a quarter of the time of powers of e.
    scaled = key.to(precise) * (scaling * math.log2(math.e))
    for head, keys in enumerate(scaled):
        for start in range(0, query.shape[1], size):
            block = slice(start, start + size)
            scores = product(query[head, block].to(precise), keys)
            if softcap is not None:
                limit = softcap * math.log2(math.e)
                scores.div_(limit).tanh_().mul_(limit)
            if mask is not None:
                scores.add_(mask[block])
            largest = scores.amax(dim=1, keepdim=True)
            weights = scores.sub_(largest).exp2_()
            total = weights.sum(dim=1, keepdim=True)
            weighted = product(weights, value[head].t())
            outputs[head, block] = weighted / total
            normalisers[head, block] = (largest * math.log(2) + total.log()).squeeze(1)
    return outputs, normalisers
