"""Which shortcuts are exact for this model: found out by trying them, not from a list of names.

Some architectures swallow keyword arguments they do not know and return wrong scores without an
error, so each shortcut is compared with plain full prompts before it is used.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from instructclf.engine.encoding import EncodedPrompt
from instructclf.engine.forward import label_log_likelihoods
from instructclf.engine.layouts import LayoutFunction, row_layout, tree_layout
from instructclf.engine.prefixes import Prefix, PrefixAttention, PrefixCache
from instructclf.exceptions import ScoringError

_logger = logging.getLogger(__name__)

_N_PREFIX, _N_OWN = 40, 10
"""Tokens of a probe: enough to tell a wrong mask or position from a right one."""
_LENGTH_LIMITS = (
    "sliding_window",
    "attention_chunk_size",
    "original_max_position_embeddings",
    "attention_window_size",
    "window_size",
)
"""Configuration entries at which attention or positions change: shorter probes prove nothing."""


@dataclass(frozen=True)
class Strategy:
    """How prompts go through a model.

    Parameters
    ----------
    layout : callable
        ``tree_layout`` or ``row_layout``.
    prefix : type or None
        How the tokens that all prompts begin with are shared: ``PrefixAttention`` or
        ``PrefixCache``. ``None`` sends them through with every row.
    """

    layout: LayoutFunction
    prefix: type[Prefix] | None


PLAIN = Strategy(row_layout, prefix=None)
"""Full prompts, plain causal attention: what every other strategy must equal."""


def choose_strategy(
    model: Any,
    probe: EncodedPrompt,
    *,
    n_prefix: int,
    config: Any,
    prefixes: Sequence[type[Prefix]] = (PrefixAttention, PrefixCache),
) -> Strategy:
    """Return the fastest strategy that gives this model's plain scores.

    Parameters
    ----------
    model : torch.nn.Module
        A causal language model.
    probe : EncodedPrompt
        An ordinary prompt with the labels' trie.
    n_prefix : int
        How many first tokens all prompts share. 0 asks for strategies without a shared prefix.
    config : object
        The model's configuration.
    prefixes : sequence of type, default=(PrefixAttention, PrefixCache)
        The ways of sharing a prefix to try, the fastest first.

    Returns
    -------
    Strategy
        ``PLAIN`` if nothing else is exact.

    Raises
    ------
    ScoringError
        If what comes after a token changes its scores, as in a model that is not causal.
    """
    probes, n_shared = _ragged_probes(probe, n_prefix, config)
    with torch.inference_mode():
        alone = [label_log_likelihoods(model, [own], PLAIN.layout) for own in probes]
        expected = torch.cat(alone)
        _check_causal(model, probes, expected)
        has_tree = len(probe.trie.tokens) > 1
        for strategy in _candidates(prefixes if n_prefix else (), has_tree=has_tree):
            if _is_exact(model, strategy, probes, n_shared, expected):
                return strategy
    return PLAIN


def _check_causal(model: Any, probes: Sequence[EncodedPrompt], expected: torch.Tensor) -> None:
    together = label_log_likelihoods(model, probes, PLAIN.layout)
    difference = (together - expected).abs().max().item()
    if difference > _tolerance(model.get_input_embeddings().weight.dtype):
        msg = (
            f"Scores of {type(model).__name__} change by {difference:.2g} with the tokens that "
            "come after them, so it is no causal language model. Use a decoder, or set what makes "
            "this one a decoder in its configuration (such as is_decoder=True)."
        )
        raise ScoringError(msg)


def _candidates(prefixes: Sequence[type[Prefix]], *, has_tree: bool) -> Iterator[Strategy]:
    layouts: Sequence[LayoutFunction] = (tree_layout, row_layout) if has_tree else (row_layout,)
    for prefix in prefixes:
        yield from (Strategy(layout, prefix) for layout in layouts)
    if has_tree:
        yield Strategy(tree_layout, prefix=None)


def _is_exact(
    model: Any,
    strategy: Strategy,
    probes: Sequence[EncodedPrompt],
    n_shared: int,
    expected: torch.Tensor,
) -> bool:
    """Try a strategy. An architecture that cannot take its inputs fails in any way it likes."""
    try:
        ids = probes[0].ids[:n_shared]
        prefix = None if strategy.prefix is None else strategy.prefix(model, ids)
        scores = label_log_likelihoods(model, probes, strategy.layout, prefix)
    except (ScoringError, TypeError, ValueError, RuntimeError, AttributeError, IndexError) as error:
        _logger.debug("%s cannot be used here: %s", strategy, error)
        return False
    difference = (scores - expected).abs().max().item()
    _logger.debug("%s differs from plain prompts by %.2g", strategy, difference)
    return difference <= _tolerance(model.get_input_embeddings().weight.dtype)


def _tolerance(dtype: torch.dtype) -> float:
    """Return how far log-likelihoods may lie apart: rounding, and never a wrong mask."""
    return 1e-3 if dtype in {torch.float32, torch.float64} else 0.3


def _ragged_probes(
    probe: EncodedPrompt, n_prefix: int, config: Any
) -> tuple[list[EncodedPrompt], int]:
    """Return a probe, a shorter one beside which it shows padding, and their shared length.

    A few tokens will do, unless the model treats long prompts in another way.
    """
    first, own = probe.ids[:n_prefix], probe.ids[n_prefix:]
    if all(limit > len(probe.ids) for limit in _length_limits(config)):
        first, own = first[:_N_PREFIX], own[-_N_OWN:]
    shorter = own[len(own) // 2 :]
    return [EncodedPrompt([*first, *ids], probe.trie) for ids in (own, shorter)], len(first)


def _length_limits(config: Any) -> Iterator[int]:
    entries = config.to_dict()
    ropes = entries.get("rope_parameters") or entries.get("rope_scaling") or {}
    for source in (entries, ropes if isinstance(ropes, dict) else {}):
        for name in _LENGTH_LIMITS:
            limit = source.get(name)
            if isinstance(limit, int) and not isinstance(limit, bool) and limit > 0:
                yield limit
