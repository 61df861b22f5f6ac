"""Batches of examples → gradients of the adapter, with a model whose encoder reads the prompts.

Each prompt goes through the encoder whole, since one that reads in both directions shares nothing
between prompts. A batch is split into parts of similar length, whose gradients add up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from instructclf.engine.models.decoder_layers import gradient_checkpointing, stacked_layers
from instructclf.engine.scoring.batching import token_batches
from instructclf.engine.scoring.budgets import make_tuning_budget
from instructclf.engine.scoring.encoder_decoder.forward import EncoderDecoder, length_range
from instructclf.engine.tokens.encoding import EncodedPrompt
from instructclf.engine.tuning.examples import Example, send_gradients

_PRICE_OF_A_PATH = 1 / 8
"""The cost of a prompt's keys and values, which each path of the labels' trie computes anew, as a
share of that of the prompt in the encoder: two of about sixteen products of a layer."""


class EncoderDecoderBackpropagation:
    """Compute the gradients of batches of examples.

    Parameters
    ----------
    model : torch.nn.Module
        A view of an encoder-decoder language model with weights to train.
    examples : sequence of Example
        All examples.
    start : sequence of int
        The decoder's tokens before each label.
    max_batch_tokens : int or None
        How many tokens go through the model at once. ``None`` takes what suits the device.
    gradient_checkpointing : bool
        Whether layers run again in the backward pass, which takes less memory and more time.
    """

    def __init__(
        self,
        model: Any,
        examples: Sequence[Example],
        start: Sequence[int],
        *,
        max_batch_tokens: int | None,
        gradient_checkpointing: bool,
    ) -> None:
        self._model = model
        self._examples = examples
        self._forward = EncoderDecoder(model, start)
        self._checkpoints = gradient_checkpointing
        self._budget = make_tuning_budget(
            model,
            max_batch_tokens,
            n_tuned_layers=len(stacked_layers(model.get_encoder())),
            keeps_activations=not gradient_checkpointing,
        )

    @contextmanager
    def prepared(self, earlier: Mapping[str, Any] | None = None) -> Iterator[None]:
        """Find out which prompts may share a batch, for calls inside the block.

        ``earlier`` is the result of `state` in a run that was interrupted. Batches are then split
        as they were there, however much memory is free now, so that sums are equal to the last bit.

        Raises
        ------
        ScoringError
            If the model cannot score labels.
        """
        # Tried before dropout is switched on, which would draw random numbers.
        with torch.no_grad():
            for prompts in self._prompts_by_length():
                self._forward.may_share_batch(prompts)
        with ExitStack() as stack:
            if self._checkpoints:
                stack.enter_context(gradient_checkpointing(stacked_layers(self._model)))
            if earlier is not None:
                self._budget.n_tokens = earlier["n_tokens"]
            yield

    def state(self) -> dict[str, Any]:
        """Return how batches are split, which decides rounding."""
        return {"n_tokens": self._budget.n_tokens}

    def __call__(
        self,
        batch: Sequence[Example],
        scale: Callable[[Tensor], Tensor] | None = None,
        n_rows: int | None = None,
    ) -> Tensor:
        """Compute the gradient of a batch's mean weighted loss, and add it to those of the weights.

        ``scale`` scales a loss up, whose gradients would be too small for the data type otherwise.
        ``n_rows=None`` divides by the number of examples in the batch, which may be only this
        process's part of a larger one. Returns weighted sums of both results of
        `response_losses` over the batch, of shape (2,).
        """
        sums = torch.zeros(2, dtype=torch.float32, device=self._model.device)
        for part in self._micro_batches(batch):
            scores = self._forward.label_log_likelihoods([example.prompt for example in part])
            sums = sums + send_gradients(scores, part, n_rows or len(batch), scale)
        return sums

    def take_less(self, batch: Sequence[Example], error: BaseException) -> None:
        """Send fewer tokens through the model at once, after a batch ran out of memory.

        Raises
        ------
        ScoringError
            If the examples of the batch went through the model one by one already.
        """
        parts = [
            (len(part), max(_n_computed(example.prompt) for example in part))
            for part in self._micro_batches(batch)
        ]
        self._budget.lower(*max(parts, key=lambda part: part[0] * part[1]), error)

    def _prompts_by_length(self) -> Iterator[list[EncodedPrompt]]:
        for group in _by_length(self._examples):
            yield [example.prompt for example in group]

    def _micro_batches(self, batch: Sequence[Example]) -> Iterator[list[Example]]:
        """Split a batch into parts of similar length, which need little padding."""
        for group in _by_length(batch):
            prompts = [example.prompt for example in group]
            is_shared = self._forward.may_share_batch(prompts)
            lengths = [_n_computed(prompt) for prompt in prompts]
            for members in token_batches(lengths, self._budget.n_tokens if is_shared else 1):
                yield [group[member] for member in members]


def _by_length(examples: Sequence[Example]) -> list[list[Example]]:
    """Return the examples in each range of lengths that may share a batch."""
    groups: dict[int, list[Example]] = {}
    for example in examples:
        groups.setdefault(length_range(example.prompt), []).append(example)
    return list(groups.values())


def _n_computed(prompt: EncodedPrompt) -> int:
    """Return how many tokens a prompt counts for: its own, and those of all rows of the decoder."""
    paths = prompt.trie.paths
    of_decoder = len(paths) * (1 + max(map(len, paths)))
    return round(prompt.n_tokens * (1 + _PRICE_OF_A_PATH * len(paths))) + of_decoder
