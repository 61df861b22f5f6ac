"""Lengths → batches: longest first, each within a budget of tokens, with as little padding as pays.

Longest first, so that a batch holds texts of like length, running out of memory happens at once
rather than after an hour, and progress only ever gets faster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from instructclf.engine.scoring.budgets import TokenBudget, is_out_of_memory

_Result = TypeVar("_Result")

_PRICE_OF_A_BATCH = 1 / 16
"""Of the budget: what a batch more costs, so that padding is saved only where that pays."""


def token_batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Group positions by length, longest first, into batches of at most ``budget`` padded tokens.

    Among all ways to part the sorted rows it takes the one with the fewest padded tokens, a batch
    counted as some tokens more.

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
    order = _longest_first(lengths)
    ends = _part(np.array([lengths[i] for i in order]), budget)
    start = 0
    for end in ends:
        yield order[start:end]
        start = end


def run_in_batches(
    lengths: Sequence[int], budget: TokenBudget, work: Callable[[list[int]], _Result]
) -> Iterator[tuple[list[int], _Result]]:
    """Work through rows batch by batch. Where memory runs out, go on with batches half as large.

    Parameters
    ----------
    lengths : sequence of int
        How many tokens each row takes.
    budget : TokenBudget
        The most tokens of a batch. It stays lowered for whoever uses it next.
    work : callable
        What to do with the positions of a batch. It is called again for rows whose batch did not
        fit; those that are done stay done.

    Yields
    ------
    positions : list of int
        Positions into ``lengths``.
    result : object
        What ``work`` returned for them.

    Raises
    ------
    ScoringError
        If memory runs out with a single row.
    """
    waiting = list(range(len(lengths)))
    while waiting:
        own = [lengths[i] for i in waiting]
        done: set[int] = set()
        for members in token_batches(own, budget.n_tokens):
            try:
                result = work([waiting[member] for member in members])
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                budget.lower(len(members), own[members[0]], error)
                break
            done.update(members)
            yield [waiting[member] for member in members], result
        waiting = [position for i, position in enumerate(waiting) if i not in done]


def _longest_first(lengths: Sequence[int]) -> list[int]:
    return sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))


def _part(lengths: NDArray[np.int_], budget: int) -> list[int]:
    """Return where batches of the sorted rows end, by dynamic programming over these places."""
    n_rows = len(lengths)
    price = budget * _PRICE_OF_A_BATCH
    least = np.zeros(n_rows + 1)  # of the tokens up to each place
    start_of_last = np.zeros(n_rows + 1, dtype=int)
    first = 0
    for end in range(1, n_rows + 1):
        while first < end - 1 and (end - first) * lengths[first] > budget:
            first += 1  # where a batch is too large, so is one that goes on from there
        tokens = (end - np.arange(first, end)) * lengths[first:end]
        totals = least[first:end] + tokens + price
        best = int(totals.argmin())
        least[end], start_of_last[end] = totals[best], first + best
    return _walk_back(start_of_last)


def _walk_back(start_of_last: NDArray[np.int_]) -> list[int]:
    ends: list[int] = []
    end = len(start_of_last) - 1
    while end > 0:
        ends.append(end)
        end = int(start_of_last[end])
    return ends[::-1]
