"""Hidden states → log-probabilities of a few tokens, without the logits of all others at once.

A vocabulary has up to 262,144 tokens, of which labels use a few. The normaliser over all of them is
summed up block by block, in prediction in float32 whatever the precision of the model: logits of
bfloat16, with three digits, would be most of the error of a score.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from instructclf.engine.models.placement import input_device, send_integers
from instructclf.engine.running.arithmetic import precise_product, product
from instructclf.engine.scoring.outputs import output_at

Transform = Callable[[Tensor], Tensor]

_NUMBERS_AT_ONCE = 2**22
"""Of logits, and of weights that are converted to float32: 16 MB."""
_LOG2_E = math.log2(math.e)
_TRANSFORM = "_transforms_logits"
_PROBE = (-50.0, -20.0, -5.0, -0.5, 0.0, 0.5, 5.0, 20.0, 50.0)


class Vocabulary:
    """The output layer of a view, and what its architecture does to logits.

    Parameters
    ----------
    layer : torch.nn.Linear
        The output layer.
    transform : callable
        What the architecture does to each logit.
    """

    def __init__(self, layer: nn.Linear, transform: Transform) -> None:
        self._layer = layer
        self._transform = transform

    def log_probabilities(
        self,
        states: Tensor,
        rows: NDArray[np.int64],
        tokens: NDArray[np.int64],
        normalised: NDArray[np.bool_],
    ) -> Tensor:
        """Return the log-probabilities of tokens after some states, of shape (n_tokens,).

        ``states`` has shape (n_states, n_channels), and ``rows`` says which one each token follows.
        Tokens that are not ``normalised`` get their logits, which cost almost nothing.
        """
        states = states.to(torch.promote_types(states.dtype, torch.float32))
        if torch.is_grad_enabled() and states.requires_grad and normalised.any():
            return self._with_gradients(states, rows, tokens, normalised)
        # Worked out on the host, which would wait for the device to count what is needed.
        needed, position = np.unique(rows[normalised], return_inverse=True)
        indices = rows, tokens, np.flatnonzero(normalised), needed, position
        row, token, chosen, need, of_chosen = send_integers(states.device, *indices)
        logits = self._logits(states[row], token)
        if not normalised.any():
            return logits
        if normalised.all():
            return logits - self._log_normaliser(states)[row]
        return logits.index_add(0, chosen, -self._log_normaliser(states[need])[of_chosen])

    def _with_gradients(
        self,
        states: Tensor,
        rows: NDArray[np.int64],
        tokens: NDArray[np.int64],
        normalised: NDArray[np.bool_],
    ) -> Tensor:
        others, chosen = np.flatnonzero(~normalised), np.flatnonzero(normalised)
        chosen = chosen[np.argsort(tokens[chosen], kind="stable")]  # those of a block are a slice
        needed, position = np.unique(rows[chosen], return_inverse=True)
        back = np.argsort(np.concatenate([others, chosen]))
        indices = needed, position, tokens[chosen], rows[others], tokens[others], back
        need, row, token, other_row, other_token, back = send_integers(states.device, *indices)
        edges = _Edges(row, token, tokens[chosen])
        found: Any = _LogProbabilities.apply(states[need], self._layer, self._transform, edges)
        return torch.cat([self._logits(states[other_row], other_token), found])[back]

    def _logits(self, states: Tensor, tokens: Tensor) -> Tensor:
        """Return the logit of a token after each state."""
        logits = (states * self._layer.weight[tokens].to(states)).sum(dim=1)
        bias = self._layer.bias
        return self._transform(logits if bias is None else logits + bias[tokens])

    def _log_normaliser(self, states: Tensor) -> Tensor:
        if not len(states):
            return states.new_empty(0)
        parts = [
            self._transform(precise_product(states, weight, bias)).logsumexp(dim=1)
            for _, weight, bias in _blocks(self._layer, states)
        ]
        return _join(parts)


@dataclass(frozen=True, eq=False)
class _Edges:
    """Tokens that follow some states, in the order of the vocabulary."""

    rows: Tensor
    tokens: Tensor
    on_host: NDArray[np.int64]

    def within(self, first: int, n_tokens: int) -> tuple[slice, tuple[Tensor, Tensor]]:
        """Return which edges are of a block of tokens, and their places in its logits."""
        start, stop = np.searchsorted(self.on_host, [first, first + n_tokens]).tolist()
        found = slice(start, stop)
        return found, (self.rows[found], self.tokens[found] - first)


class _LogProbabilities(torch.autograd.Function):
    """The log-probabilities of tokens after some states, whose logits are computed twice.

    They are not kept for the backward pass, which computes each block of them again. Products are
    computed as the model computes them, since a training step that waited for float32 would take
    several times as long. A token's logit and the normaliser come from the same product, so that
    its rounding cancels where the token is nearly certain.
    Source: Wijmans et al., "Cut Your Losses in Large-Vocabulary Language Models" (2024).
    """

    @staticmethod
    def forward(
        ctx: Any, states: Tensor, layer: nn.Linear, transform: Transform, edges: _Edges
    ) -> Tensor:
        found, parts = states.new_empty(len(edges.tokens)), []
        for first, weight, bias in _blocks(layer, states):
            logits = transform(product(states, weight, bias))
            of_block, places = edges.within(first, len(weight))
            found[of_block] = logits[places]
            parts.append(logits.logsumexp(dim=1))
        normaliser = _join(parts)
        ctx.save_for_backward(states, normaliser)
        ctx.layer, ctx.transform, ctx.edges = layer, transform, edges
        return found - normaliser[edges.rows]

    @staticmethod
    def backward(ctx: Any, *received: Tensor) -> tuple[Tensor | None, ...]:
        """With logits l = f(W h) and probabilities p, d log p_t / dl_v = [v = t] - p_v."""
        states, normaliser = ctx.saved_tensors
        (sent,) = received
        of_rows = torch.zeros_like(normaliser).index_add_(0, ctx.edges.rows, sent).unsqueeze(1)
        to_states = torch.zeros_like(states)
        for first, weight, bias in _blocks(ctx.layer, states):
            logits, slope = _transformed(product(states, weight, bias), ctx.transform)
            # Powers of two take a quarter of the time of powers of e.
            shares = logits.sub_(normaliser.unsqueeze(1)).mul_(_LOG2_E).exp2_()
            to_logits = shares.mul_(-of_rows)
            of_block, places = ctx.edges.within(first, len(weight))
            to_logits.index_put_(places, sent[of_block], accumulate=True)
            if slope is not None:
                to_logits.mul_(slope)
            to_states.add_(product(to_logits, weight.t()))
        return to_states, None, None, None


def _blocks(layer: nn.Linear, states: Tensor) -> Iterator[tuple[int, Tensor, Tensor | None]]:
    """Yield tokens whose logits after all states are not too many: the first, weights, biases."""
    size = max(1, _NUMBERS_AT_ONCE // max(states.shape))
    for first in range(0, len(layer.weight), size):
        block = slice(first, first + size)
        yield first, layer.weight[block], None if layer.bias is None else layer.bias[block]


def _join(parts: list[Tensor]) -> Tensor:
    """Return the log-sum-exp over blocks."""
    if len(parts) == 1:
        return parts[0]
    return torch.stack(parts).to(sum_dtype(parts[0].device)).logsumexp(dim=0).to(parts[0])


def _transformed(logits: Tensor, transform: Transform) -> tuple[Tensor, Tensor | None]:
    """Return transformed logits and the derivatives, or ``None`` if these are 1."""
    if transform is _unchanged:
        return logits, None
    with torch.enable_grad():
        changed = transform(logits.requires_grad_())
        (slope,) = torch.autograd.grad(changed, logits, torch.ones_like(changed))
    return changed.detach(), slope


def sum_dtype(device: torch.device) -> torch.dtype:
    """Return the type in which many numbers are summed up. Apple's GPUs lack float64."""
    return torch.float32 if device.type == "mps" else torch.float64


