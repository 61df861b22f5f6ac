"""Prompts → batches: what they cost in tokens, and how rows are grouped within a budget.

Batches take the longest rows first. So a batch holds rows of similar length, memory that is too
small is noticed at once rather than after an hour, and progress only gets faster.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from instructclf.engine.scoring.budgets import TokenBudget, is_out_of_memory
from instructclf.engine.tokens.encoding import EncodedPrompt

Read = Callable[[], NDArray[np.float64]]
"""Waits until the values of a batch are computed, and returns them: (n_rows, n_values)."""

_PRICE_OF_A_BATCH = 1 / 16
"""The cost of one more batch, as a share of the budget. Less padding must save more than this."""


class BatchReader(Protocol):
    """Reads something at the ends of prompts, in batches."""

    def queue(self, encoded: Sequence[EncodedPrompt]) -> Iterable[tuple[list[int], Read]]:
        """Give one batch after the other to the device. Yield positions and what reads them."""
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


def queue_batches(
    lengths: Sequence[int], budget: TokenBudget, queue: Callable[[list[int]], Read]
) -> Iterator[tuple[list[int], Read]]:
    """Queue rows batch by batch. If memory runs out, continue with batches half as large.

    ``queue`` gives rows to the device, and returns what reads their values. Yields the rows of each
    batch, and what reads them. If memory turns out to be short only then, reading computes the rows
    again, in smaller batches. Once lowered, a budget stays lowered for later calls. Rows that were
    computed are not computed again.

    Raises
    ------
    ScoringError
        If memory runs out with a single row.
    """
    waiting = list(range(len(lengths)))
    while waiting:
        waiting_lengths = [lengths[i] for i in waiting]
        queued: set[int] = set()
        for members in token_batches(waiting_lengths, budget.n_tokens):
            rows = [waiting[member] for member in members]
            try:
                read = queue(rows)
            except (RuntimeError, MemoryError) as error:
                _lower(budget, [lengths[row] for row in rows], error)
                break
            queued.update(members)
            yield rows, partial(_read_or_repeat, read, rows, lengths, budget, queue)
        waiting = [position for i, position in enumerate(waiting) if i not in queued]


def _read_or_repeat(
    read: Read,
    rows: Sequence[int],
    lengths: Sequence[int],
    budget: TokenBudget,
    queue: Callable[[list[int]], Read],
) -> NDArray[np.float64]:
    """Read a batch. If its memory ran out, compute its rows again in smaller batches."""
    of_rows = [lengths[row] for row in rows]
    try:
        return read()
    except (RuntimeError, MemoryError) as error:
        _lower(budget, of_rows, error)
    repeated = queue_batches(of_rows, budget, lambda members: queue([rows[i] for i in members]))
    parts = [(members, again()) for members, again in repeated]
    values = np.concatenate([found for _, found in parts])
    values[np.concatenate([members for members, _ in parts])] = values.copy()
    return values


def _lower(budget: TokenBudget, lengths: Sequence[int], error: BaseException) -> None:
    """Lower a budget after an error, and raise the error if it has another cause than memory."""
    if not is_out_of_memory(error):
        raise error
    budget.lower(len(lengths), max(lengths), error)


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


def read_behind(batches: Iterable[tuple[Any, Read]], n_behind: int) -> Iterator[tuple[Any, Any]]:
    """Read each batch when so many later ones are queued, which the host prepares meanwhile."""
    queued: deque[tuple[Any, Read]] = deque()
    for batch in batches:
        queued.append(batch)
        if len(queued) > n_behind:
            positions, read = queued.popleft()
            yield positions, read()
    for positions, read in queued:
        yield positions, read()
