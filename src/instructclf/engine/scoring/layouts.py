"""Encoded prompts → model inputs, and the position of each trie node in the outputs.

Two layouts hold the same information. In ``tree_layout`` each text is one row: the inner trie nodes
follow its tokens as columns, and a mask lets each node see the text and its ancestors only. In
``row_layout`` each path of inner nodes is a row of its own, after a copy of the text. It needs no
mask, so every architecture understands it. With labels of one token the two layouts are equal.

In both, rows are padded on the right, where causal attention never looks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from instructclf.engine.models.placement import send
from instructclf.engine.scoring.kernels import additive_mask, with_aligned_lines
from instructclf.engine.tokens.encoding import EncodedPrompt
from instructclf.engine.tokens.tries import LabelTrie


@dataclass(frozen=True, eq=False)
class Layout:
    """The inputs of a model, and the positions at which its outputs are read.

    Parameters
    ----------
    input_ids : Tensor of shape (n_rows, length)
        Token ids, without the shared prefix.
    position_ids : Tensor of shape (n_rows, length)
        Positions, counted from the beginning of the prefix.
    mask : Tensor of shape (n_rows, 1, length, n_masked + length) or None
        Added to attention scores: 0 for what a column sees, a very small number for what it does
        not see. ``None`` for causal attention.
    rows, columns : Tensor of shape (n_texts, n_nodes)
        The positions of the distributions after each trie node. A text with fewer nodes than others
        repeats its root. The rows of a text follow each other.
    is_real : Tensor of shape (n_rows, length)
        True for tokens, false for padding. On the CPU, since models do not read it.
    """

    input_ids: Tensor
    position_ids: Tensor
    mask: Tensor | None
    rows: Tensor
    columns: Tensor
    is_real: Tensor

    def to(self, device: torch.device) -> Layout:
        """Return the same layout on a device."""
        if device.type == "cpu":
            return self
        numbers = [self.input_ids, self.position_ids, self.rows, self.columns]
        input_ids, position_ids, rows, columns = send(numbers, device)
        mask = None if self.mask is None else with_aligned_lines(*send([self.mask], device))
        return Layout(input_ids, position_ids, mask, rows, columns, self.is_real)


LayoutFunction = Callable[..., Layout]


def row_layout(
    batch: Sequence[EncodedPrompt],
    *,
    n_prefix: int,
    n_masked: int,
    dtype: torch.dtype,
    device: torch.device,
) -> Layout:
    """Lay out each path of inner trie nodes as a row after its text.

    The first ``n_prefix`` tokens, of which ``n_masked`` have columns in the mask, have already gone
    through the model and are left out. Each prompt is longer than that.
    """
    del n_masked, dtype  # this layout has no mask
    rows: list[list[int]] = []
    positions = []
    for prompt, ids in zip(batch, _tokens_after(batch, n_prefix), strict=True):
        # Nodes that several paths share appear in several rows. All copies see the same tokens, so
        # it does not matter which of them is read.
        position_of = {0: (len(rows), len(ids) - 1)}
        for path in prompt.trie.paths:
            position_of |= {node: (len(rows), len(ids) + step) for step, node in enumerate(path)}
            rows.append([*ids, *(prompt.trie.tokens[node] for node in path)])
        positions.append([position_of[node] for node in range(len(prompt.trie.tokens))])
    input_ids = _pad(rows)
    position_ids = torch.arange(n_prefix, n_prefix + input_ids.shape[1]).expand_as(input_ids)
    return _make_layout(input_ids, position_ids, None, positions, _is_real(rows)).to(device)


def tree_layout(
    batch: Sequence[EncodedPrompt],
    *,
    n_prefix: int,
    n_masked: int,
    dtype: torch.dtype,
    device: torch.device,
) -> Layout:
    """Lay out the inner trie nodes of a text as columns after it, which only descendants see."""
    if all(len(prompt.trie.tokens) == 1 for prompt in batch):
        return row_layout(batch, n_prefix=n_prefix, n_masked=n_masked, dtype=dtype, device=device)
    # Columns: [0, n_text) hold the texts, padded on the right; the nodes of all texts begin at
    # n_text. A node's position id continues its own text, however far away its column is.
    tails = _tokens_after(batch, n_prefix)
    lengths = [len(ids) for ids in tails]
    text_ids = _pad(tails)
    node_ids = _pad([list(prompt.trie.tokens[1:]) for prompt in batch])
    n_text = text_ids.shape[1]
    text_positions = torch.arange(n_prefix, n_prefix + n_text).repeat(len(batch), 1)
    depths = _pad([list(prompt.trie.depths[1:]) for prompt in batch])
    last_positions = torch.tensor(lengths).unsqueeze(1) + n_prefix - 1
    positions = [
        [(row, length - 1), *((row, n_text + i) for i in range(len(prompt.trie.tokens) - 1))]
        for row, (prompt, length) in enumerate(zip(batch, lengths, strict=True))
    ]
    visible = _visible_columns(
        [prompt.trie for prompt in batch], lengths, n_text, node_ids.shape[1]
    )
    visible_prefix = torch.ones(len(batch), visible.shape[1], n_masked, dtype=torch.bool)
    # What is added means the same to every attention function.
    mask = additive_mask(~torch.cat([visible_prefix, visible], dim=2), dtype).unsqueeze(1)
    return _make_layout(
        torch.cat([text_ids, node_ids], dim=1),
        torch.cat([text_positions, last_positions + depths], dim=1),
        mask,
        positions,
        torch.cat([_is_real(tails), _is_real([prompt.trie.tokens[1:] for prompt in batch])], dim=1),
    ).to(device)


def _tokens_after(prompts: Sequence[EncodedPrompt], n_tokens: int) -> list[list[int]]:
    """Return the tokens of each prompt after its first ``n_tokens``."""
    return [
        prompt.tail if len(prompt.prefix) == n_tokens else prompt.ids[n_tokens:]
        for prompt in prompts
    ]


def _visible_columns(
    tries: Sequence[LabelTrie], lengths: Sequence[int], n_text: int, n_nodes: int
) -> Tensor:
    """Return a boolean Tensor of shape (n_rows, length, length): the columns that each one sees."""
    length = n_text + n_nodes
    visible = torch.ones(length, length, dtype=torch.bool).tril().repeat(len(tries), 1, 1)
    # A node sees neither the padding between its text and itself nor the nodes of other paths.
    visible[:, n_text:] = False
    for row, (trie, n_tokens) in enumerate(zip(tries, lengths, strict=True)):
        visible[row, n_text:, :n_tokens] = True
        ancestry = torch.from_numpy(trie.ancestry[1:, 1:])
        n_inner = ancestry.shape[0]
        visible[row, n_text : n_text + n_inner, n_text : n_text + n_inner] = ancestry
    return visible


def _pad(rows: Sequence[Sequence[int]]) -> Tensor:
    """Return a Tensor of shape (n_rows, longest), short rows filled with zeros on the right."""
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows])


def _is_real(rows: Sequence[Sequence[int]]) -> Tensor:
    """Return a boolean Tensor of shape (n_rows, longest), false where ``_pad`` fills a row."""
    lengths = torch.tensor([len(row) for row in rows])
    return torch.arange(int(lengths.max())) < lengths.unsqueeze(1)


def _make_layout(
    input_ids: Tensor,
    position_ids: Tensor,
    mask: Tensor | None,
    positions: Sequence[Sequence[tuple[int, int]]],
    is_real: Tensor,
) -> Layout:
    """Make a layout from the (row, column) of each text's nodes."""
    most = max(map(len, positions))
    filled = torch.tensor([[*nodes, *[nodes[0]] * (most - len(nodes))] for nodes in positions])
    rows, columns = filled.unbind(dim=2)
    return Layout(input_ids, position_ids, mask, rows, columns, is_real)
