"""Texts, shots and label sets, made from the reviews that ship."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from instructclf.datasets import load_reviews

TWO_LABELS = ("negative", "positive")
"""One token each in the bundled tokenizer."""
SIX_LABELS = (
    "very negative",
    "very positive",
    "somewhat negative",
    "somewhat positive",
    "unsure",
    "neutral",
)
"""2, 2, 3, 3, 2 and 1 tokens, two pairs with a shared beginning: four inner nodes of the trie."""

_QUALITIES = (
    "late", "damaged", "missing", "wrong", "expensive", "cheap", "broken", "noisy", "slow", "dirty",
)  # fmt: skip
_THINGS = (
    "delivery", "parcel", "manual", "invoice", "battery", "screen", "cable", "handle", "colour",
    "size", "refund", "account", "password", "warranty", "repair",
)  # fmt: skip
MANY_LABELS = tuple(f"{quality} {thing}" for quality, thing in product(_QUALITIES, _THINGS))
"""150 labels of several tokens; fifteen at a time share their beginning."""


@dataclass(frozen=True)
class Rows:
    """Texts and their labels."""

    texts: list[str]
    labels: list[str]


TEXT = range(95, 111)
"""Tokens of a text to classify."""
SHOT = range(94, 107)
"""Tokens of a shot: sixteen of them in their prompt have about 1,850."""
SHORT_SHOT = range(35, 46)
"""Tokens of a shot of which 64 fit into the bundled model's context."""


def paired_reviews(
    tokenizer: Any,
    lengths: range,
    n_rows: int,
    labels: tuple[str, ...],
    *,
    split: str = "test",
    seed: int,
) -> Rows:
    """Return different rows of two reviews each that have so many tokens together.

    The labels are assigned in turn, since nothing here depends on them. Shots come from
    ``split="train"``, so that no text shares a review with them.
    """
    reviews = load_reviews(split).texts
    return _rows(_pairs(reviews, tokenizer, lengths, seed), n_rows, labels)


def short_rows(n_rows: int, labels: tuple[str, ...], *, seed: int) -> Rows:
    """Return rows of four words, two from each of two reviews, for runs over many rows."""
    return _rows(_short(seed), n_rows, labels)


def _rows(texts: Iterator[str], n_rows: int, labels: tuple[str, ...]) -> Rows:
    taken: dict[str, None] = {}
    for text in texts:
        taken.setdefault(text)
        if len(taken) == n_rows:
            break
    else:
        msg = f"The reviews make only {len(taken)} texts of this kind, not {n_rows}."
        raise ValueError(msg)
    return Rows(list(taken), [labels[i % len(labels)] for i in range(n_rows)])


def _pairs(reviews: Sequence[str], tokenizer: Any, lengths: range, seed: int) -> Iterator[str]:
    n_tokens = [len(ids) for ids in tokenizer(list(reviews), add_special_tokens=False)["input_ids"]]
    for first, second in _draws(len(reviews), seed):
        if n_tokens[first] + n_tokens[second] in lengths:
            yield f"{reviews[first]} {reviews[second]}"


def _short(seed: int) -> Iterator[str]:
    beginnings = [" ".join(text.split()[:2]) for text in load_reviews("all").texts]
    for first, second in _draws(len(beginnings), seed):
        yield f"{beginnings[first]} {beginnings[second]}"


def _draws(n_reviews: int, seed: int) -> Iterator[tuple[int, int]]:
    """Draw every pair of two different reviews once, in random order."""
    rng = np.random.default_rng(seed)
    for code in rng.permutation(n_reviews * n_reviews):
        first, second = divmod(int(code), n_reviews)
        if first != second:
            yield first, second


def reviews(n_rows: int | None = None) -> Rows:
    """Return the first reviews, with their true labels."""
    shipped = load_reviews("all")
    return Rows(shipped.texts[:n_rows], shipped.labels[:n_rows])
