"""Prefix tokens → keys and values that all rows attend to and none copies."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from instructclf.engine.models.loading import install_attention
from instructclf.engine.models.placement import accepts, input_device, send_integers
from instructclf.engine.models.quantization import compute_dtype
from instructclf.engine.running.cpu_attention import takes_tiles
from instructclf.engine.running.padding_masks import hiding_nothing
from instructclf.engine.scoring.layouts import Layout
from instructclf.engine.scoring.outputs import limit_last_feed_forward, output_at
from instructclf.engine.scoring.prefixes import CHUNK
from instructclf.engine.scoring.shared_attention import (
    SHARED_PREFIX,
    SharedAttention,
    WindowMasks,
    with_shared_prefix,
)
from instructclf.engine.scoring.windows import layer_windows
from instructclf.engine.tokens.side_by_side import SideBySide
from instructclf.exceptions import ScoringError

_ATTENTION = "instructclf"


class PrefixAttention:
    """The keys and values of a prefix, which all rows read and none copies.

    Parameters
    ----------
    model : torch.nn.Module
        A view of a causal language model, whose attention function this extends.
    ids : list of int
        The prefix, at least one token.
    side_by_side : SideBySide or None, default=None
        What the model reads side by side in place of a stretch of the prefix.

    Raises
    ------
    ScoringError
        If the model's attention cannot be extended.
    """

    is_in_mask = False
    limits_last_layer = True

    def __init__(self, model: Any, ids: list[int], side_by_side: SideBySide | None = None) -> None:
        install_attention(model, _ATTENTION, with_shared_prefix)
        limit_last_feed_forward(model)
        self.length = 0
        self._n_keys = 0
        self._key_positions: Tensor | None = None
        self._windows = layer_windows(model.config.get_text_config())
        self._layers: dict[int, tuple[Tensor, Tensor]] = {}
        # Where a model of half precision is more precise between its layers, attention scores are
        # computed so too, unless tiles are so much faster. Their products with values are not.
        self._dtype = compute_dtype(model)
        if side_by_side is None:
            self._extend(model, ids)
            return
        n_side_by_side = sum(map(len, side_by_side.sequences))
        n_after = len(ids) - side_by_side.stop
        self._extend(model, ids[: side_by_side.start], n_later=n_side_by_side + n_after)
        self._extend_side_by_side(model, side_by_side, n_later=n_after)
        self._extend(model, ids[side_by_side.stop :])

    def inputs(self, layout: Layout) -> dict[str, Any]:
        """Return the prefix in the form that the attention function expects."""
        attending = self._attending(layout.position_ids, has_mask=layout.mask is not None)
        return {SHARED_PREFIX: attending, "use_cache": False}

    def branch(self, model: Any, n_tokens: int, ids: list[int]) -> PrefixAttention:
        """Return a prefix of its first tokens, which are not computed again, and of others.

        What is read side by side must be among its first tokens.
        """
        other, n_keys = copy.copy(self), self._n_keys - (self.length - n_tokens)
        other.length, other._n_keys = n_tokens, n_keys  # noqa: SLF001  (a copy of this object)
        other._layers = {  # noqa: SLF001
            layer: (_with_room(keys, n_keys, len(ids)), _with_room(values, n_keys, len(ids)))
            for layer, (keys, values) in self._layers.items()
        }
        if self._key_positions is not None:
            other._key_positions = self._key_positions[:n_keys]  # noqa: SLF001
        other._extend(model, ids)  # noqa: SLF001
        return other

    def _attending(self, positions: Tensor, *, has_mask: bool) -> SharedAttention:
        """Return what lets rows at these positions attend to the prefix so far."""
        masks = WindowMasks(
            self._windows,
            positions,
            n_prefix=self.length,
            n_keys=self._n_keys,
            key_positions=self._key_positions,
            has_mask=has_mask,
        )
        return SharedAttention(self._layers, masks)

    def _extend(self, model: Any, ids: list[int], n_later: int = 0) -> None:
        """Append tokens in chunks. ``n_later`` is how many come after them."""
        for start in range(0, len(ids), CHUNK):
            chunk = ids[start : start + CHUNK]
            recorded = self._run(model, [chunk])
            self._keep(recorded, [chunk], n_more=len(ids) - start + n_later)
            if self._key_positions is not None:
                positions = torch.arange(self.length, self.length + len(chunk))
                self._key_positions = torch.cat([self._key_positions, positions])
            self.length += len(chunk)

    def _extend_side_by_side(self, model: Any, side_by_side: SideBySide, n_later: int) -> None:
        """Append sequences that each follow what is before them, and see none of each other."""
        groups = list(_in_groups(side_by_side.sequences))
        recorded = [self._run(model, group) for group in groups]  # before any of them is kept
        n_more = sum(map(len, side_by_side.sequences)) + n_later
        for group, heads in zip(groups, recorded, strict=True):
            self._keep(heads, group, n_more=n_more)
            n_more -= sum(map(len, group))
        positions = [
            torch.arange(self.length),
            *(
                torch.arange(self.length, self.length + len(one))
                for group in groups
                for one in group
            ),
        ]
        self._key_positions = torch.cat(positions)
        self.length = side_by_side.stop

    def _run(self, model: Any, rows: list[list[int]]) -> dict[int, tuple[Tensor, Tensor]]:
        """Run rows of tokens after the prefix so far, and return each layer's keys and values."""
        device = input_device(model)
        longest = max(map(len, rows))
        ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows], device=device)
        positions = torch.arange(self.length, self.length + longest, device=device).expand_as(ids)
        attending = self._attending(positions, has_mask=False)
        attending.recorded = {}
        options: dict[str, Any] = {SHARED_PREFIX: attending, "use_cache": False}
        if self.length and accepts(model, "position_ids"):
            options["position_ids"] = positions
        # No logits are read, and no output of the last layer: it computes that of one token.
        where = [[row] for row in range(len(rows))], [[len(row) - 1] for row in rows]
        last = send_integers(device, *where)
        with output_at(model, *last, limits_last_layer=True, stops=True), hiding_nothing():
            model(input_ids=ids, attention_mask=torch.ones_like(ids), **options)
        if not attending.recorded:
            msg = f"{type(model).__name__} does not let its layers see a prefix."
            raise ScoringError(msg)
        return attending.recorded

    def _keep(
        self, recorded: dict[int, tuple[Tensor, Tensor]], rows: list[list[int]], n_more: int
    ) -> None:
        """Append the keys and values of rows. ``n_more`` is how many are to come, with these."""
        for layer, pair in recorded.items():
            if layer not in self._layers:
                keys, values = (heads[:1].to(self._dtype) for heads in pair)
                keys = keys if takes_tiles(keys) else pair[0][:1]
                self._layers[layer] = _with_room(keys, 0, n_more), _with_room(values, 0, n_more)
            for heads, new in zip(self._layers[layer], pair, strict=True):
                end = self._n_keys
                for row, tokens in enumerate(rows):
                    start, end = end, end + len(tokens)
                    heads[0, :, start:end] = new[row, :, : len(tokens)]
        self._n_keys += sum(map(len, rows))


def _in_groups(sequences: Iterable[Sequence[int]]) -> Iterator[list[list[int]]]:
    """Yield sequences that go through the model at once, a chunk's tokens with their padding."""
    group: list[list[int]] = []
    for sequence in sequences:
        longest = max(len(sequence), *map(len, group), 0)
        if group and longest * (len(group) + 1) > CHUNK:
            yield group
            group = []
        group.append([*sequence])
    yield group


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
