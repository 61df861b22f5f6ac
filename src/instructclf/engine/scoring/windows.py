"""Which tokens a decoder layer sees: all before it, those of a sliding window, or of its chunk.

Masks are needed only where this hides something that causal attention to a whole prefix would see.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from instructclf.engine.scoring.kernels import additive_mask, with_aligned_lines

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


class WindowMasks:
    """What the tokens of rows see in each layer: of the prefix before them, and of their row.

    Masks are made once for all layers with the same window.

    Parameters
    ----------
    windows : sequence of Window or None
        What each layer sees.
    positions : Tensor of shape (n_rows, length)
        The positions of the rows' tokens.
    n_prefix : int
        The length of the prefix: the position of the first token of each row. 0 for rows alone.
    has_mask : bool
        Whether the masks that layers are given are those of the layout. If not, they are causal,
        and windows that transformers has put into them are counted from the beginning of the row.
    n_keys : int or None, default=None
        How many keys the prefix has. ``None`` for ``n_prefix``.
    key_positions : Tensor of shape (n_keys,) or None, default=None
        The positions of the prefix's keys, on the CPU, where some stand side by side. ``None`` if
        they follow each other.
    """

    def __init__(
        self,
        windows: Sequence[Window | None],
        positions: Tensor,
        *,
        n_prefix: int,
        has_mask: bool,
        n_keys: int | None = None,
        key_positions: Tensor | None = None,
    ) -> None:
        self.n_layers = len(windows)
        self._windows = windows
        self._positions = positions
        self._n_prefix = n_prefix
        self._n_keys = n_prefix if n_keys is None else n_keys
        self._key_positions = key_positions
        # No token of a row comes later, since the nodes of a tree take positions side by side.
        self._last_position = n_prefix + positions.shape[1] - 1
        self._has_mask = has_mask
        self._prefix_masks: dict[Any, Tensor] = {}
        self._row_masks: dict[Any, Tensor] = {}

    def of_prefix(
        self, layer: int, query: Tensor, where: tuple[Tensor, Tensor] | None = None
    ) -> tuple[slice, Tensor | None]:
        """Return the keys that tokens of a layer see, and what hides some of them from a query.

        The mask has shape (1, 1, n_queries of all rows, n_keys). ``None`` hides nothing. ``where``
        has the row and the column of the only positions that are computed.
        """
        window = self._windows[layer]
        first = 0 if window is None else max(0, window.first_visible(self._n_prefix))
        start, least = self._keys_from(first)
        seen = slice(start, self._n_keys)
        if window is None or start >= self._n_keys:
            return seen, None
        if window.first_visible(self._last_position) <= least:
            return seen, None
        kind = window, where is None, query.device
        if kind not in self._prefix_masks:
            columns = self._positions_of_keys(start, query.device)
            first_of_each = window.first_visible(self._positions_at(where, query)).unsqueeze(-1)
            hidden = (columns < first_of_each).flatten(0, 1)  # a line for each query of each row
            mask = additive_mask(hidden, query.dtype)[None, None]
            self._prefix_masks[kind] = with_aligned_lines(mask)
        return seen, self._prefix_masks[kind]

    def of_rows(
        self,
        layer: int,
        query: Tensor,
        mask: Tensor | None,
        where: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor | None:
        """Return what is added to the scores of rows with themselves. ``None`` is causal.

        ``mask`` is what the layer is given.
        """
        window = self._windows[layer]
        if window is not None and not self._has_mask:
            mask = None
        is_narrow = (
            window is not None and window.first_visible(self._last_position) > self._n_prefix
        )
        if where is None and not is_narrow:
            return mask
        kind = window, where is None, query.device
        if window is None or kind not in self._row_masks:
            mask = self._make_row_mask(window, mask, where, query)
            self._row_masks[kind] = with_aligned_lines(mask)
        return self._row_masks[kind]

    def _make_row_mask(
        self,
        window: Window | None,
        mask: Tensor | None,
        where: tuple[Tensor, Tensor] | None,
        query: Tensor,
    ) -> Tensor:
        positions = self._positions.to(query.device)
        if mask is None:
            # Kernels take the i-th query as the i-th position of its row, which it need not be.
            columns = torch.arange(positions.shape[1], device=query.device)
            later = columns > (columns[None] if where is None else where[1]).unsqueeze(-1)
            mask = additive_mask(later, query.dtype).unsqueeze(1)
        elif where is not None:
            mask = mask.squeeze(1)[where].unsqueeze(1)
        if window is None:
            return mask
        first = window.first_visible(self._positions_at(where, query)).unsqueeze(-1)
        hidden = (positions.unsqueeze(1) < first).unsqueeze(1)
        return mask.expand(len(hidden), -1, -1, -1).masked_fill(hidden, torch.finfo(mask.dtype).min)

    def _keys_from(self, first: int) -> tuple[int, int]:
        """Return the first key at this position or later, and the least position from there on."""
        if self._key_positions is None or first == 0:
            return first, first
        later = (self._key_positions >= first).nonzero()
        if len(later) == 0:
            return self._n_keys, first
        start = int(later[0])
        return start, int(self._key_positions[start:].min())

    def _positions_of_keys(self, start: int, device: torch.device) -> Tensor:
        if self._key_positions is None:
            return torch.arange(start, self._n_keys, device=device)
        return self._key_positions[start:].to(device)

    def _positions_at(self, where: tuple[Tensor, Tensor] | None, query: Tensor) -> Tensor:
        positions = self._positions.to(query.device)
        return positions if where is None else positions[where]
