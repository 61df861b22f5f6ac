"""Root mean square norms of a model → few passes over the hidden states.

Architectures write the norm out in seven or eight operations, two to six times a layer, and each
passes over the hidden states. On a GPU, where that is a quarter of all launches of a layer, torch's
own kernel takes their place. On a CPU it is slower than three passes: one for the norm of each
state, and two that scale in place. The backward pass keeps nothing but the states and their norms.
"""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import rms_norm

_NAMES_OF_EPS = ("variance_epsilon", "eps")
_OFFSETS = (0.0, 1.0)
"""What architectures add to the weight before they scale by it: Gemma's learns from zero."""
_offsets: dict[tuple[type[nn.Module], float], float | None] = {}
"""What a class of norms with some epsilon adds to its weight, if it is a plain norm."""
_WEIGHTS = (torch.float32, torch.bfloat16, torch.float16)


def fuse_norms(model: nn.Module) -> None:
    """Let the norms of a view compute in few passes, but for those that others changed.

    Some architectures scale by one plus the weight, or by nothing. Each class of norms is therefore
    compared with torch's on a few random numbers, and stays as it is unless both are equal.
    """
    for module in model.modules():
        weight = getattr(module, "weight", None)
        is_norm = type(module).__name__.endswith("RMSNorm") and "forward" not in vars(module)
        if not is_norm or not isinstance(weight, nn.Parameter):
            continue
        offset = _find_offset(module)
        if weight.device.type == "cuda" and offset == 0:
            module.forward = partial(_normalise_at_once, module)
        elif weight.device.type == "cpu" and offset is not None and weight.dtype in _WEIGHTS:
            module.forward = partial(_normalise_in_passes, module, offset)


def _find_offset(module: Any) -> float | None:
    """Return what a norm adds to its weight, or ``None`` if it is none that torch computes."""
    eps = _eps(module)
    if eps is None or len(list(module.parameters())) != 1 or module.weight.ndim != 1:
        return None
    kind = type(module), eps
    if kind not in _offsets:
        generator = torch.Generator().manual_seed(0)
        inputs, weight = torch.randn(2, 4, len(module.weight), generator=generator)
        other = copy.copy(module)  # on the CPU, with weights that tell scalings apart
        other._parameters = {"weight": nn.Parameter(weight[0])}  # noqa: SLF001
        with torch.inference_mode():
            found = other.forward(inputs)
            expected = {o: rms_norm(inputs, weight[0].shape, weight[0] + o, eps) for o in _OFFSETS}
        equal = (o for o, e in expected.items() if torch.allclose(found, e, rtol=1e-5, atol=1e-6))
        _offsets[kind] = next(equal, None)
    return _offsets[kind]


def _eps(module: nn.Module) -> float | None:
    found = (getattr(module, name, None) for name in _NAMES_OF_EPS)
    return next((eps for eps in found if isinstance(eps, float)), None)


def _normalise_at_once(module: Any, states: Tensor) -> Tensor:
    if states.dtype != module.weight.dtype:  # architectures differ in what they return
        return type(module).forward(module, states)
    return rms_norm(states, module.weight.shape, module.weight, _eps(module))


def _normalise_in_passes(module: Any, offset: float, states: Tensor) -> Tensor:
    weight, eps = module.weight, _eps(module)
    trains_weight = torch.is_grad_enabled() and weight.requires_grad
    if states.dtype != torch.float32 or weight.device.type != "cpu" or trains_weight:
        return type(module).forward(module, states)
    scale = weight.float() + offset
    if torch.is_grad_enabled() and states.requires_grad:
        normed: Any = _Norm.apply(states, scale, eps)
        return normed
    return torch.mul(states, _inverse_norm(states, eps)).mul_(scale)


def _inverse_norm(states: Tensor, eps: Any) -> Tensor:
    """Return one over the root mean square of each state, of shape (..., 1)."""
    norm = torch.linalg.vector_norm(states, dim=-1, keepdim=True)
    return norm.square_().div_(states.shape[-1]).add_(eps).rsqrt_()


class _Norm(torch.autograd.Function):
    """A norm whose weight is not trained."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, scale: Tensor, eps: float) -> Tensor:
        inverse = _inverse_norm(states, eps)
        ctx.save_for_backward(states, scale, inverse)
        return torch.mul(states, inverse).mul_(scale)

    @staticmethod
    def backward(ctx: Any, *received: Tensor) -> tuple[Tensor | None, ...]:
        """With y = r x w and r = (x² / n + eps)^-1/2: dx = r (w dy - x r² (x · w dy) / n)."""
        states, scale, inverse = ctx.saved_tensors
        sent = received[0] * scale
        share = torch.linalg.vecdot(states, sent).unsqueeze(-1)
        share.mul_(inverse.pow(3)).div_(-states.shape[-1])
        return sent.mul_(inverse).addcmul_(states, share), None, None
