"""Labelled rows → the different rows of each label, and shots taken from them in rounds.

This module makes the choice independent of the order of the rows: equal rows count once, and the
different ones are sorted by content before anything is drawn.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from instructclf.exceptions import InvalidShotsError
from instructclf.inputs.labels import check_labels, check_same_length
from instructclf.inputs.texts import check_texts


@dataclass(frozen=True)
class LabelledRows:
    """The different rows of labelled texts.

    Parameters
    ----------
    texts : list of str
        All texts, as given.
    groups : list of ndarray
        The indices of the different texts of each label, in sorted order of labels and of texts.
    """

    texts: list[str]
    groups: list[NDArray[np.intp]]

    @property
    def sizes(self) -> list[int]:
        """The number of different texts of each label."""
        return [len(group) for group in self.groups]

    @property
    def indices(self) -> NDArray[np.intp]:
        """The indices of all different rows, label after label."""
        return np.concatenate(self.groups)

    def texts_at(self, indices: Iterable[Any]) -> list[str]:
        """Return the texts at these indices."""
        return [self.texts[index] for index in indices]


def different_rows(X: Sequence[str], y: ArrayLike) -> LabelledRows:
    """Group the rows by label; equal rows count once."""
    labels, texts = check_labels(y), check_texts(X)
    check_same_length(texts, labels)
    classes, codes = np.unique(labels, return_inverse=True)
    first: dict[tuple[int, str], int] = {}
    for index, row in enumerate(zip(codes.tolist(), texts, strict=True)):
        first.setdefault(row, index)
    groups: list[list[int]] = [[] for _ in classes]
    for code, text in sorted(first):
        groups[code].append(first[code, text])
    return LabelledRows(texts, [np.array(group, dtype=np.intp) for group in groups])


def check_n_shots(n_shots: int, n_labels: int, n_rows: int, *, remedy: str = "") -> None:
    """Raise if there are fewer shots than labels, or fewer different rows than shots."""
    if n_shots < n_labels:
        msg = (
            f"n_shots={n_shots} is fewer than the {n_labels} labels in y, so some label would have "
            f"no shot. Set n_shots to {n_labels} or more{remedy}."
        )
        raise InvalidShotsError(msg)
    if n_shots > n_rows:
        msg = (
            f"n_shots={n_shots} is more than the {n_rows} different labelled rows given. Set "
            f"n_shots to {n_rows} or fewer, or give more rows."
        )
        raise InvalidShotsError(msg)


def take_in_rounds(
    queues: Sequence[Iterable[Any]], sizes: Sequence[int], n_shots: int, rng: np.random.RandomState
) -> NDArray[np.intp]:
    """Take one row of every label per round, with labels in random order, up to ``n_shots``.

    A queue yields all ``sizes[i]`` rows of label ``i``, the best first. No more rows are read than
    needed, because computing an order can be expensive.
    """
    iterators = [iter(queue) for queue in queues]
    taken: list[Any] = []
    position = 0
    while len(taken) < n_shots:
        available = [code for code, size in enumerate(sizes) if position < size]
        for code in rng.permutation(available)[: n_shots - len(taken)]:
            taken.append(next(iterators[code]))  # noqa: PERF401  (a queue may draw from rng)
        position += 1
    return np.array(taken, dtype=np.intp)
