"""Encoded prompts → model inputs, and where each trie node is to be read in the outputs.

Two layouts hold the same information. In ``tree_layout`` the inner trie nodes of a text follow its
tokens as columns, and a mask lets each see the text and its own ancestors: one row a text. In
``row_layout`` each path of inner nodes is a row after a copy of the text, with no mask at all,
which every architecture understands. With labels of one token the two are the same.

In both, rows are padded on the right, where causal attention never looks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from instructclf.engine.tokens.encoding import EncodedPrompt
from instructclf.engine.tokens.tries import LabelTrie


@dataclass(frozen=True, eq=False)
class Layout:
    """What goes through the model, and where to read it.

    Parameters
    ----------
    input_ids : Tensor of shape (n_rows, length)
        Token ids, without the shared prefix.
    position_ids : Tensor of shape (n_rows, length)
        Positions, counted from the beginning of the prefix.
    mask : Tensor of shape (n_rows, 1, length, n_masked + length) or None
        What each column may see, added to attention scores. ``None`` for plain causal attention.
    rows, columns : Tensor of shape (n_texts, n_nodes)
        Where the distribution after each trie node is found. Texts with fewer nodes repeat their
        root. The rows of a text follow on each other.
    is_real : Tensor of shape (n_rows, length)
        True for tokens, false for padding.
    """

    input_ids: Tensor
    position_ids: Tensor
    mask: Tensor | None
    rows: Tensor
    columns: Tensor
    is_real: Tensor

    def to(self, device: torch.device) -> Layout:
        """Return the same layout on a device."""
        return Layout(
            self.input_ids.to(device),
            self.position_ids.to(device),
            None if self.mask is None else self.mask.to(device),
            self.rows.to(device),
            self.columns.to(device),
            self.is_real.to(device),
        )


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

    Parameters
    ----------
    batch : sequence of EncodedPrompt
        Prompts, each longer than the prefix.
    n_prefix : int
        How many first tokens have gone through the model already, and are left out.
    n_masked : int
        How many of these have columns in the mask.
    dtype : torch.dtype
        The model's data type.
    device : torch.device
        Where the model is.

    Returns
    -------
    Layout
        The inputs.
    """
    del n_masked, dtype  # there is no mask
    sequences, places = [], []
    for prompt in batch:
        own = prompt.after(n_prefix)
        nodes = {0: (len(sequences), len(own) - 1)}
        for path in prompt.trie.paths:
            nodes |= {node: (len(sequences), len(own) + step) for step, node in enumerate(path)}
            sequences.append([*own, *(prompt.trie.tokens[node] for node in path)])
        places.append([nodes[node] for node in range(len(prompt.trie.tokens))])
    input_ids = _pad(sequences)
    position_ids = torch.arange(n_prefix, n_prefix + input_ids.shape[1]).expand_as(input_ids)
    return _placed(input_ids, position_ids, None, places, _real(sequences)).to(device)


def tree_layout(
    batch: Sequence[EncodedPrompt],
    *,
    n_prefix: int,
    n_masked: int,
    dtype: torch.dtype,
    device: torch.device,
) -> Layout:
    """Lay out the inner trie nodes of a text as columns after it, seen by their descendants only.

    Parameters
    ----------
    batch : sequence of EncodedPrompt
        Prompts, each longer than the prefix.
    n_prefix : int
        How many first tokens have gone through the model already, and are left out.
    n_masked : int
        How many of these have columns in the mask.
    dtype : torch.dtype
        The model's data type.
    device : torch.device
        Where the model is.

    Returns
    -------
    Layout
        The inputs.
    """
    if all(len(prompt.trie.tokens) == 1 for prompt in batch):
        return row_layout(batch, n_prefix=n_prefix, n_masked=n_masked, dtype=dtype, device=device)
    own = [prompt.after(n_prefix) for prompt in batch]
    texts = _pad(own)
    nodes = _pad([list(prompt.trie.tokens[1:]) for prompt in batch])
    n_text = texts.shape[1]
    lengths = [len(ids) for ids in own]
    positions = torch.arange(n_prefix, n_prefix + n_text).repeat(len(batch), 1)
    depths = _pad([list(prompt.trie.depths[1:]) for prompt in batch])
    ends = torch.tensor(lengths).unsqueeze(1) + n_prefix - 1
    places = [
        [(row, length - 1), *((row, n_text + i) for i in range(len(prompt.trie.tokens) - 1))]
        for row, (prompt, length) in enumerate(zip(batch, lengths, strict=True))
    ]
    visible = _tree_visibility([prompt.trie for prompt in batch], lengths, n_text, nodes.shape[1])
    seen = torch.ones(len(batch), visible.shape[1], n_masked, dtype=torch.bool)
    mask = _additive(torch.cat([seen, visible], dim=2), dtype).unsqueeze(1)
    return _placed(
        torch.cat([texts, nodes], dim=1),
        torch.cat([positions, ends + depths], dim=1),
        mask,
        places,
        torch.cat([_real(own), _real([prompt.trie.tokens[1:] for prompt in batch])], dim=1),
    ).to(device)


def _tree_visibility(
    tries: Sequence[LabelTrie], lengths: Sequence[int], n_text: int, n_nodes: int
) -> Tensor:
    """Return a boolean Tensor of shape (n_rows, length, length): who sees whom."""
    length = n_text + n_nodes
    visible = torch.ones(length, length, dtype=torch.bool).tril().repeat(len(tries), 1, 1)
    visible[:, n_text:] = False
    for row, (trie, n_own) in enumerate(zip(tries, lengths, strict=True)):
        visible[row, n_text:, :n_own] = True
        ancestry = torch.from_numpy(trie.ancestry[1:, 1:])
        n_inner = ancestry.shape[0]
        visible[row, n_text : n_text + n_inner, n_text : n_text + n_inner] = ancestry
    return visible


def _additive(visible: Tensor, dtype: torch.dtype) -> Tensor:
    """Turn a boolean mask into one that every attention function adds in the same way."""
    return torch.zeros(visible.shape, dtype=dtype).masked_fill(~visible, torch.finfo(dtype).min)


def _pad(sequences: Sequence[Sequence[int]]) -> Tensor:
    """Return a Tensor of shape (n_rows, longest), short rows filled with zeros on the right."""
    longest = max(map(len, sequences))
    return torch.tensor([[*row, *[0] * (longest - len(row))] for row in sequences])


def _real(sequences: Sequence[Sequence[int]]) -> Tensor:
    """Return a boolean Tensor of shape (n_rows, longest), true where a short row is not filled."""
    lengths = torch.tensor([len(row) for row in sequences])
    return torch.arange(int(lengths.max())) < lengths.unsqueeze(1)


def _placed(
    input_ids: Tensor,
    position_ids: Tensor,
    mask: Tensor | None,
    places: Sequence[Sequence[tuple[int, int]]],
    is_real: Tensor,
) -> Layout:
    most = max(map(len, places))
    filled = torch.tensor([[*own, *[own[0]] * (most - len(own))] for own in places])
    rows, columns = filled.unbind(dim=2)
    return Layout(input_ids, position_ids, mask, rows, columns, is_real)
