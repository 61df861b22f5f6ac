"""Attention of rows to themselves and to one shared prefix, which no row copies.

The two parts are computed separately and merged by their log normalisers, which gives exactly the
softmax over both: for outputs o and log normalisers l, o = (e^l1 o1 + e^l2 o2) / (e^l1 + e^l2).
Source: the merging step of FlashAttention and of cascade inference (Ye et al., "FlashInfer", 2024).

Layers with a window attend only to the end of the prefix that they see.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from instructclf.engine.models.loading import install_attention
from instructclf.engine.models.placement import accepts, input_device
from instructclf.engine.models.quantization import compute_dtype
from instructclf.engine.running.padding_masks import hiding_nothing
from instructclf.engine.scoring.kernels import (
    additive_mask,
    attend_to_shared_keys,
    attend_with_normaliser,
    join_rows,
    merge_parts,
    split_rows,
    with_aligned_lines,
)
from instructclf.engine.scoring.layouts import Layout
from instructclf.engine.scoring.outputs import (
    limit_last_feed_forward,
    output_at,
    positions_for_last_layer,
)
from instructclf.engine.scoring.prefixes import CHUNK
from instructclf.engine.scoring.windows import Window, layer_windows
from instructclf.exceptions import ScoringError

AttentionFunction = Callable[..., tuple[Tensor, Tensor | None]]

_ATTENTION = "instructclf"
_SHARED_PREFIX = "shared_prefix"
"""The keyword through which a forward pass hands the prefix to every layer."""


class PrefixAttention:
    """The keys and values of a prefix, which all rows read and none copies.

    Parameters
    ----------
    model : torch.nn.Module
        A view of a causal language model, whose attention function this extends.
    ids : list of int
        The prefix, at least one token.

    Raises
    ------
    ScoringError
        If the model's attention cannot be extended.
    """

    is_in_mask = False
    limits_last_layer = True

    def __init__(self, model: Any, ids: list[int]) -> None:
        install_attention(model, _ATTENTION, with_shared_prefix)
        limit_last_feed_forward(model)
        self.length = 0
        self._windows = layer_windows(model.config.get_text_config())
        self._layers: dict[int, tuple[Tensor, Tensor]] = {}
        # Where a model of half precision is more precise between its layers, attention scores are
        # computed so too, and their products with values are not.
        self._dtype = compute_dtype(model)
        self._extend(model, ids)

    def inputs(self, layout: Layout) -> dict[str, Any]:
        """Return the prefix in the form that the attention function expects."""
        attending = SharedAttention(
            self._layers,
            self._windows,
            layout.position_ids,
            n_prefix=self.length,
            has_mask=layout.mask is not None,
        )
        return {_SHARED_PREFIX: attending, "use_cache": False}

    def branch(self, model: Any, n_tokens: int, ids: list[int]) -> PrefixAttention:
        """Return a prefix of its first tokens, which are not computed again, and of others."""
        other = copy.copy(self)
        other.length = n_tokens
        other._layers = {  # noqa: SLF001  (a copy of this object)
            layer: (_with_room(keys, n_tokens, len(ids)), _with_room(values, n_tokens, len(ids)))
            for layer, (keys, values) in self._layers.items()
        }
        other._extend(model, ids)  # noqa: SLF001
        return other

    def _extend(self, model: Any, ids: list[int]) -> None:
        for start in range(0, len(ids), CHUNK):
            self._append(model, ids[start : start + CHUNK], n_more=len(ids) - start)

    def _append(self, model: Any, ids: list[int], n_more: int) -> None:
        """Run tokens as a row after those before them, and keep their keys and values.

        ``n_more`` is how many tokens are to come, with these.
        """
        device = input_device(model)
        chunk = torch.tensor([ids], device=device)
        positions = torch.arange(self.length, self.length + len(ids), device=device).unsqueeze(0)
        attending = SharedAttention(
            self._layers, self._windows, positions, n_prefix=self.length, has_mask=False
        )
        attending.recorded = {}
        options: dict[str, Any] = {_SHARED_PREFIX: attending, "use_cache": False}
        if self.length and accepts(model, "position_ids"):
            options["position_ids"] = positions
        # No logits are read, and no output of the last layer: it computes that of one token.
        last = torch.tensor([[[0]], [[len(ids) - 1]]], device=device)
        with output_at(model, *last, limits_last_layer=True, stops=True), hiding_nothing():
            model(input_ids=chunk, attention_mask=torch.ones_like(chunk), **options)
        if not attending.recorded:
            msg = f"{type(model).__name__} does not let its layers see a prefix."
            raise ScoringError(msg)
        end = self.length + len(ids)
        for layer, pair in attending.recorded.items():
            if layer not in self._layers:
                keys, values = pair[0], pair[1].to(self._dtype)
                self._layers[layer] = _with_room(keys, 0, n_more), _with_room(values, 0, n_more)
            for heads, new in zip(self._layers[layer], pair, strict=True):
                heads[:, :, self.length : end] = new
        self.length = end


def _with_room(heads: Tensor, n_tokens: int, n_more: int) -> Tensor:
    """Return the first tokens with room for others after them, or themselves if none come."""
    first = heads[:, :, :n_tokens]
    if n_more == 0:
        return first
    room = heads.new_empty(*heads.shape[:2], n_more, heads.shape[3])
    return torch.cat([first, room], dim=2)


def attention_name(model: Any) -> str | None:
    """Return the name of a model's attention function, the same before and after its extension."""
    name = getattr(model.config, "_attn_implementation", None)
    return None if name is None else name.removeprefix(f"{_ATTENTION}_")


