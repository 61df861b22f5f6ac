"""Hidden states → logits, at the places that are read only; or the hidden states themselves.

The output layer is the widest of a model: at every position of a batch its logits would take more
memory than all else, and where the vocabulary is large, more time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from instructclf.engine.running.locks import module_state


@dataclass(eq=False)
class Places:
    """Where the logits of a forward pass are read.

    Parameters
    ----------
    output_layer : torch.nn.Module
        Of which view.
    rows, columns : Tensor of shape (n_texts, n_nodes)
        The places, in a batch of shape (n_rows, length).
    narrows : bool
        Whether the last decoder layer, too, may compute these places only.

    Attributes
    ----------
    states : Tensor of shape (n_texts, n_nodes, n_channels) or None
        The last hidden states at these places, once the forward pass has come to them.
    """

    output_layer: nn.Module
    rows: Tensor
    columns: Tensor
    narrows: bool
    states: Tensor | None = field(init=False, default=None)


_places: ContextVar[Places | None] = ContextVar("places", default=None)
_MARK = "_picks_places"


@contextmanager
def output_at(
    model: Any, rows: Tensor, columns: Tensor, *, narrows: bool = False
) -> Iterator[Places]:
    """Let a model compute logits at these places only, instead of at all positions.

    Whatever an architecture does to its logits afterwards (scaling, capping) still happens. Each
    thread has places of its own.

    Parameters
    ----------
    model : torch.nn.Module
        A view of a causal language model.
    rows, columns : Tensor of shape (n_texts, n_nodes)
        The places, in a batch of shape (n_rows, length).
    narrows : bool, default=False
        Whether the last decoder layer, too, may compute these places only.

    Yields
    ------
    Places
        Meanwhile the model's logits have the shape (n_texts, n_nodes, n_vocabulary), and the hidden
        states that they are computed from are found here.
    """
    output_layer = model.get_output_embeddings()
    _install(output_layer)
    places = Places(output_layer, rows, columns, narrows)
    token = _places.set(places)
    try:
        yield places
    finally:
        _places.reset(token)


def places_to_narrow() -> Places | None:
    """Return the places of this thread's forward pass, if the last layer may stop at them."""
    places = _places.get()
    return places if places is not None and places.narrows else None


def _install(output_layer: nn.Module) -> None:
    with module_state:  # two hooks would pick from what one has picked
        if not getattr(output_layer, _MARK, False):
            output_layer.register_forward_pre_hook(_pick)
            setattr(output_layer, _MARK, True)


def _pick(output_layer: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    places = _places.get()
    if places is None or places.output_layer is not output_layer:
        return arguments
    hidden, *others = arguments
    rows, columns = places.rows.to(hidden.device), places.columns.to(hidden.device)
    picked = hidden[rows, columns]
    places.states = picked
    return (picked, *others)
