"""Which shortcuts are exact for a model: found by trying them, not from a list of names.

Some architectures accept keyword arguments that they do not know and return wrong scores without an
error. Each shortcut is therefore compared with full prompts on the model itself before it is used.
"""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from instructclf.engine.models.placement import input_device
from instructclf.engine.running.bounds import checking_indices
from instructclf.engine.scoring.attention import PrefixAttention, attention_name
from instructclf.engine.scoring.budgets import is_fatal
from instructclf.engine.scoring.layouts import LayoutFunction, row_layout, tree_layout
from instructclf.engine.scoring.prefixes import Prefix, PrefixCache
from instructclf.engine.scoring.probes import FAILURES, Probes, length_limits, make_probes
from instructclf.engine.tokens.encoding import EncodedPrompt

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Strategy:
    """How prompts go through a model.

    Parameters
    ----------
    layout : callable
        ``tree_layout`` or ``row_layout``.
    prefix : type or None
        How rows share the tokens that all prompts begin with: ``PrefixAttention`` or
        ``PrefixCache``. With ``None`` each row computes them again.
    """

    layout: LayoutFunction
    prefix: type[Prefix] | None


FULL_PROMPTS = Strategy(row_layout, prefix=None)
"""Full prompts with causal attention: the scores that every other strategy must equal."""


_found: dict[tuple[Hashable, ...], Strategy] = {}
"""The exact strategies of architectures, below and beyond their limits. Later fits need not try."""


class Strategies:
    """The fastest exact strategy of a model, for prompts of each kind.

    Some models treat long prompts differently (a sliding window, other rotary angles). Strategies
    are tried below such a limit and beyond it.

    Parameters
    ----------
    model : torch.nn.Module
        A causal language model.
    n_prefix : int or None
        How many first tokens all prompts share. 0 tries only strategies that share no prefix.
        ``None`` tries no strategy and takes full prompts.
    prefixes : sequence of type, default=(PrefixAttention, PrefixCache)
        The ways of sharing a prefix to try, fastest first.
    """

    def __init__(
        self,
        model: Any,
        *,
        n_prefix: int | None,
        prefixes: Sequence[type[Prefix]] = (PrefixAttention, PrefixCache),
    ) -> None:
        self._model = model
        self._takes_full_prompts = n_prefix is None
        self._n_prefix = n_prefix or 0
        self._prefixes = prefixes if n_prefix else ()
        self._limits = length_limits(model.config.get_text_config())
        self._lengths = sorted(set(self._limits.values()))
        self._chosen: dict[tuple[int, bool], Strategy] = {}

    def group(self, prompts: Sequence[EncodedPrompt]) -> dict[tuple[Strategy, int], list[int]]:
        """Return the positions of prompts that may share a batch.

        The keys are their strategy and the number of limits that they pass.
        """
        groups: dict[tuple[Strategy, int], list[int]] = {}
        for position, prompt in enumerate(prompts):
            key = self.choose(prompt), self.n_limits_passed(prompt)
            groups.setdefault(key, []).append(position)
        return groups

    def n_limits_passed(self, prompt: EncodedPrompt) -> int:
        """Return how many length limits of the model a prompt passes with its longest label.

        Only prompts that pass equally many may share a batch: some models treat all rows of a batch
        as they treat its longest one.
        """
        return bisect_right(self._lengths, prompt.n_tokens + max(prompt.trie.depths))

    def choose(self, prompt: EncodedPrompt) -> Strategy:
        """Return the strategy for a prompt. The first prompt of each kind is used to try them.

        The answer is ``FULL_PROMPTS`` if no other strategy is exact.

        Raises
        ------
        ScoringError
            If the model cannot be scored: the tokens after a token change its scores, as in a model
            that is not causal, or the model needs other inputs than token ids.
        """
        if self._takes_full_prompts:
            return FULL_PROMPTS
        # A trie with a single path adds no branches: its nodes follow the text as more text would.
        kind = (self.n_limits_passed(prompt), len(prompt.trie.paths) > 1)
        if kind not in self._chosen:
            self._chosen[kind] = self._find(prompt, *kind)
        return self._chosen[kind]

    def _find(self, prompt: EncodedPrompt, n_passed: int, has_branches: bool) -> Strategy:  # noqa: FBT001
        """Return the strategy found for another view of the same architecture, or try them."""
        passed = [
            name
            for name, length in self._limits.items()
            if n_passed and length <= self._lengths[n_passed - 1]
        ]
        kind = tuple(self._prefixes), has_branches, tuple(passed)
        key = (*_architecture(self._model), *kind)
        if key not in _found:
            with torch.inference_mode(), checking_indices(input_device(self._model)):
                strategy = self._try(prompt, passed, has_branches=has_branches)
            # A failure is not remembered: it may have other reasons than the architecture, such as
            # weights that are NaN.
            if strategy is FULL_PROMPTS:
                return strategy
            _found[key] = strategy
        return _found[key]

    def _try(self, prompt: EncodedPrompt, passed: Sequence[str], *, has_branches: bool) -> Strategy:
        probes = make_probes(self._model, prompt, self._n_prefix, passed)
        if probes is None:
            _logger.debug("Full prompts: no short probe passes %s", passed)
            return FULL_PROMPTS
        takes_trees = has_branches and _reads_masks(self._model)
        for strategy in _candidates(self._prefixes, takes_trees=takes_trees):
            if _is_exact(strategy, probes):
                return strategy
        return FULL_PROMPTS


def _architecture(model: Any) -> tuple[Hashable, ...]:
    """Return everything that decides which strategies are exact: all but the values of weights."""
    weight = model.get_input_embeddings().weight
    modules = frozenset(map(type, model.modules()))  # an adapter may add kinds of modules
    config = model.config.to_json_string()
    return (
        type(model),
        modules,
        config,
        attention_name(model),
        weight.dtype,
        input_device(model).type,
    )


def _reads_masks(model: Any) -> bool:
    """Say whether attention takes any mask. Flash attention reads lengths of rows from it."""
    return "flash" not in (attention_name(model) or "")


def _candidates(prefixes: Sequence[type[Prefix]], *, takes_trees: bool) -> Iterator[Strategy]:
    layouts: Sequence[LayoutFunction] = (tree_layout, row_layout) if takes_trees else (row_layout,)
    for prefix in prefixes:
        yield from (Strategy(layout, prefix) for layout in layouts)
    if takes_trees:
        yield Strategy(tree_layout, prefix=None)


def _is_exact(strategy: Strategy, probes: Probes) -> bool:
    """Try a strategy. A model that cannot take its inputs may raise anything."""
    try:
        difference = probes.difference(strategy.layout, strategy.prefix)
    except FAILURES as error:
        if is_fatal(error):
            raise
        _logger.debug("%s cannot be used here: %s", strategy, error)
        return False
    _logger.debug("%s differs by %.2g of what rounding explains", strategy, difference)
    return difference <= 1