def with_shared_prefix(attention: AttentionFunction) -> AttentionFunction:
    """Extend an attention function by a prefix that all rows share."""

    def attend(module: Any, *inputs: Any, **options: Any) -> tuple[Tensor, Tensor | None]:
        attending: SharedAttention | None = options.pop(_SHARED_PREFIX, None)
        if attending is None:
            return attention(module, *inputs, **options)
        return attending(module, *inputs, **options), None

    return attend


class SharedAttention:
    """Takes the place of the attention function in one forward pass after a prefix.

    accelerate moves the tensors of lists and mappings that a module is given to the module's
    device. It leaves other objects alone, so that a prefix is not copied in every forward pass.

    Parameters
    ----------
    layers : dict of int to (Tensor, Tensor)
        Keys and values of the prefix in each layer, of shape (1, n_key_heads, n_prefix, width).
        They may have room for more tokens.
    windows : sequence of Window or None
        What each layer sees.
    positions : Tensor of shape (n_rows, length)
        The positions of the rows' tokens.
    n_prefix : int
        The length of the prefix, which the rows follow. 0 for rows alone.
    has_mask : bool
        Whether the masks that layers are given are those of the layout. If not, they are causal,
        and windows that transformers has put into them are counted from the beginning of the row.

    Attributes
    ----------
    recorded : dict or None
        Collects the rows' keys and values of each layer, if it is a dictionary.
    """

    def __init__(
        self,
        layers: dict[int, tuple[Tensor, Tensor]],
        windows: Sequence[Window | None],
        positions: Tensor,
        *,
        n_prefix: int,
        has_mask: bool,
    ) -> None:
        self._layers = layers
        self._windows = windows
        self._positions = positions
        self._n_prefix = n_prefix
        # No token of a row comes later, since the nodes of a tree take positions side by side.
        self._last_position = n_prefix + positions.shape[1] - 1
        self._has_mask = has_mask
        self._prefix_masks: dict[Any, Tensor] = {}
        self._row_masks: dict[Any, Tensor] = {}
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
        where = self._read_positions(layer, query)
        row_mask = self._row_mask(layer, mask, where, query)
        by_position = query.transpose(1, 2)
        if where is not None:
            query = by_position[where].transpose(1, 2)
        causal = row_mask is None
        parts = [attend_with_normaliser(query, key, value, row_mask, is_causal=causal, **common)]
        seen = self._seen_prefix(layer, where, query)
        if seen is not None:
            parts.append(_attend_to_prefix(query, *seen, **common))
        output = merge_parts(parts, options.get("s_aux")).transpose(1, 2)
        if where is None:
            return output.contiguous()
        everywhere = output.new_zeros(*by_position.shape[:3], output.shape[-1])
        return everywhere.index_put(where, output)

    def _read_positions(self, layer: int, query: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return the only positions that a layer computes, or ``None`` for all."""
        is_last = layer == len(self._windows) - 1
        at = positions_for_last_layer() if is_last else None
        # Queries of text i are paired with keys of row i. In a layout that gives a text several
        # rows, all positions are computed.
        if at is None or len(at.rows) < len(query):
            return None
        return at.rows.to(query.device), at.columns.to(query.device)

    def _seen_prefix(
        self, layer: int, where: tuple[Tensor, Tensor] | None, query: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None] | None:
        """Return the keys and values that a layer sees, and what of them hides from a query."""
        window = self._windows[layer]
        start = 0 if window is None else max(0, window.first_visible(self._n_prefix))
        if start >= self._n_prefix:
            return None
        keys, values = (heads[:, :, start : self._n_prefix] for heads in self._layers[layer])
        if window is None or window.first_visible(self._last_position) <= start:
            return keys, values, None
        kind = window, where is None, query.device
        if kind not in self._prefix_masks:
            columns = torch.arange(start, self._n_prefix, device=query.device)
            first = window.first_visible(self._positions_at(where, query)).unsqueeze(-1)
            hidden = (columns < first).flatten(0, 1)  # a line for each query of each row
            mask = additive_mask(hidden, query.dtype)[None, None]
            self._prefix_masks[kind] = with_aligned_lines(mask)
        return keys, values, self._prefix_masks[kind]

    def _row_mask(
        self,
        layer: int,
        mask: Tensor | None,
        where: tuple[Tensor, Tensor] | None,
        query: Tensor,
    ) -> Tensor | None:
        """Return what is added to the scores of rows with themselves. ``None`` is causal."""
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

    def _positions_at(self, where: tuple[Tensor, Tensor] | None, query: Tensor) -> Tensor:
        positions = self._positions.to(query.device)
        return positions if where is None else positions[where]


def _attend_to_prefix(
    query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, **common: Any
) -> tuple[Tensor, Tensor]:
    """Let all rows attend to the whole prefix as if they were one long row."""
    n_rows = len(query)
    output, normaliser = attend_to_shared_keys(join_rows(query), keys, values, mask, **common)
    return split_rows(output, n_rows), split_rows(normaliser, n_rows)
