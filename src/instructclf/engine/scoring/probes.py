"""Short prompts on which a shortcut is compared with full prompts, on the model itself.

Some models treat long prompts differently: layers see a window, or positions turn at other angles.
Probes stay short all the same: they run on a view of the model in which these lengths are short.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

import torch
from torch import Tensor

from instructclf.engine.models.decoder_layers import named_decoder_layers
from instructclf.engine.models.quantization import compute_dtype
from instructclf.engine.models.views import shared_view
from instructclf.engine.scoring.budgets import is_fatal
from instructclf.engine.scoring.forward import (
    label_log_likelihoods,
    node_states,
    states_of_token_ids,
    token_log_likelihoods,
)
from instructclf.engine.scoring.layouts import LayoutFunction, row_layout
from instructclf.engine.scoring.prefixes import Prefix
from instructclf.engine.tokens.encoding import EncodedPrompt
from instructclf.engine.tokens.tries import LabelTrie, few_labels, keep_labels
from instructclf.exceptions import ScoringError

FAILURES = (
    ScoringError,
    TypeError,
    ValueError,
    RuntimeError,
    AttributeError,
    IndexError,
    KeyError,
)
"""Errors of a model that cannot take its inputs."""

_N_PREFIX, _N_TAIL = 12, 4
"""Tokens of a probe: enough to tell a wrong mask or position from a right one."""
_SHORT_WINDOW = 5
"""Fewer tokens than a probe's prefix, and than its tail."""
_SHORT_CONTEXT = _N_PREFIX + 2
"""So that positions change in the tail of a probe."""
_WINDOWS = ("sliding_window", "attention_chunk_size", "attention_window_size", "window_size")
_CONTEXT = "original_max_position_embeddings"
_STATIC_ROPES = {"default", "linear", "llama3", "yarn", "proportional"}
"""Kinds of rotary positions that do not change with the length of a prompt."""
_TOLERANCE = 1e-3
"""How much equal log-likelihoods differ by rounding in full precision."""
_N_ROUNDINGS = 2.5
"""How many times the effect of one more rounding in each layer is allowed in half precision. On
SmolLM2-135M and Gemma 3 270M in bfloat16, exact shortcuts have 0.4 to 1.2 times that effect, and
windows, positions or masks that are wrong by one token 4.9 to 24 times."""


@dataclass(frozen=True)
class Tolerance:
    """How much readings of a model may differ by rounding, but not by a wrong mask.

    Parameters
    ----------
    most : float
        The largest difference.
    is_share : bool
        Whether a difference is that of a state as a share of the state, or that of scores.
    """

    most: float
    is_share: bool

    def measure(self, found: Tensor, expected: Tensor) -> float:
        """Return the largest difference in units of what is allowed: above 1, they differ."""
        if not self.is_share:
            return (found - expected).abs().max().item() / self.most
        return _change_of_states(found, expected) / self.most


def read_probes(
    model: Any,
    prompts: Sequence[EncodedPrompt],
    layout: LayoutFunction,
    prefix: Prefix | None = None,
) -> Tensor:
    """Return what is compared: the scores of labels, in half precision the states behind them.

    A state has hundreds of channels, which tell rounding from mistakes. Scores of few labels can
    agree by chance.
    """
    read = node_states if _is_half(model) else label_log_likelihoods
    return read(model, prompts, layout, prefix)


def measure_tolerance(model: Any, run: Callable[[], Tensor], expected: Tensor) -> Tolerance:
    """Return how much readings may differ. In half precision, rounding is measured.

    For that, ``run`` reads again while the states between layers change by half a unit in the last
    place, the error of one rounding.
    """
    if not _is_half(model):
        return Tolerance(_TOLERANCE, is_share=False)
    with _rounding_once_more(model):
        return Tolerance(_N_ROUNDINGS * _change_of_states(run(), expected), is_share=True)


def _is_half(model: Any) -> bool:
    return compute_dtype(model).itemsize == 2


def _change_of_states(found: Tensor, expected: Tensor) -> float:
    """Return the relative change of a channel: the root of the mean square over all channels.

    A few channels are a hundred times as large as the others, and would decide alone. So each one
    is measured by its own size, and those near 0 by the usual size.
    """
    change, expected = (found - expected).double(), expected.double().abs()
    return (change / (expected + expected.median())).square().mean().sqrt().item()


