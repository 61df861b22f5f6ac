"""Lengths → batches: longest first, each within a budget of tokens, padding included.

Longest first, so that a batch holds texts of like length, running out of memory happens at once
rather than after an hour, and progress only ever gets faster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from instructclf.engine.budgets import TokenBudget, is_out_of_memory

_Result = TypeVar("_Result")


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
    waiting = _longest_first(lengths)
    while waiting:
        n_rows = _n_fitting(waiting, lengths, budget)
        yield waiting[:n_rows]
        waiting = waiting[n_rows:]


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
    waiting = _longest_first(lengths)
    while waiting:
        n_rows = _n_fitting(waiting, lengths, budget.n_tokens)
        batch = waiting[:n_rows]
        try:
            result = work(batch)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            budget.lower(n_rows, lengths[batch[0]], error)
            continue
        waiting = waiting[n_rows:]
        yield batch, result


def _longest_first(lengths: Sequence[int]) -> list[int]:
    return sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))


def _n_fitting(waiting: Sequence[int], lengths: Sequence[int], budget: int) -> int:
    """Return how many of the next rows make a batch: at least one."""
    return min(len(waiting), max(1, budget // max(lengths[waiting[0]], 1)))
