"""Lengths → batches: longest first, each within a budget of tokens, padding included.

Longest first, so that a batch holds texts of like length, running out of memory happens at once
rather than after an hour, and progress only ever gets faster.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

_CPU_TOKENS = 512
_ACCELERATOR_TOKENS = 16_384


def default_budget(device: torch.device) -> int:
    """Return how many tokens go through a model at once on this device.

    On a CPU more than a few hundred only add padding; an accelerator needs thousands to be busy.
    """
    return _CPU_TOKENS if device.type == "cpu" else _ACCELERATOR_TOKENS


def token_batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Group positions by length, longest first, into batches of at most ``budget`` padded tokens.

    Parameters
    ----------
    lengths : sequence of int
        How many tokens each row takes.
    budget : int
        The most tokens of a batch: its rows times its longest. A longer row is a batch of its own.

    Yields
    ------
    list of int
        Positions into ``lengths``.
    """
    batch: list[int] = []
    for position in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if batch and (len(batch) + 1) * lengths[batch[0]] > budget:
            yield batch
            batch = []
        batch.append(position)
    if batch:
        yield batch
