"""Prompts of one fitted classifier → batches → label log-likelihoods of encoder-decoder models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instructclf.engine.models.placement import fetch
from instructclf.engine.scoring.batching import Read, queue_batches
from instructclf.engine.scoring.budgets import TokenBudget
from instructclf.engine.scoring.encoder_decoder.forward import EncoderDecoder, length_range
from instructclf.engine.tokens.encoding import EncodedPrompt

_FEWEST_TO_TRY = 8
"""How many prompts must wait before trying whether they can share a batch is worth its time."""


class EncoderDecoderReader:
    """Read the log-likelihoods of labels with an encoder-decoder model.

    Parameters
    ----------
    model : torch.nn.Module
        A view of the base model.
    start : sequence of int
        The decoder's tokens before each label.
    budget : TokenBudget
        How many tokens go through the model at once.
    """

    def __init__(self, model: Any, start: Sequence[int], budget: TokenBudget) -> None:
        self._forward = EncoderDecoder(model, start)
        self._budget = budget

    def queue(self, encoded: Sequence[EncodedPrompt]) -> Iterator[tuple[list[int], Read]]:
        """Give one batch after the other to the device. Yield positions and what reads scores.

        Raises
        ------
        ScoringError
            If tokens change the decoder's scores of those before them.
        """
        ranges: dict[int, list[int]] = {}
        for position, prompt in enumerate(encoded):
            ranges.setdefault(length_range(prompt), []).append(position)
        for positions in ranges.values():
            prompts = [encoded[position] for position in positions]
            budget = self._budget if self._can_batch(prompts) else TokenBudget(1)

            def queue(members: list[int], prompts: list[EncodedPrompt] = prompts) -> Read:
                return self._score([prompts[member] for member in members])

            lengths = [prompt.n_tokens for prompt in prompts]
            for members, read in queue_batches(lengths, budget, queue):
                yield [positions[member] for member in members], read

    def score_edges(self, prompt: EncodedPrompt) -> NDArray[np.float64]:
        """Return the log-likelihood of each edge of a prompt's trie, of shape (n_edges,)."""
        return fetch(self._forward.edge_log_likelihoods([prompt], self._budget.n_tokens))()

    def score_after_part(self, prompt: EncodedPrompt) -> NDArray[np.float64]:
        """Return the scores of a prompt, of shape (n_labels,)."""
        return self._score([prompt])()[0]

    def n_shared(self, prompt: EncodedPrompt) -> int:  # noqa: ARG002  (the same for all prompts)
        """Return how many tokens of a prompt are computed once for several texts: none."""
        return 0

    def _score(self, batch: Sequence[EncodedPrompt]) -> Read:
        return fetch(self._forward.label_log_likelihoods(batch, self._budget.n_tokens))

    def _can_batch(self, prompts: Sequence[EncodedPrompt]) -> bool:
        """Say whether prompts of about this length may share a batch. Few are not worth a try."""
        is_worth_a_try = len(prompts) >= _FEWEST_TO_TRY or self._forward.was_tried(prompts[0])
        return is_worth_a_try and self._forward.may_share_batch(prompts)
