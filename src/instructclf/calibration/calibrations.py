"""Bias and temperature: what turns label log-likelihoods into probabilities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Calibration:
    """How log-likelihoods become probabilities: ``softmax((S - bias) / temperature)``.

    Parameters
    ----------
    bias : ndarray of shape (n_classes,)
        What is subtracted from each label's log-likelihood. Its mean is 0.
    temperature : float
        What the differences are divided by.
    n_rows : int
        How many texts it was estimated from. 0 where nothing is changed.
    """

    bias: NDArray[np.float64]
    temperature: float
    n_rows: int

    def log_probabilities(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return log-probabilities of the labels.

        Parameters
        ----------
        scores : ndarray of shape (n_texts, n_classes)
            Label log-likelihoods.

        Returns
        -------
        ndarray of shape (n_texts, n_classes)
            Log-probabilities, whose exponentials sum to 1 in each row.
        """
        return log_softmax((scores - self.bias) / self.temperature)


def no_calibration(n_classes: int) -> Calibration:
    """Return the calibration that only normalises."""
    return Calibration(np.zeros(n_classes), 1.0, 0)


def log_softmax(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Normalise each row so that its exponentials sum to 1."""
    shifted = values - values.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
