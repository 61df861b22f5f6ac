"""The decoder layers of a view: which they are, and running them in another way for a while."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def named_decoder_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Return the decoder layers of a model with their names, the lowest first.

    Parameters
    ----------
    model : torch.nn.Module
        A causal language model.

    Returns
    -------
    dict of str to torch.nn.Module
        The layers. None if they are not one list, as long as the configuration says.
    """
    n_layers = _text_config(model).num_hidden_layers
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == n_layers:
            return {f"{name}.{position}": layer for position, layer in enumerate(module)}
    return {}


def n_frozen_layers(model: nn.Module, n_tuned: int | None) -> int:
    """Return how many of the lower layers stay as they are.

    Parameters
    ----------
    model : torch.nn.Module
        A causal language model.
    n_tuned : int or None
        How many of the upper layers are tuned. ``None`` for all.

    Returns
    -------
    int
        The number of layers below them.

    Raises
    ------
    ValueError
        If the model has fewer layers, or they cannot be told apart.
    """
    if n_tuned is None:
        return 0
    n_layers = len(named_decoder_layers(model))
    if n_layers == 0:
        msg = (
            f"n_tuned_layers={n_tuned} was asked for, and {type(model).__name__} does not keep its "
            "layers in one list. Use n_tuned_layers=None."
        )
        raise ValueError(msg)
    if n_tuned > n_layers:
        msg = (
            f"n_tuned_layers={n_tuned} is more than the {n_layers} layers of the model. Set it to "
            f"{n_layers} or less, or to None for all."
        )
        raise ValueError(msg)
    return n_layers - n_tuned


def frozen_layers_pattern(model: nn.Module, n_tuned: int | None) -> str | None:
    """Return a pattern for the names of all modules inside the layers that stay as they are.

    Parameters
    ----------
    model : torch.nn.Module
        A causal language model.
    n_tuned : int or None
        How many of the upper layers are tuned. ``None`` for all.

    Returns
    -------
    str or None
        A regular expression, ``None`` where all layers are tuned.
    """
    frozen = list(named_decoder_layers(model))[: n_frozen_layers(model, n_tuned)]
    return "|".join(rf"{re.escape(name)}\..*" for name in frozen) or None


@contextmanager
def running(layer: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Let a layer of a view run this function meanwhile.

    Parameters
    ----------
    layer : torch.nn.Module
        The layer.
    forward : callable
        Takes and returns what the layer's own ``forward`` does.

    Yields
    ------
    None
        Meanwhile the layer's hooks still run, around the function.
    """
    before = vars(layer).get("forward")
    layer.forward = forward
    try:
        yield
    finally:
        del layer.forward
        if before is not None:
            layer.forward = before


@contextmanager
def checkpointing(model: nn.Module) -> Iterator[None]:
    """Keep only the inputs of each decoder layer for the backward pass, which runs it again.

    The layers of transformers can do so themselves, but not with keys and values of a prefix.

    Parameters
    ----------
    model : torch.nn.Module
        A view of a causal language model. Meanwhile no cache may be passed to it.

    Yields
    ------
    None
        Meanwhile backward passes take less memory and more time.
    """
    with ExitStack() as stack:
        for layer in named_decoder_layers(model).values():
            stack.enter_context(running(layer, _checkpointed(layer.forward)))
        yield


def _checkpointed(forward: Callable[..., Any]) -> Callable[..., Any]:
    def run(*inputs: Any, **options: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*inputs, **options)
        return checkpoint(forward, *inputs, use_reentrant=False, **options)

    return run


def _text_config(model: Any) -> Any:
    return model.config.get_text_config()
