"""Hidden states → log-probabilities of a few tokens, without the logits of all others at once.

A vocabulary has up to 262,144 tokens, of which labels use a few. The normaliser over all of them is
summed up block by block, in float32 whatever the precision of the model: logits of bfloat16, with
three digits, would be most of the error of a score.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
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
        # Worked out on the host, which would wait for the device to count what is needed.
        needed, position = np.unique(rows[normalised], return_inverse=True)
        indices = rows, tokens, np.flatnonzero(normalised), needed, position
        row, token, chosen, need, of_chosen = send_integers(states.device, *indices)
        weight, bias = self._layer.weight[token].to(states), self._layer.bias
        logits = (states[row] * weight).sum(dim=1)
        if bias is not None:
            logits = logits + bias[token]
        logits = self._transform(logits)
        if not normalised.any():
            return logits
        if normalised.all():
            return logits - self._log_normaliser(states)[row]
        return logits.index_add(0, chosen, -self._log_normaliser(states[need])[of_chosen])

    def _log_normaliser(self, states: Tensor) -> Tensor:
        if not len(states):
            return states.new_empty(0)
        if torch.is_grad_enabled() and states.requires_grad:
            result: Any = _LogNormaliser.apply(states, self._layer, self._transform)
            return result
        dtype, parts = sum_dtype(states.device), []
        for weight, bias in _blocks(self._layer, states):
            logits = precise_product(states, weight, bias)
            parts.append(self._transform(logits).logsumexp(dim=1).to(dtype))
        whole = parts[0] if len(parts) == 1 else torch.stack(parts).logsumexp(dim=0)
        return whole.to(states)


class _LogNormaliser(torch.autograd.Function):
    """The log normaliser of the logits after some states, whose gradient is found beside it.

    With logits ``l = f(W h)`` and probabilities ``p``, the gradient by the state ``h`` is the mean
    ``Σ_v p_v f'(W_v h) W_v`` of the weights. That is attention to the vocabulary, and is computed
    as such: one block of tokens after the other, with sums that are scaled when a larger logit is
    met. So a backward pass needs no logits, and none are kept. Products are computed as the model
    computes them, since a training step that waited for float32 would take several times as long.
    Source: the online softmax of Milakov and Gimelshein, "Online normalizer calculation for
    softmax" (2018); losses without logits were suggested in Wijmans et al., "Cut Your Losses in
    Large-Vocabulary Language Models" (2024).
    """

    @staticmethod
    def forward(ctx: Any, states: Tensor, layer: nn.Linear, transform: Transform) -> Tensor:
        largest = states.new_full((len(states), 1), -torch.inf)
        total, mean = torch.zeros_like(largest), torch.zeros_like(states)
        for weight, bias in _blocks(layer, states):
            logits, slope = _transformed(product(states, weight, bias), transform)
            before, largest = largest, torch.maximum(largest, logits.amax(dim=1, keepdim=True))
            shrunk = before.sub_(largest).exp_()
            # Powers of two take a quarter of the time of powers of e.
            shares = logits.sub_(largest).mul_(_LOG2_E).exp2_()
            total.mul_(shrunk).add_(shares.sum(dim=1, keepdim=True))
            shares = shares if slope is None else shares.mul_(slope)
            mean.mul_(shrunk).add_(product(shares, weight.t()))
        ctx.save_for_backward(mean.div_(total))
        return (largest + total.log()).squeeze(1)

    @staticmethod
    def backward(ctx: Any, *received: Tensor) -> tuple[Tensor, None, None]:
        (mean,) = ctx.saved_tensors
        return received[0].unsqueeze(1) * mean, None, None


def _blocks(layer: nn.Linear, states: Tensor) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Yield weights and biases of tokens whose logits after all states are not too many."""
    size = max(1, _NUMBERS_AT_ONCE // max(states.shape))
    biases = itertools.repeat(None) if layer.bias is None else layer.bias.split(size)
    return zip(layer.weight.split(size), biases, strict=layer.bias is not None)


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

    So it is while the output layer itself is trained. Some architectures scale or cap their logits.
    What they do is found by sending a few known logits through the rest of the model's forward
    pass, after two tokens, once for each view.
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