def length_limits(config: Any) -> dict[str, int]:
    """Return the lengths from which attention or positions are different, by their entries.

    ``config`` is that of a text model.
    """
    entries = config.to_dict()
    found = {name: entries.get(name) for name in _WINDOWS}
    ropes = list(_rope_entries(entries))
    if any(rope.get("rope_type", rope.get("type")) not in _STATIC_ROPES for rope in ropes):
        lengths: list[Any] = [source.get(_CONTEXT) for source in (entries, *ropes)]
        found[_CONTEXT] = min((length for length in lengths if _is_length(length)), default=None)
    return {name: length for name, length in found.items() if _is_length(length)}


def _is_length(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _rope_entries(entries: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield descriptions of rotary positions, of which kinds of layers may have one each."""
    ropes = entries.get("rope_parameters") or entries.get("rope_scaling")
    if isinstance(ropes, dict):
        nested = [rope for rope in ropes.values() if isinstance(rope, dict)]
        yield from nested or [ropes]


def _with_short_limits(model: Any, names: Sequence[str]) -> Any:
    """Return a view of the model in which these lengths are short."""
    view = shared_view(model)
    config = view.config.get_text_config()
    for name in names:
        length = _SHORT_CONTEXT if name == _CONTEXT else _SHORT_WINDOW
        if getattr(config, name, None) is not None:
            setattr(config, name, length)
        for rope in _rope_entries(vars(config)):
            if name in rope:
                rope[name] = length
    return view


@dataclass(frozen=True, eq=False)
class Probes:
    """Two prompts of different lengths, and what the model gives for them as full prompts.

    Parameters
    ----------
    model : torch.nn.Module
        The model that they are compared on.
    prompts : list of EncodedPrompt
        The probes. The second one is shorter, so that it is padded.
    n_shared : int
        How many first tokens they share.
    expected : Tensor
        What is read of full prompts.
    tolerance : Tolerance
        How much a shortcut may differ.
    """

    model: Any
    prompts: list[EncodedPrompt]
    n_shared: int
    expected: Tensor
    tolerance: Tolerance

    def difference(self, layout: LayoutFunction, kind: type[Prefix] | None) -> float:
        """Return how much a shortcut differs from full prompts: above 1, more than rounding."""
        ids = self.prompts[0].ids[: self.n_shared]
        prefix = None if kind is None else kind(self.model, ids)
        found = read_probes(self.model, self.prompts, layout, prefix)
        return self.tolerance.measure(found, self.expected)


def make_probes(
    model: Any, prompt: EncodedPrompt, n_prefix: int, limits: Sequence[str]
) -> Probes | None:
    """Return probes like a prompt, which pass these limits of the model.

    Parameters
    ----------
    model : torch.nn.Module
        A view of a causal language model.
    prompt : EncodedPrompt
        The prompt.
    n_prefix : int
        How many of its first tokens are shared, if any.
    limits : sequence of str
        The entries of the model's configuration that name the lengths it passes.

    Returns
    -------
    Probes or None
        ``None`` if the limits are not where the model reads them.

    Raises
    ------
    ScoringError
        If the model cannot be scored: it does not take token ids alone, or is not causal.
    """
    if not limits:
        return _compare_full_prompts(model, *_cut_short(prompt, n_prefix))
    short = _with_short_limits(model, limits)
    prompts, n_shared = _cut_long(prompt, n_prefix)
    probes = _compare_full_prompts(short, prompts, n_shared)
    unlimited = read_probes(model, prompts[1:], row_layout)
    # To the last bit: the same computation twice gives the same numbers.
    return None if torch.equal(unlimited, probes.expected[1:]) else probes


def _cut_short(prompt: EncodedPrompt, n_prefix: int) -> tuple[list[EncodedPrompt], int]:
    """Return probes that pass no limit, since they are no longer than the prompt."""
    ids = prompt.ids
    # The prompt may be shorter than the prefix: those without a demonstration begin with only a
    # part of it.
    tail = ids[1:][-_N_TAIL:] or ids
    shared = ids[: min(n_prefix, len(ids) - len(tail))][:_N_PREFIX]
    rests = (tail, tail[len(tail) // 2 :]) if len(tail) > 1 else (tail * 2, tail)
    return _make_prompts(shared, rests, prompt), len(shared)


def _cut_long(prompt: EncodedPrompt, n_prefix: int) -> tuple[list[EncodedPrompt], int]:
    """Return probes that pass all limits, since these are short in the view that they run on."""
    ids = prompt.ids
    shared = list(islice(cycle(ids), _N_PREFIX))
    tail = list(islice(cycle(reversed(ids)), 2 * _N_TAIL))[::-1]
    rests = tail, tail[_N_TAIL:]
    n_shared = min(n_prefix, _N_PREFIX)
    return _make_prompts(shared, rests, prompt), n_shared


def _make_prompts(
    shared: list[int], rests: Sequence[list[int]], prompt: EncodedPrompt
) -> list[EncodedPrompt]:
    """Return probes with few labels of a prompt, all of whose tokens are compared.

    In full prompts each path of a trie is a row, so all of a hundred labels would cost a hundred.
    """
    trie = keep_labels(prompt.trie, few_labels(prompt.trie))
    return [EncodedPrompt([*shared, *rest], trie) for rest in rests]


def _compare_full_prompts(model: Any, prompts: list[EncodedPrompt], n_shared: int) -> Probes:
    """Read probes as full prompts, in several ways that must agree."""
    try:
        alone = read_probes(model, prompts[1:], row_layout)
        together = read_probes(model, prompts, row_layout)
        expected = torch.cat([together[:1], alone])
        tolerance = measure_tolerance(
            model, lambda: read_probes(model, prompts, row_layout), expected
        )
        _check_token_ids_alone(model, prompts[1], alone[0], tolerance)
    except FAILURES as error:
        if isinstance(error, ScoringError) or is_fatal(error):
            raise
        msg = (
            f"{type(model).__name__} cannot score labels: it does not take token ids alone, or "
            f"does not return one row of logits for each. It said: {error}"
        )
        raise ScoringError(msg) from error
    difference = tolerance.measure(together[1:], alone)
    if difference > 1:
        msg = (
            f"Scores of {type(model).__name__} change by {difference:.2g} times what rounding "
            "explains with the tokens that come after them, so it is not a causal language model. "
            "Use a decoder, or configure this model as one (such as is_decoder=True)."
        )
        raise ScoringError(msg)
    return Probes(model, prompts, n_shared, expected, tolerance)


def _check_token_ids_alone(
    model: Any, probe: EncodedPrompt, alone: Tensor, tolerance: Tolerance
) -> None:
    """Compare the longest label with a forward pass over nothing but token ids."""
    longest = _longest_label(probe.trie)
    edges = [(node, token) for label, node, token in probe.trie.edges if label == longest]
    nodes, tokens = zip(*edges, strict=True)
    if tolerance.is_share:
        bare = states_of_token_ids(model, [*probe.ids, *tokens[:-1]], len(tokens))
        difference = tolerance.measure(alone[list(nodes)], bare)
    else:
        bare = token_log_likelihoods(model, [*probe.ids, *tokens])[-len(tokens) :].sum()
        difference = tolerance.measure(alone[longest], bare)
    if difference > 1:
        msg = (
            f"Scores of {type(model).__name__} differ by {difference:.2g} times what rounding "
            "explains from those of a forward pass over the token ids alone, so it cannot be "
            "scored here. Use another model."
        )
        raise ScoringError(msg)


def _longest_label(trie: LabelTrie) -> int:
    n_tokens = Counter(label for label, _, _ in trie.edges)
    return max(n_tokens, key=n_tokens.__getitem__)


@contextmanager
def _rounding_once_more(model: Any) -> Iterator[None]:
    """Change what each decoder layer returns by half a unit in the last place, up or down."""
    generator = torch.Generator().manual_seed(0)
    unit = torch.finfo(compute_dtype(model)).eps / 2

    def change(_layer: Any, _inputs: Any, output: Any) -> Any:
        states = output[0] if isinstance(output, tuple) else output
        signs = torch.randint(0, 2, states.shape, generator=generator).mul_(2).sub_(1)
        changed = states + states * signs.to(states) * unit
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    layers = list(named_decoder_layers(model).values()) or [model.get_input_embeddings()]
    hooks = [layer.register_forward_hook(change) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
