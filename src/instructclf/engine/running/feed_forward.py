"""Gated feed-forward parts of a model on a CPU → few passes over their widest tensors.

Most architectures compute ``down(activation(gate(x)) * up(x))`` in five steps. In half precision
the products are fast, and what stands between them takes most of the time: outputs converted to
float32, the activation, and the product of both, each a pass over the widest tensors of a model.

In prediction, oneDNN applies the activation to what the first product has added up, and multiplies
what the second one has added up by the result. So a part takes half of its time, and rounds twice
in place of three times. In training, which needs the outputs of both products again, what stands
between the products is computed in blocks that fit into the processor's cache.
"""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from instructclf.engine.running.activations import ACTIVATIONS, Activation
from instructclf.engine.running.arithmetic import has_onednn, is_plain_product, product_dtype

AS_PRODUCT = "as_product"
"""An attribute of layers that are no `torch.nn.Linear`, and compute a product and nothing more. It
is a function of an input in the precision of the product, of shape (n_tokens, n_in), and returns an
input, a weight and a bias whose product is the output of the layer."""
_PARTS = ("gate_proj", "up_proj", "down_proj")
_TAKEN = (torch.float32, torch.bfloat16, torch.float16)
_N_IN, _N_INNER = 5, 7
_TOLERANCE = 1e-5
_FEW_TOKENS = 128
_NUMBERS_AT_ONCE = 2**17
"""Of float32: 512 KB, a few of which fit into a core's cache."""


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


def _find_activation(module: nn.Module) -> Activation | None:
    """Return the activation with which oneDNN computes what this part computes."""
    small = _with_small_layers(module)
    # Activations differ most a few units from 0.
    inputs = torch.linspace(-4, 4, 8 * _N_IN).view(8, _N_IN)
    try:
        with torch.inference_mode():
            expected = type(module).forward(small, inputs)
            return next((a for a in ACTIVATIONS if _is_equal(small, a, inputs, expected)), None)
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


def _is_equal(module: Any, activation: Activation, inputs: Tensor, expected: Any) -> bool:
    if not isinstance(expected, Tensor) or expected.shape != inputs.shape:
        return False
    found = _predict(module, activation, inputs)
    return torch.allclose(found, expected, rtol=_TOLERANCE, atol=_TOLERANCE)


def _run(module: Any, activation: Activation, states: Tensor) -> Tensor:
    if not all(map(_is_product, _layers_of(module))):
        return type(module).forward(module, states)
    if torch.is_grad_enabled() or _copies_in_vain(module, states):
        return _train(module, activation, states)
    try:
        return _predict(module, activation, states)
    except RuntimeError:  # oneDNN compiles code for each shape, which takes memory of its own
        return _train(module, activation, states)


def _layers_of(module: Any) -> list[Any]:
    return [getattr(module, name) for name in _PARTS]


def _is_product(layer: Any) -> bool:
    if type(layer) is nn.Linear:
        return is_plain_product(layer)
    return hasattr(layer, AS_PRODUCT) and is_plain_product(layer.get_base_layer())


def _copies_in_vain(module: Any, states: Tensor) -> bool:
    """Say whether layers copy a weight for fewer tokens than repay it."""
    n_tokens = states.numel() // states.shape[-1]
    return type(module.gate_proj) is not nn.Linear and n_tokens < _FEW_TOKENS


def _predict(module: Any, activation: Activation, states: Tensor) -> Tensor:
    gate, up, down = _layers_of(module)
    rows = states.reshape(-1, states.shape[-1])
    linear_pointwise: Any = torch.ops.mkldnn._linear_pointwise  # noqa: SLF001  (no public name)
    gated = linear_pointwise(*_as_product(gate, rows), activation.name, [], activation.algorithm)
    of_up, *weights = _as_product(up, rows)
    hidden = linear_pointwise.binary(of_up, gated, *weights, "mul")
    return down(hidden).to(states.dtype).view(*states.shape[:-1], -1)


def _as_product(layer: Any, rows: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return an input, a weight and a bias whose product is the output of a layer."""
    if type(layer) is not nn.Linear:
        base = layer.get_base_layer()
        return getattr(layer, AS_PRODUCT)(rows.to(product_dtype(rows, base.weight)))
    dtype = product_dtype(rows, layer.weight)
    bias = None if layer.bias is None else layer.bias.to(dtype)
    return rows.to(dtype), layer.weight.to(dtype), bias


def _train(module: Any, activation: Activation, states: Tensor) -> Tensor:
    gate, up, down = _layers_of(module)
    base = gate if type(gate) is nn.Linear else gate.get_base_layer()
    rows = states.reshape(-1, states.shape[-1]).to(product_dtype(states, base.weight))
    hidden: Any = _Gated.apply(gate(rows), up(rows), activation)
    return down(hidden).to(states.dtype).view(*states.shape[:-1], -1)


class _Gated(torch.autograd.Function):
    """``activation(gate) * up``, which keeps nothing for the backward pass but these two."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor, activation: Activation) -> Tensor:
        ctx.save_for_backward(gate, up)
        ctx.activation = activation
        hidden = torch.empty_like(gate)
        for block in _blocks(gate):
            hidden[block] = activation.values(gate[block].float()).mul_(up[block])
        return hidden

    @staticmethod
    def backward(ctx: Any, *received: Tensor) -> tuple[Tensor | None, ...]:
        gate, up = ctx.saved_tensors
        to_gate, to_up = torch.empty_like(gate), torch.empty_like(up)
        for block in _blocks(gate):
            values, slopes = ctx.activation.values_and_slopes(gate[block].float())
            sent = received[0][block].float()
            to_up[block] = values.mul_(sent)
            to_gate[block] = slopes.mul_(sent).mul_(up[block])
        return to_gate, to_up, None


def _blocks(rows: Tensor) -> list[slice]:
    size = max(1, _NUMBERS_AT_ONCE // rows.shape[1])
    return [slice(start, start + size) for start in range(0, len(rows), size)]
