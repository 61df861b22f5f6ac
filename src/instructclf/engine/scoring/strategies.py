"""Which shortcuts are exact for this model: found out by trying them, not from a list of names.

Some architectures swallow keyword arguments they do not know and return wrong scores without an
error, so each shortcut is compared with plain full prompts before it is used.
"""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from instructclf.engine.models.placement import input_device
from instructclf.engine.models.quantization import compute_dtype
from instructclf.engine.scoring.budgets import is_out_of_memory
from instructclf.engine.scoring.forward import label_log_likelihoods, token_log_likelihoods
from instructclf.engine.scoring.layouts import LayoutFunction, row_layout, tree_layout
from instructclf.engine.scoring.prefixes import Prefix, PrefixAttention, PrefixCache
from instructclf.engine.tokens.encoding import EncodedPrompt
from instructclf.engine.tokens.tries import LabelTrie
from instructclf.exceptions import ScoringError

_logger = logging.getLogger(__name__)

_N_PREFIX, _N_OWN = 20, 6
"""Tokens of a probe: enough to tell a wrong mask or position from a right one."""
_LENGTH_LIMITS = (
    "sliding_window",
    "attention_chunk_size",
    "original_max_position_embeddings",
    "attention_window_size",
    "window_size",
)
"""Configuration entries at which attention or positions change: shorter probes prove nothing."""
_FAILURES = (
    ScoringError,
    TypeError,
    ValueError,
    RuntimeError,
    AttributeError,
    IndexError,
    KeyError,
)
"""What a model that cannot take its inputs may raise."""


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


_found: dict[tuple[Hashable, ...], Strategy] = {}
"""Exact strategies below all limits, so that the next of many fits need not try again."""


