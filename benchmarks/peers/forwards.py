"""Hand-written scoring on top of transformers, from single forwards to a shared prefix cache.

Every function returns ``log p(label | prompt)`` of shape (n_texts, n_labels). It has only the
prompts, as strings, the model and its tokenizer in common with instructclf.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import DynamicCache

_PREFIX_CHUNK = 512


@dataclass(frozen=True, eq=False)
class Task:
    """The same requests for every peer.

    Parameters
    ----------
    model, tokenizer : object
        Objects of transformers.
    words : tuple of str
        The words of the labels, in the order of the columns.
    prompt_of : callable
        Takes a text, returns the prompt that the label follows.
    """

    model: Any
    tokenizer: Any
    words: tuple[str, ...]
    prompt_of: Callable[[str], str]

    def prompt_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of the prompts."""
        return self.tokenizer([self.prompt_of(text) for text in texts])["input_ids"]

    @cached_property
    def label_ids(self) -> list[list[int]]:
        """Return the ids that each label adds to a prompt that is tokenised with it."""
        prompt = self.prompt_of("A text.")
        (ids,) = self.tokenizer([prompt])["input_ids"]
        complete = self.tokenizer([prompt + words for words in self.words])["input_ids"]
        if any(row[: len(ids)] != ids for row in complete):
            msg = "A label changes the tokens of the prompt before it: compare on another template."
            raise ValueError(msg)
        return [row[len(ids) :] for row in complete]

    @cached_property
    def tree(self) -> Tree:
        """The labels' inner tokens."""
        return Tree.of(self.label_ids)

    def prefix_length(self, texts: Sequence[str]) -> int:
        """Return how many tokens the prompts of these texts share at their beginning."""
        columns = zip(*self.prompt_ids(texts), strict=False)
        shared = 0
        for column in columns:
            if len(set(column)) > 1:
                break
            shared += 1
        return shared


@dataclass(frozen=True, eq=False)
class Tree:
    """Beginnings of labels as nodes: node 0 is the prompt's end, the others are tokens after it."""

    paths: list[tuple[int, ...]]
    reads: list[tuple[int, int, int]]
    """Label, node and token: that token's log-probability after that node belongs to that label."""

    @classmethod
    def of(cls, label_ids: Sequence[Sequence[int]]) -> Tree:
        starts = {tuple(ids[:depth]) for ids in label_ids for depth in range(len(ids))}
        paths = sorted(starts, key=lambda path: (len(path), path))
        reads = [
            (label, paths.index(tuple(ids[:depth])), token)
            for label, ids in enumerate(label_ids)
            for depth, token in enumerate(ids)
        ]
        return cls(paths, reads)

    @property
    def inner(self) -> list[tuple[int, ...]]:
        """The nodes that go through the model."""
        return self.paths[1:]


# One forward pass for each text and label


@torch.inference_mode()
def one_by_one(
    task: Task, texts: Sequence[str], *, keep: bool = False, labels: int | None = None
) -> NDArray[np.float64]:
    """Send each full prompt with each label through the model.

    With ``keep`` logits are computed at the label's positions only, otherwise at all positions, as
    by default. ``labels`` scores only so many of the labels.
    """
    label_ids = task.label_ids[:labels]
    scores = np.empty((len(texts), len(label_ids)))
    for row, prompt in enumerate(task.prompt_ids(texts)):
        for column, label in enumerate(label_ids):
            ids = torch.tensor([prompt + label[:-1]])
            options = {"logits_to_keep": len(label)} if keep else {}
            logits = task.model(input_ids=ids, use_cache=False, **options).logits[0, -len(label) :]
            scores[row, column] = (
                logits.float().log_softmax(-1)[range(len(label)), label].double().sum()
            )
    return scores


@torch.inference_mode()
def ending(task: Task, texts: Sequence[str], ids: Sequence[int]) -> NDArray[np.float64]:
    """Return how likely the last tokens of each prompt are; ``ids`` must be these tokens."""
    scores = np.empty(len(texts))
    for row, prompt in enumerate(task.prompt_ids(texts)):
        if prompt[-len(ids) :] != list(ids):
            msg = f"A prompt ends with {prompt[-len(ids) :]}, not with {list(ids)}."
            raise ValueError(msg)
        logits = task.model(
            input_ids=torch.tensor([prompt[:-1]]), use_cache=False, logits_to_keep=len(ids)
        ).logits[0]
        log_probabilities = logits.float().log_softmax(-1)
        scores[row] = log_probabilities[range(len(ids)), list(ids)].double().sum()
    return scores


# One row for each text: labels as a tree after the prompt


@torch.inference_mode()
def padded(task: Task, texts: Sequence[str], *, batch: int) -> NDArray[np.float64]:
    """Send full prompts in padded batches, longest first, logits at the labels only."""
    prompts = task.prompt_ids(texts)
    return _in_batches(prompts, batch, task, lambda rows: _follow(task, rows, None, 0))


