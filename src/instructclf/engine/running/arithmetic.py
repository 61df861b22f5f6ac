"""How the layers of a model compute on a CPU: with the fastest products, and precise between them.

A model in half precision keeps its weights so, and what passes from layer to layer is float32. This
costs a few percent of the time, and takes the error of scores down to a fifth.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from instructclf.engine.running.products import product

_IS_WIDE = "_gives_float32"


def use_fast_arithmetic(model: Any) -> None:
    """Change how the layers of a view compute, but for those that others have changed."""
    if _can_be_wide(model):
        embeddings = model.get_input_embeddings()
        if not getattr(embeddings, _IS_WIDE, False):
            embeddings.register_forward_hook(_widen)
            setattr(embeddings, _IS_WIDE, True)
        for module in _unchanged(model, nn.LayerNorm):
            module.forward = partial(_normalise, module)
    for module in _unchanged(model, nn.Linear):
        module.forward = partial(_multiply, module)


def activation_dtype(model: Any) -> torch.dtype:
    """Return the data type of what passes from layer to layer of a view."""
    embeddings = model.get_input_embeddings()
    return torch.float32 if getattr(embeddings, _IS_WIDE, False) else embeddings.weight.dtype


def _unchanged(model: nn.Module, kind: type[nn.Module]) -> list[Any]:
    return [m for m in model.modules() if type(m) is kind and "forward" not in vars(m)]


def _can_be_wide(model: Any) -> bool:
    """Say whether all layers take float32 next to weights in half precision, on the CPU."""
    kinds = {
        (parameter.device.type, parameter.dtype)
        for parameter in model.get_input_embeddings().parameters()
    }
    is_half = kinds <= {("cpu", torch.bfloat16), ("cpu", torch.float16)}
    return is_half and all(map(_takes_float32, model.modules()))


def _takes_float32(module: nn.Module) -> bool:
    weights = list(module.parameters(recurse=False))
    if any(weight.device.type != "cpu" for weight in weights):
        return False
    if isinstance(module, (nn.Linear, nn.LayerNorm)):  # their subclasses compute in other ways
        return type(module) in {nn.Linear, nn.LayerNorm} and "forward" not in vars(module)
    if isinstance(module, nn.Embedding):
        return True
    # What architectures write out themselves: norms multiply by their weight, and torch takes the
    # more precise type of the two.
    is_norm = type(module).__name__.endswith("Norm") and all(w.ndim == 1 for w in weights)
    return is_norm or all(weight.itemsize != 2 for weight in weights)


def _widen(_module: nn.Module, _inputs: Any, states: Tensor) -> Tensor:
    return states.float()


def _multiply(layer: nn.Linear, rows: Tensor) -> Tensor:
    return product(rows, layer.weight, layer.bias)


def _normalise(layer: nn.LayerNorm, states: Tensor) -> Tensor:
    """Normalise with weights of the states' data type: torch takes no others."""
    weight, bias = (None if w is None else w.to(states.dtype) for w in (layer.weight, layer.bias))
    return layer_norm(states, layer.normalized_shape, weight, bias, layer.eps)
