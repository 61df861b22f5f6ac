"""Prefix tokens → keys and values, computed once and used by every row."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any, NoReturn, Protocol

import torch
from torch import Tensor

from instructclf.engine.models.placement import input_device
from instructclf.engine.scoring.layouts import Layout
from instructclf.exceptions import ScoringError

CHUNK = 256
"""Tokens. A prefix goes in by chunks, so that its activations never outgrow those of a batch. On a
CPU, attention of a chunk to those before it is faster than to itself."""


class Prefix(Protocol):
    """The first tokens of all prompts, after they have gone through the model once."""

    length: int
    is_in_mask: bool
    """Whether masks have columns for it, since each row has a copy."""
    limits_last_layer: bool
    """Whether the last layer may compute only the positions that are read of rows after it."""

    def __init__(self, model: Any, ids: list[int]) -> None: ...

    def inputs(self, layout: Layout) -> dict[str, Any]:
        """Return the keyword arguments of a forward pass that make its rows follow the prefix."""
        ...

    def branch(self, model: Any, n_tokens: int, ids: list[int]) -> Prefix | None:
        """Return a prefix of its first tokens and others, or ``None`` if it cannot be split."""
        ...


class PrefixCache:
    """The keys and values of a prefix in the model's own cache. Rows append to copies of it.

    Parameters
    ----------
    model : torch.nn.Module
        A causal language model.
    ids : list of int
        The prefix, at least one token.

    Raises
    ------
    ScoringError
        If the model keeps anything else than keys and values of past tokens, such as the state of a
        recurrence, which rows cannot share.
    """

    is_in_mask = True
    limits_last_layer = False

    def __init__(self, model: Any, ids: list[int]) -> None:
        self.length = len(ids)
        device = input_device(model)
        cache: Any = None
        for start in range(0, len(ids), CHUNK):
            chunk = torch.tensor([ids[start : start + CHUNK]], device=device)
            output = model(input_ids=chunk, past_key_values=cache, use_cache=True, logits_to_keep=1)
            cache = getattr(output, "past_key_values", None)
            _check_keys_and_values(model, cache)
        self._cache = cache

    def inputs(self, layout: Layout) -> dict[str, Any]:
        """Return a cache with a row for each of the layout, that a forward pass may append to.

        The rows are views of the one prefix. Appending creates new tensors, so the prefix stays
        unchanged.
        """
        rows = copy.copy(self._cache)
        n_rows = len(layout.input_ids)
        rows.layers = [_repeat(layer, n_rows) for layer in self._cache.layers]
        return {"past_key_values": rows, "use_cache": True}

    def branch(self, model: Any, n_tokens: int, ids: list[int]) -> None:  # noqa: ARG002
        """Return ``None``: each kind of cache layer has its own way of dropping tokens."""
        return

    def keys_and_values(self) -> list[tuple[Tensor, Tensor]]:
        """Return each layer's keys and values, of shape (1, n_heads, length, width)."""
        return [(layer.keys, layer.values) for layer in self._cache.layers]


def _repeat(layer: Any, n_rows: int) -> Any:
    repeated = copy.copy(layer)
    repeated.keys = layer.keys.expand(n_rows, -1, -1, -1)
    repeated.values = layer.values.expand(n_rows, -1, -1, -1)
    return repeated


def _check_keys_and_values(model: Any, cache: Any) -> None:
    layers = getattr(cache, "layers", None)
    if layers and _tensor_names(cache):  # tensors of the cache itself, in addition to its layers'
        _refuse(model, cache)
    for layer in layers or [cache]:
        if _tensor_names(layer) != {"keys", "values"}:
            _refuse(model, layer)


def _refuse(model: Any, holder: Any) -> NoReturn:
    msg = (
        f"A prefix of {type(model).__name__} cannot be shared: {type(holder).__name__} holds other "
        "tensors than keys and values."
    )
    raise ScoringError(msg)


def _tensor_names(holder: Any) -> set[str]:
    """Return the names of a cache's or layer's attributes that are tensors or contain some."""
    attributes = vars(holder).items() if hasattr(holder, "__dict__") else ()
    return {
        name
        for name, value in attributes
        if not name.startswith("_") and any(isinstance(item, Tensor) for item in _items(value))
    }


def _items(value: Any) -> Iterable[Any]:
    match value:
        case list() | tuple():
            return value
        case dict():
            return value.values()
        case _:
            return (value,)
