"""Which tokens a decoder layer sees: all before it, those of a sliding window, or of its chunk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

from torch import Tensor

_Positions = TypeVar("_Positions", int, Tensor)

_SLIDING, _CHUNKED, _FULL = "sliding_attention", "chunked_attention", "full_attention"
"""Kinds of layers, as configurations of transformers name them."""


@dataclass(frozen=True)
class Window:
    """The tokens that a layer sees.

    Parameters
    ----------
    size : int
        The length of the window or chunk in tokens.
    is_chunked : bool
        Whether a token sees its chunk up to itself: chunks begin at multiples of ``size``. If not,
        it sees the last ``size`` tokens up to itself.
    """

    size: int
    is_chunked: bool

    def first_visible(self, positions: _Positions) -> _Positions:
        """Return the first position that tokens at these positions see. It may be negative."""
        if self.is_chunked:
            return positions // self.size * self.size
        return positions - (self.size - 1)


def layer_windows(config: Any) -> list[Window | None]:
    """Return the window of each decoder layer, ``None`` for layers that see all tokens.

    ``config`` is that of a text model. Without a list of its layers' kinds, all are of one kind, by
    the same rule by which transformers makes masks.
    """
    sizes = {
        _SLIDING: getattr(config, "sliding_window", None),
        _CHUNKED: getattr(config, "attention_chunk_size", None),
    }
    kinds = getattr(config, "layer_types", None)
    if kinds is None:
        kind = next((kind for kind, size in sizes.items() if size is not None), _FULL)
        kinds = [kind] * config.num_hidden_layers
    found = ((sizes.get(kind), kind == _CHUNKED) for kind in kinds)
    return [Window(size, is_chunked) if size else None for size, is_chunked in found]
