"""Attention of rows to themselves and to one shared prefix, which no row copies.

The two parts are computed separately and merged by their log normalisers, which gives exactly the
softmax over both: for outputs o and log normalisers l, o = (e^l1 o1 + e^l2 o2) / (e^l1 + e^l2).
Source: the merging step of FlashAttention and of cascade inference (Ye et al., "FlashInfer", 2024).

Layers with a window attend only to the end of the prefix that they see.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from instructclf.engine.running.cpu_attention import reads_in_tiles
from instructclf.engine.scoring.kernels import (
    additive_mask,
    attend_to_shared_keys,
    attend_with_normaliser,
    join_rows,
    merge_parts,
    split_rows,
    with_aligned_lines,
)
from instructclf.engine.scoring.outputs import positions_for_last_layer
from instructclf.engine.scoring.windows import Window

AttentionFunction = Callable[..., tuple[Tensor, Tensor | None]]

SHARED_PREFIX = "shared_prefix"
"""The keyword through which a forward pass hands the prefix to every layer."""


def with_shared_prefix(attention: AttentionFunction) -> AttentionFunction:
    """Extend an attention function by a prefix that all rows share."""

    def attend(module: Any, *inputs: Any, **options: Any) -> tuple[Tensor, Tensor | None]:
        attending: SharedAttention | None = options.pop(SHARED_PREFIX, None)
        if attending is None:
            return attention(module, *inputs, **options)
        return attending(module, *inputs, **options), None

    return attend


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


class SharedAttention:
    """Takes the place of the attention function in one forward pass after a prefix.

    accelerate moves the tensors of lists and mappings that a module is given to the module's
    device. It leaves other objects alone, so that a prefix is not copied in every forward pass.

    Parameters
    ----------
    layers : dict of int to (Tensor, Tensor)
        Keys and values of the prefix in each layer, of shape (1, n_key_heads, n_keys, width).
        They may have room for more tokens.
    masks : WindowMasks
        What the tokens of the rows see of the prefix and of their row.

    Attributes
    ----------
    recorded : dict or None
        Collects the rows' keys and values of each layer, if it is a dictionary.
    """

    def __init__(self, layers: dict[int, tuple[Tensor, Tensor]], masks: WindowMasks) -> None:
        self._layers = layers
        self._masks = masks
        self.recorded: dict[int, tuple[Tensor, Tensor]] | None = None

    def __call__(
        self, module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, **options: Any
    ) -> Tensor:
        """Return the output of a layer's attention, of shape (n_rows, length, n_heads, width).

        Where the last layer is limited, the output at positions that are not read is zero.
        """
        layer = module.layer_idx
        if self.recorded is not None:
            self.recorded[layer] = key, value
        common: dict[str, Any] = {
            "scaling": options.get("scaling") or query.shape[-1] ** -0.5,
            "softcap": options.get("softcap"),
        }
        if layer in self._layers and reads_in_tiles(*self._layers[layer], common["softcap"]):
            key, value = (
                heads.to(shared.dtype)
                for heads, shared in zip((key, value), self._layers[layer], strict=True)
            )
        where = self._read_positions(layer, query)
        row_mask = self._masks.of_rows(layer, query, mask, where)
        by_position = query.transpose(1, 2)
        if where is not None:
            query = by_position[where].transpose(1, 2)
        causal = row_mask is None
        parts = [attend_with_normaliser(query, key, value, row_mask, is_causal=causal, **common)]
        seen, hidden = self._masks.of_prefix(layer, query, where)
        if seen.start < seen.stop:
            keys, values = (heads[:, :, seen] for heads in self._layers[layer])
            parts.append(_attend_to_prefix(query, keys, values, hidden, **common))
        output = merge_parts(parts, options.get("s_aux")).transpose(1, 2)
        if where is None:
            return output.contiguous()
        everywhere = output.new_zeros(*by_position.shape[:3], output.shape[-1])
        return everywhere.index_put(where, output)

    def _read_positions(self, layer: int, query: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return the only positions that a layer computes, or ``None`` for all."""
        is_last = layer == self._masks.n_layers - 1
        at = positions_for_last_layer() if is_last else None
        # Queries of text i are paired with keys of row i. In a layout that gives a text several
        # rows, all positions are computed.
        if at is None or len(at.rows) < len(query):
            return None
        return at.rows.to(query.device), at.columns.to(query.device)


def _attend_to_prefix(
    query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, **common: Any
) -> tuple[Tensor, Tensor]:
    """Let all rows attend to the whole prefix as if they were one long row."""
    n_rows = len(query)
    output, normaliser = attend_to_shared_keys(join_rows(query), keys, values, mask, **common)
    return split_rows(output, n_rows), split_rows(normaliser, n_rows)
