"""How the layers of a model compute on a CPU: in the fastest arithmetic, and precise between them.

torch computes products of float32 with MKL, which uses half the width of AMD's vector units: there,
oneDNN takes 0.4 of the time. Weights in half precision are multiplied as they are where the
processor has instructions for bfloat16, which is twice as fast again. Otherwise they are converted
at every call, which costs a hundredth of the product: torch would compute float16, and bfloat16
without such instructions, several times as slowly.

A model in half precision keeps its weights so, and what passes from layer to layer is float32. This
costs a few percent of the time, and takes the error of scores down to a third or less.
"""

from __future__ import annotations

import platform
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, linear

_X86 = ("x86_64", "AMD64")
_IS_WIDE = "_gives_float32"


def product(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return ``rows @ weight.T + bias``, in the data type of the rows.

    On a CPU, the weight may be less precise than the rows. Gradients reach everything.
    """
    dtype = product_dtype(rows, weight)
    if dtype != torch.float32 or rows.device.type != "cpu":
        return linear(rows.to(dtype), weight, bias).to(rows.dtype)
    return _float32_product(rows.float(), weight, bias).to(rows.dtype)


def product_dtype(rows: Tensor, weight: Tensor) -> torch.dtype:
    """Return the data type that a product is computed in."""
    is_half = weight.dtype in {torch.bfloat16, torch.float16}
    if rows.device.type != "cpu" or not is_half:
        return weight.dtype
    # Other processors than those of x86 are left to torch.
    is_fast = has_bfloat16_instructions() or platform.machine() not in _X86
    return torch.bfloat16 if is_fast and weight.dtype == torch.bfloat16 else torch.float32


def precise_product(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return ``rows @ weight.T + bias`` in the precision of the rows, float32 or more.

    The weight, which may be less precise, is converted.
    """
    if rows.device.type == "cpu" and rows.dtype == torch.float32:
        return _float32_product(rows, weight, bias)
    return linear(rows, weight.to(rows.dtype), None if bias is None else bias.to(rows.dtype))


def is_plain_product(layer: nn.Linear) -> bool:
    """Say whether a linear layer computes `product` of its inputs, and nothing more."""
    forward = vars(layer).get("forward")
    is_ours = isinstance(forward, partial) and forward.func is _multiply
    hooks = (layer._forward_hooks, layer._forward_pre_hooks)  # noqa: SLF001  (have no public names)
    return (forward is None or is_ours) and not any(hooks)


@cache
def has_bfloat16_instructions() -> bool:
    """Say whether the CPU is known to have instructions for products of bfloat16."""
    return _cpu_has("avx512_bf16") or has_matrix_units()


def has_matrix_units() -> bool:
    """Say whether the CPU is known to multiply matrices of half precision in tiles (AMX)."""
    return _cpu_has("amx_tile")


@cache
def has_onednn() -> bool:
    """Say whether torch computes products on this CPU with oneDNN."""
    has_operator = hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return torch.backends.mkldnn.is_available() and has_operator


def _cpu_has(feature: str) -> bool:
    asks = getattr(torch.cpu, f"_is_{feature}_supported", None)
    return platform.machine() in _X86 and asks is not None and asks()


def _float32_product(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    trains_weight = weight.requires_grad or (bias is not None and bias.requires_grad)
    if not has_onednn() or (torch.is_grad_enabled() and trains_weight):
        return linear(rows, weight.float(), None if bias is None else bias.float())
    if not torch.is_grad_enabled():
        return _onednn_linear(rows, weight, bias)
    result: Any = _FrozenProduct.apply(rows, weight, bias)
    return result


class _FrozenProduct(torch.autograd.Function):
    """A product with a weight that is not trained."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        return _onednn_linear(rows, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        return _onednn_linear(gradients[0], weight.t(), None), None, None


def _onednn_linear(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Call the operator that torch's compiler puts in the place of ``linear``."""
    weight, bias = weight.float(), None if bias is None else bias.float()
    try:
        return torch.ops.mkldnn._linear_pointwise(  # noqa: SLF001  (has no public name)
            rows, weight, bias, "none", [], ""
        )
    except RuntimeError:  # oneDNN compiles code for each shape, which takes memory of its own
        return linear(rows, weight, bias)


# The layers of a model


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
    """Say whether all layers take float32 next to weights in half precision, on the CPU.

    A decoder next to an encoder has embeddings of its own, and both must agree, so those stay half.
    """
    if getattr(model.config, "is_encoder_decoder", False):
        return False
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
