"""Labelled rows → shots: the method that most samplers share."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state

from instructclf.sampling.rows import LabelledRows, different_rows


class RowSampler(BaseEstimator, metaclass=ABCMeta):
    """Base of samplers that choose among rows without asking a model."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {}

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
            Controls everything that is random: the rows, and the order of labels.

        Returns
        -------
        ndarray of shape (n_shots,)
            Indices into ``X``, in the order of the prompt.

        Raises
        ------
        InvalidTextsError
            If ``X`` is not a sequence of strings.
        InvalidShotsError
            If ``n_shots`` is more than the number of different rows, or less than the number of
            labels. `RandomSampler` takes any number from 1.
        """
        self._validate_params()
        return self._select(different_rows(X, y), n_shots, check_random_state(random_state))

    @abstractmethod
    def _select(
        self, rows: LabelledRows, n_shots: int, rng: np.random.RandomState
    ) -> NDArray[np.intp]:
        """Choose among the different rows."""
