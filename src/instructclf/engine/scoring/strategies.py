"""Which shortcuts are exact for a model: found by trying them, not from a list of names.

Some architectures accept keyword arguments that they do not know and return wrong scores without an
error. Each shortcut is therefore compared with full prompts on the model itself before it is used.
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
from instructclf.engine.scoring.attention import PrefixAttention
from instructclf.engine.scoring.budgets import is_out_of_memory
from instructclf.engine.scoring.forward import label_log_likelihoods, token_log_likelihoods
from instructclf.engine.scoring.layouts import LayoutFunction, row_layout, tree_layout
from instructclf.engine.scoring.prefixes import Prefix, PrefixCache
from instructclf.engine.tokens.encoding import EncodedPrompt
from instructclf.engine.tokens.tries import LabelTrie
from instructclf.exceptions import ScoringError

_logger = logging.getLogger(__name__)

_N_PREFIX, _N_TAIL = 20, 6
"""Tokens of a probe: enough to tell a wrong mask or position from a right one."""
_LENGTH_LIMITS = (
    "sliding_window",
    "attention_chunk_size",
    "original_max_position_embeddings",
    "attention_window_size",
    "window_size",
)
"""Entries of configurations that name a length from which attention or positions are different."""
_FAILURES = (
    ScoringError,
    TypeError,
    ValueError,
    RuntimeError,
    AttributeError,
    IndexError,
    KeyError,
)
"""Errors of a model that cannot take its inputs."""


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
"""The exact strategies of architectures below all their limits. Later fits need not try again."""


class Strategies:
    """The fastest exact strategy of a model, for prompts of each kind.

    Some models treat long prompts differently (a sliding window, other rotary angles). A strategy
    that is exact below such a limit is tried again with the first prompt beyond it.

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
        self._limits = sorted(set(_length_limits(model.config.get_text_config())))
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
        return bisect_right(self._limits, prompt.n_tokens + max(prompt.trie.depths))

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
        key = (*_architecture(self._model), tuple(self._prefixes), has_branches)
        # Beyond a limit the result depends on the prompt's length. A failure is not remembered
        # either: it may have other reasons than the architecture, such as weights that are NaN.
        if n_passed or key not in _found:
            with torch.inference_mode():
                strategy = self._try(prompt, has_branches=has_branches)
            if n_passed or strategy is FULL_PROMPTS:
                return strategy
            _found[key] = strategy
        return _found[key]

    def _try(self, prompt: EncodedPrompt, *, has_branches: bool) -> Strategy:
        probes, n_shared = self._make_probes(prompt)
        expected = _score_full_prompts(self._model, probes)
        _check_causal(self._model, probes, expected)
        for strategy in _candidates(self._prefixes, has_branches=has_branches):
            if _is_exact(self._model, strategy, probes, n_shared, expected):
                return strategy
        return FULL_PROMPTS

    def _make_probes(self, prompt: EncodedPrompt) -> tuple[list[EncodedPrompt], int]:
        """Return two prompts of different lengths, and the length of the prefix that they share.

        Their lengths differ so that one is padded. Both pass as many limits as the given prompt.
        """
        ids = prompt.ids
        n_passed = self.n_limits_passed(prompt)
        if n_passed == 0:
            # Below all limits, a few tokens are enough. The prompt may be shorter than the prefix:
            # those without a demonstration begin with only a part of it.
            tail = ids[1:][-_N_TAIL:] or ids
            shared = ids[: min(self._n_prefix, len(ids) - len(tail))][:_N_PREFIX]
            other = tail[len(tail) // 2 :] if len(tail) > 1 else tail * 2
        else:
            # Beyond a limit, the whole prompt is needed. The other probe is shorter, but stays
            # beyond the limit. If the prompt is exactly at the limit, the other one is longer.
            shared, tail = ids[: self._n_prefix], ids[self._n_prefix :]
            n_spare = len(ids) + max(prompt.trie.depths) - self._limits[n_passed - 1]
            n_dropped = min(n_spare, len(tail) // 2, _N_TAIL)
            other = tail[n_dropped:] if n_dropped else [*tail, *tail[-_N_TAIL:]]
        probes = [EncodedPrompt([*shared, *rest], prompt.trie) for rest in (tail, other)]
        return probes, len(shared)


def _architecture(model: Any) -> tuple[Hashable, ...]:
    """Return everything that decides which strategies are exact: all but the values of weights."""
    weight = model.get_input_embeddings().weight
    attention = getattr(model.config, "_attn_implementation", None)
    modules = frozenset(map(type, model.modules()))  # an adapter may add kinds of modules
    config = model.config.to_json_string()
    return type(model), modules, config, attention, weight.dtype, input_device(model).type


def _score_full_prompts(model: Any, probes: Sequence[EncodedPrompt]) -> torch.Tensor:
    """Score probes one by one as full prompts, of shape (n_probes, n_labels)."""
    try:
        alone = [label_log_likelihoods(model, [probe], FULL_PROMPTS.layout) for probe in probes]
        _check_token_ids_alone(model, EncodedPrompt(probes[0].ids[-_N_PREFIX:], probes[0].trie))
    except _FAILURES as error:
        if isinstance(error, ScoringError) or is_out_of_memory(error):
            raise
        msg = (
            f"{type(model).__name__} cannot score labels: it does not take token ids alone, or "
            f"does not return one row of logits for each. It said: {error}"
        )
        raise ScoringError(msg) from error
    return torch.cat(alone)


def _check_token_ids_alone(model: Any, probe: EncodedPrompt) -> None:
    """Compare the score of the longest label with a forward pass over nothing but token ids."""
    longest = _longest_label(probe.trie)
    tokens = [token for label, _, token in probe.trie.edges if label == longest]
    bare = token_log_likelihoods(model, [*probe.ids, *tokens])[-len(tokens) :].sum().item()
    full = label_log_likelihoods(model, [probe], FULL_PROMPTS.layout)[0, longest].item()
    if abs(full - bare) > tolerance(compute_dtype(model)):
        msg = (
            f"Scores of {type(model).__name__} differ by {abs(full - bare):.2g} from those of a "
            "forward pass over the token ids alone, so it cannot be scored here. Use another model."
        )
        raise ScoringError(msg)


def _longest_label(trie: LabelTrie) -> int:
    n_tokens = Counter(label for label, _, _ in trie.edges)
    return max(n_tokens, key=n_tokens.__getitem__)


def _check_causal(model: Any, probes: Sequence[EncodedPrompt], expected: torch.Tensor) -> None:
    """Score the probes in one batch, in which padding follows the shorter one."""
    together = label_log_likelihoods(model, probes, FULL_PROMPTS.layout)
    difference = (together - expected).abs().max().item()
    if difference > tolerance(compute_dtype(model)):
        msg = (
            f"Scores of {type(model).__name__} change by {difference:.2g} with the tokens that "
            "come after them, so it is not a causal language model. Use a decoder, or configure "
            "this model as one (such as is_decoder=True)."
        )
        raise ScoringError(msg)


def _candidates(prefixes: Sequence[type[Prefix]], *, has_branches: bool) -> Iterator[Strategy]:
    layouts: Sequence[LayoutFunction] = (tree_layout, row_layout) if has_branches else (row_layout,)
    for prefix in prefixes:
        yield from (Strategy(layout, prefix) for layout in layouts)
    if has_branches:
        yield Strategy(tree_layout, prefix=None)


def _is_exact(
    model: Any,
    strategy: Strategy,
    probes: Sequence[EncodedPrompt],
    n_shared: int,
    expected: torch.Tensor,
) -> bool:
    """Try a strategy. A model that cannot take its inputs may raise anything."""
    try:
        ids = probes[0].ids[:n_shared]
        prefix = None if strategy.prefix is None else strategy.prefix(model, ids)
        scores = label_log_likelihoods(model, probes, strategy.layout, prefix)
    except _FAILURES as error:
        _logger.debug("%s cannot be used here: %s", strategy, error)
        return False
    difference = (scores - expected).abs().max().item()
    _logger.debug("%s differs from full prompts by %.2g", strategy, difference)
    return difference <= tolerance(compute_dtype(model))


def tolerance(dtype: torch.dtype) -> float:
    """Return how much equal log-likelihoods may differ: by rounding, but not by a wrong mask."""
    return 1e-3 if dtype in {torch.float32, torch.float64} else 0.3


def _length_limits(config: Any) -> Iterator[int]:
    entries = config.to_dict()
    ropes = entries.get("rope_parameters") or entries.get("rope_scaling") or {}
    for source in (entries, ropes if isinstance(ropes, dict) else {}):
        for name in _LENGTH_LIMITS:
            limit = source.get(name)
            if isinstance(limit, int) and not isinstance(limit, bool) and limit > 0:
                yield limit