def find_vocabulary(model: Any) -> Vocabulary | None:
    """Return the output layer of a view, or ``None`` if only the model can compute its logits.

    So it is where gradients of the output layer's own weights are needed. Some architectures scale
    or cap their logits. What they do is found by sending a few known logits through the rest of the
    model's forward pass, after two tokens, once for each view.
    """
    layer = model.get_output_embeddings()
    if type(layer) is not nn.Linear or layer.weight.is_meta or hasattr(layer, "_hf_hook"):
        return None
    if torch.is_grad_enabled() and any(each.requires_grad for each in layer.parameters()):
        return None
    if not hasattr(layer, _TRANSFORM):
        setattr(layer, _TRANSFORM, _find_transform(model))
    transform = getattr(layer, _TRANSFORM)
    return None if transform is None else Vocabulary(layer, transform)


def _find_transform(model: Any) -> Transform | None:
    device = input_device(model)
    probe = torch.tensor([[_PROBE]], device=device)
    first = torch.zeros(1, 1, dtype=torch.long, device=device)
    found = []
    for token in (0, 1):
        with output_at(model, first, first, answer=probe):
            output = model(input_ids=torch.full_like(first, token), use_cache=False)
        found.append(output.logits)
    if found[0].shape != probe.shape or not torch.equal(*found):
        return None
    changed = found[0].to(probe)
    scale = (changed[0, 0, -1] / probe[0, 0, -1]).item()
    cap = getattr(model.config.get_text_config(), "final_logit_softcapping", None)
    candidates = [_unchanged, _Scaled(scale), *([] if cap is None else [_Capped(cap)])]
    return next((f for f in candidates if torch.allclose(f(probe), changed, rtol=1e-5)), None)


def _unchanged(logits: Tensor) -> Tensor:
    return logits


class _Scaled:
    def __init__(self, scale: float) -> None:
        self._scale = scale

    def __call__(self, logits: Tensor) -> Tensor:
        return logits * self._scale


class _Capped:
    def __init__(self, cap: float) -> None:
        self._cap = cap

    def __call__(self, logits: Tensor) -> Tensor:
        return (logits / self._cap).tanh() * self._cap
