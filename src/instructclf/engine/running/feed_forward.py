"""Gated feed-forward parts of a model on a CPU → their activation within the matrix products.

Most architectures compute ``down(activation(gate(x)) * up(x))`` in five steps. In half precision
the products are fast, and what stands between them is slow: outputs converted to float32, the
activation, and the product of both, each a pass over the widest tensors of a model. oneDNN applies
the activation to what the first product has added up, and multiplies what the second one has added
up by the result. So a part takes half of its time, and rounds twice in place of three times.
"""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from instructclf.engine.running.arithmetic import (
    has_onednn,
    is_plain_product,
    product,
    product_dtype,
)

_PARTS = ("gate_proj", "up_proj", "down_proj")
_ACTIVATIONS = (("swish", ""), ("gelu", "tanh"), ("gelu", "none"), ("relu", ""))
"""What oneDNN calls the activations of gated parts. *swish* is torch's SiLU."""
_TAKEN = (torch.float32, torch.bfloat16, torch.float16)
_N_IN, _N_INNER = 5, 7
_TOLERANCE = 1e-5


def fuse_feed_forward(model: nn.Module) -> None:
    """Let gated parts of a view compute so, but for those that others have changed.

    Architectures may do more than their layers say. Each part is therefore compared, with a few
    random numbers in place of its weights, with what oneDNN computes.
    """
    if not has_onednn():
        return
    for module in model.modules():
        if "forward" not in vars(module) and _is_gated(module):
            activation = _find_activation(module)
            if activation is not None:
                module.forward = partial(_run, module, activation)


def _is_gated(module: nn.Module) -> bool:
    layers = [getattr(module, name, None) for name in _PARTS]
    return all(
        type(layer) is nn.Linear
        and layer.weight.device.type == "cpu"
        and layer.weight.dtype in _TAKEN
        for layer in layers
    )


def _find_activation(module: nn.Module) -> tuple[str, str] | None:
    """Return the activation with which oneDNN computes what this part computes."""
    small = _with_small_layers(module)
    # Activations differ most a few units from 0.
    inputs = torch.linspace(-4, 4, 8 * _N_IN).view(8, _N_IN)
    try:
        with torch.inference_mode():
            expected = type(module).forward(small, inputs)
            return next((a for a in _ACTIVATIONS if _is_equal(small, a, inputs, expected)), None)
    except (RuntimeError, TypeError, ValueError, AttributeError):  # it takes other inputs
        return None


def _with_small_layers(module: nn.Module) -> Any:
    """Return a part with the same code and configuration, and few weights, in float32."""
    generator = torch.Generator().manual_seed(0)
    small = copy.copy(module)
    small._modules = dict(module._modules)  # noqa: SLF001  (a copy shares the dictionary)
    shapes = ((_N_INNER, _N_IN), (_N_INNER, _N_IN), (_N_IN, _N_INNER))
    for name, (n_out, n_in) in zip(_PARTS, shapes, strict=True):
        has_bias = getattr(module, name).bias is not None
        layer = nn.utils.skip_init(nn.Linear, n_in, n_out, bias=has_bias)
        layer.weight = nn.Parameter(torch.randn(n_out, n_in, generator=generator))
        if has_bias:
            layer.bias = nn.Parameter(torch.randn(n_out, generator=generator))
        small._modules[name] = layer  # noqa: SLF001
    return small


def _is_equal(module: Any, activation: tuple[str, str], inputs: Tensor, expected: Any) -> bool:
    if not isinstance(expected, Tensor) or expected.shape != inputs.shape:
        return False
    found = _compute(module, activation, inputs)
    return torch.allclose(found, expected, rtol=_TOLERANCE, atol=_TOLERANCE)


def _run(module: Any, activation: tuple[str, str], states: Tensor) -> Tensor:
    layers = [getattr(module, name) for name in _PARTS]
    is_plain = all(type(layer) is nn.Linear and is_plain_product(layer) for layer in layers)
    if is_plain and not torch.is_grad_enabled():
        try:
            return _compute(module, activation, states)
        except RuntimeError:  # oneDNN compiles code for each shape, which takes memory of its own
            pass
    return type(module).forward(module, states)


def _compute(module: Any, activation: tuple[str, str], states: Tensor) -> Tensor:
    gate, up, down = (getattr(module, name) for name in _PARTS)
    dtype = product_dtype(states, gate.weight)
    rows = states.reshape(-1, states.shape[-1]).to(dtype)
    kind, algorithm = activation
    linear_pointwise: Any = torch.ops.mkldnn._linear_pointwise  # noqa: SLF001  (no public name)
    gated = linear_pointwise(rows, *_weights(gate, dtype), kind, [], algorithm)
    hidden = linear_pointwise.binary(rows, gated, *_weights(up, dtype), "mul")
    output = product(hidden, down.weight, down.bias)
    return output.to(states.dtype).view(*states.shape[:-1], -1)


def _weights(layer: nn.Linear, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
    return layer.weight.to(dtype), None if layer.bias is None else layer.bias.to(dtype)