@torch.inference_mode()
def prefix_cache(
    task: Task, texts: Sequence[str], *, batch: int, how: str, prefix: Prefix, grouped: bool = True
) -> NDArray[np.float64]:
    """Send the tokens after the shared prefix, with a copy of its keys and values for each batch.

    Parameters
    ----------
    task, texts
        As in the other functions.
    batch : int
        Texts at a time, longest first.
    how : {"copied", "expanded"}
        ``DynamicCache.batch_repeat_interleave``, or views that the cache copies at its update.
    prefix : Prefix
        The keys and values, computed once.
    grouped : bool, default=True
        Whether torch's attention reads each key head once, instead of repeated for each query head,
        which is transformers' default with a mask.
    """
    after = [ids[prefix.length :] for ids in task.prompt_ids(texts)]
    with _grouped_attention(grouped):
        return _in_batches(
            after,
            batch,
            task,
            lambda rows: _follow(task, rows, prefix.rows(len(rows), how), prefix.length),
        )


class Prefix:
    """The keys and values of the tokens that all prompts begin with."""

    @torch.inference_mode()
    def __init__(self, task: Task, texts: Sequence[str]) -> None:
        self.length = task.prefix_length(texts)
        (ids,) = task.prompt_ids(texts[:1])
        self._cache: Any = DynamicCache(config=task.model.config)
        for start in range(0, self.length, _PREFIX_CHUNK):  # bounds the activations
            chunk = torch.tensor([ids[start : min(start + _PREFIX_CHUNK, self.length)]])
            task.model(
                input_ids=chunk, past_key_values=self._cache, use_cache=True, logits_to_keep=1
            )

    def rows(self, n_rows: int, how: str) -> Any:
        """Return a cache of so many rows that a forward pass may append to."""
        if how == "copied":
            cache = copy.deepcopy(self._cache)
            cache.batch_repeat_interleave(n_rows)
            return cache
        cache = copy.copy(self._cache)
        cache.layers = [_expanded(layer, n_rows) for layer in self._cache.layers]
        return cache


def _expanded(layer: Any, n_rows: int) -> Any:
    view = copy.copy(layer)
    view.keys = layer.keys.expand(n_rows, -1, -1, -1)
    view.values = layer.values.expand(n_rows, -1, -1, -1)
    return view


@contextmanager
def _grouped_attention(grouped: bool) -> Iterator[None]:  # noqa: FBT001
    name = "TRANSFORMERS_SDPA_FORCE_GQA"  # read by transformers at each call
    before = os.environ.get(name)
    os.environ[name] = "1" if grouped else "0"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _in_batches(
    ids: Sequence[list[int]], batch: int, task: Task, score: Callable[[list[list[int]]], Tensor]
) -> NDArray[np.float64]:
    order = sorted(range(len(ids)), key=lambda i: -len(ids[i]))
    scores = np.empty((len(ids), len(task.words)))
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        scores[rows] = score([ids[i] for i in rows]).numpy()
    return scores


def _follow(task: Task, rows: list[list[int]], cache: Any, n_before: int) -> Tensor:
    """Score labels after rows that follow on a cache of ``n_before`` tokens, or on nothing."""
    tree = task.tree
    lengths = torch.tensor([len(row) for row in rows])
    widest, n_inner = int(lengths.max()), len(tree.inner)
    ids = torch.zeros(len(rows), widest + n_inner, dtype=torch.long)
    positions = torch.arange(n_before, n_before + widest + n_inner).repeat(len(rows), 1)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = torch.tensor(row)
        for node, path in enumerate(tree.inner):
            ids[number, widest + node] = path[-1]
            positions[number, widest + node] = n_before + len(row) + len(path) - 1
    columns = torch.cat(
        [(lengths - 1)[:, None], torch.arange(widest, widest + n_inner).repeat(len(rows), 1)], dim=1
    )
    kept, where = torch.unique(columns, return_inverse=True)
    options: dict[str, Any] = {"past_key_values": cache, "use_cache": cache is not None}
    if n_inner:
        options["attention_mask"] = _tree_mask(tree, lengths, widest, n_before)
    logits = task.model(
        input_ids=ids, position_ids=positions, logits_to_keep=kept, **options
    ).logits
    log_probabilities = logits[torch.arange(len(rows))[:, None], where].float().log_softmax(-1)
    scores = torch.zeros(len(rows), len(task.words), dtype=torch.float64)
    for label, node, token in tree.reads:
        scores[:, label] += log_probabilities[:, node, token]
    return scores


def _tree_mask(tree: Tree, lengths: Tensor, widest: int, n_before: int) -> Tensor:
    """Return (n_rows, 1, n_queries, n_keys): a node sees its text and the nodes above it."""
    n_inner = len(tree.inner)
    size = widest + n_inner
    after = torch.ones(size, size, dtype=torch.bool).tril().repeat(len(lengths), 1, 1)
    after[:, widest:, :widest] = (torch.arange(widest) < lengths[:, None])[:, None, :]
    for row, path in enumerate(tree.inner):
        for column, other in enumerate(tree.inner):
            after[:, widest + row, widest + column] = path[: len(other)] == other
    before = torch.ones(len(lengths), size, n_before, dtype=torch.bool)
    return torch.cat([before, after], dim=2)[:, None]
