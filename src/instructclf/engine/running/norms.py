"""Root mean square norms of a model on a GPU → torch's own, which is one kernel.

Architectures write the norm out in eight operations, twice a layer, and each passes over the hidden
states: a quarter of all launches of a layer. torch's kernel computes the same in float32 and rounds
once, at the end.
"""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import rms_norm

_NAMES_OF_EPS = ("variance_epsilon", "eps")
_is_plain: dict[tuple[type[nn.Module], float], bool] = {}
"""Whether a class of norms with some epsilon computes what torch computes."""


def fuse_norms(model: nn.Module) -> None:
    """Let the norms of a view on a GPU compute in one kernel, but for those that others changed.

    Some architectures scale by one plus the weight, or by nothing. Each class of norms is therefore
    compared with torch's on a few random numbers, and stays as it is unless both are equal.
    """
    for module in model.modules():
        weight = getattr(module, "weight", None)
        if (
            type(module).__name__.endswith("RMSNorm")
            and isinstance(weight, nn.Parameter)
            and weight.device.type == "cuda"
            and "forward" not in vars(module)
            and _computes_what_torch_computes(module)
        ):
            module.forward = partial(_normalise, module)


def _computes_what_torch_computes(module: Any) -> bool:
    eps = _eps(module)
    if eps is None or len(list(module.parameters())) != 1 or module.weight.ndim != 1:
        return False
    kind = type(module), eps
    if kind not in _is_plain:
        generator = torch.Generator().manual_seed(0)
        inputs, weight = torch.randn(2, 4, len(module.weight), generator=generator)
        other = copy.copy(module)  # on the CPU, with weights that tell scalings apart
        other._parameters = {"weight": nn.Parameter(weight[0])}  # noqa: SLF001
        with torch.inference_mode():
            found = other.forward(inputs)
            expected = rms_norm(inputs, weight[0].shape, weight[0], eps)
            _is_plain[kind] = torch.allclose(found, expected, rtol=1e-5, atol=1e-6)
    return _is_plain[kind]


def _eps(module: nn.Module) -> float | None:
    found = (getattr(module, name, None) for name in _NAMES_OF_EPS)
    return next((eps for eps in found if isinstance(eps, float)), None)


def _normalise(module: Any, states: Tensor) -> Tensor:
    if states.dtype != module.weight.dtype:  # architectures differ in what they return
        return type(module).forward(module, states)
    return rms_norm(states, module.weight.shape, module.weight, _eps(module))
