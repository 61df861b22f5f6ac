"""Attention of rows to themselves and to one shared prefix, which no row copies.

The two parts are computed separately and merged by their log normalisers, which gives exactly the
softmax over both: for outputs o and log normalisers l, o = (e^l1 o1 + e^l2 o2) / (e^l1 + e^l2).
Source: the merging step of FlashAttention and of cascade inference (Ye et al., "FlashInfer", 2024).

Layers with a window attend only to the end of the prefix that they see.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from instructclf.engine.scoring.kernels import (
    attend_to_shared_keys,
    attend_with_normaliser,
    join_rows,
    merge_parts,
    split_rows,
)
from instructclf.engine.scoring.outputs import positions_for_last_layer
from instructclf.engine.scoring.windows import WindowMasks

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
