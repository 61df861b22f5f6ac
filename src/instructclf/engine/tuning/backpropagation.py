"""Batches of examples → gradients of the adapter, those of full prompts at a fraction of the work.

The prefix that all prompts share goes through the model once per batch, in both directions. Rows
follow in parts of like length, since gradients add up. Layers below the tuned ones are replayed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from instructclf.engine.models.decoder_layers import gradient_checkpointing, named_decoder_layers
from instructclf.engine.scoring.batching import token_batches
from instructclf.engine.scoring.budgets import TokenBudget, free_memory, inner_width, make_budget
from instructclf.engine.scoring.forward import label_log_likelihoods
from instructclf.engine.scoring.strategies import Strategies, Strategy
from instructclf.engine.tuning.examples import Example, response_losses
from instructclf.engine.tuning.replay import Replay, make_replay
from instructclf.engine.tuning.tuned_prefixes import (
    DifferentiablePrefix,
    DifferentiablePrefixAttention,
)

_SHARE_OF_FREE_MEMORY = 0.5
_WIDTHS_KEPT = 16
_INNER_WIDTHS_KEPT = 6
"""What a layer keeps of each token for its backward pass, in widths of its hidden state and of its
feed-forward layer: inputs of norms, projections, updates, attention and activations."""


@dataclass(frozen=True)
class BackpropagationSettings:
    """How gradients are computed. It decides speed and memory only.

    Parameters
    ----------
    n_frozen_layers : int
        How many of the lower layers are not tuned.
    n_epochs : int
        How many times each example will be used at most.
    max_batch_tokens : int or None
        How many tokens go through the model at once.
    gradient_checkpointing : bool
        Whether layers run again in the backward pass, so that it takes less memory.
    """

    n_frozen_layers: int
    n_epochs: int
    max_batch_tokens: int | None
    gradient_checkpointing: bool


def _as_it_is(loss: Tensor) -> Tensor:
    return loss


class Backpropagation:
    """Compute the gradients of batches of examples.

    Parameters
    ----------
    model : torch.nn.Module
        A view of a causal language model with weights to train.
    examples : sequence of Example
        All examples.
    prefix_ids : list of int
        The tokens that all their prompts begin with, or none.
    settings : BackpropagationSettings
        How gradients are computed.
    """

    def __init__(
        self,
        model: Any,
        examples: Sequence[Example],
        prefix_ids: list[int],
        settings: BackpropagationSettings,
    ) -> None:
        self._model = model
        self._examples = examples
        self._prefix_ids = prefix_ids
        self._settings = settings
        self._budget = TokenBudget(_token_budget(model, settings))
        self._n_tokens_at_first = self._budget.n_tokens
        kinds = [DifferentiablePrefixAttention, DifferentiablePrefix]
        # A cache that layers append to would be appended to again when they run again.
        self._strategies = Strategies(
            model,
            n_prefix=len(prefix_ids),
            prefixes=kinds[:1] if settings.gradient_checkpointing else kinds,
        )
        self._replay: Replay | None = None

    @contextmanager
    def prepared(self, earlier: Mapping[str, Any] | None = None) -> Iterator[None]:
        """Change how the model runs, and store what can be stored, for as long as this lasts.

        Parameters
        ----------
        earlier : mapping or None, default=None
            What `state` returned in a process that was cut off: sums are split as they were there,
            whatever memory is free now, so that they come out the same to the last bit.

        Yields
        ------
        None
            Meanwhile gradients can be found.
        """
        if earlier is not None:
            self._n_tokens_at_first = self._budget.n_tokens = earlier["n_tokens_at_first"]
        with ExitStack() as stack:
            stack.enter_context(_keeping_attention(self._model))
            if self._settings.gradient_checkpointing:
                stack.enter_context(gradient_checkpointing(self._model))
            stack.callback(self._forget)
            for example in self._examples:  # trying them out must not draw what dropout will draw
                self._strategies.choose(example.prompt)
            if self._settings.n_frozen_layers and self._settings.n_epochs > 1:
                self._replay = self._make_replay(earlier)
            if earlier is not None:
                self._budget.n_tokens = earlier["n_tokens"]
            yield

    def state(self) -> dict[str, Any]:
        """Return how sums are split and what is stored, which decides how they are rounded."""
        return {
            "n_tokens_at_first": self._n_tokens_at_first,
            "n_tokens": self._budget.n_tokens,
            "replays": self._replay is not None,
        }

    def __call__(
        self,
        batch: Sequence[Example],
        scaled: Callable[[Tensor], Tensor] = _as_it_is,
        n_rows: int | None = None,
    ) -> Tensor:
        """Add the gradients of a batch's weighted losses, divided by its size, to the weights'.

        Parameters
        ----------
        batch : sequence of Example
            The examples.
        scaled : callable, default=the identity
            Scales a loss up, where its gradients would be too small for the data type.
        n_rows : int or None, default=None
            The size to divide by, where this is only a part of a batch.

        Returns
        -------
        Tensor of shape (2,)
            The weighted sums over the batch of the loss and of what tells the labels apart.
        """
        prefixes: dict[Any, Any] = {None: None}
        sums = torch.zeros(2, dtype=torch.float32, device=self._model.device)
        for strategy, part in self._micro_batches(batch):
            kind = strategy.prefix
            if kind not in prefixes:
                prefixes[kind] = self._compute_prefix(kind)
            scores = self._label_log_likelihoods(part, strategy, prefixes[kind])
            weights = scores.new_tensor([example.weight for example in part])
            loss, label_loss = (weights @ losses for losses in response_losses(scores, part))
            scaled(loss / (n_rows or len(batch))).backward()
            sums = sums + torch.stack([loss, label_loss]).detach()
        for prefix in prefixes.values():
            if prefix is not None:
                prefix.backward()
        return sums

    def take_less(self, batch: Sequence[Example], error: BaseException) -> None:
        """Send fewer tokens through the model at once, after a batch ran out of memory.

        Parameters
        ----------
        batch : sequence of Example
            The batch.
        error : BaseException
            What was raised.

        Raises
        ------
        ScoringError
            If its examples went through one by one already.
        """
        parts = [
            (len(part), max(self._n_own_tokens(example, strategy) for example in part))
            for strategy, part in self._micro_batches(batch)
        ]
        self._budget.lower(*max(parts, key=lambda part: part[0] * part[1]), error)

    def _compute_prefix(self, kind: Any) -> Any:
        if self._replay is not None:
            return self._replay.compute_prefix(kind)
        return kind(self._model, self._prefix_ids)

    def _label_log_likelihoods(
        self, part: Sequence[Example], strategy: Strategy, prefix: Any
    ) -> Tensor:
        prompts = [example.prompt for example in part]
        if self._replay is not None:
            return self._replay.label_log_likelihoods(prompts, strategy.layout, prefix)
        return label_log_likelihoods(self._model, prompts, strategy.layout, prefix)

    def _micro_batches(self, batch: Sequence[Example]) -> Iterator[tuple[Strategy, list[Example]]]:
        """Split a batch by length: sums of gradients stay the same, and padding goes."""
        groups: dict[tuple[Strategy, int], list[Example]] = {}
        for example in batch:
            strategy = self._strategies.choose(example.prompt)
            n_passed = self._strategies.n_limits_passed(example.prompt)
            groups.setdefault((strategy, n_passed), []).append(example)
        for (strategy, _), group in groups.items():
            lengths = [self._n_own_tokens(example, strategy) for example in group]
            for members in token_batches(lengths, self._budget.n_tokens):
                yield strategy, [group[member] for member in members]

    def _n_own_tokens(self, example: Example, strategy: Strategy) -> int:
        n_shared = 0 if strategy.prefix is None else len(self._prefix_ids)
        return example.prompt.n_tokens + len(example.prompt.trie.tokens) - n_shared

    def _make_replay(self, earlier: Mapping[str, Any] | None) -> Replay | None:
        if earlier is not None and not earlier["replays"]:
            return None
        batches = [
            (strategy, [example.prompt for example in part])
            for strategy, part in self._micro_batches(self._examples)
        ]
        return make_replay(self._model, self._settings.n_frozen_layers, self._prefix_ids, batches)

    def _forget(self) -> None:
        self._replay = None


@contextmanager
def _keeping_attention(model: Any) -> Iterator[None]:
    """Give back the attention function that a view has now, which prediction extends in its way."""
    before = getattr(model.config, "_attn_implementation", None)
    try:
        yield
    finally:
        if getattr(model.config, "_attn_implementation", None) != before:
            model.set_attn_implementation(before)


def _token_budget(model: Any, settings: BackpropagationSettings) -> int:
    """Return how many tokens go through the model at once: all tuned layers keep what they did."""
    budget = make_budget(model, settings.max_batch_tokens).n_tokens
    free = free_memory(model.device)
    n_kept = len(named_decoder_layers(model)) - settings.n_frozen_layers
    if settings.max_batch_tokens is not None or free is None or settings.gradient_checkpointing:
        return budget
    config = model.config.get_text_config()
    hidden = config.hidden_size
    n_widths = _WIDTHS_KEPT * hidden + _INNER_WIDTHS_KEPT * inner_width(config, hidden)
    n_bytes = max(n_kept, 1) * n_widths * model.get_input_embeddings().weight.itemsize
    return max(1, min(budget, int(free * _SHARE_OF_FREE_MEMORY / n_bytes)))
