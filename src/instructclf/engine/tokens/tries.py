"""Token sequences of labels → a trie, in which beginnings that labels share are scored once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from instructclf.exceptions import ScoringError

_Label = TypeVar("_Label")

_FEW = 3
"""Labels that stand for all in a test of shortcuts."""


@dataclass(frozen=True, eq=False)
class LabelTrie:
    """The labels' token sequences as a tree whose root is the end of the prompt.

    The tree has inner nodes only. The likelihood of a label's last token is read from the model's
    output at the node before it, so that token never goes through the model and needs no node.
    Labels of one token need no node except the root.

    Parameters
    ----------
    tokens : tuple of int
        The token of each node. Node 0, the root, has no token: its entry means nothing.
    parents : tuple of int
        The parent of each node, which precedes it. The root is its own parent.
    edges : tuple of (int, int, int)
        ``(label, node, token)``: the log-likelihood of ``label`` includes that of ``token`` after
        ``node``.
    n_labels : int
        How many labels there are.
    groups : tuple of int, default=()
        How many labels, in their order, are compared with each other alone. Empty for all.
    """

    tokens: tuple[int, ...]
    parents: tuple[int, ...]
    edges: tuple[tuple[int, int, int], ...]
    n_labels: int
    groups: tuple[int, ...] = ()

    @cached_property
    def relative(self) -> LabelTrie:
        """The same trie with all labels in one group, compared with each other alone."""
        return self if self.groups else replace(self, groups=(self.n_labels,))

    @cached_property
    def compared(self) -> tuple[tuple[int, int, int], ...]:
        """The edges that are scored: with groups, those that tell the labels of one apart.

        What all labels of a group begin with adds the same to each of their scores.
        """
        if not self.groups:
            return self.edges
        return tuple(edge for edge in self.edges if edge[1] in self._told_apart[edge[0]])

    @cached_property
    def normalised(self) -> frozenset[int]:
        """The nodes whose distribution over the vocabulary has to be normalised to compare labels.

        Where the labels of a group part, each of them has one edge. A normaliser there would take
        the same from each of their scores.
        """
        if not self.groups:
            return frozenset(range(len(self.tokens)))
        partings = {label: min(nodes) for label, nodes in enumerate(self._told_apart)}
        return frozenset(node for label, node, _ in self.compared if node != partings[label])

    @cached_property
    def _told_apart(self) -> list[frozenset[int]]:
        """The nodes of each label, the one where its group parts and those after it."""
        edges: list[list[tuple[int, int]]] = [[] for _ in range(self.n_labels)]
        for label, node, token in self.edges:
            edges[label].append((node, token))
        found: list[frozenset[int]] = []
        for n_labels in self.groups:
            own = edges[len(found) : len(found) + n_labels]
            shared = set(own[0]).intersection(*own[1:])
            found += [frozenset(node for node, _ in set(path) - shared) for path in own]
        return found

    @cached_property
    def depths(self) -> tuple[int, ...]:
        """How many tokens come after the prompt up to each node, itself included."""
        depths = [0]
        for parent in self.parents[1:]:
            depths.append(depths[parent] + 1)
        return tuple(depths)

    @cached_property
    def ancestry(self) -> NDArray[np.bool_]:
        """Array of shape (n_nodes, n_nodes), true where the column is the row or its ancestor."""
        ancestry = np.eye(len(self.tokens), dtype=np.bool_)
        for node, parent in enumerate(self.parents):
            ancestry[node] |= ancestry[parent]
        return ancestry

    @cached_property
    def paths(self) -> tuple[tuple[int, ...], ...]:
        """The nodes below the root on the way to each node without children."""
        with_children = set(self.parents[1:])
        ends = [node for node in range(len(self.tokens)) if node not in with_children] or [0]
        return tuple(_path(self, end) for end in ends)


def build_trie(
    sequences: Sequence[Sequence[int]], end_token: int | None, groups: tuple[int, ...] = ()
) -> LabelTrie:
    """Build the trie of the labels' token sequences, which differ within each group.

    A label that is the beginning of another label of its group gets the end token. Without it, the
    longer label could never be the more likely of the two. No other label gets the end token.

    Raises
    ------
    ScoringError
        If an end token is needed and the tokenizer has none.
    """
    ended = [
        _with_end(sequence, own, end_token)
        for own in in_groups(sequences, groups)
        for sequence in own
    ]
    return replace(_grow(ended), groups=groups)


def in_groups(labels: Sequence[_Label], groups: Sequence[int]) -> list[Sequence[_Label]]:
    """Return the labels of each group: all of them, if there are no groups."""
    ends = list(accumulate(groups)) or [len(labels)]
    return [labels[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def with_response_end(trie: LabelTrie, label: int, end_token: int) -> LabelTrie:
    """Add the end token after a label to a trie, as one more label. Tuning learns it too.

    Its only edge is the end token. It has no edge if the label already ends with that token.
    """
    *_, (_, node, token) = (edge for edge in trie.edges if edge[0] == label)
    end = trie.n_labels
    if token == end_token:
        return LabelTrie(trie.tokens, trie.parents, trie.edges, end + 1)
    # A label without an end token is not the beginning of another, so its last token has no node.
    leaf = len(trie.tokens)
    edges = (*trie.edges, (end, leaf, end_token))
    return LabelTrie((*trie.tokens, token), (*trie.parents, node), edges, end + 1)


def keep_labels(trie: LabelTrie, labels: Sequence[int]) -> LabelTrie:
    """Return the trie of some labels, in their order, which has only the nodes on their paths.

    They are in no groups.
    """
    positions = {label: position for position, label in enumerate(labels)}
    edges = [edge for edge in trie.edges if edge[0] in positions]
    nodes = sorted({0}.union(*(_path(trie, node) for _, node, _ in edges)))
    renumbered = {node: position for position, node in enumerate(nodes)}
    return LabelTrie(
        tokens=tuple(trie.tokens[node] for node in nodes),
        parents=tuple(renumbered[trie.parents[node]] for node in nodes),
        edges=tuple(
            sorted((positions[label], renumbered[node], token) for label, node, token in edges)
        ),
        n_labels=len(labels),
    )


def few_labels(trie: LabelTrie) -> list[int]:
    """Return three labels: that of the most tokens, one that parts from it late, and one early.

    They have branches, if the trie has any. Where there are fewer such labels, others take their
    place.
    """
    if trie.n_labels <= _FEW:
        return list(range(trie.n_labels))
    ends = {label: node for label, node, _ in trie.edges}  # the last edge of each label
    n_tokens = Counter(label for label, _, _ in trie.edges)
    longest = max(n_tokens, key=n_tokens.__getitem__)
    path = set(_path(trie, ends[longest]))
    n_shared = {
        label: len(path.intersection(_path(trie, end)))
        for label, end in ends.items()
        if end and end not in path
    }
    apart = [pick(n_shared, key=n_shared.__getitem__) for pick in (max, min) if n_shared]
    return list(dict.fromkeys([longest, *apart, *ends]))[:_FEW]


def _path(trie: LabelTrie, node: int) -> tuple[int, ...]:
    """Return the nodes below the root on the way to a node, itself included."""
    path: list[int] = []
    while node:
        path.append(node)
        node = trie.parents[node]
    return tuple(reversed(path))


def _with_end(
    sequence: Sequence[int], sequences: Sequence[Sequence[int]], end_token: int | None
) -> tuple[int, ...]:
    """Return a label's tokens, with the end token if another label begins with them."""
    label = tuple(sequence)
    begins_another = any(
        len(other) > len(label) and tuple(other[: len(label)]) == label for other in sequences
    )
    if not begins_another:
        return label
    if end_token is None:
        msg = (
            "One label is the beginning of another, and this tokenizer has no end token that tells "
            "them apart. Set tokenizer.eos_token, or change the words in 'verbalizer'."
        )
        raise ScoringError(msg)
    return (*label, end_token)


def _grow(sequences: Sequence[Sequence[int]]) -> LabelTrie:
    nodes: dict[tuple[int, ...], int] = {(): 0}
    tokens, parents = [-1], [0]
    edges: list[tuple[int, int, int]] = []
    for label, sequence in enumerate(sequences):
        for step, token in enumerate(sequence):
            path = tuple(sequence[:step])
            if path not in nodes:
                nodes[path] = len(tokens)
                tokens.append(sequence[step - 1])
                parents.append(nodes[path[:-1]])
            edges.append((label, nodes[path], token))
    return LabelTrie(tuple(tokens), tuple(parents), tuple(edges), len(sequences))
