"""The layers of a view: find them, count them, and replace how they run for a while."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def named_decoder_layers(model: Any) -> dict[str, nn.Module]:
    """Return the decoder layers of a model with their names, the lowest first.

    The result is empty if no list of modules is as long as the configuration says.
    """
    n_layers = model.config.get_text_config().num_hidden_layers
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == n_layers:
            return {f"{name}.{position}": layer for position, layer in enumerate(module)}
    return {}


def has_encoder(model: Any) -> bool:
    """Say whether an encoder reads the prompt, and a decoder of its own produces the label."""
    return bool(getattr(model.config, "is_encoder_decoder", False))


def stacked_layers(model: nn.Module) -> list[nn.Module]:
    """Return the layers of all stacks of a model, such as those of an encoder and a decoder.

    They are the members of its outermost lists of modules.
    """
    found: list[nn.Module] = []
    outer = ""
    for name, module in model.named_modules():
        is_inside = outer and name.startswith(outer)
        if isinstance(module, nn.ModuleList) and not is_inside:
            outer = f"{name}."
            found += module
    return found


def n_frozen_layers(model: nn.Module, n_tuned: int | None) -> int:
    """Return how many of the lower layers are not tuned. ``n_tuned=None`` tunes all layers.

    Raises
    ------
    ValueError
        If the model has fewer layers, does not keep them in one list, or has an encoder.
    """
    if n_tuned is None:
        return 0
    if has_encoder(model):
        msg = (
            f"adapter=LoRA(n_layers={n_tuned}) tunes the last layers of a decoder-only model, and "
            f"{type(model).__name__} has an encoder and a decoder. Use n_layers=None, which tunes "
            "all layers, or name modules in target_modules."
        )
        raise ValueError(msg)
    n_layers = len(named_decoder_layers(model))
    if n_layers == 0:
        msg = (
            f"adapter=LoRA(n_layers={n_tuned}) tunes the last layers, and {type(model).__name__} "
            "does not keep its layers in one list. Use n_layers=None, which tunes all."
        )
        raise ValueError(msg)
    if n_tuned > n_layers:
        msg = (
            f"adapter=LoRA(n_layers={n_tuned}) asks for more than the {n_layers} layers of the "
            f"model. Set n_layers to {n_layers} or less, or to None for all."
        )
        raise ValueError(msg)
    return n_layers - n_tuned


def frozen_layers_pattern(model: nn.Module, n_tuned: int | None) -> str | None:
    """Return a regular expression for the names of all modules inside layers that are not tuned.

    ``None`` if all layers are tuned. The parameters are those of `n_frozen_layers`.
    """
    frozen = list(named_decoder_layers(model))[: n_frozen_layers(model, n_tuned)]
    return "|".join(rf"{re.escape(name)}\..*" for name in frozen) or None


@contextmanager
def replacing_forward(layer: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Replace the ``forward`` of a view's layer inside the block. Its hooks still run around it."""
    before = vars(layer).get("forward")
    layer.forward = forward
    try:
        yield
    finally:
        del layer.forward
        if before is not None:
            layer.forward = before


@contextmanager
def gradient_checkpointing(layers: Iterable[nn.Module]) -> Iterator[None]:
    """Keep only the inputs of each of these layers for the backward pass, which runs it again.

    The layers of transformers can do so themselves, but not with keys and values of a prefix.
    Inside the block, no cache may be passed to the model.
    """
    with ExitStack() as stack:
        for layer in layers:
            stack.enter_context(replacing_forward(layer, _checkpointed(layer.forward)))
        yield


def _checkpointed(forward: Callable[..., Any]) -> Callable[..., Any]:
    def run(*inputs: Any, **options: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*inputs, **options)
        return checkpoint(forward, *inputs, use_reentrant=False, **options)

    return run
