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

from instructclf.sampling.rows import (
    check_a_shot_of_every_label,
    check_enough_rows,
    different_rows,
    take_in_rounds,
)


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
        InvalidTextsError
            If ``X`` is no sequence of strings.
        InvalidShotsError
            If there are fewer different rows than shots, or fewer shots than labels.
        """
        rows = different_rows(X, y)
        check_a_shot_of_every_label(n_shots, len(rows.groups))
        check_enough_rows(n_shots, sum(rows.sizes))
        rng = check_random_state(random_state)
        queues = [rng.permutation(group) for group in rows.groups]
        return take_in_rounds(queues, rows.sizes, n_shots, rng)
