"""Hidden states → logits, at the positions that are read only.

The output layer is the widest of a model: at every position of a batch its logits would take more
memory than all else, and where the vocabulary is large, more time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from torch import Tensor, nn

_places: ContextVar[tuple[nn.Module, Tensor, Tensor] | None] = ContextVar("places", default=None)
_MARK = "_picks_places"


@contextmanager
def output_at(model: Any, rows: Tensor, columns: Tensor) -> Iterator[None]:
    """Let a model compute logits at these places only, instead of at all positions.

    Whatever an architecture does to its logits afterwards (scaling, capping) still happens. Each
    thread has places of its own.

    Parameters
    ----------
    model : torch.nn.Module
        A view of a causal language model.
    rows, columns : Tensor of shape (n_texts, n_nodes)
        The places, in a batch of shape (n_rows, length).

    Yields
    ------
    None
        Meanwhile the model's logits have the shape (n_texts, n_nodes, n_vocabulary).
    """
    output_layer = model.get_output_embeddings()
    _install(output_layer)
    token = _places.set((output_layer, rows, columns))
    try:
        yield
    finally:
        _places.reset(token)


def _install(output_layer: nn.Module) -> None:
    if not getattr(output_layer, _MARK, False):
        setattr(output_layer, _MARK, True)
        output_layer.register_forward_pre_hook(_pick)


def _pick(output_layer: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    places = _places.get()
    if places is None or places[0] is not output_layer:
        return arguments
    _, rows, columns = places
    hidden, *others = arguments
    return (hidden[rows, columns], *others)
