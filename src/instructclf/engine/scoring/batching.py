"""Prompts → batches: what they cost in tokens, and how rows are grouped within a budget.

Batches take the longest rows first. So a batch holds rows of similar length, memory that is too
small is noticed at once rather than after an hour, and progress only gets faster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from instructclf.engine.scoring.budgets import TokenBudget, is_out_of_memory
from instructclf.engine.tokens.encoding import EncodedPrompt

_Result = TypeVar("_Result")

_PRICE_OF_A_BATCH = 1 / 16
"""The cost of one more batch, as a share of the budget. Less padding must save more than this."""


class BatchReader(Protocol):
    """Reads something at the ends of prompts, in batches."""

    def read(
        self, encoded: Sequence[EncodedPrompt]
    ) -> Iterable[tuple[list[int], NDArray[np.float64]]]:
        """Yield positions and what is read of each, (n_positions, n_values), batch after batch."""
        ...

    def score_edges(self, prompt: EncodedPrompt) -> NDArray[np.float64]:
        """Return the log-likelihood of each edge of a prompt's trie, of shape (n_edges,)."""
        ...

    def score_after_part(self, prompt: EncodedPrompt) -> NDArray[np.float64]:
        """Return the scores of a prompt that begins with only a part of the prefix, (n_labels,)."""
        ...

    def n_shared(self, prompt: EncodedPrompt) -> int:
        """Return how many first tokens of a prompt are computed once for several texts."""
        ...


def count_computed_tokens(
    prompts: Sequence[EncodedPrompt], n_shared: int, *, repeats_text: bool
) -> list[int]:
    """Return how many tokens each prompt sends through the model.

    The text goes through once for each path of the labels' trie if ``repeats_text``. If not, the
    inner nodes of the trie follow one copy of it.
    """
    if repeats_text:
        return [(prompt.n_tokens - n_shared) * len(prompt.trie.paths) for prompt in prompts]
    return [prompt.n_tokens - n_shared + len(prompt.trie.tokens) - 1 for prompt in prompts]


def token_batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Group positions by length, longest first, into batches of at most ``budget`` padded tokens.

    Of all ways to split the sorted rows, this takes the cheapest one. The cost of a batch is its
    number of padded tokens and a constant price. A row that is longer than the budget becomes a
    batch by itself.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    start = 0
    for end in _cheapest_ends(np.array([lengths[i] for i in order]), budget):
        yield order[start:end]
        start = end


def run_in_batches(
    lengths: Sequence[int], budget: TokenBudget, work: Callable[[list[int]], _Result]
) -> Iterator[tuple[list[int], _Result]]:
    """Process rows batch by batch. If memory runs out, continue with batches half as large.

    Once lowered, a budget stays lowered for later calls. ``work`` is called again for the rows of a
    batch that did not fit, but not for rows that are done.

    Raises
    ------
    ScoringError
        If memory runs out with a single row.
    """
    waiting = list(range(len(lengths)))
    while waiting:
        waiting_lengths = [lengths[i] for i in waiting]
        done: set[int] = set()
        for members in token_batches(waiting_lengths, budget.n_tokens):
            try:
                result = work([waiting[member] for member in members])
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                budget.lower(len(members), waiting_lengths[members[0]], error)
                break
            done.update(members)
            yield [waiting[member] for member in members], result
        waiting = [position for i, position in enumerate(waiting) if i not in done]


def _cheapest_ends(lengths: NDArray[np.int_], budget: int) -> list[int]:
    """Return the ends of the cheapest batches of sorted rows, by dynamic programming.

    ``costs[end]`` is the least cost of the rows before ``end``. The last batch of that solution
    begins at ``starts[end]``.
    """
    n_rows = len(lengths)
    price = budget * _PRICE_OF_A_BATCH
    costs = np.zeros(n_rows + 1)
    starts = np.zeros(n_rows + 1, dtype=int)
    first = 0  # the first row at which a batch up to ``end`` may begin
    for end in range(1, n_rows + 1):
        # A batch that is too large is too large with more rows as well: ``first`` only moves on.
        while first < end - 1 and (end - first) * lengths[first] > budget:
            first += 1
        padded = (end - np.arange(first, end)) * lengths[first:end]
        totals = costs[first:end] + padded + price
        best = int(totals.argmin())
        costs[end], starts[end] = totals[best], first + best
    ends: list[int] = []
    end = n_rows
    while end > 0:
        ends.append(end)
        end = int(starts[end])
    return ends[::-1]
