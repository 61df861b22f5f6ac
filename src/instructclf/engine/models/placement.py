"""Models that accelerate has spread over devices: where their parts are, and what runs them.

Its hooks move what a module reads to the module's device. Weights that are offloaded wait on the
CPU or the disk, and are put into their module for as long as it runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

_HOOK = "_hf_hook"


def input_device(model: Any) -> torch.device:
    """Return where a model's inputs go: where its embeddings are computed.

    Parameters
    ----------
    model : torch.nn.Module
        A causal language model.

    Returns
    -------
    torch.device
        The device. Not that of the embedding's weight, where this is offloaded.
    """
    embeddings = model.get_input_embeddings()
    planned = getattr(getattr(embeddings, _HOOK, None), "execution_device", None)
    return embeddings.weight.device if planned is None else torch.device(planned)


def is_offloaded(model: nn.Module) -> bool:
    """Say whether any weight waits elsewhere until its module runs.

    Parameters
    ----------
    model : torch.nn.Module
        A model.

    Returns
    -------
    bool
        Whether one does. Such a module can run in one thread at a time.
    """
    return any(getattr(hook, "offload", False) for hook in _hooks(model))


def check_not_offloaded(model: nn.Module) -> None:
    """Raise if weights are offloaded, which an adapter cannot be put beside.

    Parameters
    ----------
    model : torch.nn.Module
        A model.

    Raises
    ------
    ValueError
        If a weight waits elsewhere until its module runs.
    """
    if is_offloaded(model):
        msg = (
            "With this device_map a part of the model is offloaded to the CPU or the disk, where "
            "no adapter can be tuned or used. Use more GPUs, quantization='4bit' or a smaller "
            "model; or PromptClassifier, which only reads the model."
        )
        raise ValueError(msg)


def offloaded_parts(model: nn.Module) -> Iterator[Any]:
    """Yield what hooks hold of a model's weights, for copies of the model to share.

    Parameters
    ----------
    model : torch.nn.Module
        A model.

    Yields
    ------
    object
        Maps from names to weights.
    """
    for hook in _hooks(model):
        for held in (getattr(hook, "weights_map", None), getattr(hook, "tied_params_map", None)):
            if held is not None:
                yield held


def named_weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield a model's weights with their names, fetched from where they wait if need be.

    Parameters
    ----------
    model : torch.nn.Module
        A model.

    Yields
    ------
    name : str
        The name.
    weight : Tensor
        The weight.
    """
    modules = dict(model.named_modules())
    for name, weight in model.named_parameters():
        place, _, own_name = name.rpartition(".")
        yield name, weight if not weight.is_meta else _fetch(modules[place], own_name)


def _fetch(module: nn.Module, name: str) -> Tensor:
    return getattr(module, _HOOK).weights_map[name]


def _hooks(model: nn.Module) -> Iterator[Any]:
    for module in model.modules():
        hook = getattr(module, _HOOK, None)
        if hook is not None:
            yield hook
