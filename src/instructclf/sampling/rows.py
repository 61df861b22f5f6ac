"""Labelled rows → the different rows of each label, and shots taken from them in rounds.

What makes a choice independent of the order of the rows happens here: equal rows count once, and
the different ones are ordered by their content before anything is drawn.
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
        For each label, in sorted order, the indices of its different texts, ordered by text.
    """

    texts: list[str]
    groups: list[NDArray[np.intp]]

    @property
    def sizes(self) -> list[int]:
        """How many different texts each label has."""
        return [len(group) for group in self.groups]

    @property
    def indices(self) -> NDArray[np.intp]:
        """The indices of all different rows, label after label."""
        return np.concatenate(self.groups)

    def texts_at(self, indices: Iterable[Any]) -> list[str]:
        """Return the texts at these indices."""
        return [self.texts[index] for index in indices]


def different_rows(X: Sequence[str], y: ArrayLike) -> LabelledRows:
    """Group the rows by label, equal ones once."""
    given, texts = check_labels(y), check_texts(X)
    check_same_length(texts, given)
    labels, codes = np.unique(given, return_inverse=True)
    first: dict[tuple[int, str], int] = {}
    for index, row in enumerate(zip(codes.tolist(), texts, strict=True)):
        first.setdefault(row, index)
    groups: list[list[int]] = [[] for _ in labels]
    for code, text in sorted(first):
        groups[code].append(first[code, text])
    return LabelledRows(texts, [np.array(group, dtype=np.intp) for group in groups])


def check_a_shot_of_every_label(n_shots: int, n_labels: int, *, remedy: str = "") -> None:
    """Raise if there are fewer shots than labels."""
    if n_shots < n_labels:
        msg = (
            f"n_shots={n_shots} is fewer than the {n_labels} labels in y, so some label would have "
            f"no shot. Set n_shots to {n_labels} or more{remedy}."
        )
        raise InvalidShotsError(msg)


def check_enough_rows(n_shots: int, n_rows: int) -> None:
    """Raise if there are fewer different rows than shots."""
    if n_shots > n_rows:
        msg = (
            f"n_shots={n_shots} is more than the {n_rows} different labelled rows given. Set "
            f"n_shots to {n_rows} or fewer, or give more rows."
        )
        raise InvalidShotsError(msg)


def take_in_rounds(
    queues: Sequence[Iterable[Any]], sizes: Sequence[int], n_shots: int, rng: np.random.RandomState
) -> NDArray[np.intp]:
    """Take one row of every label a round, the labels in random order, until there are enough.

    A queue yields all ``sizes[i]`` rows of label ``i``, the first ones first. It is read no
    further than needed, so that an order that is dear to compute costs only what is taken.
    """
    waiting = [iter(queue) for queue in queues]
    taken: list[Any] = []
    position = 0
    while len(taken) < n_shots:
        filled = [code for code, size in enumerate(sizes) if position < size]
        for code in rng.permutation(filled)[: n_shots - len(taken)]:
            taken.append(next(waiting[code]))  # noqa: PERF401  (a queue may draw from rng)
        position += 1
    return np.array(taken, dtype=np.intp)
