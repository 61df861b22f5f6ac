"""Encoded prompts that begin alike → label log-likelihoods, each batch in the fastest exact way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from instructclf.engine.running.locks import ProcessLock
from instructclf.engine.scoring.batching import run_in_batches
from instructclf.engine.scoring.budgets import TokenBudget
from instructclf.engine.scoring.forward import edge_log_likelihoods, label_log_likelihoods
from instructclf.engine.scoring.prefixes import Prefix
from instructclf.engine.scoring.strategies import PLAIN, Strategies, Strategy
from instructclf.engine.tokens.encoding import EncodedPrompt


class PrefixScorer:
    """Score the labels after prompts that begin with the same tokens.

    Parameters
    ----------
    model : torch.nn.Module
        A view of the base model, with an adapter or without.
    ids : sequence of int or None
        The tokens that the prompts begin with, computed once. ``None`` sends full prompts through
        the model, in the plain way.
    budget : TokenBudget
        How many tokens go through the model at once.
    read : callable, default=label_log_likelihoods
        What ``score`` reads of a batch, with the parameters of that function.
    """

    def __init__(
        self,
        model: Any,
        ids: Sequence[int] | None,
        budget: TokenBudget,
        read: Callable[..., Tensor] = label_log_likelihoods,
    ) -> None:
        self.model = model
        self.budget = budget
        self._read = read
        self._ids = ids
        self._prefixes: dict[type[Prefix], Prefix] = {}
        self._preparing = ProcessLock()

    def score(
        self, encoded: Sequence[EncodedPrompt]
    ) -> Iterable[tuple[list[int], NDArray[np.float64]]]:
        """Yield positions and what is read of each, (n_positions, n_labels), batch after batch."""
        for (strategy, _), positions in self._group(encoded).items():
            yield from self._score_group(encoded, positions, strategy)

    def score_part(self, prompt: EncodedPrompt) -> NDArray[np.float64]:
        """Score a prompt that shares only the beginning of the prefix, if that can be parted."""
        strategy = self._choose(prompt) if prompt.prefix else PLAIN
        prefix = self._prefix(strategy)
        part = None if prefix is None else prefix.first(len(prompt.prefix))
        if part is None:
            strategy = PLAIN
        return _to_numpy(label_log_likelihoods(self.model, [prompt], strategy.layout, part))[0]

    def score_edges(self, prompt: EncodedPrompt) -> NDArray[np.float64]:
        """Return the log-likelihood of each edge of a prompt's trie, of shape (n_edges,)."""
        strategy = self._choose(prompt)
        prefix = self._prefix(strategy)
        return _to_numpy(edge_log_likelihoods(self.model, prompt, strategy.layout, prefix))

    def regime(self, prompt: EncodedPrompt) -> int:
        """Return how many limits a prompt passes at which the model treats it in another way."""
        return self._strategies.regime(prompt)

    def n_shared(self, prompt: EncodedPrompt) -> int:
        """Return how many first tokens of a prompt are not computed again."""
        prefix = self._prefix(self._choose(prompt))
        return 0 if prefix is None else prefix.length

    def _score_group(
        self, encoded: Sequence[EncodedPrompt], positions: list[int], strategy: Strategy
    ) -> Iterable[tuple[list[int], NDArray[np.float64]]]:
        """Yield positions and their scores, of prompts that go through the model in one way."""
        prefix = self._prefix(strategy)

        def score(members: list[int]) -> NDArray[np.float64]:
            batch = [encoded[positions[member]] for member in members]
            return _to_numpy(self._read(self.model, batch, strategy.layout, prefix))

        n_prefix = 0 if prefix is None else prefix.length
        lengths = [self._cost(encoded[i], strategy, n_prefix) for i in positions]
        for members, values in run_in_batches(lengths, self.budget, score):
            yield [positions[member] for member in members], values

    def _group(self, encoded: Sequence[EncodedPrompt]) -> dict[tuple[Strategy, int], list[int]]:
        """Return the positions of prompts that may share a batch, for each strategy and regime."""
        groups: dict[tuple[Strategy, int], list[int]] = {}
        for position, prompt in enumerate(encoded):
            groups.setdefault((self._choose(prompt), self.regime(prompt)), []).append(position)
        return groups

    @staticmethod
    def _cost(prompt: EncodedPrompt, strategy: Strategy, n_prefix: int) -> int:
        """Return how many tokens a prompt sends through the model."""
        own = prompt.n_tokens - n_prefix
        if strategy is PLAIN:
            return own * len(prompt.trie.paths)
        return own + len(prompt.trie.tokens) - 1

    @cached_property
    def _strategies(self) -> Strategies:
        return Strategies(self.model, n_prefix=len(self._ids or ()))

    def _choose(self, prompt: EncodedPrompt) -> Strategy:
        if self._ids is None:
            return PLAIN
        with self._preparing:  # the first prompt of a kind is tried out, once for all threads
            return self._strategies.choose(prompt)

    def _prefix(self, strategy: Strategy) -> Prefix | None:
        """Return the prefix as a strategy shares it, computed at its first use."""
        kind = strategy.prefix
        if kind is None:
            return None
        with self._preparing:
            if kind not in self._prefixes:
                self._prefixes[kind] = kind(self.model, list(self._ids or ()))
            return self._prefixes[kind]


def _to_numpy(values: Tensor) -> NDArray[np.float64]:
    return values.cpu().double().numpy()
