"""LoRA layers of PEFT → layers that compute their updates together, in the precision of the model.

PEFT trains factors in float32. A model in half precision needs them in half, so they are converted
all at once, when they have changed, rather than at each call of each layer.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import partial
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from instructclf.engine.models.placement import input_device
from instructclf.engine.running.arithmetic import product_dtype
from instructclf.engine.running.feed_forward import AS_PRODUCT
from instructclf.engine.running.low_rank import as_one_product, outputs_with_updates
from instructclf.engine.scoring.budgets import is_fatal
from instructclf.engine.scoring.probes import FAILURES


def fuse_updates(view: Any, layers: Sequence[Any]) -> None:
    """Let LoRA layers of PEFT add their updates in one step, those with one input together.

    Layers with dropout, bias or DoRA stay as they are. Each layer has one adapter, around an
    ordinary linear layer. The view runs once, on one token, to show which layers share an input.
    """
    fusible = [layer for layer in layers if _is_fusible(layer)]
    if not fusible:
        return
    fused = _FusedUpdates([_Group(group) for group in _group_by_input(view, fusible)])
    for position, group in enumerate(fused.groups):
        for member, layer in enumerate(group.layers):
            layer.forward = partial(fused.run, position, member)
            setattr(layer, AS_PRODUCT, partial(fused.as_one_product, position, member))


def _is_fusible(layer: Any) -> bool:
    (name,) = layer.active_adapters
    drops = not isinstance(layer.lora_dropout[name], nn.Identity)
    return not drops and layer.lora_B[name].bias is None and name not in layer.lora_magnitude_vector


def _group_by_input(view: Any, layers: Sequence[Any]) -> list[list[Any]]:
    """Return layers that read the same tensor one after the other, and all others one by one.

    A model that does not run on a token alone shows nothing, and gets no groups.
    """
    calls: list[tuple[Any, Tensor]] = []
    handles = [
        layer.register_forward_pre_hook(lambda layer, inputs: calls.append((layer, inputs[0])))
        for layer in layers
    ]
    try:
        with torch.inference_mode():
            token = torch.zeros(1, 1, dtype=torch.long, device=input_device(view))
            view(input_ids=token, use_cache=False)
    except FAILURES as error:
        if is_fatal(error):
            raise
        calls.clear()
    finally:
        for handle in handles:
            handle.remove()
    found = [[layer for layer, _ in group] for _, group in groupby(calls, lambda c: id(c[1]))]
    groups = [group for group in found if _are_alike(group)]
    grouped = {id(layer) for group in groups for layer in group}
    return [*groups, *([layer] for layer in layers if id(layer) not in grouped)]


def _are_alike(layers: Sequence[Any]) -> bool:
    """Say whether layers can be computed together: they run once, and their factors fit."""
    kinds = {
        (weight.shape, weight.device, layer.base_layer.weight.dtype)
        for layer in layers
        for weight in [_factors(layer)[0]]
    }
    return len({id(layer) for layer in layers}) == len(layers) and len(kinds) == 1


def _factors(layer: Any) -> tuple[nn.Parameter, nn.Parameter]:
    (name,) = layer.active_adapters
    return layer.lora_A[name].weight, layer.lora_B[name].weight


class _Group:
    """Layers that read the same input.

    Parameters
    ----------
    layers : sequence of peft.tuners.lora.layer.Linear
        In the order in which the model calls them.
    """

    def __init__(self, layers: Sequence[Any]) -> None:
        self.layers = list(layers)

    @property
    def weights(self) -> list[nn.Parameter]:
        """The first factors of all layers, and then the second ones."""
        return [weight for place in (0, 1) for weight in self.factors[place]]

    @property
    def factors(self) -> list[tuple[nn.Parameter, ...]]:
        """The first factors of all layers, and their second factors."""
        return list(zip(*map(_factors, self.layers), strict=True))

    @property
    def scalings(self) -> list[float]:
        """What the update of each layer is scaled by."""
        return [layer.scaling[name] for layer in self.layers for name in layer.active_adapters]

    @property
    def dtype(self) -> torch.dtype:
        """The data type that products are computed in."""
        weight = self.layers[0].base_layer.weight
        return product_dtype(weight, weight)

    def is_copied(self) -> bool:
        """Say whether factors have to be converted, or put one below the other."""
        return len(self.layers) > 1 or self.dtype != self.weights[0].dtype


class _FusedUpdates:
    """Computes groups of layers, and remembers what the next call of a model will ask for.

    Parameters
    ----------
    groups : list of _Group
        The layers.
    """

    def __init__(self, groups: list[_Group]) -> None:
        self.groups = groups
        self._prepared: dict[bool, list[_Prepared]] = {}
        self._waiting = threading.local()

    def __getstate__(self) -> dict[str, Any]:
        # Copies of a view convert their own factors.
        return {"groups": self.groups}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["groups"])

    def run(self, position: int, member: int, x: Tensor) -> Tensor:
        """Return the output of a layer of a group. The first call computes those of all."""
        waiting = vars(self._waiting)
        if waiting.get("position") == position and waiting["x"] is x and member in waiting["found"]:
            output = waiting["found"].pop(member)
        else:
            group, prepared = self.groups[position], self._prepare(position)
            layers = [layer.base_layer for layer in group.layers]
            found = outputs_with_updates(layers, x, prepared.a, prepared.b, group.scalings)
            waiting.update(position=position, x=x, found=dict(enumerate(found)))
            output = waiting["found"].pop(member)
        if not waiting["found"]:
            waiting.clear()
        return output

    def as_one_product(
        self, position: int, member: int, rows: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return an input, a weight and a bias whose product is that of a layer of a group."""
        group, prepared = self.groups[position], self._prepare(position)
        layer, n_layers = group.layers[member].base_layer, len(group.layers)
        first = prepared.a.chunk(n_layers)[member]
        found = as_one_product(layer, rows, first, prepared.b[member], group.scalings[member])
        return *found, layer.bias

    def _prepare(self, position: int) -> _Prepared:
        """Return the factors of a group as its products take them."""
        trains = torch.is_grad_enabled()
        prepared = self._prepared.get(trains)
        if prepared is None or not prepared[position].is_of(self.groups[position].weights):
            prepared = self._prepared[trains] = _prepare_all(self.groups)
        return prepared[position]


