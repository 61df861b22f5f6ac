"""Prompts → the outputs of the frozen layers, computed once and read again in every epoch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from instructclf.engine.models.placement import send_integers
from instructclf.engine.scoring.budgets import free_memory, is_fatal, is_out_of_memory
from instructclf.engine.scoring.forward import label_log_likelihoods, node_states
from instructclf.engine.scoring.layouts import Layout, LayoutFunction
from instructclf.engine.scoring.prefixes import Prefix
from instructclf.engine.scoring.probes import FAILURES, measure_tolerance, read_probes
from instructclf.engine.scoring.strategies import Strategy
from instructclf.engine.scoring.vocabulary import find_vocabulary
from instructclf.engine.tokens.encoding import EncodedPrompt
from instructclf.engine.tuning.frozen_layers import FrozenLayers
from instructclf.engine.tuning.tuned_prefixes import DifferentiablePrefixAttention
from instructclf.exceptions import ScoringError

_logger = logging.getLogger(__name__)

_SHARE_OF_FREE_MEMORY = 0.25
"""The most memory that stored hidden states may take."""

Batches = Sequence[tuple[Strategy, Sequence[EncodedPrompt]]]
"""Prompts that go through the model together, and their strategy."""


class Replay:
    """Stores the outputs of the frozen layers, and scores prompts from them.

    Parameters
    ----------
    model : torch.nn.Module
        A view of a causal language model.
    n_frozen : int
        How many of its lower layers are frozen. At least one.
    prefix_ids : list of int
        The tokens that all prompts begin with, or none.
    """

    def __init__(self, model: Any, n_frozen: int, prefix_ids: list[int]) -> None:
        self._model = model
        self._frozen = FrozenLayers(model, n_frozen)
        self._prefix_ids = prefix_ids
        self._prefix: Tensor | None = None
        self._hidden: dict[EncodedPrompt, Tensor] = {}

    @torch.no_grad()
    def store(self, batches: Batches) -> dict[type[Prefix] | None, Prefix | None]:
        """Run the frozen layers on the prefix and on all prompts.

        Return the prefixes that the whole model has made, one of each kind that strategies use.
        """
        prefixes: dict[type[Prefix] | None, Prefix | None] = {None: None}
        for strategy, prompts in batches:
            kind = strategy.prefix
            if kind is not None and kind not in prefixes:
                # Made twice: a forward pass that is recorded ends before the tuned layers, and the
                # prompts below need the keys and values of the frozen layers.
                self._prefix = self._frozen.record(partial(kind, self._model, self._prefix_ids))
                prefixes[kind] = kind(self._model, self._prefix_ids)
            layout = _LastLayout(strategy.layout)
            forward = partial(node_states, self._model, prompts, layout, prefixes[kind])
            hidden = self._frozen.record(forward)
            self._hidden |= zip(prompts, _split(hidden, layout.last), strict=True)
        return prefixes

    def compute_prefix(self, kind: type[Prefix]) -> Prefix:
        """Return the prefix as the tuned layers see it."""
        with self._frozen.replaying(self._stored_prefix):
            return kind(self._model, self._prefix_ids)

    def label_log_likelihoods(
        self,
        batch: Sequence[EncodedPrompt],
        layout: LayoutFunction,
        prefix: Prefix | None,
        read: Callable[..., Tensor] = label_log_likelihoods,
    ) -> Tensor:
        """Return what the function of this name returns, from a run of the tuned layers alone.

        The prompts must be stored, and with this layout. ``prefix`` is the result of
        `compute_prefix`, if the strategy shares a prefix. ``read`` takes the place of the function.
        """
        # The layout is made inside the forward pass, so the hidden states are padded only then.
        remembered = _LastLayout(layout)
        with self._frozen.replaying(lambda: self._restore(batch, remembered.last)):
            return read(self._model, batch, remembered, prefix)

    def _stored_prefix(self) -> Tensor:
        if self._prefix is None:
            msg = "No prefix was stored."
            raise ScoringError(msg)
        return self._prefix

    def _restore(self, batch: Sequence[EncodedPrompt], layout: Layout) -> Tensor:
        """Return the hidden states of a batch, with zeros where its layout has padding."""
        stored = torch.cat([self._hidden[prompt] for prompt in batch])
        hidden = stored.new_zeros(layout.input_ids.numel(), stored.shape[-1])
        hidden[_places(layout, hidden.device)] = stored
        return hidden.view(*layout.input_ids.shape, -1)


def make_replay(
    model: Any, n_frozen: int, prefix_ids: list[int], batches: Batches
) -> Replay | None:
    """Store the outputs of the frozen layers, if they fit and give the same scores.

    ``None`` if the frozen layers have to run in every epoch: because their number is 0, a strategy
    shares the prefix in a cache, memory is short, or the architecture prevents it. All prompts
    begin with ``prefix_ids``, which may be empty.
    """
    prefix_kinds = {strategy.prefix for strategy, _ in batches}
    if n_frozen == 0 or not prefix_kinds <= {None, DifferentiablePrefixAttention}:
        return None
    if not _fits(model, batches, len(prefix_ids)):
        _logger.info("Outputs of the frozen layers take too much memory: they run in every epoch")
        return None
    find_vocabulary(model)  # runs the model once, which has to happen before layers are replaced
    replay = Replay(model, n_frozen, prefix_ids)
    try:
        prefixes = replay.store(batches)
        strategy, prompts = batches[0]
        # The first and the last one differ most in length, so the shorter one is padded.
        few = prompts if len(prompts) == 1 else [prompts[0], prompts[-1]]
        difference = _difference(model, replay, strategy, few, prefixes[strategy.prefix])
    except FAILURES as error:
        if is_fatal(error) and not is_out_of_memory(error):
            raise
        _logger.debug("The frozen layers cannot be replayed: %s", error)
        return None
    _logger.debug("Replayed scores differ by %.2g of what rounding explains", difference)
    return replay if difference <= 1 else None


@torch.no_grad()
def _difference(
    model: Any,
    replay: Replay,
    strategy: Strategy,
    prompts: Sequence[EncodedPrompt],
    prefix: Prefix | None,
) -> float:
    """Return how much replayed scores differ from those of the whole model, as `Tolerance` says."""

    def run() -> Tensor:
        return read_probes(model, prompts, strategy.layout, prefix)

    expected = run()
    replayed = None if strategy.prefix is None else replay.compute_prefix(strategy.prefix)
    found = replay.label_log_likelihoods(prompts, strategy.layout, replayed, read_probes)
    return measure_tolerance(model, run, expected).measure(found, expected)


def _fits(model: Any, batches: Batches, n_prefix: int) -> bool:
    weight = model.get_input_embeddings().weight
    free = free_memory(weight.device)
    if free is None:
        return True
    n_tokens = sum(
        (prompt.n_tokens - (0 if strategy.prefix is None else n_prefix)) * len(prompt.trie.paths)
        + len(prompt.trie.tokens)
        for strategy, prompts in batches
        for prompt in prompts
    )
    width = model.config.get_text_config().hidden_size
    return n_tokens * width * weight.itemsize <= _SHARE_OF_FREE_MEMORY * free


class _LastLayout:
    """A layout function that remembers its last result."""

    def __init__(self, function: LayoutFunction) -> None:
        self._function = function
        self.last: Layout

    def __call__(self, batch: Sequence[EncodedPrompt], **options: Any) -> Layout:
        self.last = self._function(batch, **options)
        return self.last


def _split(hidden: Tensor, layout: Layout) -> list[Tensor]:
    """Return the hidden states of each text, without those of padding."""
    n_real = layout.is_real.sum(dim=1).tolist()
    # The rows of a text follow each other, so those of text i end where those of i + 1 begin.
    starts = [*layout.rows[:, 0].tolist(), len(n_real)]
    sizes = [sum(n_real[start:end]) for start, end in pairwise(starts)]
    real = hidden.flatten(0, 1)[_places(layout, hidden.device)]
    return [part.clone() for part in real.split(sizes)]


def _places(layout: Layout, device: torch.device) -> Tensor:
    """Return where the tokens of a layout are in its rows joined end to end, of shape (n_tokens,).

    A mask would say the same, but its length on a device is known only after a wait.
    """
    (places,) = send_integers(device, layout.is_real.flatten().nonzero()[:, 0])
    return places
