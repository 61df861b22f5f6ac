"""Uniform sampling: every row is as likely as any other, whatever its label."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state

from instructclf.exceptions import InvalidShotsError
from instructclf.sampling.rows import check_enough_rows, different_rows


class RandomSampler(BaseEstimator):
    """Draw rows at random, with no regard to their labels.

    What the other samplers are compared with. A label may have many shots or none: a prompt that
    shows one label more often makes the model favour it. The shots for 8 are the first 8 of those
    for 16 under the same seed, equal rows count once, and the order of the rows given makes no
    difference to the rows chosen.

    See Also
    --------
    BalancedSampler : Draws at random too, as many rows of every label.

    Examples
    --------
    >>> from instructclf.sampling import RandomSampler
    >>> texts, labels = ["a", "b", "c", "d", "e"], [0, 0, 0, 1, 1]
    >>> len(RandomSampler().select(texts, labels, 3, random_state=0))
    3
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
            If there are fewer different rows than shots, or no shots are asked for.
        """
        rows = different_rows(X, y)
        if n_shots < 1:
            msg = f"n_shots must be 1 or more. Got {n_shots!r} instead."
            raise InvalidShotsError(msg)
        check_enough_rows(n_shots, sum(rows.sizes))
        return check_random_state(random_state).permutation(rows.indices)[:n_shots]