class _Prepared:
    """The factors of a group, at one state of its weights.

    Parameters
    ----------
    weights : sequence of torch.nn.Parameter
        The weights.
    a : Tensor of shape (n_layers * rank, n_in)
        The first factors, one below the other.
    b : sequence of Tensor of shape (n_out, rank)
        The second factors.
    """

    def __init__(self, weights: Sequence[nn.Parameter], a: Tensor, b: Sequence[Tensor]) -> None:
        self._state = _state_of(weights)
        self.a = a
        self.b = b

    def is_of(self, weights: Sequence[nn.Parameter]) -> bool:
        """Say whether these are the weights, and have not changed since."""
        return self._state == _state_of(weights)


def _state_of(weights: Sequence[nn.Parameter]) -> list[tuple[int, int]]:
    return [(weight.data_ptr(), weight._version) for weight in weights]  # noqa: SLF001


def _prepare_all(groups: Sequence[_Group]) -> list[_Prepared]:
    """Convert the factors of all groups, in one launch for each device."""
    copied = [group for group in groups if group.is_copied()]
    weights = [weight for group in copied for weight in group.weights]
    layout = [(len(group.layers), group.dtype) for group in copied]
    copies: Any = iter(_Copies.apply(layout, *weights) if copied else ())
    prepared = []
    for group in groups:
        if group.is_copied():
            a, *b = (next(copies) for _ in range(1 + len(group.layers)))
        else:
            a, b = group.weights[0], group.weights[1:]
        prepared.append(_Prepared(group.weights, a, b))
    return prepared


class _Copies(torch.autograd.Function):
    """Copies of factors in the precision of products, the first ones of a group in one tensor.

    It keeps nothing for the backward pass, so several of them can go through it.
    """

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, ...]:
        layout, *weights = inputs
        ctx.layout, ctx.dtype = layout, weights[0].dtype
        ctx.set_materialize_grads(False)
        outputs: list[Tensor] = []
        targets: list[Tensor] = []
        start = 0
        for n_layers, dtype in layout:
            first, second = weights[start : start + n_layers], weights[start + n_layers :]
            shape = sum(map(len, first)), first[0].shape[1]
            a = first[0].new_empty(shape, dtype=dtype)
            b = [torch.empty_like(weight, dtype=dtype) for weight in second[:n_layers]]
            outputs += [a, *b]
            targets += [*a.chunk(n_layers), *b]
            start += 2 * n_layers
        _copy(targets, weights)
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *received: Tensor | None) -> tuple[Tensor | None, ...]:
        found: list[Tensor | None] = []
        start = 0
        for n_layers, _ in ctx.layout:
            a, *b = received[start : start + 1 + n_layers]
            found += [*([None] * n_layers if a is None else a.chunk(n_layers)), *b]
            start += 1 + n_layers
        half = [gradient for gradient in found if gradient is not None]
        full = [torch.empty_like(g, dtype=ctx.dtype) for g in half]
        _copy(full, half)
        wide = iter(full)
        return None, *(None if gradient is None else next(wide) for gradient in found)


def _copy(targets: Sequence[Tensor], sources: Sequence[Tensor]) -> None:
    """Copy tensors into others, in one launch for each device."""
    pairs = sorted(zip(targets, sources, strict=True), key=lambda pair: str(pair[0].device))
    for _, group in groupby(pairs, key=lambda pair: (pair[0].device, pair[0].dtype)):
        to, source = map(list, zip(*group, strict=True))
        torch._foreach_copy_(to, source)  # pyright: ignore[reportPrivateImportUsage]
