"""Prefix tokens → keys and values, computed once and read by every row."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any, NoReturn, Protocol

import torch
from torch import Tensor

from instructclf.engine.models.loading import install_attention
from instructclf.engine.models.placement import input_device
from instructclf.engine.scoring.attention import KEYS_AND_VALUES, with_shared_prefix
from instructclf.engine.scoring.last_layer import narrow_feed_forward
from instructclf.exceptions import ScoringError

_ATTENTION = "instructclf"
_CHUNK = 512
"""Tokens. A prefix goes in by chunks, so that its activations never outgrow those of a batch."""


class Prefix(Protocol):
    """Tokens that all prompts begin with, gone through the model once."""

    length: int
    is_in_mask: bool
    """Whether masks have columns for it."""
    narrows: bool
    """Whether the last layer may compute only what is read of rows that follow on it."""

    def __init__(self, model: Any, ids: list[int]) -> None: ...

    def inputs(self, n_rows: int) -> dict[str, Any]:
        """Return the keyword arguments of a forward pass that make the rows follow on it."""
        ...

    def first(self, n_tokens: int) -> Prefix | None:
        """Return the first tokens of it as a prefix, or ``None`` if it cannot be parted."""
        ...


class PrefixCache:
    """The keys and values of a prefix, in the model's own cache. Rows append to copies of it.

    Parameters
    ----------
    model : torch.nn.Module
        A causal language model.
    ids : list of int
        The prefix, at least one token.

    Raises
    ------
    ScoringError
        If the model keeps something else than keys and values of past tokens, such as the state of
        a recurrence, which rows cannot share.
    """

    is_in_mask = True
    narrows = False

    def __init__(self, model: Any, ids: list[int]) -> None:
        self.length = len(ids)
        device = input_device(model)
        cache: Any = None
        for start in range(0, len(ids), _CHUNK):
            chunk = torch.tensor([ids[start : start + _CHUNK]], device=device)
            output = model(input_ids=chunk, past_key_values=cache, use_cache=True, logits_to_keep=1)
            cache = getattr(output, "past_key_values", None)
            _check_keys_and_values(model, cache)
        self._cache = cache

    def inputs(self, n_rows: int) -> dict[str, Any]:
        """Return a cache of ``n_rows`` equal rows that a forward pass may append to.

        The rows are views of the one prefix: appending makes new tensors and leaves it as it is.
        """
        rows = copy.copy(self._cache)
        rows.layers = [_repeat(layer, n_rows) for layer in self._cache.layers]
        return {"past_key_values": rows, "use_cache": True}

    def first(self, n_tokens: int) -> None:  # noqa: ARG002  (each kind of layer keeps its own way)
        """Return ``None``: what a cache holds besides keys and values is the model's own affair."""
        return

    def keys_and_values(self) -> list[tuple[Tensor, Tensor]]:
        """Return each layer's keys and values, of shape (1, n_heads, length, width)."""
        return [(layer.keys, layer.values) for layer in self._cache.layers]


class PrefixAttention:
    """The keys and values of a prefix, read by all rows and copied for none.

    Parameters
    ----------
    model : torch.nn.Module
        A view of a causal language model, whose attention function this extends.
    ids : list of int
        The prefix, at least one token.

    Raises
    ------
    ScoringError
        If the model's attention cannot be extended, or a layer keeps only a part of the prefix.
    """

    is_in_mask = False
    narrows = True

    def __init__(self, model: Any, ids: list[int]) -> None:
        self.length = len(ids)
        self._layers = PrefixCache(model, ids).keys_and_values()
        if any(keys.shape[-2] != self.length for keys, _ in self._layers):
            msg = "A layer keeps only the last tokens of a prefix, which rows cannot share as one."
            raise ScoringError(msg)
        install_attention(model, _ATTENTION, with_shared_prefix)
        narrow_feed_forward(model)

    def inputs(self, n_rows: int) -> dict[str, Any]:  # noqa: ARG002  (rows share it as it is)
        """Return the prefix as the attention function takes it."""
        return {KEYS_AND_VALUES: _Layers(self._layers), "use_cache": False}

    def first(self, n_tokens: int) -> PrefixAttention:
        """Return the first tokens of it as a prefix, over the same keys and values."""
        part = copy.copy(self)
        part.length = n_tokens
        part._layers = [  # noqa: SLF001  (a copy of this very object)
            (k[:, :, :n_tokens], v[:, :, :n_tokens]) for k, v in self._layers
        ]
        return part


class _Layers:
    """The keys and values of each layer. No list, which hooks would move from device to device."""

    def __init__(self, layers: list[tuple[Tensor, Tensor]]) -> None:
        self._layers = layers

    def __getitem__(self, layer: int) -> tuple[Tensor, Tensor]:
        return self._layers[layer]

    def __len__(self) -> int:
        return len(self._layers)


def _repeat(layer: Any, n_rows: int) -> Any:
    repeated = copy.copy(layer)
    repeated.keys = layer.keys.expand(n_rows, -1, -1, -1)
    repeated.values = layer.values.expand(n_rows, -1, -1, -1)
    return repeated


def _check_keys_and_values(model: Any, cache: Any) -> None:
    layers = getattr(cache, "layers", None)
    if layers and _held_by(cache):  # beside its layers
        _refuse(model, cache)
    for layer in layers or [cache]:
        if _held_by(layer) != {"keys", "values"}:
            _refuse(model, layer)


def _refuse(model: Any, holder: Any) -> NoReturn:
    msg = (
        f"A prefix of {type(model).__name__} cannot be shared: {type(holder).__name__} holds other "
        "than keys and values."
    )
    raise ScoringError(msg)


def _held_by(holder: Any) -> set[str]:
    """Return the names of the tensors that a cache or a layer of it holds, alone or in lists."""
    attributes = vars(holder).items() if hasattr(holder, "__dict__") else ()
    return {
        name
        for name, value in attributes
        if not name.startswith("_") and any(isinstance(own, torch.Tensor) for own in _flat(value))
    }


def _flat(value: Any) -> Iterable[Any]:
    match value:
        case list() | tuple():
            return value
        case dict():
            return value.values()
        case _:
            return (value,)