class Strategies:
    """The fastest strategy that gives a model's plain scores, for prompts of each kind.

    Some models treat long prompts in another way (a sliding window, other rotary angles). What is
    exact below such a limit is tried again beyond it, on the first prompt that is so long.

    Parameters
    ----------
    model : torch.nn.Module
        A causal language model.
    n_prefix : int
        How many first tokens all prompts share. 0 asks for strategies without a shared prefix.
    prefixes : sequence of type, default=(PrefixAttention, PrefixCache)
        The ways of sharing a prefix to try, the fastest first.
    """

    def __init__(
        self,
        model: Any,
        *,
        n_prefix: int,
        prefixes: Sequence[type[Prefix]] = (PrefixAttention, PrefixCache),
    ) -> None:
        self._model = model
        self._n_prefix = n_prefix
        self._prefixes = prefixes if n_prefix else ()
        self._limits = sorted(set(_length_limits(model.config.get_text_config())))
        self._chosen: dict[tuple[int, bool], Strategy] = {}

    def regime(self, prompt: EncodedPrompt) -> int:
        """Return how many limits a prompt passes. Only prompts of one regime share a batch."""
        return bisect_right(self._limits, prompt.n_tokens + max(prompt.trie.depths))

    def choose(self, prompt: EncodedPrompt) -> Strategy:
        """Return the strategy for a prompt, trying what there is on the first of its kind.

        Parameters
        ----------
        prompt : EncodedPrompt
            A prompt that begins with the shared prefix.

        Returns
        -------
        Strategy
            ``PLAIN`` if nothing else is exact.

        Raises
        ------
        ScoringError
            If the model cannot be scored: what comes after a token changes its scores, as in a
            model that is not causal, or it takes more than token ids.
        """
        # Nodes in a single chain follow on the text as if they were a part of it.
        kind = (self.regime(prompt), len(prompt.trie.paths) > 1)
        if kind not in self._chosen:
            self._chosen[kind] = self._find(prompt, *kind)
        return self._chosen[kind]

    def _find(self, prompt: EncodedPrompt, regime: int, has_tree: bool) -> Strategy:  # noqa: FBT001
        """Return what was found for another view of the same architecture, or try."""
        key = (*_architecture(self._model), tuple(self._prefixes), has_tree)
        # Beyond a limit it matters how long a prompt is. And what failed may have failed for other
        # reasons, such as weights that are no numbers.
        if regime or key not in _found:
            with torch.inference_mode():
                strategy = self._try(prompt, has_tree=has_tree)
            if regime or strategy is PLAIN:
                return strategy
            _found[key] = strategy
        return _found[key]

    def _try(self, prompt: EncodedPrompt, *, has_tree: bool) -> Strategy:
        probes, n_shared = self._probes(prompt)
        expected = _score_plainly(self._model, probes)
        _check_causal(self._model, probes, expected)
        for strategy in _candidates(self._prefixes, has_tree=has_tree):
            if _is_exact(self._model, strategy, probes, n_shared, expected):
                return strategy
        return PLAIN

    def _probes(self, prompt: EncodedPrompt) -> tuple[list[EncodedPrompt], int]:
        """Return two prompts of one regime and unlike length, and the length of their prefix.

        Below all limits a few tokens of the prompt will do. Beyond one it goes in whole.
        """
        first, own = prompt.ids[: self._n_prefix], prompt.ids[self._n_prefix :]
        regime = self.regime(prompt)
        if regime == 0:
            # A prompt may have fewer tokens of its own, or begin with a part of the prefix alone.
            own = prompt.ids[1:][-_N_OWN:]
            first = prompt.ids[: min(self._n_prefix, prompt.n_tokens - len(own))][:_N_PREFIX]
            other = own[len(own) // 2 :] if len(own) > 1 else own * 2
        else:
            n_spare = prompt.n_tokens + max(prompt.trie.depths) - self._limits[regime - 1]
            n_dropped = min(n_spare, len(own) // 2, _N_OWN)
            other = own[n_dropped:] if n_dropped else [*own, *own[-_N_OWN:]]
        return [EncodedPrompt([*first, *ids], prompt.trie) for ids in (own, other)], len(first)


def _architecture(model: Any) -> tuple[Hashable, ...]:
    """Return what decides which shortcuts are exact: all but the values of weights."""
    weight = model.get_input_embeddings().weight
    attention = getattr(model.config, "_attn_implementation", None)
    modules = frozenset(map(type, model.modules()))  # an adapter may bring modules of its own
    config = model.config.to_json_string()
    return type(model), modules, config, attention, weight.dtype, input_device(model).type


def _score_plainly(model: Any, probes: Sequence[EncodedPrompt]) -> torch.Tensor:
    """Score probes one by one in the plain way, of shape (n_probes, n_labels)."""
    try:
        alone = [label_log_likelihoods(model, [own], PLAIN.layout) for own in probes]
        _check_bare(model, EncodedPrompt(probes[0].ids[-_N_PREFIX:], probes[0].trie))
    except _FAILURES as error:
        if isinstance(error, ScoringError) or is_out_of_memory(error):
            raise
        msg = (
            f"{type(model).__name__} cannot score labels: it does not take token ids alone, or "
            f"does not return one row of logits for each. It said: {error}"
        )
        raise ScoringError(msg) from error
    return torch.cat(alone)


def _check_bare(model: Any, probe: EncodedPrompt) -> None:
    """Compare the score of the longest label with a forward pass over nothing but token ids."""
    edges = [edge for edge in probe.trie.edges if edge[0] == _longest_label(probe.trie)]
    tokens = [token for _, _, token in edges]
    bare = token_log_likelihoods(model, [*probe.ids, *tokens])[-len(tokens) :].sum().item()
    plain = label_log_likelihoods(model, [probe], PLAIN.layout)[0, edges[0][0]].item()
    if abs(plain - bare) > tolerance(compute_dtype(model)):
        msg = (
            f"Scores of {type(model).__name__} differ by {abs(plain - bare):.2g} from those of a "
            "forward pass over the token ids alone, so it cannot be scored here. Use another model."
        )
        raise ScoringError(msg)


def _longest_label(trie: LabelTrie) -> int:
    n_tokens = Counter(label for label, _, _ in trie.edges)
    return max(n_tokens, key=n_tokens.__getitem__)


def _check_causal(model: Any, probes: Sequence[EncodedPrompt], expected: torch.Tensor) -> None:
    together = label_log_likelihoods(model, probes, PLAIN.layout)
    difference = (together - expected).abs().max().item()
    if difference > tolerance(compute_dtype(model)):
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
    except _FAILURES as error:
        _logger.debug("%s cannot be used here: %s", strategy, error)
        return False
    difference = (scores - expected).abs().max().item()
    _logger.debug("%s differs from plain prompts by %.2g", strategy, difference)
    return difference <= tolerance(compute_dtype(model))


def tolerance(dtype: torch.dtype) -> float:
    """Return how far log-likelihoods may lie apart: rounding, and never a wrong mask."""
    return 1e-3 if dtype in {torch.float32, torch.float64} else 0.3


def _length_limits(config: Any) -> Iterator[int]:
    entries = config.to_dict()
    ropes = entries.get("rope_parameters") or entries.get("rope_scaling") or {}
    for source in (entries, ropes if isinstance(ropes, dict) else {}):
        for name in _LENGTH_LIMITS:
            limit = source.get(name)
            if isinstance(limit, int) and not isinstance(limit, bool) and limit > 0:
                yield limit
