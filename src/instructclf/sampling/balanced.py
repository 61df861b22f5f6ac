"""Balanced sampling: as many shots of every label as of any other.

Zhao et al., "Calibrate Before Use" (ICML 2021): a prompt whose examples favour one label makes the
model favour it too, and so does the label that comes last.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state

from instructclf.exceptions import InvalidShotsError


class BalancedSampler(BaseEstimator):
    """Draw the same number of shots from every label.

    The shots come in rounds: each round takes one row of every label, the labels in random order.
    So any beginning of the sequence is balanced too, the shots for 8 are the first 8 of those for
    16 under the same seed, and where the number of shots is no multiple of the number of labels
    the remainder goes to labels drawn at random. Equal rows count once, and the order of the rows
    given makes no difference to the rows chosen.

    Examples
    --------
    >>> from instructclf.sampling import BalancedSampler
    >>> texts, labels = ["a", "b", "c", "d", "e"], [0, 0, 0, 1, 1]
    >>> shots = BalancedSampler().select(texts, labels, 4, random_state=0)
    >>> sorted(labels[i] for i in shots)
    [0, 0, 1, 1]
    """

    def select(
        self,
        X: Sequence[str],
        y: ArrayLike,
        n_shots: int,
        *,
        random_state: int | np.random.RandomState | None = None,
    ) -> NDArray[np.intp]:
        """Choose the rows that become shots.

        Parameters
        ----------
        X : sequence of str, length n_texts
            The texts.
        y : array-like of shape (n_texts,)
            Their labels.
        n_shots : int
            How many rows to choose.
        random_state : int, RandomState instance or None, default=None
            Decides which rows are drawn, and their order.

        Returns
        -------
        ndarray of shape (n_shots,)
            Indices into ``X``, in the order in which the shots belong into a prompt.

        Raises
        ------
        InvalidShotsError
            If there are fewer different rows than shots, or fewer shots than labels.
        """
        labels, codes = np.unique(np.asarray(y), return_inverse=True)
        rows = _first_of_equal_rows(X, codes)
        _check_n_shots(n_shots, n_labels=len(labels), n_rows=len(rows))
        rng = check_random_state(random_state)
        queues = [rng.permutation(rows[codes[rows] == code]) for code in range(len(labels))]
        return _take_in_rounds(queues, n_shots, rng)


def _first_of_equal_rows(X: Sequence[str], codes: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return one index for each different (text, label), ordered by their content."""
    first: dict[tuple[str, int], int] = {}
    for index, row in enumerate(zip(X, codes.tolist(), strict=True)):
        first.setdefault(row, index)
    return np.array([first[row] for row in sorted(first)], dtype=np.intp)


def _check_n_shots(n_shots: int, *, n_labels: int, n_rows: int) -> None:
    if n_shots < n_labels:
        msg = (
            f"n_shots={n_shots} is fewer than the {n_labels} labels in y, so some label would have "
            f"no shot. Set n_shots to {n_labels} or more, or to 0 for no shots at all."
        )
        raise InvalidShotsError(msg)
    if n_shots > n_rows:
        msg = (
            f"n_shots={n_shots} is more than the {n_rows} different labelled rows given. Set "
            f"n_shots to {n_rows} or fewer, or give more rows."
        )
        raise InvalidShotsError(msg)


def _take_in_rounds(
    queues: list[NDArray[np.intp]], n_shots: int, rng: np.random.RandomState
) -> NDArray[np.intp]:
    """Take one row of every label a round, until there are enough."""
    taken: list[np.intp] = []
    position = 0
    while len(taken) < n_shots:
        filled = [code for code, queue in enumerate(queues) if position < len(queue)]
        taken += [queues[code][position] for code in rng.permutation(filled)]
        position += 1
    return np.array(taken[:n_shots], dtype=np.intp)
