"""Hidden states → logits, only at the positions that are read.

The output layer is the widest layer of a model. Computed at every position of a batch, its logits
would take more memory than everything else and, with a large vocabulary, more time. For the same
reason the last decoder layer may stop at these positions: its attention does so in ``attention``,
and its feed-forward part, which treats each position separately, does so here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

from torch import Tensor, nn

from instructclf.engine.models.decoder_layers import named_decoder_layers
from instructclf.engine.running.locks import module_state

_FEED_FORWARD = "mlp"
_HAS_HOOK = "_picks_read_positions"
_IS_LIMITED = "_stops_at_read_positions"


class StatesRead(Exception):  # noqa: N818  (no error)
    """Ends a forward pass of which only the last states are read."""


@dataclass(eq=False)
class ReadPositions:
    """The positions at which the logits of a forward pass are read.

    Parameters
    ----------
    output_layer : torch.nn.Module
        The output layer of the view that runs.
    rows, columns : Tensor of shape (n_texts, n_nodes)
        The positions, in a batch of shape (n_rows, length).
    limits_last_layer : bool
        Whether the last decoder layer, too, may compute these positions only.
    stops : bool
        Whether the forward pass ends before the output layer, by raising ``StatesRead``.
    answer : Tensor or None
        What takes the place of the output layer's logits.

    Attributes
    ----------
    states : Tensor of shape (n_texts, n_nodes, n_channels) or None
        The last hidden states at these positions, once the forward pass has computed them.
    """

    output_layer: nn.Module
    rows: Tensor
    columns: Tensor
    limits_last_layer: bool
    stops: bool
    answer: Tensor | None
    states: Tensor | None = field(init=False, default=None)


_read_positions: ContextVar[ReadPositions | None] = ContextVar("read_positions", default=None)


@contextmanager
def output_at(
    model: Any,
    rows: Tensor,
    columns: Tensor,
    *,
    limits_last_layer: bool = False,
    stops: bool = False,
    answer: Tensor | None = None,
) -> Iterator[ReadPositions]:
    """Let a model compute logits at some positions only, or the states before them.

    Everything that an architecture does to its logits afterwards (scaling, capping) still happens.
    Each thread has its own positions. Inside the context, logits have the shape (n_texts, n_nodes,
    n_vocabulary), and the yielded object receives the hidden states that they are computed from.
    With ``stops``, the block ends there. With ``answer``, these are the output layer's logits.
    """
    output_layer = model.get_output_embeddings()
    if not getattr(output_layer, _HAS_HOOK, False):
        _install_hook(output_layer)
    positions = ReadPositions(output_layer, rows, columns, limits_last_layer, stops, answer)
    token = _read_positions.set(positions)
    try:
        with suppress(StatesRead):
            yield positions
    finally:
        _read_positions.reset(token)


def positions_for_last_layer() -> ReadPositions | None:
    """Return the positions of this thread's forward pass, if the last layer may stop at them."""
    positions = _read_positions.get()
    return positions if positions is not None and positions.limits_last_layer else None


def limit_last_feed_forward(model: Any) -> None:
    """Let the last feed-forward part of a view compute only the positions that are read.

    This takes effect in forward passes within ``output_at(..., limits_last_layer=True)``. A model
    whose layers give that part another name stays unchanged.
    """
    layers = list(named_decoder_layers(model).values())
    part = getattr(layers[-1], _FEED_FORWARD, None) if layers else None
    if not isinstance(part, nn.Module):
        return
    with module_state:
        # Wrapped twice, the outer function would pass on only the positions that are read, and the
        # inner one would apply indices of the whole batch to them.
        if not getattr(part, _IS_LIMITED, False):
            part.forward = _limited(part.forward)
            setattr(part, _IS_LIMITED, True)


def _limited(forward: Any) -> Any:
    @wraps(forward)
    def run(hidden: Tensor, *inputs: Any, **options: Any) -> Any:
        positions = positions_for_last_layer()
        if positions is None:
            return forward(hidden, *inputs, **options)
        at = positions.rows.to(hidden.device), positions.columns.to(hidden.device)
        computed = forward(hidden[at], *inputs, **options)
        # Some layers return more than a tensor (experts return their routing too), in shapes that
        # are unknown here. They compute all positions.
        if not isinstance(computed, Tensor):
            return forward(hidden, *inputs, **options)
        return hidden.new_zeros(hidden.shape).index_put(at, computed)

    return run


def _install_hook(output_layer: nn.Module) -> None:
    with module_state:
        # Another thread may have been faster. A second hook would apply indices of the whole batch
        # to the positions that the first one has picked.
        if not getattr(output_layer, _HAS_HOOK, False):
            output_layer.register_forward_pre_hook(_pick)
            output_layer.register_forward_hook(_answer)
            setattr(output_layer, _HAS_HOOK, True)


def _pick(output_layer: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    positions = _read_positions.get()
    if positions is None or positions.output_layer is not output_layer:
        return arguments
    hidden, *others = arguments
    picked = hidden[positions.rows.to(hidden.device), positions.columns.to(hidden.device)]
    positions.states = picked
    if positions.stops:
        raise StatesRead
    return (picked, *others)


def _answer(output_layer: nn.Module, _inputs: Any, logits: Tensor) -> Tensor:
    positions = _read_positions.get()
    if positions is None or positions.output_layer is not output_layer:
        return logits
    return logits if positions.answer is None else positions.answer
