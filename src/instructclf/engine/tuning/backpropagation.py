"""Batches of examples → gradients of the adapter, equal to those of full prompts.

They take a fraction of the work. The prefix that all prompts share goes through the model once for
each batch, forward and backward. Rows follow in parts of similar length, which is possible because
gradients add up. Layers below the tuned ones are replayed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from instructclf.engine.models.decoder_layers import gradient_checkpointing, named_decoder_layers
from instructclf.engine.scoring.batching import count_computed_tokens, token_batches
from instructclf.engine.scoring.budgets import make_tuning_budget, tokens_of_a_copy
from instructclf.engine.scoring.forward import label_log_likelihoods
from instructclf.engine.scoring.strategies import Strategies, Strategy
from instructclf.engine.scoring.vocabulary import find_vocabulary
from instructclf.engine.tuning.examples import Example, send_gradients
from instructclf.engine.tuning.replay import Replay, make_replay
from instructclf.engine.tuning.tuned_prefixes import (
    DifferentiablePrefix,
    DifferentiablePrefixAttention,
)


class Backpropagation:
    """Compute the gradients of batches of examples.

    Parameters
    ----------
    model : torch.nn.Module
        A view of a causal language model with weights to train.
    examples : sequence of Example
        All examples.
    prefix_ids : list of int
        The tokens that all prompts begin with, or none.
    n_frozen_layers : int
        How many of the lower layers are not tuned.
    n_epochs : int
        How many times each example will be used at most.
    max_batch_tokens : int or None
        How many tokens go through the model at once. ``None`` takes what suits the device.
    gradient_checkpointing : bool
        Whether layers run again in the backward pass, which takes less memory and more time.
    """

    def __init__(
        self,
        model: Any,
        examples: Sequence[Example],
        prefix_ids: list[int],
        *,
        n_frozen_layers: int,
        n_epochs: int,
        max_batch_tokens: int | None,
        gradient_checkpointing: bool,
    ) -> None:
        self._model = model
        self._examples = examples
        self._prefix_ids = prefix_ids
        self._n_frozen_layers = n_frozen_layers
        self._n_epochs = n_epochs
        self._checkpoints = gradient_checkpointing
        self._budget = make_tuning_budget(
            model,
            max_batch_tokens,
            n_tuned_layers=len(named_decoder_layers(model)) - n_frozen_layers,
            keeps_activations=not gradient_checkpointing,
        )
        self._n_tokens_at_first = self._budget.n_tokens
        self._n_tokens_of_a_copy = tokens_of_a_copy(model, self._budget, len(prefix_ids))
        kinds = [DifferentiablePrefixAttention, DifferentiablePrefix]
        # Layers that run again in the backward pass would append to a cache twice.
        self._strategies = Strategies(
            model,
            n_prefix=len(prefix_ids),
            prefixes=kinds[:1] if gradient_checkpointing else kinds,
        )
        self._replay: Replay | None = None

    @contextmanager
    def prepared(self, earlier: Mapping[str, Any] | None = None) -> Iterator[None]:
        """Prepare the model and store outputs of frozen layers, for calls inside the block.

        ``earlier`` is the result of `state` in a run that was interrupted. Batches are then split
        as they were there, however much memory is free now, so that sums are equal to the last bit.
        """
        if earlier is not None:
            self._n_tokens_at_first = self._budget.n_tokens = earlier["n_tokens_at_first"]
            self._n_tokens_of_a_copy = earlier["n_tokens_of_a_copy"]
        with ExitStack() as stack:
            stack.enter_context(_restoring_attention(self._model))
            # Strategies are tried before dropout is switched on, which would draw random numbers,
            # and before layers are wrapped: copies of wrapped layers would run the original ones.
            for example in self._examples:
                self._strategies.choose(example.prompt)
            if self._checkpoints:
                layers = named_decoder_layers(self._model).values()
                stack.enter_context(gradient_checkpointing(layers))
            stack.callback(self._forget)
            with torch.no_grad():
                find_vocabulary(self._model)  # which runs the model the first time
            if self._n_frozen_layers and self._n_epochs > 1:
                self._replay = self._make_replay(earlier)
            if earlier is not None:
                self._budget.n_tokens = earlier["n_tokens"]
            yield

    def state(self) -> dict[str, Any]:
        """Return how batches are split and whether layers are replayed, which decides rounding."""
        return {
            "n_tokens_at_first": self._n_tokens_at_first,
            "n_tokens_of_a_copy": self._n_tokens_of_a_copy,
            "n_tokens": self._budget.n_tokens,
            "replays": self._replay is not None,
        }

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
        prefixes: dict[Any, Any] = {None: None}
        weights = [weight for weight in self._model.parameters() if weight.requires_grad]
        sums = torch.zeros(2, dtype=torch.float32, device=self._model.device)
        for strategy, part in self._micro_batches(batch):
            kind = strategy.prefix
            if kind not in prefixes:
                prefixes[kind] = self._compute_prefix(kind)
            scores = self._label_log_likelihoods(part, strategy, prefixes[kind])
            with _adding_gradients(weights):
                sums = sums + send_gradients(scores, part, n_rows or len(batch), scale)
        for prefix in prefixes.values():  # now that all rows have sent their gradients to it
            if prefix is not None:
                with _adding_gradients(weights):
                    prefix.backward()
        return sums

    def take_less(self, batch: Sequence[Example], error: BaseException) -> None:
        """Send fewer tokens through the model at once, after a batch ran out of memory.

        Raises
        ------
        ScoringError
            If the examples of the batch went through the model one by one already.
        """
        parts = [
            (len(part), max(self._lengths(part, strategy)))
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
        """Split a batch into parts of similar length, which need little padding."""
        groups = self._strategies.group([example.prompt for example in batch])
        for (strategy, _), positions in groups.items():
            group = [batch[position] for position in positions]
            lengths = self._lengths(group, strategy)
            for members in token_batches(lengths, self._budget.n_tokens):
                yield strategy, [group[member] for member in members]

    def _lengths(self, examples: Sequence[Example], strategy: Strategy) -> list[int]:
        """Return the length of each example, as it counts for the budget."""
        n_shared = 0 if strategy.prefix is None else len(self._prefix_ids)
        prompts = [example.prompt for example in examples]
        counts = count_computed_tokens(prompts, n_shared, repeats_text=False)
        is_copied = strategy.prefix is not None and strategy.prefix.is_in_mask
        least = self._n_tokens_of_a_copy if is_copied else 0
        # The root of a trie has no token. It is counted here all the same: without it, batches
        # would be split differently, and adapters would differ in the last bits from earlier ones.
        return [max(count + 1, least) for count in counts]

    def _make_replay(self, earlier: Mapping[str, Any] | None) -> Replay | None:
        if earlier is not None and not earlier["replays"]:
            return None
        batches = [
            (strategy, [example.prompt for example in part])
            for strategy, part in self._micro_batches(self._examples)
        ]
        return make_replay(self._model, self._n_frozen_layers, self._prefix_ids, batches)

    def _forget(self) -> None:
        self._replay = None


@contextmanager
def _adding_gradients(weights: Sequence[Tensor]) -> Iterator[None]:
    """Add the gradients of a backward pass to earlier ones, in one launch for all of a device.

    Autograd would take one for each.
    """
    earlier = [weight.grad for weight in weights]
    for weight in weights:
        weight.grad = None
    yield
    pairs: dict[torch.device, list[tuple[Tensor, Tensor]]] = {}
    for weight, before in zip(weights, earlier, strict=True):
        if before is not None:
            if weight.grad is not None:
                pairs.setdefault(weight.device, []).append((before, weight.grad))
            weight.grad = before
    for of_device in pairs.values():
        sums, added = (list(each) for each in zip(*of_device, strict=True))
        torch._foreach_add_(sums, added)  # pyright: ignore[reportPrivateImportUsage]


@contextmanager
def _restoring_attention(model: Any) -> Iterator[None]:
    """Restore the view's attention function, which prediction extends in another way."""
    before = getattr(model.config, "_attn_implementation", None)
    try:
        yield
    finally:
        if getattr(model.config, "_attn_implementation", None) != before:
            model.set_attn_implementation(before)
