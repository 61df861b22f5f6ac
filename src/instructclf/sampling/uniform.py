"""Uniform sampling: every row is equally likely, regardless of its label."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from instructclf.exceptions import InvalidShotsError
from instructclf.sampling.base import RowSampler
from instructclf.sampling.rows import LabelledRows, check_n_shots


class RandomSampler(RowSampler):
    """Draw rows at random, regardless of their labels.

    A baseline for the other samplers. A label may have many shots or none, and the model favours a
    label that its prompt shows more often. The shots for 8 are the first 8 of those for 16 under
    the same seed. Equal rows count once, and the order of the rows does not affect which rows are
    chosen.

    See Also
    --------
    BalancedSampler : Draws the same number of rows from every label.

    Examples
    --------
    >>> from instructclf.sampling import RandomSampler
    >>> texts, labels = ["a", "b", "c", "d", "e"], [0, 0, 0, 1, 1]
    >>> len(RandomSampler().select(texts, labels, 3, random_state=0))
    3
    """

    def _select(
        self, rows: LabelledRows, n_shots: int, rng: np.random.RandomState
    ) -> NDArray[np.intp]:
        if n_shots < 1:
            msg = f"n_shots must be 1 or more. Got {n_shots!r} instead."
            raise InvalidShotsError(msg)
        check_n_shots(n_shots, 1, sum(rows.sizes))
        return rng.permutation(rows.indices)[:n_shots]
